package faults

import (
	"fmt"
	"math/rand"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ocibundle/tests/faults/inject"
)

var deadly = []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGKILL}

// turning are the calls at which signals arrive, the first and the last of each kind: there something is begun, is under
// way or is done.
var turning = []string{
	"openat", "openat2", "read", "getdents64", "write", "pwrite64", "mkdirat", "symlinkat", "mknodat", "utimensat", "fsetxattr", "fsync", "syncfs",
	"renameat", "renameat2", "unlinkat", "flock", "clone", "execve", "waitid", "pipe2", "prctl",
}

// signals are the trials in which a signal arrives at a chosen call: for the process that was started, as from kill(1) or
// a service manager, and for all of its group, as from a terminal. Those that were ignored at the start, as by nohup(1),
// change nothing.
func signals(t *testing.T, w *world) (trials []*trial) {
	w.every(func(who *identity, c *command, ref *reference) {
		last := map[string]int{}
		for _, call := range ref.calls {
			last[call.Kind.Name]++
		}
		for _, name := range turning {
			kind, ok := inject.KindOf(name)
			if !ok {
				t.Fatalf("no system call is called %s", name)
			}
			for _, nth := range slices.Compact([]int{1, last[name]}) {
				if nth > last[name] {
					continue
				}
				for _, sig := range deadly {
					f := inject.Fault{Kind: kind, Nth: nth, Signal: sig}
					at := fmt.Sprintf("%s/%d", name, nth)
					trials = append(trials, signalled(who, c, ref, sig, at, func(cmd *inject.Command) { cmd.Fault = &f }))
					if sig == unix.SIGINT {
						trials = append(trials, signalled(who, c, ref, sig, at+"/group", func(cmd *inject.Command) { cmd.Fault, cmd.Group = &f, true }))
					}
					if nth == 1 && (sig == unix.SIGHUP || sig == unix.SIGINT) { // the Go runtime hides that others were ignored
						ignored := signalled(who, c, ref, sig, at+"/ignored", func(cmd *inject.Command) { cmd.Fault, cmd.Ignored = &f, []syscall.Signal{sig} })
						ignored.kind, ignored.expect = ignored.kind+" ignored", func(*inject.Result) expectation { return expectation{silent: true} }
						trials = append(trials, ignored)
					}
				}
			}
		}
	})
	return trials
}

// moments are the trials in which a signal arrives at a random moment.
func moments(t *testing.T, w *world) (trials []*trial) {
	random := rand.New(rand.NewSource(chance(t)))
	w.all(func(who *identity, c *command, ref *reference) {
		for _, sig := range deadly {
			if sig == unix.SIGQUIT {
				continue // until main runs, the Go runtime answers it with its stacks
			}
			for i := range 5 {
				after := time.Duration(1 + random.Int63n(int64(ref.took)))
				trials = append(trials, signalled(who, c, ref, sig, fmt.Sprintf("moment/%d", i),
					func(cmd *inject.Command) { cmd.After, cmd.Signal = after, sig }))
			}
		}
	})
	return trials
}

// chance is the seed of what is random.
func chance(t *testing.T) int64 {
	s := *seed
	if s == 0 {
		s = time.Now().UnixNano()
	}
	t.Logf("-seed %d", s)
	return s
}

func signalled(who *identity, c *command, ref *reference, sig syscall.Signal, at string, arrange func(cmd *inject.Command)) *trial {
	name := unix.SignalName(sig)
	return &trial{who: who, c: c, ref: ref, kind: name, fault: name + "/" + at,
		arrange: func(_ *scene, cmd *inject.Command) (func(), error) {
			arrange(cmd)
			return nil, nil
		},
		expect: func(res *inject.Result) expectation {
			early := sig == unix.SIGQUIT && res.Hit != nil && res.Hit.Early
			return expectation{codes: []int{128 + int(sig)}, silent: true, killed: sig == unix.SIGKILL, early: early}
		},
	}
}
