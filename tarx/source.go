package tarx

import (
	"bytes"
	"cmp"
	"errors"
	"hash"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
)

const (
	blockSize = 512
	// A chunk is read, parsed and handed to a worker as one: large enough that
	// a wake-up is paid per chunk and not per file, small enough to stay in
	// the cache between those three.
	chunkSize  = 128 << 10
	chunkCount = 8
	// hashCount is how many more there are for a hash, which may fall behind.
	hashCount = 8
)

var zeroBlock [blockSize]byte

// chunk is a piece of the stream. Whoever holds a reference may read it; the
// last one to let go gives it back to the reading goroutine.
type chunk struct {
	buf  []byte
	n    int
	refs atomic.Int32
	home chan<- *chunk
}

func (c *chunk) release() {
	if c.refs.Add(-1) == 0 {
		c.home <- c // never blocks: there is room for every chunk
	}
}

// source hands out the stream in blocks and pieces of bodies. Every chunk but
// the last is full, and so a block never straddles two.
//
// A goroutine of its own reads ahead, for a reader that takes its time. Or
// whoever wants the next chunk reads it: with a process at the other end of a
// pipe that is one thread less for the three to take turns with, and the pages
// that the read gives back are warm for the next write into the pipe.
type source struct {
	r      io.Reader
	ready  chan *chunk // read ahead; nil: nothing is
	free   chan *chunk
	stop   <-chan struct{}
	made   int
	err    error // that reading ended with; where it is ahead, valid once ready is closed
	hasher *hasher

	turn sync.Mutex // of whoever reads in run, but not while it waits in Read
	left bool       // and need not come back

	cur *chunk
	pos int
	off int64 // of cur in the stream

	// leave is called when cur has been read to its end, before it is
	// released.
	leave func(*chunk)
}

var errStopped = errors.New("stopped")

// newSource makes the source of what r holds, and h, if that is not nil, gets
// that too. It starts to read ahead. A Read that is under way when stop closes is
// left alone: its data goes nowhere.
func newSource(r io.Reader, h hash.Hash, stop <-chan struct{}) *source {
	s := newDirectSource(r, h, stop)
	s.ready = make(chan *chunk, cap(s.free))
	go s.fill()
	return s
}

// newDirectSource is newSource without reading ahead. What reads from it does so
// in run.
func newDirectSource(r io.Reader, h hash.Hash, stop <-chan struct{}) *source {
	count := chunkCount
	if h != nil {
		count += hashCount
	}
	s := &source{
		r:     r,
		free:  make(chan *chunk, count),
		stop:  stop,
		leave: func(*chunk) {},
	}
	if h != nil {
		s.hasher = newHasher(h, count)
	}
	return s
}

// fill reads ahead.
func (s *source) fill() {
	defer close(s.ready)
	defer s.hasher.close()
	for {
		c := s.take()
		if c == nil {
			return
		}
		err := c.fill(s.r)
		if c.n > 0 {
			s.hasher.add(c)
			select {
			case s.ready <- c:
			case <-s.stop:
				return
			}
		}
		if err != nil {
			s.err = err
			return
		}
	}
}

// take gives a chunk to be filled; nil where the reading is to stop. Chunks are
// made as needed, so that a small stream costs one.
func (s *source) take() *chunk {
	select {
	case c := <-s.free:
		return c
	default:
	}
	if s.made < cap(s.free) {
		s.made++
		return &chunk{buf: make([]byte, chunkSize), home: s.free}
	}
	select {
	case c := <-s.free:
		return c
	case <-s.stop:
		return nil
	}
}

// fill reads as much as c takes.
func (c *chunk) fill(r io.Reader) (err error) {
	c.n, err = readFull(r, c.buf)
	c.refs.Store(1)
	return err
}

// run has f read from s. When stop closes while f waits in a Read, f ends there,
// with its deferred calls alone, whenever the Read does, and run does not wait
// for that.
func (s *source) run(f func() error) error {
	if s.ready != nil {
		return f() // never waits for a Read longer than until stop
	}
	defer s.hasher.close()
	done := make(chan error, 1)
	go func() {
		s.turn.Lock()
		defer s.turn.Unlock()
		done <- f()
	}()
	select {
	case err := <-done:
		return err
	case <-s.stop:
	}
	s.turn.Lock() // it has come to an end or to a Read
	defer s.turn.Unlock()
	select {
	case err := <-done:
		return err
	default:
		s.left = true
		return errStopped
	}
}

