// Shims as processes: what they leave, where they are, and what is after a restart of containerd.

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/containerd"
	"github.com/containerd/containerd/cio"
	"github.com/containerd/containerd/namespaces"
	"github.com/containerd/containerd/runtime/v2/runc/options"
)

func count(pattern string) int {
	found, _ := filepath.Glob(pattern)
	return len(found)
}

func pidOf(name string) string {
	out, _ := exec.Command("pidof", "-s", name).Output()
	return strings.TrimSpace(string(out))
}

// What is counted is again what it was, before or after a while.
func again(what string, count func() int, before int) error {
	for end := time.Now().Add(patience); count() > before; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("%d %s, before there were %d", count(), what, before)
		}
	}
	return nil
}

func (w *world) many(times int) error {
	for i := 0; i < times; i++ {
		r, err := w.run("echo x", cio.NewCreator(cio.WithStreams(nil, io.Discard, io.Discard)))
		if err != nil {
			return err
		}
		err = ended(r.exited, 0)
		r.remove()
		if err != nil {
			return err
		}
	}
	return nil
}

func leaksNoPipes(w *world) error {
	if err := w.many(1); err != nil {
		return err
	}
	fds := func() int { return count("/proc/"+pidOf("containerd")+"/fd/*") + count("/run/containerd/fifo/*") }
	before := fds()
	if err := w.many(10); err != nil {
		return err
	}
	return again("descriptors and FIFOs", fds, before+2)
}

func leaksNoSockets(w *world) error {
	sockets := func() int { return count("/run/containerd/s/*") }
	before := sockets()
	if err := w.many(5); err != nil {
		return err
	}
	return again("sockets", sockets, before)
}

func withOptions(set *options.Options) containerd.NewContainerOpts {
	return containerd.WithRuntime("io.containerd.runc.v2", set)
}

// The shim's process: the parent of init.
func shimOf(task containerd.Task) (string, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", task.Pid()))
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(string(status), "PPid:\t")
	pid, _, _ := strings.Cut(rest, "\n")
	return pid, nil
}

// A container that lives, and its shim's process.
func (w *world) sleeper(more ...interface{}) (*running, string, error) {
	r, err := w.run("sleep 1000", nil, more...)
	if err != nil {
		return nil, "", err
	}
	shim, err := shimOf(r.task)
	if err != nil {
		r.remove()
		return nil, "", err
	}
	return r, shim, nil
}

func inCgroup(w *world) error {
	places := []string{"/sys/fs/cgroup/client"}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.procs"); err != nil {
		places = []string{"/sys/fs/cgroup/memory/client", "/sys/fs/cgroup/pids/client"}
	}
	for _, place := range places {
		if err := os.Mkdir(place, 0o755); err != nil {
			return err
		}
		defer func(place string) {
			for i := 0; os.Remove(place) != nil && i < 100; i++ {
				time.Sleep(50 * time.Millisecond)
			}
		}(place)
	}
	r, shim, err := w.sleeper(withOptions(&options.Options{ShimCgroup: "/client"}))
	if err != nil {
		return err
	}
	defer r.remove()
	for _, place := range places {
		pids, err := os.ReadFile(place + "/cgroup.procs")
		if err != nil {
			return err
		}
		if !strings.Contains("\n"+string(pids), "\n"+shim+"\n") {
			return fmt.Errorf("%s has not the shim %s", place, shim)
		}
	}
	return nil
}

func oomScore(w *world) error {
	r, shim, err := w.sleeper()
	if err != nil {
		return err
	}
	defer r.remove()
	score := func(pid string) int {
		text, _ := os.ReadFile("/proc/" + pid + "/oom_score_adj")
		number, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		return number
	}
	wanted := score(pidOf("containerd")) + 1
	if wanted > 1000 {
		wanted = 1000
	}
	return same(fmt.Sprint(score(shim)), fmt.Sprint(wanted))
}

// The path of the socket does not depend on the length of names.
func sockLength(w *world) error {
	long := strings.Repeat("n", 76)
	ctx := w.ctx
	w.ctx = namespaces.WithNamespace(ctx, long)
	defer func() {
		w.client.NamespaceService().Delete(ctx, long)
		w.ctx = ctx
	}()
	r, err := w.run("exit 2", nil, strings.Repeat("i", 76))
	if err != nil {
		return err
	}
	defer r.remove()
	return ended(r.exited, 2)
}

func runtimeOptions(w *world) error {
	root, err := os.MkdirTemp("", "root")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	r, err := w.run("sleep 1000", nil, withOptions(&options.Options{Root: root, NoPivotRoot: true}))
	if err != nil {
		return err
	}
	defer r.remove()
	if count(root+"/default/client*") != 1 {
		return errors.New("the runtime keeps its state elsewhere")
	}
	return nil
}

// containerd is killed and begun anew.
func (w *world) restart() error {
	exec.Command("sh", "-c", "kill -9 $(pidof containerd); while pidof containerd >/dev/null; do sleep 0.05; done").Run()
	if err := exec.Command("sh", "-c", "containerd >/dev/null 2>&1 &").Run(); err != nil {
		return err
	}
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		if _, err := w.client.Version(w.ctx); err == nil {
			return nil
		}
		if time.Now().After(end) {
			return errors.New("containerd does not come back")
		}
	}
}

func restartWithRunningShim(w *world) error {
	r, err := w.run("sleep 1000", nil)
	if err != nil {
		return err
	}
	defer r.remove()
	if err := w.restart(); err != nil {
		return err
	}
	status, err := r.task.Status(w.ctx)
	if err != nil {
		return err
	}
	if err := same(string(status.Status), "running"); err != nil {
		return err
	}
	// The one from before has broken with the connection.
	exited, err := r.task.Wait(w.ctx)
	if err != nil {
		return err
	}
	if err := r.task.Kill(w.ctx, syscall.SIGKILL); err != nil {
		return err
	}
	return ended(exited, 137)
}

type locked struct {
	sync.Mutex
	bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.Buffer.Write(p)
}

func (l *locked) lines() int {
	l.Lock()
	defer l.Unlock()
	return strings.Count(l.Buffer.String(), "\n")
}

// Output goes on to a client that has stayed.
func reconnectsToPipes(w *world) error {
	out := &locked{}
	r, err := w.run("while :; do date; sleep 0.1; done", cio.NewCreator(cio.WithStreams(nil, out, io.Discard)))
	if err != nil {
		return err
	}
	defer r.remove()
	if err := w.restart(); err != nil {
		return err
	}
	before := out.lines()
	for end := time.Now().Add(patience); out.lines() < before+5; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			return errors.New("no more output")
		}
	}
	return nil
}
