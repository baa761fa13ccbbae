package remove

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/tests/testenv"
)

// shared has the second thread called at once, for the rest of a test.
func shared(t *testing.T) {
	old := shareAfter
	t.Cleanup(func() { shareAfter = old })
	shareAfter = 0
}

func TestRemoveAllTree(t *testing.T) {
	shared(t)
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside")
	testenv.Must(t, os.MkdirAll(filepath.Join(outside, "sub"), 0o755))
	testenv.Must(t, os.WriteFile(filepath.Join(outside, "keep"), []byte("x"), 0o644))
	x := filepath.Join(dir, "x")
	for i := range 3000 { // more than one read of the directory
		sub := filepath.Join(x, fmt.Sprint("d", i%7))
		testenv.Must(t, os.MkdirAll(sub, 0o755))
		testenv.Must(t, os.WriteFile(filepath.Join(sub, fmt.Sprint(i)), nil, 0o644))
	}
	testenv.Must(t, os.Symlink(outside, filepath.Join(x, "link")))
	testenv.Must(t, os.Symlink("../../outside", filepath.Join(x, "d1", "link")))
	testenv.Must(t, unix.Mkfifo(filepath.Join(x, "fifo"), 0o600))
	testenv.Must(t, os.Link(filepath.Join(outside, "keep"), filepath.Join(x, "hard")))
	fd := testenv.OpenDir(t, dir)

	testenv.Must(t, All(fd, "x"))
	testenv.Gone(t, x)
	if b, err := os.ReadFile(filepath.Join(outside, "keep")); err != nil || string(b) != "x" {
		t.Error("what a link led to was touched:", err)
	}
	testenv.Must(t, All(fd, "x")) // nothing to do

	testenv.Must(t, os.Symlink(outside, x))
	testenv.Must(t, All(fd, "x"))
	testenv.Gone(t, x)
	if _, err := os.Stat(filepath.Join(outside, "sub")); err != nil {
		t.Error("a link at the top was followed:", err)
	}
}

func TestRemoveAllName(t *testing.T) {
	dir := t.TempDir()
	testenv.Must(t, os.Mkdir(filepath.Join(dir, "x"), 0o755))
	fd := testenv.OpenDir(t, dir)
	for _, name := range []string{"", ".", "..", "x/", "/", "x/y", "../x"} {
		if err := All(fd, name); !errors.Is(err, unix.EINVAL) {
			t.Errorf("%q: %v, want EINVAL", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "x")); err != nil {
		t.Error(err)
	}
}

// A tree deeper than PATH_MAX and than any sensible limit on descriptors.
func TestRemoveAllDeep(t *testing.T) {
	dir := t.TempDir()
	fd := testenv.OpenDir(t, dir)
	const depth = 3000
	cur, err := unix.Dup(fd)
	testenv.Must(t, err)
	for range depth {
		testenv.Must(t, unix.Mkdirat(cur, "d", 0o755))
		f, err := unix.Openat(cur, "f", unix.O_CREAT|unix.O_WRONLY, 0o644)
		testenv.Must(t, err)
		unix.Close(f)
		next, err := unix.Openat(cur, "d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		testenv.Must(t, err)
		unix.Close(cur)
		cur = next
	}
	unix.Close(cur)
	var old unix.Rlimit
	testenv.Must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	low := unix.Rlimit{Cur: 32 + 40, Max: old.Max}
	testenv.Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
	err = All(fd, "d")
	testenv.Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old))
	testenv.Must(t, err)
	testenv.Gone(t, filepath.Join(dir, "d"))
}

func TestRemoveAllInaccessible(t *testing.T) {
	testenv.NeedRoot(t)
	const uid = 54321
	for _, mode := range []uint32{0, 0o100, 0o200, 0o300, 0o400, 0o500, 0o600} {
		dir := t.TempDir()
		testenv.Must(t, os.MkdirAll(filepath.Join(dir, "x/y/z"), 0o755))
		testenv.Must(t, os.WriteFile(filepath.Join(dir, "x/y/z/f"), nil, 0o400))
		testenv.Must(t, os.WriteFile(filepath.Join(dir, "x/y/f"), nil, 0o400))
		for _, d := range []string{"x/y/z/f", "x/y/z", "x/y/f", "x/y", "x", "."} {
			testenv.Must(t, os.Chown(filepath.Join(dir, d), uid, uid))
		}
		for _, d := range []string{"x/y/z", "x/y", "x"} {
			testenv.Must(t, unix.Chmod(filepath.Join(dir, d), mode))
		}
		fd := testenv.OpenDir(t, dir)
		testenv.AsFSUser(t, uid, func() {
			if err := All(fd, "x"); err != nil {
				t.Errorf("mode %#o: %v", mode, err)
			}
		})
		testenv.Gone(t, filepath.Join(dir, "x"))
	}
}

