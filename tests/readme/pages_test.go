package readme

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"ocibundle/tests/testenv"
)

// A block is a piece of a page that is set apart as code.
type block struct {
	kind   string // what stands behind the opening fence
	line   int
	text   string
	notRun string // the reason that a comment before it gives
}

const notRun = "<!-- not run: "

// fenced returns the blocks of a page between lines of three backquotes.
func fenced(t *testing.T, page string) []block {
	t.Helper()
	var found []block
	var b *block
	n, reason := 0, ""
	for line := range strings.Lines(read(t, page)) {
		n++
		fence, ok := strings.CutPrefix(line, "```")
		switch {
		case ok && b == nil:
			b = &block{kind: strings.TrimSpace(fence), line: n + 1, notRun: reason}
			reason = ""
		case ok:
			found = append(found, *b)
			b = nil
		case b != nil:
			b.text += line
		case reason != "":
			t.Errorf("%s:%d: a reason not to run, and no code after it", page, n)
			reason = ""
		case strings.HasPrefix(line, notRun):
			reason = strings.TrimSuffix(strings.TrimPrefix(line, notRun), " -->\n")
		}
	}
	if b != nil {
		t.Fatalf("the code block at line %d of %s has no end", b.line, page)
	}
	return found
}

// indented returns the blocks of the manual's EXAMPLES, which are indented by four spaces.
func indented(t *testing.T, page string) []block {
	t.Helper()
	text := read(t, page)
	before, examples, ok := strings.Cut(text, "\n# EXAMPLES\n")
	if !ok {
		t.Fatalf("%s has no EXAMPLES", page)
	}
	examples, _, _ = strings.Cut(examples, "\n# ")
	n := strings.Count(before, "\n") + 2
	var found []block
	inside := false
	for line := range strings.Lines(examples) {
		n++
		code, ok := strings.CutPrefix(line, "    ")
		switch {
		case !ok:
			inside = false
			continue
		case !inside:
			found = append(found, block{line: n})
			inside = true
		}
		found[len(found)-1].text += code
	}
	return found
}

func read(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(testenv.ModuleRoot(t), page))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A page is read from top to bottom in one directory.
type page struct {
	name       string
	blocks     func(*testing.T, string) []block
	containers []string // that it takes for granted
	least      int      // how many blocks run, or the page is no longer written that way
}

var pages = []page{
	{"README.md", fenced, []string{"tempredis"}, 10},
	{"docs/tutorial.md", fenced, nil, 12},
	{"docs/recipes.md", fenced, nil, 12},
	{"docs/ocibundle.1.md", indented, []string{"web"}, 5},
}

// elsewhere names the pages with blocks of code that other tests run, or that are no
// commands for a user of the program.
var elsewhere = map[string]string{
	"docs/slurm.md": "tests/slurm",
}

// Every page with code on it is run by somebody.
func TestEveryPage(t *testing.T) {
	root := testenv.ModuleRoot(t)
	names, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(names) < 5 {
		t.Fatalf("%d pages, %v", len(names), err)
	}
next:
	for _, name := range names {
		name = "docs/" + filepath.Base(name)
		for _, p := range pages {
			if p.name == name {
				continue next
			}
		}
		if elsewhere[name] != "" {
			continue
		}
		for _, b := range fenced(t, name) {
			if b.notRun == "" {
				t.Errorf("%s:%d: nobody runs this", name, b.line)
			}
		}
	}
}

func TestPages(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "runc", "script", "newuidmap", "newgidmap", "redis-cli")
	engine := startEngine(t)
	for _, p := range pages {
		for _, who := range []string{"root", "user"} {
			t.Run(p.name+" "+who, func(t *testing.T) {
				r := reader{engine: engine}
				dir := testenv.Dir(t)
				if who == "user" {
					r.user = testenv.TempUser(t, testenv.UserOptions{SubIDs: 65536})
					dir = r.user.Home
				}
				r.bin = r.tools(t) + ":" + filepath.Dir(testenv.Binary(t))
				for _, name := range p.containers {
					testenv.Output(t, engine.Docker(t.Context(), "create", "--name", name, "redis"))
				}
				t.Cleanup(func() {
					left := strings.Fields(testenv.Output(t, engine.Docker(context.Background(), "ps", "-aq")))
					if len(left) > 0 {
						testenv.Output(t, engine.Docker(context.Background(), append([]string{"rm", "-f"}, left...)...))
					}
				})
				r.page(t, dir, p)
			})
		}
	}
}

// tools makes a directory with what is another program for a reader of the page: an ssh
// to a machine of its own, and a runc with a state of its own, for names in the pages are
// fixed.
func (r reader) tools(t *testing.T) string {
	t.Helper()
	dir := testenv.Dir(t)
	for _, path := range []string{filepath.Join(dir, "host"), filepath.Join(dir, "state")} {
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if r.user != nil {
			if err := os.Chown(path, int(r.user.UID), int(r.user.GID)); err != nil {
				t.Fatal(err)
			}
		}
	}
	runc := testenv.NeedTool(t, "runc")
	for name, text := range map[string]string{
		"ssh":  "cd " + dir + "/host && shift && exec sh -c \"$*\"\n",
		"runc": "exec " + runc + " --root " + dir + "/state \"$@\"\n",
		// A unit is started by tests/vm, on a machine that systemd runs.
		"systemctl": "exit 0\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		states, _ := filepath.Glob(filepath.Join(dir, "state", "*"))
		for _, state := range states { // of a page that failed half way
			_ = exec.Command(runc, "--root", filepath.Join(dir, "state"), "delete", "--force", filepath.Base(state)).Run()
		}
	})
	return dir
}

// words are without the line ends and columns of a terminal.
func words(s string) string { return strings.Join(strings.Fields(s), " ") }

// page runs a page's blocks one after the other, in one directory, and compares what
// they print where the page says so.
func (r reader) page(t *testing.T, dir string, p page) {
	port := strconv.Itoa(testenv.FreePort(t))
	ran, printed := 0, ""
	for _, b := range p.blocks(t, p.name) {
		if b.notRun != "" {
			continue
		}
		ran++
		text := strings.ReplaceAll(b.text, "6379", port)
		switch {
		case b.kind == "make":
			r.makefile(t, r.subdirectory(t, dir), text)
		case b.kind == "output":
			if !strings.Contains(words(printed), words(text)) {
				t.Errorf("%s:%d says\n%s\nand what is printed is\n%s", p.name, b.line, text, printed)
			}
		case b.kind != "":
			t.Errorf("%s:%d: nobody runs a block of %s", p.name, b.line, b.kind)
		case strings.Contains(text, "runc run --bundle"):
			r.redis(t, dir, text)
		default:
			printed = r.script(t, dir, text)
		}
		if t.Failed() {
			t.Fatalf("%s:%d: the rest of the page is not tried", p.name, b.line)
		}
	}
	if ran < p.least {
		t.Errorf("%s has only %d blocks to run: is it still written that way?", p.name, ran)
	}
}
