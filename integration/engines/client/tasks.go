// The life of tasks and execs: their pids, streams, terminals, exits and events.

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/containerd"
	"github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/cio"
	"github.com/containerd/containerd/oci"
	"github.com/containerd/typeurl"
)

// Of a task that may end at once the pid is known.
func shortRunningTaskPid(w *world) error {
	r, err := w.run("exit 7", nil)
	if err != nil {
		return err
	}
	defer r.remove()
	if r.task.Pid() == 0 {
		return errors.New("no pid")
	}
	return ended(r.exited, 7)
}

func killAll(w *world) error {
	r, err := w.run("sleep 1000 & sleep 1000", nil, oci.WithHostNamespace("pid"))
	if err != nil {
		return err
	}
	defer r.remove()
	if err := r.task.Kill(w.ctx, syscall.SIGKILL, containerd.WithKillAll); err != nil {
		return err
	}
	if err := ended(r.exited, 137); err != nil {
		return err
	}
	_, err = r.task.Delete(w.ctx)
	return err
}

// With the host's pid namespace, what init leaves behind ends with it.
func killInitPidHost(w *world) error {
	r, err := w.run("sleep 1000 & sleep 1000", nil, oci.WithHostNamespace("pid"))
	if err != nil {
		return err
	}
	defer r.remove()
	if err := r.task.Kill(w.ctx, syscall.SIGKILL); err != nil {
		return err
	}
	return ended(r.exited, 137)
}

func pty(w *world) error {
	var out bytes.Buffer
	r, err := w.run("tty >/dev/null && echo hello", cio.NewCreator(cio.WithStreams(nil, &out, io.Discard), cio.WithTerminal), oci.SpecOpts(oci.WithTTY))
	if err != nil {
		return err
	}
	defer r.remove()
	if err := ended(r.exited, 0); err != nil {
		return err
	}
	if _, err := r.task.Delete(w.ctx); err != nil {
		return err
	}
	return same(out.String(), "hello\r\n")
}

func largeOutputWithTTY(w *world) error {
	r, err := w.run("sleep 1000", nil)
	if err != nil {
		return err
	}
	defer r.remove()
	for round := 0; round < 3; round++ {
		var out bytes.Buffer
		creator := cio.NewCreator(cio.WithStreams(nil, &out, io.Discard), cio.WithTerminal)
		process, exited, err := w.exec(r.task, fmt.Sprintf("large%d", round), "seq -s ' ' 200000", creator, true)
		if err != nil {
			return err
		}
		if err := ended(exited, 0); err != nil {
			return err
		}
		if _, err := process.Delete(w.ctx); err != nil {
			return err
		}
		if !strings.HasSuffix(out.String(), " 199999 200000\r\n") {
			return fmt.Errorf("%d bytes without the end", out.Len())
		}
	}
	return nil
}

func resize(w *world) error {
	creator := cio.NewCreator(cio.WithStreams(nil, io.Discard, io.Discard), cio.WithTerminal)
	r, err := w.run("until [ \"$(stty size)\" = '50 100' ]; do sleep 0.05; done; exit 4", creator, oci.SpecOpts(oci.WithTTY))
	if err != nil {
		return err
	}
	defer r.remove()
	if err := r.task.Resize(w.ctx, 100, 50); err != nil {
		return err
	}
	return ended(r.exited, 4)
}

// A second client takes the streams over.
func attach(w *world) error {
	in, write := io.Pipe()
	dir, err := os.MkdirTemp("", "fifos")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var out bytes.Buffer
	container, remove, err := w.container("cat")
	if err != nil {
		return err
	}
	defer remove()
	set := func(out io.Writer) cio.Opt {
		return func(s *cio.Streams) { cio.WithStreams(in, out, io.Discard)(s); cio.WithFIFODir(dir)(s) }
	}
	task, err := container.NewTask(w.ctx, cio.NewCreator(set(&out)))
	if err != nil {
		return err
	}
	exited, err := task.Wait(w.ctx)
	if err == nil {
		err = task.Start(w.ctx)
	}
	if err != nil {
		return err
	}
	io.WriteString(write, "hello\n")
	attached, err := container.Task(w.ctx, cio.NewAttach(cio.WithStreams(in, &out, io.Discard)))
	if err != nil {
		return err
	}
	if err := same(fmt.Sprint(attached.Pid()), fmt.Sprint(task.Pid())); err != nil {
		return err
	}
	write.Close()
	task.CloseIO(w.ctx, containerd.WithStdinCloser)
	if err := ended(exited, 0); err != nil {
		return err
	}
	_, err = task.Delete(w.ctx)
	return err
}

