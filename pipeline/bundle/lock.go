package bundle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long one process waits for another's lock on a bundle. An edit, or the step in
// which a bundle is replaced or vanishes, takes milliseconds.
var patience = 10 * time.Second

var (
	errLocked = errors.New("another process has locked it")
	errMoved  = errors.New("its name leads elsewhere now")
)

// lock locks a bundle's directory against other runs of this program. It may be replaced or removed
// before it is locked: named says whether its name still leads to it, and errMoved is returned if
// not. errLocked is the end of the patience.
func lock(ctx context.Context, dir *os.File, named func() (bool, error)) error {
	for deadline := time.Now().Add(patience); ; {
		err := tryLock(int(dir.Fd()))
		if err != nil && err != unix.EWOULDBLOCK {
			return fmt.Errorf("lock %q: %w", dir.Name(), err)
		}
		same, nerr := named()
		if nerr != nil {
			return nerr
		}
		if !same {
			return errMoved
		}
		if err == nil {
			return nil
		}
		if !time.Now().Before(deadline) {
			return errLocked
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// tryLock locks what fd is open on, unless it is locked, which is EWOULDBLOCK.
func tryLock(fd int) error {
	for {
		if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != unix.EINTR {
			return err
		}
	}
}
