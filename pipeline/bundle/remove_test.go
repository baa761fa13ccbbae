package bundle

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ocibundle/tests/testenv"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func makeBundle(t *testing.T, dir string) string {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(dir, "rootfs/etc"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "rootfs/etc/passwd"), []byte("root"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"ociVersion": "1.0.0"}`), 0o644))
	return dir
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func wantKind(t *testing.T, what string, err error, kind Kind) *Error {
	t.Helper()
	be, ok := errors.AsType[*Error](err)
	if !ok || be.Kind != kind {
		t.Errorf("%s: got %v, want an Error of kind %d", what, err, kind)
		return &Error{}
	}
	return be
}

func TestRemove(t *testing.T) {
	dir := t.TempDir()
	a := makeBundle(t, filepath.Join(dir, "a"))
	b := makeBundle(t, filepath.Join(dir, "b"))
	keep := makeBundle(t, filepath.Join(dir, "keep"))
	must(t, os.Symlink(keep, filepath.Join(a, "rootfs/link")))
	must(t, os.WriteFile(filepath.Join(a, "notes"), nil, 0o644))
	must(t, Remove(t.Context(), []string{a, b + "/"}, RemoveOptions{}))
	if got := list(t, dir); !slices.Equal(got, []string{"keep"}) {
		t.Errorf("left: %q", got)
	}
	if got := list(t, filepath.Join(keep, "rootfs/etc")); len(got) != 1 {
		t.Error("a link was followed")
	}
	t.Chdir(dir)
	must(t, Remove(t.Context(), []string{"keep"}, RemoveOptions{}))
	if got := list(t, dir); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}

func TestRemoveRefusesWhatIsNoBundle(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	makeBundle(t, "good")
	makeBundle(t, "noconfig")
	must(t, os.Remove("noconfig/config.json"))
	makeBundle(t, "noversion")
	must(t, os.WriteFile("noversion/config.json", []byte(`{"ociversion": ""}`), 0o644))
	makeBundle(t, "nojson")
	must(t, os.WriteFile("nojson/config.json", []byte(`ociVersion`), 0o644))
	makeBundle(t, "fifo")
	must(t, os.Remove("fifo/config.json"))
	must(t, unix.Mkfifo("fifo/config.json", 0o644))
	makeBundle(t, "rootlink")
	must(t, os.RemoveAll("rootlink/rootfs"))
	must(t, os.Symlink("../good/rootfs", "rootlink/rootfs"))
	must(t, os.Mkdir("empty", 0o755))
	must(t, os.WriteFile("file", nil, 0o644))
	must(t, os.Symlink("good", "link"))
	before := list(t, dir)
	for _, bad := range []string{"", ".", "..", "/", "good/..", "absent", "absent/x", "file/x", "file", "link", "link/", "empty", "noconfig",
		"noversion", "nojson", "fifo", "rootlink"} {
		wantKind(t, fmt.Sprintf("%q", bad), Remove(t.Context(), []string{"good", bad}, RemoveOptions{}), None)
	}
	if got := list(t, dir); !slices.Equal(got, before) {
		t.Errorf("something went: %q, want %q", got, before)
	}
	for _, bad := range []string{"absent", "absent/x", "file/x"} {
		must(t, Remove(t.Context(), []string{bad}, RemoveOptions{Force: true}))
	}
	for _, bad := range []string{"file", "link", "empty", "."} {
		wantKind(t, bad, Remove(t.Context(), []string{bad}, RemoveOptions{Force: true}), None)
	}
}

func TestRemoveRefusesMounts(t *testing.T) {
	testenv.NeedRoot(t)
	dir := filepath.Join(t.TempDir(), "a b\\c\td")
	bundle := makeBundle(t, filepath.Join(dir, "x"))
	other := makeBundle(t, filepath.Join(dir, "xy")) // the mount is not below this one
	src := makeBundle(t, filepath.Join(dir, "src"))
	for _, point := range []string{"rootfs/etc", "rootfs/etc/passwd", "rootfs", "."} {
		from := filepath.Join(src, point)
		to := filepath.Join(bundle, point)
		must(t, unix.Mount(from, to, "", unix.MS_BIND, ""))
		be := wantKind(t, point, Remove(t.Context(), []string{bundle}, RemoveOptions{}), Mounted)
		if be.Detail != to {
			t.Errorf("names %q, want %q", be.Detail, to)
		}
		_, err := Export(t.Context(), ExportConfig{Dir: bundle, Out: new(strings.Builder)})
		wantKind(t, "export with "+point, err, Mounted)
		must(t, unix.Unmount(to, 0))
	}
	must(t, Remove(t.Context(), []string{bundle, other}, RemoveOptions{}))
	if got := list(t, dir); !slices.Equal(got, []string{"src"}) {
		t.Errorf("left: %q", got)
	}
}

// chrooted starts a process whose root is rootfs.
func chrooted(t *testing.T, rootfs string) *exec.Cmd {
	t.Helper()
	src := filepath.Join(t.TempDir(), "wait.go")
	must(t, os.WriteFile(src, []byte("package main\nimport \"os\"\nfunc main() { os.Stdout.Close(); os.Stdin.Read(make([]byte, 1)) }\n"), 0o644))
	build := exec.Command("go", "build", "-o", filepath.Join(rootfs, "wait"), src)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command("/wait")
	cmd.SysProcAttr = &unix.SysProcAttr{Chroot: rootfs}
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	out.Read(make([]byte, 1)) // it runs
	return cmd
}

