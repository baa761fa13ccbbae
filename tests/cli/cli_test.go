// Package cli tests the command line: names, exit codes, what is printed, what is left behind. The
// scripts in testdata read like a session at a terminal.
package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"ocibundle/tests/testenv"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := testenv.Cleanup(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// TestScripts runs testdata/*.txtar. Each finds a small filesystem stream in $WORK/c.tar and has
// the command
//
//	status N PROGRAM ARG...
//
// for an exit status, with standard input from the file that stdin named.
func TestScripts(t *testing.T) {
	testenv.NeedTool(t, "gzip", "bzip2", "xz", "zstd")
	bin := filepath.Dir(testenv.Binary(t))
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", bin+":"+os.Getenv("PATH"))
			return smallTar(e.WorkDir)
		},
		Condition: func(cond string) (bool, error) {
			if cond != "unit" {
				return false, fmt.Errorf("there is no condition %q", cond)
			}
			return os.Getenv("OCIBUNDLE_TEST") == "unit" && os.Geteuid() != 0, nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status": status,
			"only":   only,
		},
	})
}

// status is exec for a command that must fail with one exit status.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N program args...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("%s: exit status %d, want %d", strings.Join(args[1:], " "), got, want)
	}
	// Errors are one line, then hints.
	if want != 0 {
		for i, line := range strings.Split(strings.TrimSuffix(ts.ReadFile("stderr"), "\n"), "\n") {
			prefix := "ocibundle: "
			if i > 0 {
				prefix = "ocibundle: hint: "
			}
			if !strings.HasPrefix(line, prefix) || strings.HasSuffix(line, ".") {
				ts.Fatalf("line %d of the error does not look like one: %q", i+1, line)
			}
		}
	}
}

// only checks that a directory holds the named entries, hidden ones included.
func only(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: only dir [name...]")
	}
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	var names []string
	for _, e := range entries {
		if e.Name() != ".tmp" { // testscript's own
			names = append(names, e.Name())
		}
	}
	want := slices.Sorted(slices.Values(args[1:]))
	if !slices.Equal(names, want) {
		ts.Fatalf("%s holds %q, not %q", args[0], names, want)
	}
}

// smallTar makes dir/c.tar, a container's filesystem in a few entries.
func smallTar(dir string) error {
	tree := filepath.Join(dir, ".tree")
	for _, d := range []string{"bin", "etc", "proc", "tmp"} {
		if err := os.MkdirAll(filepath.Join(tree, d), 0o755); err != nil {
			return err
		}
	}
	files := map[string]string{
		"bin/sh":     emptyProgram,
		"etc/passwd": "root:x:0:0::/root:/bin/sh\nredis:x:999:998::/:/bin/sh\n",
		"etc/group":  "root:x:0:\nredis:x:998:\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(tree, name), []byte(text), 0o755); err != nil {
			return err
		}
	}
	out, err := exec.Command("tar", "-C", tree, "--owner=0", "--group=0", "-cf", filepath.Join(dir, "c.tar"),
		"bin", "etc", "proc", "tmp").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return os.RemoveAll(tree)
}

// emptyProgram is a program for this machine with nothing in it: a header and one segment of type
// PT_NULL (elf(5), Elf64_Ehdr and Elf64_Phdr).
var emptyProgram = func() string {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		panic(err)
	}
	defer self.Close()
	b := make([]byte, 64+56)
	if _, err := io.ReadFull(self, b[:64]); err != nil {
		panic(err)
	}
	clear(b[32:64])
	b[32], b[52], b[54], b[56] = 64, 64, 56, 1 // e_phoff, e_ehsize, e_phentsize, e_phnum
	clear(b[64:])
	return string(b)
}()

func workDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := smallTar(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func listing(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func wantStatus(t *testing.T, err error, want int) {
	t.Helper()
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Fatalf("exit status %d, want %d", got, want)
	}
}

// TestNothingRead shows that what can be known to be wrong is found before a byte of standard input
// is read: all of it is still there for the next reader.
func TestNothingRead(t *testing.T) {
	bin := testenv.Binary(t)
	dir := workDir(t)
	for _, d := range []string{"full/x", "bundle/data"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := os.ReadFile(filepath.Join(dir, "c.tar"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
	}{
		{"-o full", 5},
		{"-o bundle -f", 5},
		{"-o c.tar", 5},
		{"-o .", 2},
		{"-o /", 2},
		{"-o nowhere/b", 1},
		{"", 2},
		{"-o b stray", 2},
		{"-o b --nosuch", 2},
		{"-o b --template nosuch", 2},
		{"-o b --set nopointer=1", 2},
		{"-o b --set /process/argz=[1]", 2},
		{"-o b --test /hostname=nothing", 2},
		{"-o b --net somewhere", 2},
		{"-o b --remap nosuch", 2},
		{"-o b --uidmap 0:1", 2},
		{"-o b --remap self --uidmap 0:1:1", 2},
		{"-o b --digest sha256:12", 2},
		{"-o b --max-bytes much", 2},
		{"-o b --", 2},
	} {
		t.Run(c.args, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			go func() {
				w.Write(stream)
				w.Close()
			}()
			cmd := exec.Command(bin, strings.Fields(c.args)...)
			cmd.Dir, cmd.Stdin = dir, r
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			wantStatus(t, cmd.Run(), c.code)
			left, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(left, stream) {
				t.Errorf("%d of %d bytes were read", len(stream)-len(left), len(stream))
			}
			if got := listing(t, dir); !slices.Equal(got, []string{"bundle", "c.tar", "full"}) {
				t.Errorf("left behind: %q", got)
			}
			if !strings.HasPrefix(stderr.String(), "ocibundle: ") {
				t.Errorf("stderr: %q", stderr.String())
			}
		})
	}
}

// started is a run in the middle of its stream.
func started(t *testing.T, dir string, args ...string) (*exec.Cmd, io.WriteCloser) {
	t.Helper()
	stream, err := os.ReadFile(filepath.Join(dir, "c.tar"))
	if err != nil {
		t.Fatal(err)
	}
	return startedOn(t, dir, stream[:1536], args...)
}

// startedOn is a run that has been given no more than the start of a stream.
func startedOn(t *testing.T, dir string, start []byte, args ...string) (*exec.Cmd, io.WriteCloser) {
	t.Helper()
	cmd := exec.Command(testenv.Binary(t), args...)
	return cmd, startedCommand(t, cmd, dir, start)
}

// startedCommand starts cmd and waits until it has made its stage in dir.
func startedCommand(t *testing.T, cmd *exec.Cmd, dir string, start []byte) io.WriteCloser {
	t.Helper()
	cmd.Dir = dir
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(start); err != nil {
		t.Fatal(err)
	}
	// It has begun once its stage is there.
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if slices.ContainsFunc(listing(t, dir), func(n string) bool { return strings.Contains(n, ".ocibundle-") }) {
			return in
		}
		if time.Now().After(deadline) {
			cmd.Process.Kill()
			t.Fatal("the stage did not appear")
		}
	}
}

// TestPipeSize looks at the pipe of a run: one that is small grows, one that somebody has made
// large stays so.
func TestPipeSize(t *testing.T) {
	for _, c := range []struct{ before, after int }{{64 << 10, 128 << 10}, {1 << 20, 1 << 20}} {
		dir := workDir(t)
		stream, err := os.ReadFile(filepath.Join(dir, "c.tar"))
		if err != nil {
			t.Fatal(err)
		}
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, c.before); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(testenv.Binary(t), "-o", "b")
		cmd.Dir, cmd.Stdin = dir, r
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(stream); err != nil {
			t.Fatal(err)
		}
		var size int
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			left, err1 := unix.IoctlGetInt(int(w.Fd()), unix.TIOCINQ) // what a pipe holds (pipe(7), FIONREAD)
			var err2 error
			size, err2 = unix.FcntlInt(w.Fd(), unix.F_GETPIPE_SZ, 0)
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			if left == 0 || time.Now().After(deadline) {
				break
			}
		}
		if size != c.after {
			t.Errorf("a pipe of %d bytes has %d", c.before, size)
		}
		w.Close()
		wantStatus(t, cmd.Wait(), 0)
		r.Close()
	}
}

