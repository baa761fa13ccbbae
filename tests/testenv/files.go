package testenv

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// OpenDir opens a directory until the end of the test.
func OpenDir(t *testing.T, dir string) int {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// Must ends the test where there is an error.
func Must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Gone demands that nothing is at a path.
func Gone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: still there (%v)", path, err)
	}
}

// AsFSUser runs f on a thread with the filesystem rights of an ordinary user.
func AsFSUser(t *testing.T, uid int, f func()) {
	t.Helper()
	NeedRoot(t)
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
	Must(t, <-done)
}
