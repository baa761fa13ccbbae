package testenv

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

//go:embed tools.txt
var tools string

// packageOf names the Debian package, or packages, a program comes with.
func packageOf(program string) (string, bool) {
	for line := range strings.Lines(tools) {
		if fields := strings.Fields(line); fields[0] == program {
			return strings.Join(fields[1:], " "), true
		}
	}
	return "", false
}

// missing ends a test that lacks something: skipped where only unit tests were asked for, failed
// everywhere else.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if Unit() {
		t.Skipf(format, args...)
	}
	t.Fatalf(format, args...)
}

// Unit reports whether only the tests that need nothing but Go were asked for, as on a laptop.
func Unit() bool { return os.Getenv("OCIBUNDLE_TEST") == "unit" }

// Long ends a test that takes more than some seconds of processor time, where only unit tests were
// asked for.
func Long(t testing.TB) {
	t.Helper()
	if Unit() {
		t.Skip("this test takes long: it runs where OCIBUNDLE_TEST is not set")
	}
}

// Rounds is how often a test tries what comes about at random: n times, or where only unit tests
// were asked for, a tenth of that.
func Rounds(n int) int {
	if Unit() {
		return max(1, n/10)
	}
	return n
}

// NeedRoot ends the test unless it runs as root.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "this test needs root: run it as root, or set OCIBUNDLE_TEST=unit to leave such tests out")
	}
}

// NeedTool ends the test unless every named program is installed. It returns the path of the first
// one.
func NeedTool(t testing.TB, names ...string) string {
	t.Helper()
	var first string
	for i, name := range names {
		pkg, ok := packageOf(name)
		if !ok {
			t.Fatalf("this test needs %s, which tests/testenv/tools.txt does not list", name)
		}
		path, err := lookTool(name)
		if err != nil {
			missing(t, "this test needs %s: apt-get install %s (or run tests/setup.sh as root)", name, pkg)
		}
		if i == 0 {
			first = path
		}
	}
	return first
}

// lookTool finds a program also in the sbin directories, which an ordinary user's PATH lacks.
func lookTool(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	return "", err
}

// What a test starts gets every signal, also where the tests themselves run under nohup(1) or in
// the background of a shell: an ignored signal would stay ignored in it. A process that a test
// makes of its own program is not meant: it is to find what it was given.
func init() {
	if !slices.ContainsFunc(os.Args[1:], func(arg string) bool { return strings.HasPrefix(arg, "-test.") }) {
		return
	}
	for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
}

// ModuleRoot returns the directory of the program's go.mod.
func ModuleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(mod, []byte("module ocibundle\n")) {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("find the module's root: no go.mod of module ocibundle above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}

func build(t testing.TB, cgo string, flags ...string) (string, error) {
	dir, err := sharedDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "ocibundle")
	root := ModuleRoot(t)
	if err := NoteSources(root); err != nil {
		return "", fmt.Errorf("read the program's source: %w", err)
	}
	cmd := exec.Command("go", append(append([]string{"build", "-o", path}, flags...), ".")...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build ocibundle: %w\n%s", err, out)
	}
	return path, nil
}

// NoteSources opens every source file of the program. The go command takes a test's result from its
// cache only while the files are the same that the test has opened, and does not see what a command
// run by the test reads.
func NoteSources(root string) error {
	return filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != root && (name == "tests" || name == "bin" || strings.HasPrefix(name, ".")) {
				return filepath.SkipDir
			}
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return f.Close()
	})
}

// A shared thing takes a while to make and is made once per process.
type shared struct {
	once  sync.Once
	value string
	err   error
}

func (s *shared) get(t testing.TB, make func() (string, error)) string {
	t.Helper()
	s.once.Do(func() {
		// A t.Fatal within make leaves this error.
		s.err = errors.New("an earlier test could not make what this one shares with it")
		s.value, s.err = make()
	})
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.value
}

var plain, race shared

// Binary builds the program, static as it is shipped, once per test process and returns its path.
// Every user may execute it.
func Binary(t testing.TB) string {
	t.Helper()
	return plain.get(t, func() (string, error) { return build(t, "0") })
}

// BinaryRace is Binary with the race detector in it. It needs a C compiler.
func BinaryRace(t testing.TB) string {
	t.Helper()
	NeedTool(t, "gcc")
	return race.get(t, func() (string, error) { return build(t, "1", "-race") })
}

// Tag is part of the name of everything this test process makes: directories, users, containers,
// control groups. It is what a search for leftovers looks for.
var Tag = fmt.Sprintf("obt%d", os.Getpid())

var counter atomic.Int64

// Name returns a name that nobody else uses, for a container or the like: lower-case letters and
// digits, at most 20 of them.
func Name() string {
	return fmt.Sprintf("%sx%d", Tag, counter.Add(1))
}

// sharedDir makes a directory that everybody may enter and that is removed when the process ends.
func sharedDir() (string, error) {
	// A short name: podman takes no state directory longer than 50 characters, and a socket's path
	// ends at 107.
	dir, err := os.MkdirTemp("", Tag+"-")
	if err != nil {
		return "", err
	}
	if err := theJanitor.register("dir", dir); err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

// Dir makes a directory that every user may enter (unlike t.TempDir) and removes it with all below
// it, mounts included, at the end of the test.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := sharedDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := removeDir(dir); err != nil {
			t.Errorf("remove the test's directory: %v", err)
		}
	})
	return dir
}

// Output runs cmd and returns what it printed on stdout. Anything but exit status 0 ends the test
// and shows stderr.
func Output(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout = &stdout
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("run %s: %v\n%s%s", strings.Join(cmd.Args, " "), err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.String()
}
