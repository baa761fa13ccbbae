package bundle

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"ocibundle/tarx/handle"
)

// CheckInUse looks for running processes that have one of the bundles as their root. It says
// nothing of directories that are not bundles. A user's containers run in user namespaces that only
// a process outside of any of the user's others may look into, so this is for before
// [userns.Enter], and Remove's own look does not replace it.
func CheckInUse(dirs ...string) error {
	for _, dir := range dirs {
		rootfs, err := os.OpenFile(filepath.Join(dir, rootfsName), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			continue // for Remove to judge
		}
		pid, err := rootInUse(context.Background(), rootfs)
		rootfs.Close()
		if err != nil {
			return err
		}
		if pid != 0 {
			return &Error{Kind: InUse, Dir: dir, PID: pid}
		}
	}
	return nil
}

// rootInUse finds a process whose root directory is rootfs, or 0. A process that the caller may not
// look into (ptrace(2), "Ptrace access mode checking"), as one in a user namespace beside the
// caller's, is found if its root is a mount, which a container's is.
func rootInUse(ctx context.Context, rootfs *os.File) (pid int, err error) {
	want, err := handle.Look(int(rootfs.Fd()), "")
	if err != nil {
		return 0, fmt.Errorf("stat %q: %w", rootfs.Name(), err)
	}
	at, err := placeOf(rootfs)
	if err != nil {
		return 0, err
	}
	proc, err := os.Open("/proc")
	if err != nil {
		return 0, fmt.Errorf("list the processes: %w", err)
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return 0, fmt.Errorf("list the processes: %w", err)
	}
	var roots rootLooker
	defer roots.close()
	for _, n := range names {
		pid, err := strconv.Atoi(n)
		if err != nil {
			continue
		}
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		st, err := roots.look(pid)
		switch err {
		case nil:
			if handle.Same(&st, &want) {
				return pid, nil
			}
		case unix.EACCES, unix.EPERM:
			if root, err := rootMount(n); err == nil && root == at && at != (place{}) {
				return pid, nil
			}
		}
	}
	return 0, nil
}

// rootPatience is how long a look at the root of one process may take. It asks no filesystem but
// those that the kernel asks on its own account (NFS); one that hangs is not the one that rootfs is
// on, which has just answered.
const rootPatience = 2 * time.Second

// rootLooker looks at the roots of processes, one after the other, in a goroutine that is given up
// when it hangs.
type rootLooker struct {
	ask    chan int
	answer chan rootLook
}

type rootLook struct {
	st  unix.Statx_t
	err error
}

func (r *rootLooker) look(pid int) (unix.Statx_t, error) {
	if r.ask == nil {
		ask, answer := make(chan int), make(chan rootLook, 1)
		go func() {
			for pid := range ask {
				st, err := lookAtRoot(pid)
				answer <- rootLook{st, err}
			}
		}()
		r.ask, r.answer = ask, answer
	}
	r.ask <- pid
	select {
	case a := <-r.answer:
		return a.st, a.err
	case <-time.After(rootPatience):
		r.close()
		return unix.Statx_t{}, unix.ETIMEDOUT
	}
}

func (r *rootLooker) close() {
	if r.ask != nil {
		close(r.ask)
		r.ask = nil
	}
}

// lookAtRoot looks at the root directory of a process, through the link to it.
var lookAtRoot = func(pid int) (st unix.Statx_t, err error) {
	const flags = unix.AT_NO_AUTOMOUNT | unix.AT_STATX_DONT_SYNC
	err = unix.Statx(unix.AT_FDCWD, fmt.Sprintf("/proc/%d/root", pid), flags, unix.STATX_INO, &st)
	return st, err
}
