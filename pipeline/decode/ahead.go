package decode

import (
	"io"
	"os"
)

// aheadReader reads in a goroutine of its own, some buffers ahead of whoever
// reads from it.
type aheadReader struct {
	full chan aheadBuffer
	free chan []byte
	done chan struct{}

	last []byte // to be given back once rest, its unread part, is empty
	rest []byte
	err  error // that came behind last
}

type aheadBuffer struct {
	b   []byte // as long as what was read
	err error
}

const (
	aheadBytes   = 64 << 10
	aheadBuffers = 4
)

// newAheadReader starts reading r, up to its first error or to close, after which
// a Read of r that waits is left alone.
func newAheadReader(r io.Reader) *aheadReader {
	a := &aheadReader{
		full: make(chan aheadBuffer, aheadBuffers),
		free: make(chan []byte, aheadBuffers),
		done: make(chan struct{}),
	}
	for range aheadBuffers {
		a.free <- nil
	}
	go a.fill(r)
	return a
}

func (a *aheadReader) fill(r io.Reader) {
	defer close(a.full)
	for {
		var b []byte
		select {
		case b = <-a.free:
		case <-a.done:
			return
		}
		if b == nil {
			b = make([]byte, aheadBytes)
		}
		n, err := r.Read(b[:aheadBytes])
		a.full <- aheadBuffer{b[:n], err} // never blocks: there is room for every buffer
		if err != nil {
			return
		}
	}
}

func (a *aheadReader) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.err != nil {
			return 0, a.err
		}
		if a.last != nil {
			a.free <- a.last
		}
		next, ok := <-a.full
		if !ok {
			next.err = os.ErrClosed
		}
		a.last, a.rest, a.err = next.b, next.b, next.err
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// failed is the error that r gave, if Read has come to it and it is not io.EOF.
func (a *aheadReader) failed() error {
	if len(a.rest) == 0 && a.err != io.EOF {
		return a.err
	}
	return nil
}

// close, once, ends the reading ahead. A Read that waits, as that of an extraction
// that was called off, is left alone.
func (a *aheadReader) close() { close(a.done) }
