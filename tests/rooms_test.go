// Package tests holds what the source itself has to obey.
package tests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ocibundle/tests/testenv"
)

type pkg struct {
	ImportPath                         string
	Dir                                string
	GoFiles                            []string
	Imports, TestImports, XTestImports []string
}

const module = "ocibundle"

// rooms lists the rooms and what each may import of the others. The command line knows all of them:
// it maps their typed errors to exit codes.
var rooms = map[string][]string{
	"":    {"cli"},
	"cli": {"docs", "pipeline", "pipeline/bundle", "pipeline/check", "pipeline/decode", "pipeline/host", "pipeline/image", "pipeline/unit", "pipeline/userns", "specedit", "specedit/imageconfig", "specedit/jsontree", "tarx", "tarx/extract", "tarx/rewrite"},

	"pipeline":        {"pipeline/bundle", "pipeline/decode", "pipeline/host", "pipeline/image", "pipeline/userns", "specedit", "specedit/imageconfig", "tarx", "tarx/extract", "tarx/handle", "tarx/rewrite"},
	"pipeline/bundle": {"pipeline/host", "pipeline/userns", "specedit", "tarx", "tarx/export", "tarx/handle", "tarx/remove"},
	"pipeline/check":  {"pipeline/bundle", "pipeline/host", "pipeline/userns", "specedit", "tarx", "tarx/handle"},
	"pipeline/decode": {"tarx"},
	"pipeline/host":   {"pipeline/userns", "specedit"},
	"pipeline/image":  {"pipeline/decode", "specedit/imageconfig", "tarx", "tarx/extract", "tarx/flatten", "tarx/handle"},
	"pipeline/unit":   {"pipeline/bundle", "specedit/imageconfig"},
	"pipeline/userns": nil,

	"specedit":             {"specedit/jsontree"},
	"specedit/imageconfig": {"specedit", "specedit/jsontree"},
	"specedit/jsontree":    nil,

	"docs": nil,

	"tarx":         nil,
	"tarx/handle":  nil,
	"tarx/extract": {"tarx", "tarx/handle", "tarx/remove"},
	"tarx/export":  {"tarx", "tarx/handle"},
	"tarx/flatten": {"tarx", "tarx/extract"},
	"tarx/remove":  {"tarx/handle"},
	"tarx/rewrite": {"tarx"},
}

// aliens lists what a room is not to know of, by the import path or a part of it up to a slash.
var aliens = map[string][]string{
	"pipeline":        {"flag", "github.com/urfave/cli", "log"},
	"pipeline/userns": {"archive/tar", "flag", "github.com/opencontainers/runtime-spec", "github.com/urfave/cli", "log"},
	"specedit":        {"archive/tar", "flag", "github.com/urfave/cli", "log", "os/exec", "os/user"},
	"tarx":            {"flag", "github.com/opencontainers/runtime-spec", "github.com/urfave/cli", "log", "os/exec", "os/user"},
}

// roomOf returns the room a package of the module belongs to: the longest name in rooms that is the
// package's path or a parent of it.
func roomOf(path string) (room string, ok bool) {
	if path == module {
		return "", true
	}
	rel, ok := strings.CutPrefix(path, module+"/")
	if !ok {
		return "", false
	}
	for name := range rooms {
		if name != "" && len(name) > len(room) && within(rel, name) {
			room = name
		}
	}
	return room, room != ""
}

func within(path, parent string) bool {
	return path == parent || strings.HasPrefix(path, parent+"/")
}

// wrongImports says which of a package's imports lead where they may not.
func wrongImports(p pkg) []string {
	room, ok := roomOf(p.ImportPath)
	if !ok {
		if within(p.ImportPath, module+"/tests") {
			return nil
		}
		return []string{p.ImportPath + " is in no room"}
	}
	var wrong []string
	for _, path := range p.Imports {
		if within(path, module) {
			to, ok := roomOf(path)
			if !ok || (to != room && !slices.Contains(rooms[room], to)) {
				wrong = append(wrong, p.ImportPath+" imports "+path)
			}
		}
		for _, alien := range aliens[room] {
			if within(path, alien) {
				wrong = append(wrong, p.ImportPath+" imports "+path)
			}
		}
	}
	for _, path := range slices.Concat(p.TestImports, p.XTestImports) {
		if within(path, module) && path != p.ImportPath {
			to, ok := roomOf(path)
			if path != module+"/tests/testenv" && (!ok || (to != room && !slices.Contains(rooms[room], to) && !siblings(room, to))) {
				wrong = append(wrong, "a test of "+p.ImportPath+" imports "+path)
			}
		}
	}
	return wrong
}

