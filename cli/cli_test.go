package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/pipeline/bundle"
	"ocibundle/pipeline/userns"
	"ocibundle/specedit"
	"ocibundle/tarx"
)

// testProgram is a program with nobody on its other ends.
func testProgram() (*program, *bytes.Buffer, *bytes.Buffer) {
	var stdout, stderr bytes.Buffer
	return &program{stdout: newOutput(&stdout), stderr: &stderr}, &stdout, &stderr
}

// An exit status is a promise: one row for each kind of error.
func TestStatus(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		code int
		hint string // in one of the hints; "" for no hint at all
	}{
		"done":              {nil, 0, ""},
		"usage":             {usagef("x").hint("try %d", 1), 2, "try 1"},
		"inner process":     {&userns.Exited{Code: 4}, 4, ""},
		"signal":            {&signalError{syscall.SIGTERM}, 143, ""},
		"output":            {&outputError{unix.ENOSPC}, 1, ""},
		"edit":              {&specedit.EditError{Hint: "so"}, 2, "so"},
		"unmapped edit":     {&specedit.EditError{Err: specedit.ErrUnmapped}, 4, "--user 0"},
		"no range":          {&userns.Error{Kind: userns.KindNoRange}, 2, "--remap self"},
		"there already":     {&bundle.DestinationError{Kind: bundle.DestExists}, 5, "--force"},
		"mount point":       {&bundle.DestinationError{Kind: bundle.DestMount, Dir: "/mnt/"}, 2, "/mnt/bundle"},
		"no bundle":         {&bundle.Error{Kind: bundle.None}, 2, "config.json"},
		"in use":            {&bundle.Error{Kind: bundle.InUse}, 5, "stop the container"},
		"refused":           {fmt.Errorf("x: %w", tarx.ErrRefused), 4, ""},
		"id":                {&tarx.EntryError{Kind: tarx.ErrRefused, Err: &tarx.UnmappedIDError{What: "uid"}}, 4, "--uidmap"},
		"empty":             {&tarx.EntryError{Kind: tarx.ErrMalformed, Err: tarx.ErrEmpty}, 3, "wrote nothing"},
		"truncated":         {&tarx.EntryError{Kind: tarx.ErrMalformed, Err: tarx.ErrTruncated}, 3, "cut off"},
		"something found":   {&checkError{hints: []string{"fix"}}, 3, "fix"},
		"input and output":  {fs.ErrPermission, 1, ""},
		"many files":        {unix.EMFILE, 1, "ulimit -n"},
		"hinted":            {&hintedError{usagef("x"), "there"}, 2, "there"},
		"wrapped":           {fmt.Errorf("more: %w", usagef("x").hint("try")), 2, "try"},
		"accounts unread":   {&specedit.FileError{}, 1, ""},
		"malformed archive": {fmt.Errorf("x: %w", tarx.ErrMalformed), 3, ""},
	} {
		code, hints := status(c.err)
		all := strings.Join(hints, "\n")
		if code != c.code || !strings.Contains(all, c.hint) || c.hint == "" && all != "" {
			t.Errorf("%s: status %d, hints %q", name, code, hints)
		}
	}
}

// foreign are command lines of other programs in a hint.
var foreign = regexp.MustCompile(`\b(runc run|usermod|docker [a-z]+|zstd|xz|tar|systemctl)( --?[^ ]+| -[a-z]+ [A-Z]+)+`)

