package export

import (
	"context"
	"io"
	"sync"
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
	splicer Splicer // nil: w is none, or has refused
	part    []byte  // that is being filled
	full    chan []byte
	empty   chan []byte
	queued  sync.WaitGroup // parts
	done    chan struct{}
	// failed is closed where writing has failed, with err.
	failed chan struct{}
	err    error
}

const (
	partSize = 128 << 10
	parts    = 3
	// To wait until a part is written costs more than to copy a small file.
	spliceMin = 64 << 10
)

func newOutput(w io.Writer) *output {
	o := &output{
		part: make([]byte, 0, partSize),
		full: make(chan []byte, parts), empty: make(chan []byte, parts),
		done: make(chan struct{}), failed: make(chan struct{}),
	}
	o.splicer, _ = w.(Splicer)
	for range parts - 1 {
		o.empty <- make([]byte, 0, partSize)
	}
	go o.run(w)
	return o
}

func (o *output) run(w io.Writer) {
	defer close(o.done)
	for part := range o.full {
		if o.err == nil {
			if _, o.err = w.Write(part); o.err != nil {
				close(o.failed)
			}
		}
		o.empty <- part[:0]
		o.queued.Done()
	}
}

// next gives what is filled to be written, and returns the error of what was written so far.
func (o *output) next() error {
	o.queued.Add(1)
	o.full <- o.part
	o.part = <-o.empty
	return o.failure()
}

func (o *output) failure() error {
	select {
	case <-o.failed:
		return o.err
	default:
		return nil
	}
}

// splice writes what w takes of n bytes of fd, from off on, without a copy. The rest is to be copied. The error is that
// of what was written before.
func (o *output) splice(ctx context.Context, fd int, off, n int64) (taken int64, err error) {
	if o.splicer == nil || n < spliceMin {
		return 0, nil
	}
	if len(o.part) > 0 {
		if err := o.next(); err != nil {
			return 0, err
		}
	}
	o.queued.Wait()
	if err := o.failure(); err != nil {
		return 0, err
	}
	for taken < n && ctx.Err() == nil {
		m, err := o.splicer.Splice(fd, off+taken, int(min(n-taken, 1<<30)))
		if err != nil {
			o.splicer = nil
		}
		if err != nil || m == 0 {
			break
		}
		taken += int64(m)
	}
	return taken, nil
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

// flush waits until everything is written.
func (o *output) flush() error {
	o.queued.Add(1)
	o.full <- o.part
	o.part = nil
	o.end()
	return o.err
}

// end waits for the goroutine to end. What was not given to it is lost.
func (o *output) end() {
	close(o.full)
	<-o.done
}
