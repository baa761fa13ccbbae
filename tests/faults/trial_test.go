package faults

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"ocibundle/tests/faults/inject"
)

// trial is one run in which something goes wrong.
type trial struct {
	who *identity
	c   *command
	ref *reference
	// fault is what goes wrong; trials that differ in detail alone are of one kind.
	fault, kind string
	// fs gives the scene a filesystem of its own, see format.
	fs string
	// arrange makes it go wrong. It may be nil.
	arrange func(s *scene, cmd *inject.Command) (undo func(), err error)
	expect  func(res *inject.Result) expectation
	// judge is for what the judge of the other trials cannot see. It may be nil.
	judge func(s *scene, res *inject.Result) (wrong []string, err error)
	// must: it is not a trial where the fault did not come about.
	must func(res *inject.Result) bool
}

func (t *trial) name() string { return t.who.name + "/" + t.c.name + "/" + t.fault }

// every calls f for all that can be run: each command that is not slow, as each identity that may.
func (w *world) every(f func(who *identity, c *command, ref *reference)) {
	w.all(func(who *identity, c *command, ref *reference) {
		if !c.slow {
			f(who, c, ref)
		}
	})
}

// all is every with the slow ones.
func (w *world) all(f func(who *identity, c *command, ref *reference)) {
	for i := range w.who {
		for j := range commands {
			if ref := w.refs[w.who[i].name+"/"+commands[j].name]; ref != nil {
				f(&w.who[i], &commands[j], ref)
			}
		}
	}
}

// try runs a trial and says what is wrong, and what was hit.
func (w *world) try(t *trial) (wrong []string, hit *inject.Call, err error) {
	s, err := w.set(*t.who, t.c, t.fs)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, s.remove()) }()
	cmd := s.command()
	if t.arrange != nil {
		undo, err := t.arrange(s, &cmd)
		if undo != nil {
			defer undo()
		}
		if err != nil {
			return nil, nil, err
		}
	}
	res, err := inject.Run(cmd)
	if err != nil {
		return nil, nil, err
	}
	if t.must != nil && !t.must(res) {
		return nil, nil, errNotTried
	}
	if t.judge != nil {
		wrong, err = t.judge(s, res)
	} else {
		wrong, err = s.judge(res, t.ref, t.expect(res))
	}
	return wrong, res.Hit, err
}

var errNotTried = errors.New("the fault did not come about")

// chosen leaves of the trials what -only or -all asks for, and else a sample that is the same each time: n of them, and
// at least one of each kind.
func chosen(t *testing.T, trials []*trial, n int) []*trial {
	t.Helper()
	if *only != "" {
		pattern, err := regexp.Compile(*only)
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(trials, func(c *trial) bool { return !pattern.MatchString(c.name()) })
	}
	if *everything {
		return trials
	}
	rank := func(c *trial) uint64 {
		h := fnv.New64a()
		h.Write([]byte(c.name()))
		x := h.Sum64() // names that differ in the last letters only differ in the low bits
		x ^= x >> 32
		x *= 0x9e3779b97f4a7c15
		return x ^ x>>29
	}
	slices.SortFunc(trials, func(a, b *trial) int { return cmp.Compare(rank(a), rank(b)) })
	var first, others []*trial
	seen := map[string]bool{}
	for _, c := range trials {
		if !seen[c.kind] {
			seen[c.kind] = true
			first = append(first, c)
		} else {
			others = append(others, c)
		}
	}
	return append(first, others[:max(0, min(n-len(first), len(others)))]...)
}

// group is what is wrong in the same way in several trials.
type group struct {
	what    string
	kinds   []string // command and kind
	example string   // a trial's name
	at      string   // what it hit
	runs    int
}

// runAll runs trials, several at a time, and reports what is wrong with them in groups.
func (w *world) runAll(t *testing.T, trials []*trial) {
	t.Helper()
	groups := map[string]*group{}
	missed, all := 0, 0
	var mu sync.Mutex
	several(trials, func(c *trial) {
		wrong, hit, err := w.try(c)
		mu.Lock()
		defer mu.Unlock()
		if c.must != nil {
			all++
		}
		switch {
		case errors.Is(err, errNotTried):
			if c.must != nil {
				missed++
			}
		case err != nil:
			t.Errorf("%s: %v", c.name(), err)
		}
		for _, what := range wrong {
			add(groups, what, c, hit)
		}
	})
	report(t, groups)
	if all > 10 && missed > all/4 {
		t.Errorf("%d of %d runs never came to the call that was to fail", missed, all)
	}
}

// several calls f for all the items, for some at a time.
func several[T any](items []T, f func(T)) {
	next := make(chan T)
	var wait sync.WaitGroup
	for range 2 * runtime.NumCPU() {
		wait.Go(func() {
			for item := range next {
				f(item)
			}
		})
	}
	for _, item := range items {
		next <- item
	}
	close(next)
	wait.Wait()
}

func add(groups map[string]*group, what string, c *trial, hit *inject.Call) {
	g := groups[what]
	if g == nil {
		g = &group{what: what}
		groups[what] = g
	}
	g.runs++
	if kind := c.c.name + ": " + c.kind; !slices.Contains(g.kinds, kind) {
		g.kinds = append(g.kinds, kind)
	}
	if g.example == "" || c.name() < g.example {
		g.example, g.at = c.name(), ""
		if hit != nil {
			g.at = " at " + tidy(hit.String())
		}
	}
}

func report(t *testing.T, groups map[string]*group) {
	t.Helper()
	var sorted []*group
	for _, g := range groups {
		slices.Sort(g.kinds)
		sorted = append(sorted, g)
	}
	slices.SortFunc(sorted, func(a, b *group) int { return cmp.Or(b.runs-a.runs, strings.Compare(a.what, b.what)) })
	for _, g := range sorted {
		t.Errorf("%d runs: %s\n\tof %s\n\t-only '^%s$'%s", g.runs, g.what, some(g.kinds), regexp.QuoteMeta(g.example), g.at)
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