// read is the next chunk, read now.
func (s *source) read() (*chunk, error) {
	if s.err != nil {
		return nil, s.err
	}
	c := s.take()
	if c == nil {
		return nil, errStopped
	}
	s.turn.Unlock()
	err := c.fill(s.r)
	s.turn.Lock()
	if s.left {
		runtime.Goexit()
	}
	if c.n > 0 {
		s.hasher.add(c)
	}
	s.err = err
	if c.n == 0 {
		return nil, err
	}
	return c, nil
}

// hasher hashes chunks in a goroutine of its own. A nil one does nothing.
type hasher struct {
	queue chan *chunk
	done  chan struct{} // closed when all has been hashed
}

func newHasher(h hash.Hash, chunks int) *hasher {
	s := &hasher{queue: make(chan *chunk, chunks), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		for c := range s.queue {
			h.Write(c.buf[:c.n])
			c.release()
		}
	}()
	return s
}

func (h *hasher) add(c *chunk) {
	if h != nil {
		c.refs.Add(1)
		h.queue <- c // never blocks: there is room for every chunk
	}
}

// close says that there is no more.
func (h *hasher) close() {
	if h != nil {
		close(h.queue)
	}
}

// wait is for what was added.
func (h *hasher) wait() {
	if h != nil {
		<-h.done
	}
}

// readFull differs from io.ReadFull in that it tells a reader's own
// io.ErrUnexpectedEOF, which a decoder gives for a cut stream, from its io.EOF.
func readFull(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err
}

// advance moves on to the next chunk. io.EOF means that there is none.
func (s *source) advance() error {
	if s.cur != nil {
		s.leave(s.cur)
		s.off += int64(s.cur.n)
		s.cur.release()
		s.cur, s.pos = nil, 0
	}
	// A stop wins over a chunk that is ready.
	select {
	case <-s.stop:
		return errStopped
	default:
	}
	next := s.read
	if s.ready != nil {
		next = s.receive
	}
	c, err := next()
	switch err {
	case nil:
		s.cur = c
		return nil
	case io.EOF, errStopped:
		return err
	}
	return &ReadError{Err: err}
}

// receive is the next chunk, read ahead.
func (s *source) receive() (*chunk, error) {
	select {
	case c := <-s.ready:
		if c == nil {
			return nil, cmp.Or(s.err, errStopped)
		}
		return c, nil
	case <-s.stop:
		return nil, errStopped
	}
}

// ReadError is an error of the reader that the stream came from.
type ReadError struct{ Err error }

func (e *ReadError) Error() string { return "read the stream: " + e.Err.Error() }

// Unwrap gives the reader's own error.
func (e *ReadError) Unwrap() error { return e.Err }

// piece returns between 1 and limit bytes, as many as lie together.
// They stay valid for as long as the chunk is held.
func (s *source) piece(limit int64) ([]byte, error) {
	for s.cur == nil || s.pos == s.cur.n {
		if err := s.advance(); err != nil {
			return nil, err
		}
	}
	n := int(min(limit, int64(s.cur.n-s.pos)))
	b := s.cur.buf[s.pos : s.pos+n]
	s.pos += n
	return b, nil
}

// block returns the next 512 bytes. io.EOF means that the stream ended just
// before it, io.ErrUnexpectedEOF that it ended within.
func (s *source) block() ([]byte, error) {
	b, err := s.piece(blockSize)
	if err == nil && len(b) < blockSize {
		// Only the last chunk ends within a block. The reader may have an
		// error that explains it.
		if err := s.advance(); err != io.EOF {
			return nil, err
		}
		return nil, io.ErrUnexpectedEOF
	}
	return b, err
}

// skip passes over n bytes.
func (s *source) skip(n int64) error {
	for n > 0 {
		b, err := s.piece(n)
		if err == io.EOF {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		n -= int64(len(b))
	}
	return nil
}

// drainZeros reads the stream to its end, which must hold nothing but zeros.
func (s *source) drainZeros() error {
	for {
		b, err := s.piece(chunkSize)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if len(bytes.TrimLeft(b, "\x00")) > 0 {
			return errTrailing
		}
	}
}

var errTrailing = errors.New("there is more data after the end-of-archive marker")

// offset is the number of bytes consumed.
func (s *source) offset() int64 { return s.off + int64(s.pos) }