func TestRemoveAllNotOurs(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	testenv.Must(t, os.MkdirAll(filepath.Join(dir, "x/root/y"), 0o755))
	testenv.Must(t, os.MkdirAll(filepath.Join(dir, "x/ours/y"), 0o755))
	testenv.Must(t, os.MkdirAll(filepath.Join(dir, "x/empty"), 0o700))
	const uid = 54321
	for _, d := range []string{"x/ours/y", "x/ours", "x", "."} {
		testenv.Must(t, os.Chown(filepath.Join(dir, d), uid, uid))
	}
	fd := testenv.OpenDir(t, dir)
	testenv.AsFSUser(t, uid, func() {
		err := All(fd, "x")
		var pe *fs.PathError
		if !errors.As(err, &pe) || pe.Path != "x/root/y" || !errors.Is(err, fs.ErrPermission) {
			t.Errorf("got %v, want permission denied on x/root/y", err)
		}
	})
	testenv.Gone(t, filepath.Join(dir, "x/ours"))
	testenv.Gone(t, filepath.Join(dir, "x/empty")) // somebody else's and unreadable, but empty
	if _, err := os.Stat(filepath.Join(dir, "x/root/y")); err != nil {
		t.Error(err)
	}
}

func TestRemoveAllMount(t *testing.T) {
	shared(t)
	testenv.NeedRoot(t)
	dir := t.TempDir()
	for _, d := range []string{"src", "x/a/bind", "x/b", "x/z"} {
		testenv.Must(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	testenv.Must(t, os.WriteFile(filepath.Join(dir, "src/keep"), []byte("x"), 0o644))
	testenv.Must(t, os.WriteFile(filepath.Join(dir, "x/file"), []byte("x"), 0o644))
	for from, to := range map[string]string{"src": "x/a/bind", "src/keep": "x/file"} {
		to := filepath.Join(dir, to)
		testenv.Must(t, unix.Mount(filepath.Join(dir, from), to, "", unix.MS_BIND, ""))
		t.Cleanup(func() { unix.Unmount(to, unix.MNT_DETACH) })
	}
	fd := testenv.OpenDir(t, dir)
	if err := All(fd, "x"); !errors.Is(err, ErrMount) {
		t.Errorf("got %v, want ErrMount", err)
	}
	testenv.Gone(t, filepath.Join(dir, "x/b"))
	testenv.Gone(t, filepath.Join(dir, "x/z"))
	if b, err := os.ReadFile(filepath.Join(dir, "src/keep")); err != nil || string(b) != "x" {
		t.Error("removed across a mount:", err)
	}
	testenv.Must(t, unix.Unmount(filepath.Join(dir, "x/a/bind"), 0))
	testenv.Must(t, unix.Unmount(filepath.Join(dir, "x/file"), 0))
	testenv.Must(t, All(fd, "x"))
	testenv.Gone(t, filepath.Join(dir, "x"))
}

// Somebody exchanges directories for links to a directory outside, all the while.
func TestRemoveAllRace(t *testing.T) {
	shared(t)
	dir := t.TempDir()
	testenv.Must(t, os.MkdirAll(filepath.Join(dir, "outside"), 0o755))
	testenv.Must(t, os.WriteFile(filepath.Join(dir, "outside/keep"), nil, 0o644))
	fd := testenv.OpenDir(t, dir)
	for range testenv.Rounds(30) {
		for i := range 20 {
			d := filepath.Join(dir, "x", fmt.Sprint(i), "d")
			testenv.Must(t, os.MkdirAll(d, 0o755))
			testenv.Must(t, os.WriteFile(filepath.Join(d, "keep"), nil, 0o644))
			if i == 0 {
				testenv.Must(t, os.Symlink("../outside", filepath.Join(dir, "x", "evil")))
			}
		}
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			evil := filepath.Join(dir, "x", "evil")
			for {
				for i := range 20 {
					select {
					case <-stop:
						return
					default:
					}
					d := filepath.Join(dir, "x", fmt.Sprint(i))
					unix.Renameat2(unix.AT_FDCWD, d, unix.AT_FDCWD, evil, unix.RENAME_EXCHANGE)
				}
			}
		}()
		var err error
		for range 100 {
			if err = All(fd, "x"); err == nil {
				break
			}
		}
		close(stop)
		<-done
		testenv.Must(t, err)
		if _, err := os.Stat(filepath.Join(dir, "outside/keep")); err != nil {
			t.Fatal("a link was followed:", err)
		}
	}
	testenv.Gone(t, filepath.Join(dir, "x"))
}

func TestRemoveAllImmutable(t *testing.T) {
	shared(t)
	testenv.NeedRoot(t)
	dir := t.TempDir()
	testenv.Must(t, os.MkdirAll(filepath.Join(dir, "x"), 0o755))
	f, err := os.Create(filepath.Join(dir, "x/f"))
	testenv.Must(t, err)
	defer f.Close()
	const immutable = 0x10 // FS_IMMUTABLE_FL
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, immutable); err != nil {
		if testenv.Unit() {
			t.Skip("needs immutable files:", err)
		}
		t.Fatal("needs a filesystem with immutable files, such as ext4: set TMPDIR to one:", err)
	}
	defer unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0)
	fd := testenv.OpenDir(t, dir)
	if err := All(fd, "x"); !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "x/f") {
		t.Errorf("got %v, want EPERM on x/f", err)
	}
	testenv.Must(t, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0))
	testenv.Must(t, All(fd, "x"))
	testenv.Gone(t, filepath.Join(dir, "x"))
}

