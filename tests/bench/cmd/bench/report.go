package main

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// A result is what one case gave.
type result struct {
	kase
	base     string // what the ratios are against
	rounds   []round
	chosen   []round // the quiet ones, or the quietest
	noisy    bool    // not enough of them were quiet
	rss      int64   // bytes, the peak of ocibundle
	launcher int64   // bytes below which a peak cannot be seen
	perEntry []map[string]time.Duration
	failures []string
	notes    []string
	diffs    map[string]string // what a peer does otherwise
}

func newResult(c kase) *result {
	return &result{kase: c, base: gnuTar, diffs: map[string]string{}}
}

// fail records that a tool did not do its work. A peer that cannot is worth a note; without ocibundle, GNU tar or the
// floor there is no figure.
func (r *result) fail(tool, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if slices.Contains(peers, tool) {
		r.notes = append(r.notes, text)
		return
	}
	r.failures = append(r.failures, text)
}

func (r *result) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

func (r *result) differs(tool string, d *differences) {
	if slices.Contains(peers, tool) {
		r.diffs[tool] = d.String()
		return
	}
	r.failures = append(r.failures, fmt.Sprintf("%s made another tree: %s", tool, d))
}

// choose takes the quiet rounds, or the quietest where there are too few.
func (r *result) choose(n int, limit float64) {
	sorted := slices.Clone(r.rounds)
	slices.SortStableFunc(sorted, func(a, b round) int { return cmp.Compare(a.foreign, b.foreign) })
	quiet := len(sorted)
	for quiet > 0 && sorted[quiet-1].foreign > limit {
		quiet--
	}
	r.noisy = quiet < n
	r.chosen = sorted[:min(max(quiet, n), len(sorted))]
}

// A spread is a median with its range.
type spread struct {
	median, low, high float64
	n                 int
}

func spreadOf(v []float64) spread {
	if len(v) == 0 {
		return spread{}
	}
	slices.Sort(v)
	mid := v[len(v)/2]
	if len(v)%2 == 0 {
		mid = (v[len(v)/2-1] + mid) / 2
	}
	return spread{mid, v[0], v[len(v)-1], len(v)}
}

// ratio is the spread of the tool's time over the base's in the same round.
func (r *result) ratio(tool string) spread {
	return r.ratioOf(tool, func(o outcome) time.Duration { return o.Wall })
}

// cpuRatio is that of the time of processors that all processes of the pipeline took.
func (r *result) cpuRatio(tool string) spread {
	return r.ratioOf(tool, func(o outcome) time.Duration { return o.CPU })
}

func (r *result) ratioOf(tool string, figure func(outcome) time.Duration) spread {
	for _, rounds := range [][]round{r.chosen, r.rounds} {
		var v []float64
		for _, rd := range rounds {
			a, ok := rd.runs[tool]
			b, ok2 := rd.runs[r.base]
			if ok && ok2 && figure(b) > 0 {
				v = append(v, figure(a).Seconds()/figure(b).Seconds())
			}
		}
		if len(v) > 0 {
			return spreadOf(v)
		}
	}
	return spread{}
}

// medians are the times of each tool over the chosen rounds.
func (r *result) medians() map[string]time.Duration {
	byTool := map[string][]float64{}
	for _, rd := range r.chosen {
		for t, o := range rd.runs {
			byTool[t] = append(byTool[t], o.Wall.Seconds())
		}
	}
	m := map[string]time.Duration{}
	for t, v := range byTool {
		m[t] = time.Duration(spreadOf(v).median * float64(time.Second))
	}
	return m
}

// growth is the largest time per entry over the smallest.
func (r *result) growth(tool string) float64 {
	var v []float64
	for _, m := range r.perEntry {
		if d, ok := m[tool]; ok {
			v = append(v, d.Seconds())
		}
	}
	if len(v) == 0 {
		return 0
	}
	return slices.Max(v) / slices.Min(v)
}

func (r *result) memoryTarget() float64 { return memoryLimit + r.window }

// value is the figure that the target is for, 0 if there is none.
func (r *result) value() float64 {
	switch r.kind {
	case memory:
		return mib(r.rss)
	case linear:
		return r.growth(ours)
	}
	return r.ratio(ours).median
}

func (r *result) limit() float64 {
	if r.kind == memory {
		return r.memoryTarget()
	}
	return r.target
}