// A hint that names a flag names one that there is.
func TestHintsNameFlags(t *testing.T) {
	known := spellings(slices.Concat(mainDefs(), specFlags))
	p, _, _ := testProgram()
	for _, c := range p.commands() {
		maps.Copy(known, spellings(c.flags))
	}
	hints := slices.Concat(slices.Collect(maps.Values(habits)), slices.Collect(maps.Values(findingHints)))
	flag := regexp.MustCompile(`(?:^|[ '(|])(--?[a-zA-Z][a-z-]*)`)
	seen := 0
	for _, hint := range hints {
		for _, m := range flag.FindAllStringSubmatch(foreign.ReplaceAllString(hint, ""), -1) {
			seen++
			if _, ok := known[m[1]]; !ok {
				t.Errorf("%q names %s, which does not exist", hint, m[1])
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d flags were found in the hints", seen)
	}
	main := spellings(mainDefs())
	for name := range habits {
		if _, ok := main[dashed(name)]; ok {
			t.Errorf("%s is a flag, and cannot be a habit that has none", dashed(name))
		}
	}
}

// Errors blame an edit in the user's own words.
func TestLabels(t *testing.T) {
	plain, optional := &flagDef{names: []string{"env", "e"}, value: "K"}, &flagDef{names: []string{"tty", "t"}, value: "BOOL", optional: true}
	for want, u := range map[string]use{
		"-e A=1":      {def: plain, given: "-e", value: "A=1"},
		"--env A":     {def: plain, given: "--env", value: "A"},
		"-t":          {def: optional, given: "-t", value: "true", bare: true},
		"--tty=false": {def: optional, given: "--tty", value: "false"},
	} {
		if got := u.label(); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}

// Every kind of flag is recorded in the order of the command line, under all of its names.
func TestRecord(t *testing.T) {
	p, _, _ := testProgram()
	var seen []string
	c := &command{name: "x", flags: mainDefs(), run: func([]string) error {
		for _, u := range p.rec.uses {
			seen = append(seen, u.label())
		}
		return nil
	}}
	if err := p.runCommand(c, []string{"-e", "A=1", "DIR", "--env=B=2", "-t", "--tty=false", "-f", "-v", "/a:/b"}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"-e A=1", "--env B=2", "-t", "--tty=false", "-f", "-v /a:/b"}; !slices.Equal(seen, want) {
		t.Errorf("recorded %q", seen)
	}
	if v, _ := p.rec.last("env"); v != "B=2" || !p.rec.is("force") || p.rec.is("tty") || len(p.rec.all("env")) != 2 {
		t.Errorf("the record is %+v", p.rec)
	}
	if err := p.runCommand(&command{name: "y", run: func([]string) error { return nil }}, nil); err == nil {
		t.Error("flags before a command are passed over")
	}
}

func TestUnknownFlags(t *testing.T) {
	for name, want := range map[string]string{
		"p": "--net host", "entrypoint": "after --", "memroy": "--memory", "nosuchthing": "--help lists", "it": "-t gives",
	} {
		_, hints := status(parseError(errors.New("flag provided but not defined: -"+name), []string{"-q", "--" + name + "=x"}, mainDefs()))
		if !strings.Contains(strings.Join(hints, "\n"), want) {
			t.Errorf("%s: %q", name, hints)
		}
	}
	for given, want := range map[string]string{"--sync": "docker export CONTAINER | ocibundle -o DIR --sync", "-o": "> FILE"} {
		err := parseError(errors.New("flag provided but not defined: -"+strings.TrimLeft(given, "-")), []string{"b", given}, nil)
		_, hints := status(err)
		if len(hints) != 1 || !strings.Contains(hints[0], "flag of the main job") || !strings.Contains(hints[0], want) || err.Error() != "there is no flag "+given {
			t.Errorf("a flag of the main job, given to a command: %v: %q", err, hints)
		}
	}
	for given, want := range map[string]string{"-fo": "-f -o", "-ob": "-o b"} {
		err := parseError(errors.New("flag provided but not defined: "+given), []string{given, "x"}, mainDefs())
		_, hints := status(err)
		if !strings.Contains(strings.Join(hints, "\n"), want) || err.Error() != "there is no flag "+given {
			t.Errorf("%v: %q", err, hints)
		}
	}
}

func TestNoRuntime(t *testing.T) {
	if _, err := findRuntime([]string{"no-such-runtime", "no-other"}); err == nil || err.Error() != "find a runtime: there is no no-such-runtime, and no no-other" {
		t.Error(err)
	}
}

// A file is read once, standard input by one reader only, and none without a limit.
func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	f, err := os.Create(large)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(16<<20 + 1); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := (&files{}).ReadFile("--patch", large); err == nil || !strings.Contains(err.Error(), "is larger than 16 MiB") {
		t.Errorf("a large file: %v", err)
	}
	if _, err := (&files{}).ReadFile("--patch", filepath.Join(dir, "none")); err == nil || !strings.HasPrefix(err.Error(), "--patch: ") {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := (&files{stdin: "the stream"}).ReadFile("--patch", "-"); err == nil || err.Error() != "the stream and --patch both read standard input" {
		t.Errorf("standard input twice: %v", err)
	}
}

// What a terminal would act on is not printed as it is.
func TestComplain(t *testing.T) {
	p, _, stderr := testProgram()
	p.warn("a\x1b[31m\xff\u009b\u202e\nb é")
	if got, want := stderr.String(), "ocibundle: warning: a\\x1b[31m\\xff\\u009b\\u202e\\nb é\n"; got != want {
		t.Errorf("%q, not %q", got, want)
	}
}

// The first error of standard output stays, and one of a closed pipe is quiet.
func TestOutput(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	o := newOutput(w)
	for range 2 {
		sig, ok := errors.AsType[*signalError](o.print("x"))
		if !ok || !sig.quiet() {
			t.Errorf("a write to a pipe that nobody reads: %v", sig)
		}
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	if err := newOutput(full).print("x"); err == nil || err.Error() != "write to standard output: no space left on device" {
		t.Errorf("a full disk: %v", err)
	}
}

func TestFindingLine(t *testing.T) {
	for want, f := range map[string]specedit.Finding{
		"config.json /process/cwd is empty": {Pointer: "/process/cwd", Message: "is empty"},
		"config.json: unexpected EOF":       {Message: "unexpected EOF"},
		"/bin/sh: no such file":             {Path: "/bin/sh", Message: "no such file"},
	} {
		if got := findingLine(f); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}

// bash gives the words of a command line with "=" on its own.
func TestJoinEquals(t *testing.T) {
	for _, c := range [][2][]string{
		{{"--net", "=", "ho"}, {"--net=ho"}},
		{{"--env", "=", "A", "=", "1", "-o"}, {"--env=A=1", "-o"}},
		{{"--net", "="}, {"--net="}},
	} {
		if got := joinEquals(c[0]); !slices.Equal(got, c[1]) {
			t.Errorf("%q: %q", c[0], got)
		}
	}
}

// Where there is no room, the hint says for whom.
func TestHintOutput(t *testing.T) {
	for errno, want := range map[syscall.Errno]string{unix.ENOSPC: "the disk is full", unix.EDQUOT: "the quota is used up", unix.EIO: ""} {
		err := hintOutput(fmt.Errorf("write: %w", errno), "b")
		if he, ok := errors.AsType[*hintedError](err); ok != (want != "") || ok && !strings.HasPrefix(he.hint, want) {
			t.Errorf("%v: %v", errno, err)
		}
	}
}
