package testenv

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

//go:embed engine.sh
var engineScript string

// An Engine is a private Docker engine with its own containerd, or the containerd alone. It has
// mount and pid namespaces and a /run of its own, shares the host's network, and keeps its data in
// memory.
type Engine struct {
	// Dir holds the sockets and logs. It is one and the same directory inside the engine's
	// namespaces and outside.
	Dir string

	init int // the first process in the engine's pid namespace, as seen from outside
}

type engine struct {
	once   sync.Once
	engine *Engine
	err    error
}

var docker, containerd engine

func (e *engine) start(t testing.TB, kind string, probe func(*Engine) *exec.Cmd) *Engine {
	t.Helper()
	e.once.Do(func() { e.engine, e.err = startEngine(kind, probe) })
	if e.err != nil {
		t.Fatal(e.err)
	}
	return e.engine
}

// StartDocker returns a running Docker engine. The tests of a process share it, and it ends with
// the process.
func StartDocker(t testing.TB) *Engine {
	t.Helper()
	NeedRoot(t)
	NeedTool(t, "dockerd", "docker", "containerd", "runc", "unshare")
	return docker.start(t, "docker", func(e *Engine) *exec.Cmd { return e.Docker(context.Background(), "version") })
}

// StartContainerd returns a running containerd. The tests of a process share it, and it ends with
// the process.
func StartContainerd(t testing.TB) *Engine {
	t.Helper()
	NeedRoot(t)
	NeedTool(t, "containerd", "ctr", "runc", "unshare", "nsenter")
	return containerd.start(t, "containerd", func(e *Engine) *exec.Cmd { return e.Ctr(context.Background(), "version") })
}

func startEngine(kind string, probe func(*Engine) *exec.Cmd) (*Engine, error) {
	dir, err := sharedDir()
	if err != nil {
		return nil, err
	}
	if err := theJanitor.register("cgroup", Tag); err != nil {
		return nil, err
	}
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc",
		"bash", "-c", engineScript, "engine.sh", dir, kind, Tag)
	cmd.Dir = "/"
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", kind, err)
	}
	id, err := processID(cmd.Process.Pid)
	if err == nil {
		err = theJanitor.register("engine", id)
	}
	if err != nil {
		return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	e := &Engine{Dir: dir}
	for range 600 {
		select {
		case err := <-ended:
			return nil, fmt.Errorf("start %s: it ended: %v\n%s", kind, err, e.logs())
		case <-time.After(100 * time.Millisecond):
		}
		if e.init == 0 {
			e.init = child(cmd.Process.Pid)
			continue
		}
		if probe(e).Run() == nil {
			return e, nil
		}
	}
	return nil, fmt.Errorf("start %s: no answer in a minute\n%s", kind, e.logs())
}

// child returns the only child of a process, or 0.
func child(pid int) int {
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(list), " ")
	n, err := strconv.Atoi(first)
	if err != nil {
		return 0
	}
	return n
}

func (e *Engine) logs() string {
	var all strings.Builder
	for _, name := range []string{"log", "containerd.log", "dockerd.log"} {
		text, err := os.ReadFile(filepath.Join(e.Dir, name))
		if err == nil {
			fmt.Fprintf(&all, "--- %s\n%s", name, text)
		}
	}
	return all.String()
}

// RecordedConfig returns the config.json that the engine made for the container with this id, which
// was started, in vain perhaps, with --runtime recorder.
func (e *Engine) RecordedConfig(t testing.TB, id string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(e.Dir, "bundles", id+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// DockerHost is what DOCKER_HOST must be for a client of the engine.
func (e *Engine) DockerHost() string {
	return "unix://" + filepath.Join(e.Dir, "docker.sock")
}

// Docker makes a command of the engine's client: Docker(ctx, "create", "redis").
func (e *Engine) Docker(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "docker", args...)
	// A configuration of the caller's could point at another engine.
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+e.DockerHost(), "DOCKER_CONFIG="+filepath.Join(e.Dir, "client"),
		"DOCKER_CONTEXT=")
	return cmd
}

// Ctr makes a command of containerd's client. It runs inside the engine's namespaces, for it shares
// FIFOs with the containers' shims.
func (e *Engine) Ctr(ctx context.Context, args ...string) *exec.Cmd {
	return e.Inside(ctx, "ctr", append([]string{"--address", filepath.Join(e.Dir, "containerd.sock")}, args...)...)
}

// Inside makes a command that runs inside the engine's mount and pid namespaces.
func (e *Engine) Inside(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter",
		append([]string{"--target", strconv.Itoa(e.init), "--mount", "--pid", "--wd=/", "--", name}, args...)...)
}
