package faults

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/tests/faults/inject"
)

// streams are the trials with a stdout or stderr that takes nothing: closed, on a full disk, a pipe whose reader has gone.
func streams(t *testing.T, w *world) (trials []*trial) {
	w.all(func(who *identity, c *command, ref *reference) {
		for _, state := range []string{"closed", "full", "gone"} {
			trials = append(trials, broken(who, c, ref, 1, state), broken(who, c, ref, 2, state))
		}
	})
	return trials
}

func broken(who *identity, c *command, ref *reference, fd int, state string) *trial {
	name := map[int]string{1: "stdout", 2: "stderr"}[fd]
	return &trial{who: who, c: c, ref: ref, kind: name + " " + state, fault: name + "/" + state,
		arrange: func(_ *scene, cmd *inject.Command) (func(), error) {
			f, err := taker(state)
			if err != nil {
				return nil, err
			}
			if state == "closed" {
				cmd.Close = []int{fd}
			}
			if fd == 1 {
				cmd.Stdout = f
			} else {
				cmd.Stderr = f
			}
			return func() { f.Close() }, nil
		},
		expect: func(*inject.Result) expectation {
			switch {
			case fd == 2:
				return expectation{mute: true}
			case c.does != looks || len(ref.stdout) == 0, state == "closed" && (c.name == "check" || c.name == "diff"):
				return expectation{deaf: true}
			}
			e := expectation{codes: []int{1}}
			switch state {
			case "full":
				e.says = unix.ENOSPC.Error()
			case "gone":
				e.codes, e.silent = append(e.codes, 128+int(unix.SIGPIPE)), true
			}
			return e
		},
	}
}

// taker is a file to write to, in vain.
func taker(state string) (*os.File, error) {
	if state != "gone" {
		return os.OpenFile("/dev/full", os.O_WRONLY, 0)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return w, r.Close()
}
