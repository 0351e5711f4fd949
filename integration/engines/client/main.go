// A client of containerd's own Go library, which drives a shim as nerdctl, CRI and dockerd do: by the behaviours that containerd's
// integration/client tests have names for, each in a few lines. A check prints `ok NAME`, or what is not so. No image is needed:
// the root filesystem is a directory with busybox.
//
//	client ROOTFS [CHECK...]
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containerd/containerd"
	"github.com/containerd/containerd/cio"
	"github.com/containerd/containerd/namespaces"
	"github.com/containerd/containerd/oci"
)

const address = "/run/containerd/containerd.sock"

// How long anything may take.
const patience = 30 * time.Second

type world struct {
	client *containerd.Client
	ctx    context.Context
	rootfs string
	last   int
}

var checks = []struct {
	name string
	run  func(*world) error
}{
	{"ShortRunningTaskPid", shortRunningTaskPid},
	{"ContainerKillAll", killAll},
	{"ContainerKillInitPidHost", killInitPidHost},
	{"ContainerPTY", pty},
	{"ContainerExecLargeOutputWithTTY", largeOutputWithTTY},
	{"TaskResize", resize},
	{"ContainerAttach", attach},
	{"ShimDoesNotLeakPipes", leaksNoPipes},
	{"ShimDoesNotLeakSockets", leaksNoSockets},
	{"ShimInCgroup", inCgroup},
	{"ShimOOMScore", oomScore},
	{"ShimSockLength", sockLength},
	{"ContainerRuntimeOptionsv2", runtimeOptions},
	{"RegressionIssue4769", issue4769},
	{"RegressionIssue6429", issue6429},
	{"Issue9103", issue9103},
	{"Issue10589", issue10589},
	{"DaemonRestartWithRunningShim", restartWithRunningShim},
	{"DaemonReconnectsToShimIOPipesOnRestart", reconnectsToPipes},
}

func main() {
	wanted := map[string]bool{}
	for _, name := range os.Args[2:] {
		wanted[name] = true
	}
	failed := 0
	for _, check := range checks {
		if len(wanted) > 0 && !wanted[check.name] {
			continue
		}
		if err := with(os.Args[1], check.run); err != nil {
			fmt.Printf("%s: %v\n", check.name, err)
			failed++
		} else {
			fmt.Printf("ok %s\n", check.name)
		}
	}
	if failed > 0 {
		os.Exit(1)
	}
}

func with(rootfs string, run func(*world) error) error {
	client, err := containerd.New(address)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(context.Background(), "default"), 3*patience)
	defer cancel()
	return run(&world{client: client, ctx: ctx, rootfs: rootfs})
}

// A container of a shell script, which is removed with its task.
func (w *world) container(script string, more ...interface{}) (containerd.Container, func(), error) {
	w.last++
	id := fmt.Sprintf("client%d", w.last)
	spec := []oci.SpecOpts{oci.WithRootFSPath(w.rootfs), oci.WithDefaultPathEnv, oci.WithProcessArgs("sh", "-c", script)}
	opts := []containerd.NewContainerOpts{}
	for _, one := range more {
		switch one := one.(type) {
		case oci.SpecOpts:
			spec = append(spec, one)
		case containerd.NewContainerOpts:
			opts = append(opts, one)
		case string:
			id = one
		}
	}
	opts = append(opts, containerd.WithNewSpec(spec...))
	container, err := w.client.NewContainer(w.ctx, id, opts...)
	if err != nil {
		return nil, nil, err
	}
	return container, func() {
		if task, err := container.Task(w.ctx, nil); err == nil {
			task.Delete(w.ctx, containerd.WithProcessKill)
		}
		container.Delete(w.ctx)
	}, nil
}

type running struct {
	task   containerd.Task
	exited <-chan containerd.ExitStatus
	remove func()
}

func (w *world) run(script string, io cio.Creator, more ...interface{}) (*running, error) {
	container, remove, err := w.container(script, more...)
	if err != nil {
		return nil, err
	}
	if io == nil {
		io = cio.NullIO
	}
	task, err := container.NewTask(w.ctx, io)
	if err != nil {
		remove()
		return nil, err
	}
	exited, err := task.Wait(w.ctx)
	if err == nil {
		err = task.Start(w.ctx)
	}
	if err != nil {
		remove()
		return nil, err
	}
	return &running{task, exited, func() {
		// This one knows its FIFOs.
		task.Delete(w.ctx, containerd.WithProcessKill)
		remove()
	}}, nil
}

func ended(exited <-chan containerd.ExitStatus, wanted uint32) error {
	select {
	case status := <-exited:
		code, _, err := status.Result()
		if err != nil {
			return err
		}
		if code != wanted {
			return fmt.Errorf("exit status %d, not %d", code, wanted)
		}
		return nil
	case <-time.After(patience):
		return errors.New("its exit is not told")
	}
}

func (w *world) exec(task containerd.Task, id, script string, io cio.Creator, terminal bool) (containerd.Process, <-chan containerd.ExitStatus, error) {
	spec, err := task.Spec(w.ctx)
	if err != nil {
		return nil, nil, err
	}
	process := *spec.Process
	process.Args, process.Terminal = []string{"sh", "-c", script}, terminal
	added, err := task.Exec(w.ctx, id, &process, io)
	if err != nil {
		return nil, nil, err
	}
	exited, err := added.Wait(w.ctx)
	if err == nil {
		err = added.Start(w.ctx)
	}
	return added, exited, err
}

func same(got, wanted string) error {
	if got != wanted {
		return fmt.Errorf("%.60q, not %.60q", got, wanted)
	}
	return nil
}
