package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// runMemory feeds ocibundle a stream while it is made, and looks at its peak memory alone.
func (h *harness) runMemory(c kase) (*result, error) {
	r := newResult(c)
	if h.ours == "" {
		return r, nil
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	for range min(h.rounds, 3) {
		if err := h.ctx.Err(); err != nil {
			return nil, err
		}
		if err := h.onceMemory(r, c, exe); err != nil {
			return nil, err
		}
		if len(r.failures) > 0 {
			break
		}
	}
	return r, nil
}

func (h *harness) onceMemory(r *result, c kase, exe string) (err error) {
	p, err := h.place(c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.leave()) }()
	o, err := launch(job{Dir: p.dir, Stages: []stage{
		{Argv: []string{exe, generateArg, c.stream}},
		{Argv: append([]string{h.ours, "-o", filepath.Join(p.dir, "bundle")}, h.flags...)},
	}})
	if err != nil {
		r.fail(ours, "%s: %v", ours, err)
		return nil
	}
	r.rss = max(r.rss, o.MaxRSS)
	r.launcher = max(r.launcher, o.Launcher)
	if h.verbose {
		logf("  %-12s %8.1f ms wall %8.1f ms cpu %6.1f MiB  others %.0f %%", ours, ms(o.Wall), ms(o.CPU), mib(o.MaxRSS), o.Foreign*100)
	}
	// The other cases compare trees; here only the number of entries counts, and nothing may be left beside them.
	got, err := inodes(p.dir)
	if err != nil {
		return err
	}
	want, err := countEntries(c.stream)
	if err != nil {
		return err
	}
	// Beside the entries: the mount's root, the bundle, its rootfs and its config.json.
	if got-4 != want {
		r.fail(ours, "%s made %d entries of %d", ours, got-4, want)
	}
	return nil
}

// countEntries counts what generate writes.
func countEntries(stream string) (int64, error) {
	w := newWriter(io.Discard)
	w.dry = true
	err := describe(w, stream)
	return w.n, err
}

// runLinear measures the time per entry at growing sizes. What a stream of one entry takes is the start-up.
func (h *harness) runLinear(c kase) (*result, error) {
	r := newResult(c)
	tools := []string{gnuTar}
	if h.ours != "" {
		tools = append(tools, ours)
	}
	c.others = []string{floor}
	at := func(entries, rounds int) (map[string]time.Duration, error) {
		sized := c
		sized.stream = fmt.Sprintf("%d-%s", entries, c.stream)
		in, err := h.input(sized)
		if err != nil {
			return nil, err
		}
		defer in.close()
		sub := newResult(sized)
		if err := h.race(sub, sized, in, tools, rounds); err != nil {
			return nil, err
		}
		r.failures = append(r.failures, sub.failures...)
		r.rss = max(r.rss, sub.rss)
		r.launcher = max(r.launcher, sub.launcher)
		r.noisy = r.noisy || sub.noisy
		return sub.medians(), os.Remove(in.plain)
	}
	start, err := at(1, h.rounds*4)
	if err != nil {
		return nil, err
	}
	start[floor] = 0 // its clock starts late
	for _, s := range linearSizes {
		rounds := h.rounds * s.factor
		if s.factor == 0 {
			rounds = min(h.rounds, 3)
		}
		m, err := at(s.entries, rounds)
		if err != nil {
			return nil, err
		}
		perEntry := map[string]time.Duration{}
		for t, d := range m {
			perEntry[t] = (d - start[t]) / time.Duration(s.entries)
		}
		if h.verbose {
			logf("  %d entries: %v", s.entries, perEntry)
		}
		// With many directories GNU tar's time is quadratic: a million entries would take it an hour.
		if n := len(r.perEntry); n > 0 && n < len(linearSizes)-1 && perEntry[gnuTar] > 3*r.perEntry[n-1][gnuTar]/2 {
			tools = slices.DeleteFunc(tools, func(t string) bool { return t == gnuTar })
			r.note("GNU tar is left out beyond %d entries, where it takes %.0f times as long for each as with %d", s.entries,
				perEntry[gnuTar].Seconds()/r.perEntry[n-1][gnuTar].Seconds(), linearSizes[n-1].entries)
		}
		r.perEntry = append(r.perEntry, perEntry)
	}
	return r, nil
}

// runStartup compares the time to print a default config.
func (h *harness) runStartup(c kase) (*result, error) {
	r := newResult(c)
	if h.ours == "" {
		return r, nil
	}
	if err := need("runc", "runc"); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(h.scratch, "spec-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	settle(h.settle)
	for i := range h.rounds * 6 {
		rd := round{runs: map[string]outcome{}}
		pair := []string{ours, runcSpec}
		if i%2 == 1 {
			slices.Reverse(pair)
		}
		for _, t := range pair {
			s := stage{Argv: []string{h.ours, "spec"}}
			if t == runcSpec {
				bundle := filepath.Join(dir, strconv.Itoa(i))
				if err := os.Mkdir(bundle, 0o755); err != nil {
					return nil, err
				}
				s.Argv = []string{"runc", "spec", "--bundle", bundle}
			}
			o, err := launch(job{Dir: dir, Nice: h.nice, Stages: []stage{s}})
			if err != nil {
				r.fail(t, "%s: %v", t, err)
				return r, nil
			}
			if h.verbose {
				logf("  %-12s %8.2f ms wall", t, ms(o.Wall))
			}
			rd.runs[t] = o
			rd.foreign = max(rd.foreign, o.Foreign)
			if t == ours {
				r.rss = max(r.rss, o.MaxRSS)
				r.launcher = max(r.launcher, o.Launcher)
			}
		}
		r.rounds = append(r.rounds, rd)
	}
	r.base = runcSpec
	r.choose(h.rounds*3, h.foreign)
	return r, nil
}

const runcSpec = "runc spec"
