package faults

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

var (
	everything = flag.Bool("all", false, "run everything instead of a sample")
	only       = flag.String("only", "", "run what matches the regular expression, out of everything")
	seed       = flag.Int64("seed", 0, "of the random moments at which signals are sent and the power is cut; 0: a new one")
)

const ownMounts = "OCIBUNDLE_TEST_OWN_MOUNTS"

// TestMain runs root's tests in a mount namespace of their own: a container that starts meanwhile would take a copy of
// what is mounted, and no filesystem could be unmounted while it lives.
func TestMain(m *testing.M) {
	_, own := os.LookupEnv(ownMounts)
	os.Unsetenv(ownMounts)
	if own || os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	self, err := os.Executable()
	if err == nil {
		var unshare string
		if unshare, err = exec.LookPath("unshare"); err == nil {
			err = syscall.Exec(unshare, append([]string{"unshare", "--mount", "--propagation", "private", self}, os.Args[1:]...),
				append(os.Environ(), ownMounts+"="))
		}
	}
	fmt.Fprintln(os.Stderr, "make a mount namespace:", err)
	os.Exit(1)
}

// TestFaults tries what can fail, and how many of each kind in a sample.
func TestFaults(t *testing.T) {
	w := newWorld(t)
	for _, part := range []struct {
		name   string
		trials func(*testing.T, *world) []*trial
		sample int
	}{
		{"calls", calls, 200},
		{"signals", signals, 60},
		{"moments", moments, 20},
		{"disks", disks, 30},
		{"quotas", quotas, 20},
		{"power", power, 36},
		{"limits", limits, 30},
		{"processes", processes, 15},
		{"streams", streams, 40},
	} {
		t.Run(part.name, func(t *testing.T) {
			trials := part.trials(t, w)
			all := len(trials)
			trials = chosen(t, trials, part.sample)
			t.Logf("%d of %d", len(trials), all)
			w.runAll(t, trials)
		})
	}
	t.Run("unsynced", w.unsynced)
	t.Run("together", w.together)
}
