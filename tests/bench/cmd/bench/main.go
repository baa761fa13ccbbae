// Bench measures ocibundle against GNU tar and other extractors, and against the floor that the kernel sets.
//
//	go -C tests/bench run ./cmd/bench                          everything, and writes docs/benchmarks.md
//	go -C tests/bench run ./cmd/bench -case redis -rounds 7    one case, in seconds
//	go -C tests/bench run ./cmd/bench -case redis -tools floor one case with the floor alone beside the pair
//
// It runs as root: it mounts a private tmpfs for every run and makes a throw-away user. The inputs are built here, by
// mmdebstrap and a Docker engine of its own, or from a fixed seed.
//
// A figure is the median of the ratios of alternating pairs: each round runs GNU tar and ocibundle one after the other,
// the first of the two in turns, on the same stream, each into a fresh file system. A round in which somebody else used
// more than -foreign of the processors is repeated, up to -patience times the number of rounds; what is left of them is
// marked. The choice never looks at the times measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == launchArg {
		os.Exit(launcher())
	}
	if len(os.Args) == 3 && os.Args[1] == generateArg {
		if err := generate(os.Args[2], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	o, err := parseFlags(os.Args[1:])
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
		os.Exit(2)
	}
	scratch := os.Getenv(privateEnv)
	if scratch == "" {
		// The one inside hears the signals too, and cleans up.
		signal.Notify(make(chan os.Signal, 1), os.Interrupt, syscall.SIGTERM)
		code, err := enterPrivate()
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench: enter a private mount namespace:", err)
		}
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := run(ctx, o, scratch)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// generateArg makes the harness the first process of a pipe: a stream too big to keep is made while it is read.
const generateArg = "generate-stream"

type options struct {
	cases      []kase
	all        bool
	tools      []string // nil: all
	rounds     int
	peerRounds int
	root       string
	bin        string
	flags      []string
	cache      string
	suite      string
	disk       string
	write      bool
	check      bool
	strict     bool
	verbose    bool
	foreign    float64
	nice       int
	settle     time.Duration
	patience   int
}

func parseFlags(args []string) (options, error) {
	var o options
	var pick, tools string
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&pick, "case", "", "cases to run, with commas and * between; all if empty")
	f.StringVar(&tools, "tools", "", "tools beside ocibundle and GNU tar, with commas; all that a case has if empty; none")
	f.IntVar(&o.rounds, "rounds", 7, "alternating pairs")
	f.IntVar(&o.peerRounds, "peer-rounds", 3, "rounds that the slower peers take part in")
	f.StringVar(&o.root, "root", "../..", "the repository")
	f.StringVar(&o.bin, "bin", "", "an ocibundle to measure, instead of building the repository's; none leaves it out")
	f.Func("flag", "one more argument for ocibundle; repeatable", func(s string) error { o.flags = append(o.flags, s); return nil })
	f.StringVar(&o.cache, "cache", filepath.Join(cache, "ocibundle-bench"), "where the redis streams are kept")
	f.StringVar(&o.suite, "suite", "bookworm", "Debian release of the redis root")
	f.StringVar(&o.disk, "disk", "", "a directory on a real ext4, instead of an ext4 image in memory; nothing is deleted in it until the end")
	f.BoolVar(&o.write, "write", false, "write docs/benchmarks.md although only some cases ran")
	f.BoolVar(&o.check, "check", true, "compare the trees with the stream")
	f.BoolVar(&o.strict, "strict", false, "a missed target is a failure")
	f.BoolVar(&o.verbose, "v", false, "print every run")
	f.Float64Var(&o.foreign, "foreign", 0.05, "share of the processors that others may use during a round")
	f.IntVar(&o.nice, "nice", 0, "priority of what is measured; -20 helps on a busy machine")
	f.DurationVar(&o.settle, "settle", 3*time.Second, "wait so long for an idle machine before a run, then run anyhow")
	f.IntVar(&o.patience, "patience", 3, "give up on quiet rounds after this many times -rounds")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if o.rounds < 1 || o.patience < 1 {
		return o, errors.New("-rounds and -patience are at least 1")
	}
	if o.root, err = filepath.Abs(o.root); err != nil {
		return o, err
	}
	if tools != "" {
		o.tools = strings.Split(tools, ",")
	}
	o.all = pick == ""
	if o.all {
		o.cases = cases
	}
	for _, p := range strings.FieldsFunc(pick, func(r rune) bool { return r == ',' }) {
		before := len(o.cases)
		for _, c := range cases {
			if ok, _ := path.Match(p, c.name); ok {
				o.cases = append(o.cases, c)
			}
		}
		if len(o.cases) == before {
			var names []string
			for _, c := range cases {
				names = append(names, c.name)
			}
			return o, fmt.Errorf("no case %q; there are %s", p, strings.Join(names, " "))
		}
	}
	return o, nil
}

func run(ctx context.Context, o options, scratch string) (ok bool, err error) {
	if os.Geteuid() != 0 {
		return false, errors.New("mount a tmpfs: not root")
	}
	if err := mountTmpfs(scratch, 10); err != nil {
		return false, err
	}
	h := &harness{options: o, ctx: ctx, scratch: scratch, digests: map[string]string{}}
	defer func() { err = errors.Join(err, h.close()) }()
	if err := h.build(); err != nil {
		return false, err
	}
	var results []*result
	for i, c := range o.cases {
		logf("case %s: %s", c.name, c.title)
		start := time.Now()
		r, err := h.runCase(c)
		if err != nil {
			return false, fmt.Errorf("case %s: %w", c.name, err)
		}
		results = append(results, r)
		logf("  %s  (%.0f s)", r.summary(), time.Since(start).Seconds())
		if err := h.forget(o.cases[i+1:]); err != nil {
			return false, err
		}
	}
	rep := report{results: results, harness: h}
	fmt.Print(rep.terminal())
	if o.all || o.write {
		doc := filepath.Join(o.root, "docs", "benchmarks.md")
		if err := os.MkdirAll(filepath.Dir(doc), 0o755); err != nil {
			return false, err
		}
		if err := os.WriteFile(doc, []byte(rep.markdown()), 0o644); err != nil {
			return false, err
		}
		logf("wrote %s", doc)
	}
	ok = !slices.ContainsFunc(results, func(r *result) bool { return len(r.failures) > 0 })
	if o.strict && slices.ContainsFunc(results, func(r *result) bool { return !r.met() }) {
		ok = false
	}
	return ok, nil
}

var logTo io.Writer = os.Stderr

func logf(format string, args ...any) { fmt.Fprintf(logTo, format+"\n", args...) }
