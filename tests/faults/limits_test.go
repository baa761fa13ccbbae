package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/tests/faults/inject"
	"ocibundle/tests/testenv"
)

// limits are the trials with few files, little memory and small files (setrlimit(2)), and few processes in a control group.
func limits(t *testing.T, w *world) (trials []*trial) {
	group := testenv.Cgroup(t, "pids")
	var started sync.Map
	w.every(func(who *identity, c *command, ref *reference) {
		trials = slices.Concat(trials,
			w.resource(&started, who, c, ref, "NOFILE", unix.RLIMIT_NOFILE, 3, 40, 1),
			w.resource(&started, who, c, ref, "AS", unix.RLIMIT_AS, 32<<20, 1280<<20, 32<<20),
			w.resource(&started, who, c, ref, "FSIZE", unix.RLIMIT_FSIZE, 0, 1<<20, 50<<10))
		for n := 1; n <= 24; n++ {
			trials = append(trials, limited(who, c, ref, "pids", fmt.Sprint(n), func(s *scene, cmd *inject.Command) (func(), error) {
				cmd.Cgroup = filepath.Join(group, filepath.Base(s.dir))
				if err := os.Mkdir(cmd.Cgroup, 0o755); err != nil {
					return nil, err
				}
				undo := func() { os.Remove(cmd.Cgroup) }
				if err := os.WriteFile(filepath.Join(cmd.Cgroup, "pids.max"), fmt.Append(nil, n), 0); err != nil {
					return undo, err
				}
				return undo, w.starts(&started, fmt.Sprint(who.name, "pids", n), *cmd)
			}))
		}
	})
	return trials
}

// processes are the trials with few processes for a user. Root may have more.
func processes(t *testing.T, w *world) (trials []*trial) {
	var started sync.Map
	w.every(func(who *identity, c *command, ref *reference) {
		if who.uid != 0 {
			trials = append(trials, w.resource(&started, who, c, ref, "NPROC", unix.RLIMIT_NPROC, 1, 24, 1)...)
		}
	})
	// The limit is for all of a user's processes together.
	var alone sync.Mutex
	for _, c := range trials {
		arrange := c.arrange
		c.arrange = func(s *scene, cmd *inject.Command) (func(), error) {
			alone.Lock()
			_, err := arrange(s, cmd)
			return alone.Unlock, err
		}
	}
	return trials
}

// resource are trials with a limit of setrlimit(2), from one value to another.
func (w *world) resource(started *sync.Map, who *identity, c *command, ref *reference, name string, resource int, from, to, step uint64) (trials []*trial) {
	for n := from; n <= to; n += step {
		trials = append(trials, limited(who, c, ref, name, fmt.Sprint(n), func(_ *scene, cmd *inject.Command) (func(), error) {
			cmd.Limits = map[int]uint64{resource: n}
			return nil, w.starts(started, fmt.Sprint(who.name, name, n), *cmd)
		}))
	}
	return trials
}

func limited(who *identity, c *command, ref *reference, name, value string, arrange func(*scene, *inject.Command) (func(), error)) *trial {
	return &trial{who: who, c: c, ref: ref, kind: name, fault: name + "/" + value, arrange: arrange,
		expect: func(*inject.Result) expectation {
			e := expectation{codes: []int{1}, adapts: true}
			if n, _ := strconv.Atoi(value); (name == "NPROC" || name == "pids") && n <= 10 {
				e.early = true // the Go runtime starts with some five threads, in each of two processes
			}
			// Go's heap starts at a random place within 64 MiB, and may need another 64 before main.
			e.narrow = name == "AS"
			if c.name == "check" {
				e.codes = append(e.codes, 3) // a limit of the config may be more than this
			}
			if name == "FSIZE" {
				e.says = unix.EFBIG.Error()
			} else if who.uid != 0 {
				e.codes = append(e.codes, 2) // newuidmap(1), which the limit holds for as well, has failed
			}
			return e
		},
	}
}

// starts is errNotTried where the Go runtime does not get as far as to run the program under a limit: the program has no
// say then.
func (w *world) starts(known *sync.Map, limit string, cmd inject.Command) error {
	starts, ok := known.Load(limit)
	if !ok {
		cmd.Args, cmd.Stdin = []string{"--version"}, nil
		res, err := inject.Run(cmd)
		if err != nil {
			return err
		}
		starts = res.Code == 0
		known.Store(limit, starts)
	}
	if starts == false {
		return errNotTried
	}
	return nil
}
