package faults

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"ocibundle/tests/faults/inject"
)

// together lets several runs of the same command work on one bundle: each does its job or says that another is at it
// (exit 5), and in the end all is as after one.
func (w *world) together(t *testing.T) {
	var trials []*trial
	w.every(func(who *identity, c *command, ref *reference) {
		if slices.Contains([]string{"main", "force", "edit", "rm several"}, c.name) {
			trials = append(trials, &trial{who: who, c: c, ref: ref, fault: "together", kind: "several together"})
		}
	})
	rounds := 1
	if *everything || *only != "" {
		rounds = 10
	}
	groups := map[string]*group{}
	for _, c := range chosen(t, trials, len(trials)) {
		for range rounds {
			wrong, err := w.race(c, 8)
			w.must(err)
			for _, what := range wrong {
				add(groups, what, c, nil)
			}
		}
	}
	report(t, groups)
}

func (w *world) race(t *trial, runs int) (wrong []string, err error) {
	s, err := w.set(*t.who, t.c, "")
	if err != nil {
		return nil, err
	}
	defer s.remove()
	results := make([]*inject.Result, runs)
	var wait sync.WaitGroup
	for i := range results {
		wait.Go(func() {
			var rerr error
			if results[i], rerr = inject.Run(s.command()); rerr != nil {
				results[i] = &inject.Result{Code: 127, Stderr: []byte(rerr.Error())}
			}
		})
	}
	wait.Wait()
	done := 0
	for _, res := range results {
		switch {
		case res.Code == 0:
			done++
		case res.Code == 5:
			wrong = append(wrong, s.message(res, expectation{})...)
		default:
			wrong = append(wrong, fmt.Sprintf("exit %d: %s", res.Code, firstLine(string(res.Stderr))))
		}
	}
	if done == 0 {
		wrong = append(wrong, "none does the job")
	}
	after, err := s.record()
	for _, c := range changes(blur(t.ref.tree), blur(after)) {
		wrong = append(wrong, fmt.Sprintf("in the end: %s", c))
	}
	return wrong, err
}
