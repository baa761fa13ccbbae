package faults

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"ocibundle/tests/faults/inject"
)

// group is what is wrong in the same way in several runs.
type group struct {
	what  string
	kinds []string // which command, call and error
	runs  []string
}

// each runs the cases, several at a time, and reports what is wrong with them in groups. A case has a name, a kind and
// what is wrong.
func (w *world) each(t *testing.T, n int, run func(i int) (name, kind string, wrong []string, err error)) {
	t.Helper()
	groups := map[string]*group{}
	var mu sync.Mutex
	var wait sync.WaitGroup
	cases := make(chan int)
	for range 2 * runtime.NumCPU() {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for i := range cases {
				name, kind, wrong, err := run(i)
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				mu.Lock()
				for _, what := range wrong {
					what = strings.TrimSpace(what)
					g := groups[what]
					if g == nil {
						g = &group{what: what}
						groups[what] = g
					}
					g.runs = append(g.runs, name)
					if !slices.Contains(g.kinds, kind) {
						g.kinds = append(g.kinds, kind)
					}
				}
				mu.Unlock()
			}
		}()
	}
	for i := range n {
		cases <- i
	}
	close(cases)
	wait.Wait()
	var sorted []*group
	for _, g := range groups {
		slices.Sort(g.runs)
		slices.Sort(g.kinds)
		sorted = append(sorted, g)
	}
	slices.SortFunc(sorted, func(a, b *group) int { return cmp.Or(len(b.runs)-len(a.runs), strings.Compare(a.what, b.what)) })
	for _, g := range sorted {
		at := ""
		if hit, ok := w.hits.Load(g.runs[0]); ok {
			at = fmt.Sprintf(" at %v", hit)
		}
		t.Errorf("%d runs: %s\n\tof %s\n\t-only '^%s$'%s", len(g.runs), g.what, some(g.kinds), strings.ReplaceAll(g.runs[0], "+", `\+`), at)
	}
}

// some is the first few of a list.
func some(list []string) string {
	const few = 12
	if len(list) <= few {
		return strings.Join(list, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(list[:few], "; "), len(list)-few)
}

// tell keeps which call it was that failed in a run.
func (w *world) tell(name string, hit inject.Call) { w.hits.Store(name, tidy(hit.String())) }