func TestRemoveRefusesRoots(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	bundle := makeBundle(t, filepath.Join(dir, "x"))
	must(t, CheckInUse(bundle, filepath.Join(dir, "absent")))
	cmd := chrooted(t, filepath.Join(bundle, "rootfs"))
	be := wantKind(t, "remove", Remove(t.Context(), []string{bundle}, RemoveOptions{}), InUse)
	if be.PID != cmd.Process.Pid {
		t.Errorf("names process %d, want %d", be.PID, cmd.Process.Pid)
	}
	wantKind(t, "check", CheckInUse(bundle), InUse)
	if got := list(t, bundle); len(got) != 2 {
		t.Errorf("touched: %q", got)
	}
}

// Only what a run of this program has left is swept, and nothing that merely has such a name.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	const hex = "0123456789abcde"
	name := func(i int) string { return fmt.Sprintf("%s%s%x", stagePrefix("x"), hex, i) }
	private := func(name string) string {
		must(t, os.MkdirAll(name, 0o700))
		must(t, os.Chmod(name, 0o700))
		return name
	}
	private(name(0))                // nothing in it yet
	private(makeBundle(t, name(1))) // about to be published
	private(name(2) + "/rootfs")    // at the beginning
	private(makeBundle(t, name(3))) // a removal that has begun
	must(t, os.WriteFile(name(3)+"/notes", nil, 0o644))
	private(makeBundle(t, name(4)))
	must(t, os.Chmod(name(4), 0o710)) // of a mapping
	for i := range 3 {
		must(t, os.Chmod(name(i), 0o700))
	}

	busy := private(makeBundle(t, name(15)))
	keep := []string{
		busy,
		private(makeBundle(t, stagePrefix("x")+"backup")),
		private(makeBundle(t, name(14)+"0")),
		private(makeBundle(t, stagePrefix("x")+strings.ToUpper(hex)+"0")),
		private(makeBundle(t, stagePrefix("y")+hex+"0")),
		makeBundle(t, name(13)), // others may read it
		private(name(12)),
	}
	must(t, os.WriteFile(name(12)+"/notes", nil, 0o644)) // a user's own
	if os.Geteuid() == 0 {
		keep = append(keep, private(makeBundle(t, name(11))))
		must(t, os.Chown(name(11), 54321, 54321))
	}
	f, err := os.Open(busy)
	must(t, err)
	defer f.Close()
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	must(t, Remove(t.Context(), []string{"x"}, RemoveOptions{Force: true}))
	slices.Sort(keep)
	if got := list(t, dir); !slices.Equal(got, keep) {
		t.Errorf("left: %q\nwant: %q", got, keep)
	}
}

// Where others may rename things, one of the caller's own directories may have got a stage's name
// from them.
func TestNoSweepWhereOthersRename(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	stale := filepath.Join(dir, stagePrefix("x")+"0123456789abcdef")
	for _, tt := range []struct {
		mode  uint32
		owner int
		swept bool
	}{
		{0o755, 0, true}, {0o1777, 0, true}, {0o700, 0, true}, {0o1775, 0, true},
		{0o777, 0, false}, {0o775, 0, false}, {0o755, 54321, false}, {0o1777, 54321, false}, {0o1777, overflowID, false},
	} {
		makeBundle(t, stale)
		must(t, os.Chmod(stale, 0o700))
		must(t, unix.Chmod(dir, tt.mode))
		must(t, os.Chown(dir, tt.owner, tt.owner))
		must(t, Remove(t.Context(), []string{filepath.Join(dir, "x")}, RemoveOptions{Force: true}))
		if _, err := os.Lstat(stale); (err != nil) != tt.swept {
			t.Errorf("%#o of %d: swept: %v", tt.mode, tt.owner, err != nil)
		}
	}
	must(t, os.Chown(dir, 0, 0))
}

// impatient makes others' locks be waited for no longer than a moment.
func impatient(t *testing.T) {
	before := patience
	patience = 10 * time.Millisecond
	t.Cleanup(func() { patience = before })
}

func TestRemoveBusy(t *testing.T) {
	x := makeBundle(t, filepath.Join(t.TempDir(), "x"))
	f, err := os.Open(x)
	must(t, err)
	defer f.Close()
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	impatient(t)
	wantKind(t, "locked", Remove(t.Context(), []string{x}, RemoveOptions{}), Busy)
}

// What cannot be removed to its end is a bundle still, and can be removed later.
func TestRemoveThatFails(t *testing.T) {
	testenv.NeedRoot(t)
	for _, stays := range []string{"rootfs/etc/passwd", "config.json"} {
		dir := t.TempDir()
		x := makeBundle(t, filepath.Join(dir, "x"))
		f, err := os.Open(filepath.Join(x, stays))
		must(t, err)
		defer f.Close()
		const immutable = 0x10 // FS_IMMUTABLE_FL
		if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, immutable); err != nil {
			t.Fatal("needs a filesystem with immutable files, such as ext4: set TMPDIR to one:", err)
		}
		defer unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0)
		err = Remove(t.Context(), []string{x}, RemoveOptions{})
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), filepath.Join(x, stays)) {
			t.Errorf("an immutable file: %v", err)
		}
		if got := list(t, dir); !slices.Equal(got, []string{"x"}) {
			t.Errorf("left: %q", got)
		}
		if got := list(t, x); !slices.Equal(got, []string{"config.json", "rootfs"}) {
			t.Errorf("left in the bundle: %q", got)
		}
		must(t, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0))
		must(t, Remove(t.Context(), []string{x}, RemoveOptions{}))
	}
}