// TestKilled leaves a stage with kill -9, which the next run removes. A run that is still at work
// keeps its own.
func TestKilled(t *testing.T) {
	dir := workDir(t)
	dead, in := started(t, dir, "-o", "b")
	if err := dead.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	dead.Wait()
	in.Close()
	stale := listing(t, dir)
	if len(stale) != 2 {
		t.Fatalf("a killed run left %q", stale)
	}
	live, in := started(t, dir, "-o", "b")
	// The one that is at work has swept the stale one on its start.
	for deadline := time.Now().Add(30 * time.Second); slices.Contains(listing(t, dir), stale[0]); {
		if time.Now().After(deadline) {
			t.Fatalf("%q is still there", stale[0])
		}
		time.Sleep(5 * time.Millisecond)
	}
	quick := exec.Command(testenv.Binary(t), "-o", "b", "-i", "c.tar")
	quick.Dir = dir
	wantStatus(t, quick.Run(), 0)
	if got := listing(t, dir); len(got) != 3 || !strings.Contains(got[0], ".ocibundle-") {
		t.Errorf("beside a run at work there is %q", got)
	}
	// The slower of the two finds the destination taken.
	rest, err := os.ReadFile(filepath.Join(dir, "c.tar"))
	if err != nil {
		t.Fatal(err)
	}
	in.Write(rest[1536:])
	in.Close()
	wantStatus(t, live.Wait(), 5)
	if got := listing(t, dir); !slices.Equal(got, []string{"b", "c.tar"}) {
		t.Errorf("left behind: %q", got)
	}
}

// TestFullDisk fills a small filesystem.
func TestFullDisk(t *testing.T) {
	testenv.NeedRoot(t)
	dir := workDir(t)
	disk := filepath.Join(dir, "disk")
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(dir, "big"), bytes.Repeat([]byte("0123456789abcdef"), 1<<17), 0o644); err != nil {
		t.Fatal(err)
	}
	tar := exec.Command("tar", "-cf", "big.tar", "big")
	tar.Dir = dir
	if out, err := tar.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command(testenv.Binary(t), "-o", "disk/b", "-i", "big.tar")
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	wantStatus(t, cmd.Run(), 1)
	if !strings.Contains(stderr.String(), `entry 1 "big": write: no space left on device`) ||
		!strings.Contains(stderr.String(), "hint: the disk is full") {
		t.Errorf("stderr: %s", stderr.String())
	}
	if got := listing(t, disk); len(got) != 0 {
		t.Errorf("left behind: %q", got)
	}
	// The same filesystem takes a bundle that fits, and is itself no bundle.
	small := exec.Command(testenv.Binary(t), "-o", "disk/b", "-i", "c.tar")
	small.Dir = dir
	wantStatus(t, small.Run(), 0)
	mount := exec.Command(testenv.Binary(t), "-o", "disk", "-i", "c.tar")
	mount.Dir = dir
	wantStatus(t, mount.Run(), 2)
}

// TestForceInUse has a process whose root is the bundle to be replaced.
func TestForceInUse(t *testing.T) {
	testenv.NeedRoot(t)
	dir := workDir(t)
	run := func(args ...string) error {
		cmd := exec.Command(testenv.Binary(t), args...)
		cmd.Dir = dir
		return cmd.Run()
	}
	wantStatus(t, run("-o", "b", "-i", "c.tar"), 0)
	sleeper := exec.Command("/proc/self/exe", "-test.run=^TestSleeper$")
	sleeper.Env = append(os.Environ(), "OCIBUNDLE_SLEEPER="+filepath.Join(dir, "b", "rootfs"))
	out, err := sleeper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	var ready [1]byte
	if _, err := io.ReadFull(out, ready[:]); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, run("-f", "-o", "b", "-i", "c.tar"), 5)
	sleeper.Process.Kill()
	sleeper.Wait()
	wantStatus(t, run("-f", "-o", "b", "-i", "c.tar"), 0)
}

// TestSleeper is the process that TestForceInUse starts.
func TestSleeper(t *testing.T) {
	root := os.Getenv("OCIBUNDLE_SLEEPER")
	if root == "" {
		return
	}
	if err := unix.Chroot(root); err != nil {
		t.Fatal(err)
	}
	os.Stdout.Write([]byte{'.'})
	time.Sleep(time.Minute)
}

// TestForceAtomic replaces a bundle again and again under the eyes of a reader, who must find a
// whole bundle each time.
func TestForceAtomic(t *testing.T) {
	testenv.Long(t)
	dir := workDir(t)
	cmd := exec.Command(testenv.Binary(t), "-o", "b", "-i", "c.tar")
	cmd.Dir = dir
	wantStatus(t, cmd.Run(), 0)
	done := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < 20 && err == nil; i++ {
			cmd := exec.Command(testenv.Binary(t), "-f", "-o", "b", "-i", "c.tar")
			cmd.Dir = dir
			err = cmd.Run()
		}
		done <- err
	}()
	for {
		select {
		case err := <-done:
			wantStatus(t, err, 0)
			return
		default:
		}
		// One open handle is one of the two bundles, though perhaps the old one in the middle of
		// its removal; the name is never without one.
		if _, err := os.Stat(filepath.Join(dir, "b")); err != nil {
			t.Fatal(err)
		}
	}
}
