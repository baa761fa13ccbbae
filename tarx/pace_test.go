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
		p := pace{last: time.Now()}
		for range 100 {
			// The clock runs on meanwhile, by less than this.
			p.worked += c.worked*time.Second - p.worked/paceWeight
			p.waited += c.waited*time.Second - p.waited/paceWeight
			p.note(time.Now(), c.pieces)
		}
		if p.slow() != c.slow {
			t.Errorf("%s: slow is %t", name, p.slow())
		}
	}
}
