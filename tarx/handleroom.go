package tarx

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// handleLimits is how many files an extractor keeps open at most: jobs in each
// batch, and directories in the cache.
type handleLimits struct {
	jobs, dirs int
}

// handleRoom settles how many files may be open.
//
// A process's table of open files has 64 places at first. When a process of
// several threads needs more, the kernel waits for all processors to have
// forgotten the old table (expand_fdtable in fs/file.c: an RCU grace period),
// some 10 ms in which no thread opens anything, and again at each doubling.
// So a stream of more than a chunk asks for all the places it may need at
// once, in the background, and keeps within the first 64 until then. A short
// one never asks: an exit would wait for the answer.
type handleRoom struct {
	early, full handleLimits
	places      int           // what full needs
	grown       chan struct{} // closed with the answer; nil: not asked
	wide        bool
}

// newHandleRoom shares the limit of open files, which Go raises to the hard one
// at start, between the directories and so many batches.
func newHandleRoom(batches int) (handleRoom, error) {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return handleRoom{}, fmt.Errorf("read the limit of open files: %w", err)
	}
	budget := int(min(lim.Cur, 1<<16))
	r := handleRoom{full: handleLimits{
		jobs: max(1, min(128, budget/2/batches)),
		dirs: max(4, min(512, budget/4)),
	}}
	// About 20 of the 64 are taken already.
	r.early = handleLimits{
		jobs: min(r.full.jobs, max(1, 24/batches)),
		dirs: min(r.full.dirs, 16),
	}
	r.places = min(budget-1, r.full.jobs*batches+r.full.dirs+64)
	return r, nil
}

// widen says, once, that the full limits may be used. It is called after each
// chunk, by one goroutine.
func (r *handleRoom) widen(root *os.File) bool {
	if r.wide {
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
