package handle

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/tests/testenv"
)

// A stack of any depth takes a bounded number of descriptors, and comes back to the same
// directories where they were left.
func TestStack(t *testing.T) {
	dir := t.TempDir()
	const depth = 3 * stackOpen
	var s Stack[int]
	defer s.Close()
	s.Enter(openT(t, unix.AT_FDCWD, dir), 0)
	for i := 1; i < depth; i++ {
		at := s.Current().FD
		testenv.Must(t, unix.Mkdirat(at, strconv.Itoa(i), 0o700))
		_, err := Getdents(at, make([]byte, 4096))
		testenv.Must(t, err)
		s.Enter(openT(t, at, strconv.Itoa(i)), i)
	}
	if n := openFDs(t); n > stackOpen+16 {
		t.Errorf("%d descriptors are open", n)
	}
	for i := depth - 1; i >= 0; i-- {
		if got := s.At(i).Data; got != i || s.Current().Data != i {
			t.Fatalf("level %d is %d", i, got)
		}
		if i < depth-1 {
			if n, err := Getdents(s.Current().FD, make([]byte, 4096)); n != 0 || err != nil {
				t.Fatalf("level %d is read from the start again (%d, %v)", i, n, err)
			}
			var st unix.Stat_t
			testenv.Must(t, unix.Fstatat(s.Current().FD, strconv.Itoa(i+1), &st, 0))
		}
		l, err := s.Leave()
		testenv.Must(t, err)
		unix.Close(l.FD)
	}
	if s.Len() != 0 {
		t.Error("not empty")
	}
}

func openT(t *testing.T, at int, name string) int {
	t.Helper()
	fd, err := Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
	testenv.Must(t, err)
	return fd
}

func openFDs(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	testenv.Must(t, err)
	return len(list)
}

// Somebody moves the directory that is being walked through to a place outside: ".." leads there,
// and nothing there may be taken for the tree's.
func TestStackChecksParents(t *testing.T) {
	dir := t.TempDir()
	testenv.Must(t, os.MkdirAll(filepath.Join(dir, "outside"), 0o755))
	var s Stack[struct{}]
	defer s.Close()
	s.Enter(openT(t, unix.AT_FDCWD, dir), struct{}{})
	path := dir
	for range stackOpen + 1 {
		path = filepath.Join(path, "d")
		testenv.Must(t, os.Mkdir(path, 0o755))
		s.Enter(openT(t, s.Current().FD, "d"), struct{}{})
	}
	testenv.Must(t, os.Rename(filepath.Join(dir, "d/d"), filepath.Join(dir, "outside/d")))
	for s.Len() > 3 {
		l, err := s.Leave()
		testenv.Must(t, err)
		unix.Close(l.FD)
	}
	l, err := s.Leave() // from d/d, whose parent was closed
	if !errors.Is(err, ErrMoved) {
		t.Errorf(`".." of a moved directory was taken for its old parent (%v)`, err)
	}
	if err == nil {
		unix.Close(l.FD)
	}
}

func TestOpenSameMount(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	for _, d := range []string{"src", "bind", "plain"} {
		testenv.Must(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	testenv.Must(t, os.Symlink("plain", filepath.Join(dir, "link")))
	point := filepath.Join(dir, "bind")
	testenv.Must(t, unix.Mount(filepath.Join(dir, "src"), point, "", unix.MS_BIND, ""))
	defer unix.Unmount(point, unix.MNT_DETACH)
	at := testenv.OpenDir(t, dir)
	for i, open := range []func(int, string, int) (int, error){OpenSameMount, openWithoutOpenat2} {
		for name, want := range map[string]error{"bind": unix.EXDEV, "link": unix.ENOTDIR, "plain": nil, "none": unix.ENOENT} {
			fd, err := open(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
			if err == nil {
				unix.Close(fd)
			}
			if err != want && !(name == "link" && err == unix.ELOOP) {
				t.Errorf("way %d, %s: %v, want %v", i, name, err, want)
			}
		}
	}
}

const ownerEnv = "OCIBUNDLE_TEST_OWNERS"

// What a process in a user namespace may do with a file tells whether the namespace has the file's
// owner, where its number does not: to read what the mode forbids (EACCES), and to read without a
// trace what it does not (EPERM).
func TestOwnerMapped(t *testing.T) {
	if dir := os.Getenv(ownerEnv); dir != "" {
		ownersInside(t, dir)
		return
	}
	testenv.NeedRoot(t)
	dir := t.TempDir()
	testenv.Must(t, os.Chmod(dir, 0o755))
	for _, mode := range []os.FileMode{0, 0o600, 0o644, 0o755} {
		for kind, create := range map[string]func(string) error{
			"file": func(p string) error { return os.WriteFile(p, nil, 0o600) },
			"dir":  func(p string) error { return os.Mkdir(p, 0o700) },
		} {
			for who, uid := range map[string]int{"ours": 1_000_000, "nobody": 1_065_534, "foreign": 4321} {
				p := filepath.Join(dir, kind+"-"+who+"-"+strconv.FormatUint(uint64(mode), 8))
				testenv.Must(t, create(p))
				testenv.Must(t, os.Chown(p, uid, uid))
				testenv.Must(t, os.Chmod(p, mode))
			}
		}
	}
	testenv.Must(t, os.Chmod(filepath.Dir(dir), 0o755))
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestOwnerMapped$", "-test.count=1")
	cmd.Env = append(os.Environ(), ownerEnv+"="+dir)
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 1_000_000, Size: 65536}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids,
		Credential: &syscall.Credential{Uid: 0, Gid: 0, NoSetGroups: true},
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func ownersInside(t *testing.T, dir string) {
	list, err := os.ReadDir(dir)
	testenv.Must(t, err)
	if len(list) != 24 {
		t.Fatalf("%d files", len(list))
	}
	for _, f := range list {
		h, err := Openat(unix.AT_FDCWD, filepath.Join(dir, f.Name()), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC)
		testenv.Must(t, err)
		if got, want := OwnerMapped(h), !strings.Contains(f.Name(), "foreign"); got != want {
			t.Errorf("%s: %v", f.Name(), got)
		}
		unix.Close(h)
	}
}
