package extract

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// handleRoom settles how many directories are kept open.
//
// A process's table of open files has 64 places at first. When a process of
// several threads needs more, the kernel waits for all processors to have
// forgotten the old table (expand_fdtable in fs/file.c: an RCU grace period),
// some 10 ms in which no thread opens anything, and again at each doubling. A
// stream that goes from directory to directory in order, as most do, is well
// off with few. One that goes back often gets many, once the table has grown,
// in one step and in the background.
type handleRoom struct {
	// jobs is how many a batch has at most. Each may keep a directory open that
	// has left the cache.
	jobs        int
	early, dirs int // directories in the cache before and after
	places      int // in the table, for all that
	misses      int
	grown       chan struct{} // closed with the answer; nil: not asked
	wide        bool
}

const (
	// earlyDirs leaves room for some 20 files that are open for other reasons,
	// and for directories whose last jobs are not done.
	earlyDirs = 24
	// growMisses have cost about as much as the growing does.
	growMisses = 1000
)

// newHandleRoom shares the limit of open files, which Go raises to the hard one
// at start, between the directories and so many batches.
func newHandleRoom(batches int) (handleRoom, error) {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return handleRoom{}, fmt.Errorf("read the limit of open files: %w", err)
	}
	budget := int(min(lim.Cur, 1<<16))
	r := handleRoom{
		jobs: max(1, min(128, budget/2/batches)),
		dirs: max(4, min(512, budget/4)),
	}
	r.early = min(r.dirs, earlyDirs)
	r.places = min(budget-1, r.dirs+128)
	return r, nil
}

// miss counts a directory that had to be opened again, and says, once, that
// there is room for more.
func (r *handleRoom) miss(root *os.File) bool {
	r.misses++
	if r.wide || r.misses < growMisses {
		return false
	}
	if r.grown == nil {
		r.grown = make(chan struct{})
		go func() {
			defer close(r.grown)
			// The lowest free place from there on. Without it the table grows as
			// it is used.
			if fd, err := unix.FcntlInt(root.Fd(), unix.F_DUPFD_CLOEXEC, r.places); err == nil {
				unix.Close(fd)
			}
		}()
	}
	select {
	case <-r.grown:
		r.wide = true
	default:
	}
	return r.wide
}

// close waits until the root is no longer used.
func (r *handleRoom) close() {
	if r.grown != nil {
		<-r.grown
	}
}