func (r *result) met() bool {
	v := r.value()
	return len(r.failures) == 0 && v > 0 && v <= r.limit()
}

func (r *result) verdict() string {
	switch {
	case len(r.failures) > 0:
		return "failed"
	case r.value() == 0:
		return "not measured"
	case r.met():
		return "met"
	}
	return fmt.Sprintf("missed by %.0f %%", (r.value()/r.limit()-1)*100)
}

func (r *result) summary() string {
	if len(r.failures) > 0 {
		return "FAILED: " + strings.Join(r.failures, "; ")
	}
	var s []string
	for _, t := range r.tools() {
		if t == r.base {
			continue
		}
		if r.kind == linear {
			s = append(s, fmt.Sprintf("%s grows %.2f", t, r.growth(t)))
			continue
		}
		p := r.ratio(t)
		s = append(s, fmt.Sprintf("%s %.2f (%.2f-%.2f, %d)", t, p.median, p.low, p.high, p.n))
	}
	if r.rss > 0 {
		s = append(s, fmt.Sprintf("peak %.1f MiB", mib(r.rss)))
	}
	if r.noisy {
		s = append(s, "NOISY")
	}
	return strings.Join(s, ", ")
}

// tools are those that ran, in the order of the tables.
func (r *result) tools() []string {
	var all []string
	for _, t := range append([]string{r.base, ours, floor}, peers...) {
		ran := slices.ContainsFunc(r.rounds, func(rd round) bool { _, ok := rd.runs[t]; return ok })
		if r.kind == linear {
			ran = r.growth(t) > 0
		}
		if ran {
			all = append(all, t)
		}
	}
	return all
}

type report struct {
	results []*result
	harness *harness
}

func (p report) of(k kind) []*result {
	var rs []*result
	for _, r := range p.results {
		if r.kind == k {
			rs = append(rs, r)
		}
	}
	return rs
}

func mark(r *result) string {
	if r.noisy {
		return "~"
	}
	return ""
}

func number(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", v)
}

// terminal is the table for whoever waits for it.
func (p report) terminal() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "case\tGNU tar ms\tocibundle ms\tratio\trange\ttarget\tfloor\tbsdtar\tgo-archive\tcontainerd\tumoci\tpeak MiB\tverdict")
	for _, r := range p.results {
		m := r.medians()
		base := m[r.base]
		o := r.ratio(ours)
		between := "-"
		if o.n > 0 {
			between = fmt.Sprintf("%.2f-%.2f", o.low, o.high)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s%s\t%s\t%.2f", r.name, number(ms(base)), number(ms(m[ours])), mark(r), number(r.value()),
			between, r.limit())
		for _, t := range append([]string{floor}, peers...) {
			v := r.ratio(t).median
			if r.kind == linear {
				v = r.growth(t)
			}
			fmt.Fprintf(w, "\t%s", number(v))
		}
		fmt.Fprintf(w, "\t%s\t%s\n", number(mib(r.rss)), r.verdict())
	}
	w.Flush()
	for _, r := range p.of(linear) {
		for i, m := range r.perEntry {
			fmt.Fprintf(&b, "%s %d entries:", r.name, linearSizes[i].entries)
			for _, t := range r.tools() {
				fmt.Fprintf(&b, "  %s %.2f us", t, float64(m[t].Nanoseconds())/1e3)
			}
			fmt.Fprintln(&b)
		}
	}
	for _, r := range p.results {
		for _, f := range r.failures {
			fmt.Fprintf(&b, "%s: FAILED: %s\n", r.name, f)
		}
		for _, n := range r.notes {
			fmt.Fprintf(&b, "%s: %s\n", r.name, n)
		}
		for _, t := range peers {
			if d := r.diffs[t]; d != "" {
				fmt.Fprintf(&b, "%s: %s makes another tree: %s\n", r.name, t, d)
			}
		}
	}
	if slices.ContainsFunc(p.results, func(r *result) bool { return r.noisy }) {
		fmt.Fprintln(&b, "~ too few rounds were quiet: others used the processors meanwhile")
	}
	return b.String()
}

