package faults

import (
	"flag"
	"testing"
)

var (
	everything = flag.Bool("all", false, "run everything instead of a sample")
	only       = flag.String("only", "", "run what matches the regular expression, out of everything")
	seed       = flag.Int64("seed", 0, "of the random moments at which signals are sent and the power is cut; 0: a new one")
)

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
