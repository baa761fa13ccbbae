package tarx

import (
	"bytes"
	"errors"
	"hash"
	"io"
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
type source struct {
	ready chan *chunk
	free  chan *chunk
	stop  <-chan struct{}
	err   error // of the reader; valid once ready is closed

	hash   hash.Hash
	hashed chan struct{} // closed when hash has had the whole stream

	cur *chunk
	pos int
	off int64 // of cur in the stream

	// leave is called when cur has been read to its end, before it is
	// released.
	leave func(*chunk)
}

var errStopped = errors.New("stopped")

// newSource starts reading r, for h too if that is not nil. A Read that is under
// way when stop closes is left alone: its data goes nowhere.
func newSource(r io.Reader, h hash.Hash, stop <-chan struct{}) *source {
	count := chunkCount
	if h != nil {
		count += hashCount
	}
	s := &source{
		ready:  make(chan *chunk, count),
		free:   make(chan *chunk, count),
		stop:   stop,
		hash:   h,
		hashed: make(chan struct{}),
		leave:  func(*chunk) {},
	}
	go s.fill(r)
	return s
}

func (s *source) fill(r io.Reader) {
	defer close(s.ready)
	made, holders := 0, int32(1)
	var toHash chan *chunk
	if s.hash != nil {
		holders++
		toHash = make(chan *chunk, cap(s.free))
		defer close(toHash)
		go func() {
			for c := range toHash {
				s.hash.Write(c.buf[:c.n])
				c.release()
			}
			close(s.hashed)
		}()
	}
	for {
		var c *chunk
		select {
		case c = <-s.free:
		default:
			// Made as needed, so that a small stream costs one.
			if made < cap(s.free) {
				made++
				c = &chunk{buf: make([]byte, chunkSize), home: s.free}
				break
			}
			select {
			case c = <-s.free:
			case <-s.stop:
				return
			}
		}
		n, err := readFull(r, c.buf)
		if n > 0 {
			c.n = n
			c.refs.Store(holders)
			if toHash != nil {
				toHash <- c // never blocks, like release
			}
			select {
			case s.ready <- c:
			case <-s.stop:
				return
			}
		}
		if err != nil {
			if err != io.EOF {
				s.err = err
			}
			return
		}
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
	select {
	case c, ok := <-s.ready:
		if !ok {
			if s.err != nil {
				return &ReadError{Err: s.err}
			}
			return io.EOF
		}
		s.cur = c
		return nil
	case <-s.stop:
		return errStopped
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