// siblings says that two rooms lie side by side in a third. Their tests may use each other: what
// one writes the other reads.
func siblings(a, b string) bool { return strings.Contains(a, "/") && path.Dir(a) == path.Dir(b) }

// Imports point one way.
func TestImports(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range packages(t) {
		room, _ := roomOf(p.ImportPath)
		seen[room] = true
		for _, wrong := range wrongImports(p) {
			t.Error(wrong)
		}
	}
	for room := range rooms {
		if !seen[room] {
			t.Errorf("no package in the room %q: has it moved?", room)
		}
	}
}

func TestWrongImports(t *testing.T) {
	for _, tt := range []struct {
		p     pkg
		wrong bool
	}{
		{pkg{ImportPath: module, Imports: []string{module + "/cli", "os"}}, false},
		{pkg{ImportPath: module, Imports: []string{module + "/pipeline"}}, true},
		{pkg{ImportPath: module, Imports: []string{module + "/tests/testenv"}}, true},
		{pkg{ImportPath: module + "/pipeline", Imports: []string{module + "/pipeline/userns"}}, false},
		{pkg{ImportPath: module + "/pipeline/userns", Imports: []string{module + "/pipeline"}}, true},
		{pkg{ImportPath: module + "/tarx", Imports: []string{module + "/tarx/internal/x"}}, false},
		{pkg{ImportPath: module + "/tarx/internal/x", Imports: []string{module + "/specedit"}}, true},
		{pkg{ImportPath: module + "/tarx", Imports: []string{module + "/tests/testenv"}}, true},
		{pkg{ImportPath: module + "/tarx", TestImports: []string{module + "/tests/testenv"}}, false},
		{pkg{ImportPath: module + "/tarx", XTestImports: []string{module + "/pipeline", module + "/tarx"}}, true},
		{pkg{ImportPath: module + "/specedit", Imports: []string{"archive/tar"}}, true},
		{pkg{ImportPath: module + "/specedit", Imports: []string{"github.com/urfave/cli/v2"}}, true},
		{pkg{ImportPath: module + "/util"}, true},
		{pkg{ImportPath: module + "/tests/x", Imports: []string{module + "/tarx"}}, false},
	} {
		if wrong := wrongImports(tt.p); (wrong != nil) != tt.wrong {
			t.Errorf("%+v: %q", tt.p, wrong)
		}
	}
}

// Only main and the command line print and exit.
func TestOnlyTheCommandLinePrintsAndExits(t *testing.T) {
	eachFileBelowCLI(t, func(fset *token.FileSet, f *ast.File) {
		for _, wrong := range mainsBusiness(fset, f) {
			t.Error(wrong)
		}
	})
}

// eachFileBelowCLI parses every file of the program, tests left out, but those of main and of the
// command line.
func eachFileBelowCLI(t *testing.T, look func(*token.FileSet, *ast.File)) {
	t.Helper()
	files := 0
	for _, p := range packages(t) {
		if p.ImportPath == module || within(p.ImportPath, module+"/cli") || within(p.ImportPath, module+"/tests") {
			continue
		}
		for _, name := range p.GoFiles {
			files++
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			look(fset, f)
		}
	}
	if files < 10 {
		t.Errorf("only %d files were looked at", files)
	}
}

// Only the command line knows flags. Others may name one of another program's, whose command line
// comes before it.
func TestOnlyTheCommandLineKnowsFlags(t *testing.T) {
	eachFileBelowCLI(t, func(fset *token.FileSet, f *ast.File) {
		for _, wrong := range flagsNamed(fset, f) {
			t.Error(wrong)
		}
	})
}

var (
	flagLike = regexp.MustCompile(`(^|[^[:alnum:]-])--[a-z]`)
	// podman's inspect documents quote its own command line.
	foreignFlag = regexp.MustCompile(`\b(docker run|systemd-run|run|delete)( --?[a-zA-Z]+)+|^--read-only-tmpfs=false$`)
)