// markdown is docs/benchmarks.md.
func (p report) markdown() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Benchmarks")
	line("")
	line("`make bench` measures and writes this page. Do not edit it by hand.")
	line("")
	line("The figures come from one machine: %d processors (%s), Linux %s, %.0f GiB of memory.", runtime.NumCPU(), runtime.GOARCH, kernel(), memGiB())
	line("Other machines give other figures. So times are given as ratios to GNU tar in the same run, not in seconds.")
	line("Compared are %s, go-archive %s, containerd %s, umoci %s.", versions(), p.harness.module("github.com/moby/go-archive"),
		p.harness.module("github.com/containerd/containerd/v2"), p.harness.module("github.com/opencontainers/umoci"))
	line("")
	line("## How it is measured")
	line("")
	line("- A round runs `cat stream | tar --numeric-owner -xpf -` and `cat stream | ocibundle -o DIR`, one after the other, the first of the two")
	line("  in turns. A ratio is the median over at least %d rounds, with the smallest and the largest in brackets.", p.harness.rounds)
	line("- Each run writes into a fresh tmpfs, mounted for it alone. For ext4 that is a new file system in a file in memory:")
	line("  ext4 avoids the inodes of files deleted a moment ago, which makes every later run slower.")
	line("- A round in which other programs used more than %.0f %% of the processors is repeated. The choice does not look at the", p.harness.foreign*100)
	line("  times. A figure with a `~` had too few quiet rounds.")
	line("- The first tree of every tool is compared with the stream, entry by entry: type, mode, owner, size, content, mtime,")
	line("  hard links, xattrs. ocibundle, GNU tar and the floor must have the same tree, or the run fails.")
	line("- ocibundle does its whole job, config.json and publishing included, with all its checks.")
	line("- The *floor* is not an extractor. It has the stream parsed in memory before the clock starts, checks nothing, and makes")
	line("  the tree with the fewest system calls on two threads. It says what the kernel itself costs.")
	line("- Other commands are run in the same way, in turns with what does the same, each on a fresh tree.")
	line("- A busy machine has a `yes` that writes to /dev/null beside each run.")
	line("- Each Go library runs in a small program of its own, as root, through the same pipe.")
	line("- Peak memory is the kernel's figure for the process (`ru_maxrss`), the largest of all its runs.")
	line("")
	if rs := p.of(race); len(rs) > 0 {
		line("## Time")
		line("")
		line("GNU tar is 1. Less is faster.")
		line("")
		line("| stream | target | ocibundle | | floor | bsdtar | go-archive | containerd | umoci |")
		line("|---|---|---|---|---|---|---|---|---|")
		for _, r := range rs {
			o := r.ratio(ours)
			value := "-"
			if o.n > 0 {
				value = fmt.Sprintf("%s**%.2f** (%.2f to %.2f)", mark(r), o.median, o.low, o.high)
			}
			cells := []string{r.title, fmt.Sprintf("%.2f", r.target), value, r.verdict()}
			for _, t := range append([]string{floor}, peers...) {
				cells = append(cells, number(r.ratio(t).median))
			}
			line("| %s |", strings.Join(cells, " | "))
		}
		line("")
	}
	if rs := p.of(other); len(rs) > 0 {
		line("## Other commands")
		line("")
		line("What it is measured against is 1.")
		line("")
		line("| command | against | target | ocibundle | | processor time |")
		line("|---|---|---|---|---|---|")
		for _, r := range rs {
			o := r.ratio(ours)
			line("| %s | %s | %.2f | %s**%.2f** (%.2f to %.2f) | %s | %s |", r.title, r.base, r.target, mark(r), o.median, o.low, o.high,
				r.verdict(), number(r.cpuRatio(ours).median))
		}
		line("")
	}
	if rs := p.of(race); len(rs) > 0 {
		line("## Processor time")
		line("")
		line("Of all processes of the pipeline, `cat` included. GNU tar is 1.")
		line("")
		line("| stream | ocibundle | bsdtar | go-archive | containerd | umoci |")
		line("|---|---|---|---|---|---|")
		for _, r := range rs {
			o := r.cpuRatio(ours)
			cells := []string{r.title, fmt.Sprintf("%s**%.2f** (%.2f to %.2f)", mark(r), o.median, o.low, o.high)}
			for _, t := range peers {
				cells = append(cells, number(r.cpuRatio(t).median))
			}
			line("| %s |", strings.Join(cells, " | "))
		}
		line("")
	}
	if rs := p.of(startup); len(rs) > 0 {
		line("## Start-up")
		line("")
		for _, r := range rs {
			o := r.ratio(ours)
			line("%s: %s%.2f of its time (%.2f to %.2f, %d pairs); target %.2f, %s.", r.title, mark(r), o.median, o.low, o.high, o.n, r.target, r.verdict())
		}
		line("")
	}
	line("## Memory")
	line("")
	line("| stream | peak, MiB | target | |")
	line("|---|---|---|---|")
	for _, r := range p.results {
		if r.rss == 0 || r.kind == linear {
			continue
		}
		verdict := "met"
		if mib(r.rss) > r.memoryTarget() {
			verdict = fmt.Sprintf("missed by %.0f %%", (mib(r.rss)/r.memoryTarget()-1)*100)
		}
		line("| %s | %.1f | %.0f | %s |", r.title, mib(r.rss), r.memoryTarget(), verdict)
	}
	line("")
	if rs := p.of(linear); len(rs) > 0 {
		line("## Time per entry")
		line("")
		line("The start-up is subtracted. The smallest size is 1 for each tool. The target is a largest value of at most %.2f times", linearLimit)
		line("the smallest. GNU tar and the floor show how much of a growth is the kernel's own.")
		line("")
		line("| stream | entries | ocibundle | GNU tar | floor | ocibundle over GNU tar |")
		line("|---|---|---|---|---|---|")
		for _, r := range rs {
			for i, m := range r.perEntry {
				rel := func(t string) string {
					if m[t] == 0 || r.perEntry[0][t] == 0 {
						return "-"
					}
					return fmt.Sprintf("%.2f", m[t].Seconds()/r.perEntry[0][t].Seconds())
				}
				over := "-"
				if m[ours] > 0 && m[gnuTar] > 0 {
					over = fmt.Sprintf("%.2f", m[ours].Seconds()/m[gnuTar].Seconds())
				}
				line("| %s | %d | %s%s | %s | %s | %s |", r.title, linearSizes[i].entries, mark(r), rel(ours), rel(gnuTar), rel(floor), over)
			}
			line("| %s | largest over smallest | %s%s, %s | %s | %s | |", r.title, mark(r), number(r.growth(ours)), r.verdict(), number(r.growth(gnuTar)), number(r.growth(floor)))
		}
		line("")
	}
	var notes []string
	seen := map[string]bool{}
	for _, r := range p.results {
		for _, f := range r.failures {
			notes = append(notes, fmt.Sprintf("- %s: failed: %s", r.title, firstLine(f)))
		}
		for _, n := range r.notes {
			notes = append(notes, fmt.Sprintf("- %s: %s.", r.title, firstLine(n)))
		}
		for _, t := range peers {
			if d := r.diffs[t]; d != "" && !seen[t+r.stream] {
				seen[t+r.stream] = true
				notes = append(notes, fmt.Sprintf("- %s: %s makes another tree. Differences by kind: %s.", r.title, t, d))
			}
		}
	}
	if len(notes) > 0 {
		line("## Notes")
		line("")
		for _, n := range notes {
			line("%s", n)
		}
		line("")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

func kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "?"
	}
	release := unix.ByteSliceToString(u.Release[:])
	// The rest names the builder of the kernel.
	if i := strings.IndexFunc(release, func(r rune) bool { return r != '.' && (r < '0' || r > '9') }); i > 0 {
		release = release[:i]
	}
	return release
}

func memGiB() float64 {
	var s unix.Sysinfo_t
	if unix.Sysinfo(&s) != nil {
		return 0
	}
	return float64(s.Totalram) * float64(s.Unit) / (1 << 30)
}

func versions() string {
	var s []string
	for _, t := range []string{"tar", "bsdtar"} {
		out, err := exec.Command(t, "--version").Output()
		if err != nil {
			continue
		}
		f := strings.Fields(firstLine(string(out)))
		switch {
		case t == "tar" && len(f) > 0:
			s = append(s, "GNU tar "+f[len(f)-1])
		case len(f) > 1:
			s = append(s, "bsdtar "+f[1])
		}
	}
	return strings.Join(s, ", ")
}

// module is the version of a dependency of this module.
func (h *harness) module(path string) string {
	cmd := exec.Command("go", "list", "-m", "-f", "{{.Version}}", path)
	cmd.Dir = h.root + "/tests/bench"
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "?"
	}
	return strings.TrimPrefix(strings.TrimSpace(string(out)), "v")
}
