package tarx

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/tests/testenv"
)

func openDirT(t *testing.T, dir string) int {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func mustT(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func goneT(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: still there (%v)", path, err)
	}
}

func TestRemoveAllTree(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside")
	mustT(t, os.MkdirAll(filepath.Join(outside, "sub"), 0o755))
	mustT(t, os.WriteFile(filepath.Join(outside, "keep"), []byte("x"), 0o644))
	x := filepath.Join(dir, "x")
	for i := range 3000 { // more than one read of the directory
		sub := filepath.Join(x, fmt.Sprint("d", i%7))
		mustT(t, os.MkdirAll(sub, 0o755))
		mustT(t, os.WriteFile(filepath.Join(sub, fmt.Sprint(i)), nil, 0o644))
	}
	mustT(t, os.Symlink(outside, filepath.Join(x, "link")))
	mustT(t, os.Symlink("../../outside", filepath.Join(x, "d1", "link")))
	mustT(t, unix.Mkfifo(filepath.Join(x, "fifo"), 0o600))
	mustT(t, os.Link(filepath.Join(outside, "keep"), filepath.Join(x, "hard")))
	fd := openDirT(t, dir)

	mustT(t, RemoveAll(fd, "x"))
	goneT(t, x)
	if b, err := os.ReadFile(filepath.Join(outside, "keep")); err != nil || string(b) != "x" {
		t.Error("what a link led to was touched:", err)
	}
	mustT(t, RemoveAll(fd, "x")) // absent is no error

	mustT(t, os.Symlink(outside, x))
	mustT(t, RemoveAll(fd, "x"))
	goneT(t, x)
	if _, err := os.Stat(filepath.Join(outside, "sub")); err != nil {
		t.Error("a link at the top was followed:", err)
	}
}

func TestRemoveAllName(t *testing.T) {
	dir := t.TempDir()
	mustT(t, os.Mkdir(filepath.Join(dir, "x"), 0o755))
	fd := openDirT(t, dir)
	for _, name := range []string{"", ".", "..", "x/", "/", "x/y", "../x"} {
		if err := RemoveAll(fd, name); !errors.Is(err, unix.EINVAL) {
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
	fd := openDirT(t, dir)
	const depth = 3000
	cur, err := unix.Dup(fd)
	mustT(t, err)
	for range depth {
		mustT(t, unix.Mkdirat(cur, "d", 0o755))
		f, err := unix.Openat(cur, "f", unix.O_CREAT|unix.O_WRONLY, 0o644)
		mustT(t, err)
		unix.Close(f)
		next, err := unix.Openat(cur, "d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		mustT(t, err)
		unix.Close(cur)
		cur = next
	}
	unix.Close(cur)
	var old unix.Rlimit
	mustT(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	low := unix.Rlimit{Cur: removeOpen + 40, Max: old.Max}
	mustT(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
	err = RemoveAll(fd, "d")
	mustT(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old))
	mustT(t, err)
	goneT(t, filepath.Join(dir, "d"))
}

// Somebody moves the directory that is being emptied to a place outside: ".." leads there, and nothing there may go.
func TestReopenParentChecksIdentity(t *testing.T) {
	dir := t.TempDir()
	mustT(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
	mustT(t, os.MkdirAll(filepath.Join(dir, "c"), 0o755))
	b := openDirT(t, filepath.Join(dir, "a/b"))
	var st unix.Stat_t
	mustT(t, unix.Stat(filepath.Join(dir, "a"), &st))
	fd, err := reopenParent(b, st.Dev, st.Ino)
	mustT(t, err)
	unix.Close(fd)
	mustT(t, os.Rename(filepath.Join(dir, "a/b"), filepath.Join(dir, "c/b")))
	if _, err := reopenParent(b, st.Dev, st.Ino); err == nil {
		t.Error(`".." of a moved directory was taken for its old parent`)
	}
}

// asUser runs f on a thread with the filesystem rights of an ordinary user.
func asUser(t *testing.T, uid int, f func()) {
	t.Helper()
	testenv.NeedRoot(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := unix.Setfsuid(uid); err != nil {
			done <- err
			return
		}
		f()
		done <- nil
	}()
	mustT(t, <-done)
}

func TestRemoveAllInaccessible(t *testing.T) {
	testenv.NeedRoot(t)
	const uid = 54321
	for _, mode := range []uint32{0, 0o100, 0o200, 0o300, 0o400, 0o500, 0o600} {
		dir := t.TempDir()
		mustT(t, os.MkdirAll(filepath.Join(dir, "x/y/z"), 0o755))
		mustT(t, os.WriteFile(filepath.Join(dir, "x/y/z/f"), nil, 0o400))
		mustT(t, os.WriteFile(filepath.Join(dir, "x/y/f"), nil, 0o400))
		for _, d := range []string{"x/y/z/f", "x/y/z", "x/y/f", "x/y", "x", "."} {
			mustT(t, os.Chown(filepath.Join(dir, d), uid, uid))
		}
		for _, d := range []string{"x/y/z", "x/y", "x"} {
			mustT(t, unix.Chmod(filepath.Join(dir, d), mode))
		}
		fd := openDirT(t, dir)
		asUser(t, uid, func() {
			if err := RemoveAll(fd, "x"); err != nil {
				t.Errorf("mode %#o: %v", mode, err)
			}
		})
		goneT(t, filepath.Join(dir, "x"))
	}
}

func TestRemoveAllNotOurs(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	mustT(t, os.MkdirAll(filepath.Join(dir, "x/root/y"), 0o755))
	mustT(t, os.MkdirAll(filepath.Join(dir, "x/ours/y"), 0o755))
	mustT(t, os.MkdirAll(filepath.Join(dir, "x/empty"), 0o700))
	const uid = 54321
	for _, d := range []string{"x/ours/y", "x/ours", "x", "."} {
		mustT(t, os.Chown(filepath.Join(dir, d), uid, uid))
	}
	fd := openDirT(t, dir)
	asUser(t, uid, func() {
		err := RemoveAll(fd, "x")
		var pe *fs.PathError
		if !errors.As(err, &pe) || pe.Path != "x/root/y" || !errors.Is(err, fs.ErrPermission) {
			t.Errorf("got %v, want permission denied on x/root/y", err)
		}
	})
	goneT(t, filepath.Join(dir, "x/ours"))
	goneT(t, filepath.Join(dir, "x/empty")) // somebody else's and unreadable, but empty
	if _, err := os.Stat(filepath.Join(dir, "x/root/y")); err != nil {
		t.Error(err)
	}
}

func TestRemoveAllMount(t *testing.T) {
	testenv.NeedRoot(t)
	for _, same := range []func(dirfd int, name string, flags int) (int, error){openatNoXdev, openatSameMount} {
		dir := t.TempDir()
		for _, d := range []string{"src", "x/a/bind", "x/b", "x/z"} {
			mustT(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
		}
		mustT(t, os.WriteFile(filepath.Join(dir, "src/keep"), []byte("x"), 0o644))
		mustT(t, os.WriteFile(filepath.Join(dir, "x/file"), []byte("x"), 0o644))
		for from, to := range map[string]string{"src": "x/a/bind", "src/keep": "x/file"} {
			to := filepath.Join(dir, to)
			mustT(t, unix.Mount(filepath.Join(dir, from), to, "", unix.MS_BIND, ""))
			t.Cleanup(func() { unix.Unmount(to, unix.MNT_DETACH) })
		}
		fd := openDirT(t, dir)
		a := openDirT(t, filepath.Join(dir, "x/a"))
		if _, err := same(a, "bind", unix.O_RDONLY|unix.O_DIRECTORY); err != unix.EXDEV {
			t.Error("opening a mount point:", err)
		}
		if err := RemoveAll(fd, "x"); !errors.Is(err, ErrMount) {
			t.Errorf("got %v, want ErrMount", err)
		}
		goneT(t, filepath.Join(dir, "x/b"))
		goneT(t, filepath.Join(dir, "x/z"))
		if b, err := os.ReadFile(filepath.Join(dir, "src/keep")); err != nil || string(b) != "x" {
			t.Error("removed across a mount:", err)
		}
		mustT(t, unix.Unmount(filepath.Join(dir, "x/a/bind"), 0))
		mustT(t, unix.Unmount(filepath.Join(dir, "x/file"), 0))
		mustT(t, RemoveAll(fd, "x"))
		goneT(t, filepath.Join(dir, "x"))
	}
}

// Somebody exchanges directories for links to a directory outside, all the while.
func TestRemoveAllRace(t *testing.T) {
	dir := t.TempDir()
	mustT(t, os.MkdirAll(filepath.Join(dir, "outside"), 0o755))
	mustT(t, os.WriteFile(filepath.Join(dir, "outside/keep"), nil, 0o644))
	fd := openDirT(t, dir)
	for range 30 {
		for i := range 20 {
			d := filepath.Join(dir, "x", fmt.Sprint(i), "d")
			mustT(t, os.MkdirAll(d, 0o755))
			mustT(t, os.WriteFile(filepath.Join(d, "keep"), nil, 0o644))
			if i == 0 {
				mustT(t, os.Symlink("../outside", filepath.Join(dir, "x", "evil")))
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
			if err = RemoveAll(fd, "x"); err == nil {
				break
			}
		}
		close(stop)
		<-done
		mustT(t, err)
		if _, err := os.Stat(filepath.Join(dir, "outside/keep")); err != nil {
			t.Fatal("a link was followed:", err)
		}
	}
	goneT(t, filepath.Join(dir, "x"))
}

func TestRemoveAllImmutable(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	mustT(t, os.MkdirAll(filepath.Join(dir, "x"), 0o755))
	f, err := os.Create(filepath.Join(dir, "x/f"))
	mustT(t, err)
	defer f.Close()
	const immutable = 0x10 // FS_IMMUTABLE_FL
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, immutable); err != nil {
		if os.Getenv("OCIBUNDLE_TEST") == "unit" {
			t.Skip("needs immutable files:", err)
		}
		t.Fatal("needs a filesystem with immutable files, such as ext4: set TMPDIR to one:", err)
	}
	defer unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0)
	fd := openDirT(t, dir)
	if err := RemoveAll(fd, "x"); !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "x/f") {
		t.Errorf("got %v, want EPERM on x/f", err)
	}
	mustT(t, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0))
	mustT(t, RemoveAll(fd, "x"))
	goneT(t, filepath.Join(dir, "x"))
}

func TestRemoveAllConcurrent(t *testing.T) {
	dir := t.TempDir()
	for i := range 200 {
		d := filepath.Join(dir, "x", fmt.Sprint(i%9), fmt.Sprint(i))
		mustT(t, os.MkdirAll(d, 0o755))
		mustT(t, os.WriteFile(filepath.Join(d, "f"), nil, 0o644))
	}
	fd := openDirT(t, dir)
	errs := make(chan error, 3)
	for range cap(errs) {
		go func() { errs <- RemoveAll(fd, "x") }()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	goneT(t, filepath.Join(dir, "x"))
}