func TestRemoveAllConcurrent(t *testing.T) {
	shared(t)
	dir := t.TempDir()
	for i := range 200 {
		d := filepath.Join(dir, "x", fmt.Sprint(i%9), fmt.Sprint(i))
		testenv.Must(t, os.MkdirAll(d, 0o755))
		testenv.Must(t, os.WriteFile(filepath.Join(d, "f"), nil, 0o644))
	}
	fd := testenv.OpenDir(t, dir)
	errs := make(chan error, 3)
	for range cap(errs) {
		go func() { errs <- All(fd, "x") }()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	testenv.Gone(t, filepath.Join(dir, "x"))
}

// growTree makes a tree in which every directory has two directories, down to depth, and there a file.
func growTree(t *testing.T, path string, depth int) {
	testenv.Must(t, os.Mkdir(path, 0o755))
	if depth == 0 {
		testenv.Must(t, os.WriteFile(filepath.Join(path, "f"), nil, 0o644))
		return
	}
	growTree(t, filepath.Join(path, "a"), depth-1)
	growTree(t, filepath.Join(path, "b"), depth-1)
}

// Both threads give each other directories at every depth.
func TestRemoveAllShared(t *testing.T) {
	shared(t)
	dir := t.TempDir()
	fd := testenv.OpenDir(t, dir)
	for range testenv.Rounds(5) {
		growTree(t, filepath.Join(dir, "x"), 9)
		testenv.Must(t, All(fd, "x"))
		testenv.Gone(t, filepath.Join(dir, "x"))
	}
}

// What one thread was given it may make accessible as its owner, as the other does: the process is
// an ordinary user's, for a thread's own ids are not the second one's.
func TestRemoveAllSharedInaccessible(t *testing.T) {
	if dir := os.Getenv("OCIBUNDLE_TEST_REMOVE"); dir != "" {
		shared(t)
		testenv.Must(t, All(testenv.OpenDir(t, dir), "x"))
		return
	}
	testenv.NeedRoot(t)
	const uid = 54321
	dir := t.TempDir()
	for up := dir; len(up) > len(os.TempDir()); up = filepath.Dir(up) {
		testenv.Must(t, os.Chmod(up, 0o755))
	}
	x := filepath.Join(dir, "x")
	growTree(t, x, 10)
	testenv.Must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, uid, uid), os.Chmod(path, 0o500))
	}))
	testenv.Must(t, os.Chmod(dir, 0o700))
	self, err := os.Open("/proc/self/exe")
	testenv.Must(t, err)
	defer self.Close()
	cmd := exec.Command("/proc/self/fd/3", "-test.run", "^"+t.Name()+"$")
	cmd.ExtraFiles = []*os.File{self}
	cmd.Env = append(os.Environ(), "OCIBUNDLE_TEST_REMOVE="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	testenv.Gone(t, x)
}
