package remove

import (
	"io/fs"
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// shareAfter is how many entries one thread removes before it calls the second: a small tree is
// gone before that one has started.
var shareAfter = 200

// nestedMax is how many walks a thread may begin while another of its own waits for a part. It
// bounds the file descriptors: each walk has a stack of its own.
const nestedMax = 2

// roomForTwo is how many file descriptors a process has to be allowed for a second thread: that
// many and more are taken by 2*(1+nestedMax) stacks.
const roomForTwo = 512

// crew is the two threads at one tree. The second is called when the tree turns out to be large.
// Either gives the other directories, by a handle of the one that they are in, when the other has
// nothing to do.
type crew struct {
	parts   chan *part
	idle    atomic.Int32 // threads that would take a part
	started bool         // said by the first thread alone, before there is a second
	over    chan struct{}
	ended   chan struct{}
}

// part is directories that one thread has given to the other.
type part struct {
	fd   int // the directory that they are in, a copy
	in   level
	err  error // once done: the first
	done chan struct{}
}

// call starts the second thread.
func (c *crew) call() {
	c.started = true
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil || files.Cur < roomForTwo || runtime.GOMAXPROCS(0) < 2 {
		return
	}
	c.parts, c.over, c.ended = make(chan *part), make(chan struct{}), make(chan struct{})
	go func() {
		for c.take(c.over, 0) {
		}
		close(c.ended)
	}()
}

// take waits for a part and removes it. It reports false where there is none before done is closed.
func (c *crew) take(done chan struct{}, nested int) bool {
	c.idle.Add(1)
	select {
	case <-done:
		c.idle.Add(-1)
		return false
	case p := <-c.parts:
		c.idle.Add(-1)
		c.remove(p, nested)
		return true
	}
}

// end waits until the second thread has ended.
func (c *crew) end() {
	if c.parts != nil {
		close(c.over)
		<-c.ended
	}
}

func (c *crew) remove(p *part, nested int) {
	r := remover{crew: c, nested: nested}
	r.stack.Enter(p.fd, p.in)
	p.err = r.walk()
	close(p.done)
}

// share gives half of the directories that are still to be removed, of those as far up as there
// are any, to a thread that has nothing to do. The current one keeps the last for this thread.
func (r *remover) share() {
	if !r.crew.started && r.gone >= shareAfter {
		r.crew.call()
	}
	if r.crew.idle.Load() == 0 {
		return
	}
	last := r.stack.Len() - 1
	for i := range last + 1 {
		l := r.stack.At(i)
		n := len(l.Data.subdirs)
		if i == last {
			n--
		}
		if n <= 0 || l.FD < 0 {
			continue
		}
		r.give(l.FD, &l.Data, (n+1)/2)
		return
	}
}

// give gives the first n directories that are to be removed from d. Where nobody takes them, or
// there is no descriptor for it, they stay.
func (r *remover) give(fd int, d *level, n int) {
	fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return
	}
	in := level{lent: true, subdirs: d.subdirs[:n:n], opened: d.opened}
	p := &part{fd: fd, in: in, done: make(chan struct{})}
	select {
	case r.crew.parts <- p:
		d.subdirs = d.subdirs[n:]
		d.given = append(d.given, p)
	default:
		unix.Close(fd)
	}
}

// collect waits for what was given away of the current directory. Meanwhile this thread takes what
// the other has to give.
func (r *remover) collect(d *level) {
	for _, p := range d.given {
		for r.nested < nestedMax && r.crew.take(p.done, r.nested+1) {
		}
		<-p.done
		d.removed = true // for all that is known
		if pe, ok := p.err.(*fs.PathError); ok {
			r.fail(pe.Op, pe.Path, pe.Err)
		}
	}
	d.given = nil
}
