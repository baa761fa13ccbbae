package export

import (
	"errors"
	"io"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Splicer is a writer that may take the content of a file without a copy of it, as splice(2) puts it into a pipe.
type Splicer interface {
	io.Writer
	// Splice takes up to n bytes of the file fd, from off on, and says how many; 0: there is nothing. After an error,
	// which says nothing of the file, Write can take them.
	Splice(fd int, off int64, n int) (int, error)
}

// output writes to w from a goroutine of its own, while the next part of the stream is made.
type output struct {
	w       io.Writer
	splicer Splicer // the same; nil: it is none
	part    []byte  // that is being filled
	full    chan piece
	empty   chan []byte
	done    chan struct{}
	// stopped says that nobody wants the rest.
	stopped atomic.Bool
	// failed is closed where writing has failed, with err.
	failed chan struct{}
	err    error

	// Of the goroutine alone:
	refused bool   // the splicer takes nothing
	buf     []byte // for what is copied then
}

// piece is a part of the stream: bytes, or a part of a file.
type piece struct {
	part []byte // nil: a file

	name   string // the entry's
	fd     int
	off, n int64
	last   bool // the file is to be closed
}

const (
	partSize = 128 << 10
	parts    = 3
	// spliceMin is from what size on a file is worth a piece of its own.
	spliceMin = 64 << 10
)

func newOutput(w io.Writer) *output {
	o := &output{
		w:    w,
		part: make([]byte, 0, partSize),
		full: make(chan piece, parts), empty: make(chan []byte, parts),
		done: make(chan struct{}), failed: make(chan struct{}),
	}
	o.splicer, _ = w.(Splicer)
	for range parts - 1 {
		o.empty <- make([]byte, 0, partSize)
	}
	go o.run()
	return o
}

func (o *output) run() {
	defer close(o.done)
	for p := range o.full {
		if o.err == nil {
			if p.part != nil {
				_, o.err = o.w.Write(p.part)
			} else {
				o.err = o.send(p)
			}
			if o.err != nil {
				close(o.failed)
			}
		}
		if p.part != nil {
			o.empty <- p.part[:0]
		} else if p.last {
			unix.Close(p.fd)
		}
	}
}

// send writes a part of a file.
func (o *output) send(p piece) error {
	for p.n > 0 && !o.refused && !o.stopped.Load() {
		n, err := o.splicer.Splice(p.fd, p.off, int(min(p.n, 1<<30)))
		o.refused = err != nil
		if n <= 0 {
			break
		}
		p.off, p.n = p.off+int64(n), p.n-int64(n)
	}
	for p.n > 0 && !o.stopped.Load() {
		if o.buf == nil {
			o.buf = make([]byte, partSize)
		}
		b := o.buf
		n, err := pread(p.fd, b[:min(p.n, partSize)], p.off)
		if err == nil && n == 0 {
			err = errShrank
		}
		if err != nil {
			return &entryError{exportError("read", p.name, err)}
		}
		if _, err := o.w.Write(b[:n]); err != nil {
			return &entryError{exportError("write", p.name, err)}
		}
		p.off, p.n = p.off+int64(n), p.n-int64(n)
	}
	return nil
}

var errShrank = errors.New("it shrank while being exported")

// entryError is an error that names its entry.
type entryError struct{ error }

// next gives what is filled to be written, and returns the error of what was written so far.
func (o *output) next() error {
	if len(o.part) > 0 {
		o.full <- piece{part: o.part}
		o.part = <-o.empty
	}
	select {
	case <-o.failed:
		return o.err
	default:
		return nil
	}
}

// room is where the next bytes of the stream go, at least one. take says how many have come.
func (o *output) room() ([]byte, error) {
	if len(o.part) == cap(o.part) {
		if err := o.next(); err != nil {
			return nil, err
		}
	}
	return o.part[len(o.part):cap(o.part)], nil
}

func (o *output) take(n int) { o.part = o.part[:len(o.part)+n] }

func (o *output) write(b []byte) error {
	for len(b) > 0 {
		room, err := o.room()
		if err != nil {
			return err
		}
		n := copy(room, b)
		o.take(n)
		b = b[n:]
	}
	return nil
}

// lend has a part of a file written while the stream goes on. The file belongs to the output until release.
func (o *output) lend(p piece) error {
	if err := o.next(); err != nil {
		return exportError("write", p.name, err)
	}
	o.full <- p
	return nil
}

// release has a file closed that was lent.
func (o *output) release(fd int) { o.full <- piece{fd: fd, last: true} }

// flush waits until everything is written.
func (o *output) flush() error {
	o.next() // its error is o.err, too
	close(o.full)
	<-o.done
	return o.err
}

// end waits for the goroutine to end. What has not been written is lost.
func (o *output) end() {
	o.stopped.Store(true)
	close(o.full)
	<-o.done
}
