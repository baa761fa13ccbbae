package tarx

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	for name, c := range map[string]struct {
		waited, worked time.Duration
		pieces         int
		slow           bool
	}{
		"small pieces, long waited for":    {900, 100, 8, true},
		"whole chunks, long waited for":    {900, 100, 1, false},
		"small pieces, nothing waited for": {100, 900, 8, false},
	} {
		at := time.Now()
		p := pace{}
		for range 100 {
			begun := at.Add(c.worked * time.Microsecond)
			at = begun.Add(c.waited * time.Microsecond)
			p.note(begun, at, c.pieces)
		}
		if p.slow() != c.slow {
			t.Errorf("%s: slow is %t", name, p.slow())
		}
	}
}