// flagsNamed lists the strings of a file that name a flag of the program's.
func flagsNamed(fset *token.FileSet, f *ast.File) (wrong []string) {
	ast.Inspect(f, func(n ast.Node) bool {
		lit, ok := n.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return true
		}
		text, err := strconv.Unquote(lit.Value)
		if err != nil || flagLike.MatchString(foreignFlag.ReplaceAllString(text, "")) {
			wrong = append(wrong, fmt.Sprintf("%s: %s names a flag", fset.Position(lit.Pos()), lit.Value))
		}
		return true
	})
	return wrong
}

func TestFlagsNamed(t *testing.T) {
	for text, wrong := range map[string]bool{
		"--remap self": true, "see `--remap`": true, "a -- b": false, "a--b": false, "run --bundle %s": false,
		"systemd-run --user --scope -p Delegate=yes": false, "docker run --tmpfs and --tmpfs": true,
	} {
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, "x.go", fmt.Sprintf("package x\nvar s = %q // --comment\n", text), parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if got := flagsNamed(fset, f); (got != nil) != wrong {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// mainsBusiness lists the places of a file that print or end the process. To hand os.Stdout on, to
// a child, is neither.
func mainsBusiness(fset *token.FileSet, f *ast.File) []string {
	imported := map[string]string{}
	for _, spec := range f.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return []string{err.Error()}
		}
		name := path[strings.LastIndexByte(path, '/')+1:]
		if spec.Name != nil {
			name = spec.Name.Name
		}
		imported[name] = path
	}
	// qualified returns "os.Exit" for the expression os.Exit, and "" for what is not a package's
	// member.
	qualified := func(e ast.Expr) string {
		sel, ok := e.(*ast.SelectorExpr)
		if !ok {
			return ""
		}
		if x, ok := sel.X.(*ast.Ident); ok && imported[x.Name] != "" {
			return imported[x.Name] + "." + sel.Sel.Name
		}
		return ""
	}
	stdio := func(e ast.Expr) bool {
		name := qualified(e)
		return name == "os.Stdout" || name == "os.Stderr"
	}
	var wrong []string
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		name := qualified(call.Fun)
		switch {
		case name == "os.Exit", name == "syscall.Exit", strings.HasPrefix(name, "log.Fatal"), strings.HasPrefix(name, "log.Panic"),
			strings.HasPrefix(name, "fmt.Print"), strings.HasPrefix(name, "log.Print"):
		case strings.HasPrefix(name, "fmt.Fprint") && len(call.Args) > 0 && stdio(call.Args[0]):
		default:
			switch fun := call.Fun.(type) {
			case *ast.Ident:
				if fun.Name != "print" && fun.Name != "println" {
					return true
				}
				name = fun.Name
			case *ast.SelectorExpr:
				if !stdio(fun.X) || !strings.HasPrefix(fun.Sel.Name, "Write") {
					return true
				}
				name = qualified(fun.X) + "." + fun.Sel.Name
			default:
				return true
			}
		}
		wrong = append(wrong, fmt.Sprintf("%s: call of %s", fset.Position(call.Pos()), name))
		return true
	})
	return wrong
}

func TestMainsBusiness(t *testing.T) {
	for _, tt := range []struct {
		call  string
		wrong bool
	}{
		{"os.Exit(1)", true},
		{"log.Fatalf(``)", true},
		{"f.Println()", true},
		{"f.Fprintln(os.Stderr, 1)", true},
		{"os.Stdout.WriteString(``)", true},
		{"println()", true},
		{"f.Fprintln(w, 1)", false},
		{"f.Sprint(1)", false},
		{"run(os.Stdout)", false},
		{"w.Print()", false},
	} {
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, "x.go", "package x\nimport (\"os\"; \"log\"; f \"fmt\")\nfunc g() { "+tt.call+" }\n", parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if wrong := mainsBusiness(fset, f); (wrong != nil) != tt.wrong {
			t.Errorf("%s: %q", tt.call, wrong)
		}
	}
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,GoFiles,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = testenv.ModuleRoot(t)
	if err := testenv.NoteSources(cmd.Dir); err != nil {
		t.Fatal(err)
	}
	list := json.NewDecoder(bytes.NewReader([]byte(testenv.Output(t, cmd))))
	var all []pkg
	for {
		var p pkg
		err := list.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}