// The exit of a task and of an exec is an event, each once.
func issue4769(w *world) error {
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	messages, failed := w.client.EventService().Subscribe(ctx, `topic=="/tasks/exit"`)
	var mutex sync.Mutex
	seen := map[string]int{}
	go func() {
		for message := range messages {
			if event, err := typeurl.UnmarshalAny(message.Event); err == nil {
				mutex.Lock()
				seen[event.(*events.TaskExit).ID]++
				mutex.Unlock()
			}
		}
	}()
	r, err := w.run("sleep 1000", nil)
	if err != nil {
		return err
	}
	defer r.remove()
	const times = 10
	for i := 0; i < times; i++ {
		process, exited, err := w.exec(r.task, fmt.Sprintf("e%d", i), "exit 3", cio.NullIO, false)
		if err != nil {
			return err
		}
		if err := ended(exited, 3); err != nil {
			return err
		}
		process.Delete(w.ctx)
	}
	r.task.Kill(w.ctx, syscall.SIGKILL)
	if err := ended(r.exited, 137); err != nil {
		return err
	}
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		mutex.Lock()
		number, each := len(seen), true
		for _, times := range seen {
			each = each && times == 1
		}
		mutex.Unlock()
		if !each || number == times+1 {
			if !each {
				return fmt.Errorf("%v", seen)
			}
			return nil
		}
		select {
		case err := <-failed:
			return err
		default:
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d exits of %d are told", number, times+1)
		}
	}
}

// A task that could not be made leaves nothing in the way of the next one.
func issue6429(w *world) error {
	container, remove, err := w.container("true", oci.WithProcessArgs("/no/such"))
	if err != nil {
		return err
	}
	defer remove()
	for round := 0; round < 2; round++ {
		task, err := container.NewTask(w.ctx, cio.NullIO)
		if err == nil {
			err = task.Start(w.ctx)
			task.Delete(w.ctx, containerd.WithProcessKill)
		}
		if err == nil || !strings.Contains(err.Error(), "no such file or directory") {
			return fmt.Errorf("round %d: %v", round, err)
		}
	}
	return nil
}

// Init ends while an exec runs, which ends with it: that is told first, and each to its waiter.
func issue9103(w *world) error {
	for round := 0; round < 5; round++ {
		r, err := w.run("sleep 1000", nil)
		if err != nil {
			return err
		}
		_, exited, err := w.exec(r.task, "stays", "sleep 1000", cio.NullIO, false)
		if err == nil {
			err = r.task.Kill(w.ctx, syscall.SIGKILL)
		}
		if err == nil {
			err = ended(r.exited, 137)
		}
		if err == nil {
			select {
			case <-exited:
			case <-time.After(time.Second):
				err = errors.New("the exec's exit comes after init's, or never")
			}
		}
		r.remove()
		if err != nil {
			return err
		}
	}
	return nil
}

// Execs begin and end while init does: nobody waits for ever.
func issue10589(w *world) error {
	r, err := w.run("sleep 1000", nil)
	if err != nil {
		return err
	}
	defer r.remove()
	var group sync.WaitGroup
	failures := make(chan error, 40)
	for i := 0; i < 40; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			_, exited, err := w.exec(r.task, fmt.Sprintf("r%d", i), "true", cio.NullIO, false)
			if err != nil {
				// Init was quicker.
				return
			}
			select {
			case <-exited:
			case <-time.After(patience):
				failures <- fmt.Errorf("exec %d: its exit is not told", i)
			}
		}(i)
	}
	time.Sleep(100 * time.Millisecond)
	r.task.Kill(w.ctx, syscall.SIGKILL)
	if err := ended(r.exited, 137); err != nil {
		return err
	}
	group.Wait()
	close(failures)
	return <-failures
}
