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
	"time"
)

const (
	BlockSize = 512
	// A chunk is read, parsed and handed to a worker as one: large enough that
	// a wake-up is paid per chunk and not per file, small enough to stay in
	// the cache between those three.
	ChunkSize  = 128 << 10
	ChunkCount = 8
	// HashCount is how many more there are for a hash, which may fall behind.
	HashCount = 8
)

var ZeroBlock [BlockSize]byte

// Chunk is a piece of the stream. Whoever holds a reference may read it; the
// last one to let go gives it back to the reading goroutine.
type Chunk struct {
	buf  []byte
	N    int
	Refs atomic.Int32
	home chan<- *Chunk
}

// Release gives a chunk back once nobody refers to it any more.
func (c *Chunk) Release() {
	if c.Refs.Add(-1) == 0 {
		c.home <- c // never blocks: there is room for every chunk
	}
}

// Source hands out the stream in blocks and pieces of bodies. Every chunk but
// the last is full, and so a block never straddles two.
//
// A goroutine of its own reads ahead, for a reader that takes its time. Or
// whoever wants the next chunk reads it: with a process at the other end of a
// pipe that is one thread less for the three to take turns with, and the pages
// that the read gives back are warm for the next write into the pipe.
type Source struct {
	r      io.Reader
	ready  chan *Chunk // read ahead; nil: nothing is
	free   chan *Chunk
	stop   <-chan struct{}
	made   int
	err    error // that reading ended with; where it is ahead, valid once ready is closed
	Hasher *hasher
	pace   pace // of what is read in run

	turn sync.Mutex // of whoever reads in run, but not while it waits in Read
	left bool       // and need not come back

	Cur   *Chunk
	Pos   int
	ahead *Chunk // the one behind Cur, where peek had to get it
	off   int64  // of cur in the stream

	// Leave is called when cur has been read to its end, before it is
	// released.
	Leave func(*Chunk)
}

var ErrStopped = errors.New("stopped")

// NewSource makes the source of what r holds, and h, if that is not nil, gets
// that too. It starts to read ahead. A Read that is under way when stop closes is
// left alone: its data goes nowhere.
func NewSource(r io.Reader, h hash.Hash, stop <-chan struct{}) *Source {
	s := NewDirectSource(r, h, stop)
	s.ready = make(chan *Chunk, cap(s.free))
	go s.fill()
	return s
}

// NewDirectSource is newSource without reading ahead. What reads from it does so
// in run.
func NewDirectSource(r io.Reader, h hash.Hash, stop <-chan struct{}) *Source {
	count := ChunkCount
	if h != nil {
		count += HashCount
	}
	s := &Source{
		r:     r,
		free:  make(chan *Chunk, count),
		stop:  stop,
		Leave: func(*Chunk) {},
	}
	if h != nil {
		s.Hasher = newHasher(h, count)
	}
	return s
}

// fill reads ahead.
func (s *Source) fill() {
	defer close(s.ready)
	defer s.Hasher.close()
	for {
		c := s.take()
		if c == nil {
			return
		}
		_, err := c.fill(s.r)
		if c.N > 0 {
			s.Hasher.add(c)
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
func (s *Source) take() *Chunk {
	select {
	case c := <-s.free:
		return c
	default:
	}
	if s.made < cap(s.free) {
		s.made++
		return &Chunk{buf: make([]byte, ChunkSize), home: s.free}
	}
	select {
	case c := <-s.free:
		return c
	case <-s.stop:
		return nil
	}
}

// fill reads as much as c takes, in so many pieces.
func (c *Chunk) fill(r io.Reader) (pieces int, err error) {
	c.N, pieces, err = readFull(r, c.buf)
	c.Refs.Store(1)
	return pieces, err
}

// Run has f read from s. When stop closes while f waits in a Read, f ends there,
// with its deferred calls alone, whenever the Read does, and run does not wait
// for that.
func (s *Source) Run(f func() error) error {
	if s.ready != nil {
		return f() // never waits for a Read longer than until stop
	}
	defer s.Hasher.close()
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
		return ErrStopped
	}
}

// read is the next chunk, read now.
func (s *Source) read() (*Chunk, error) {
	if s.err != nil {
		return nil, s.err
	}
	c := s.take()
	if c == nil {
		return nil, ErrStopped
	}
	s.turn.Unlock()
	begun := time.Now()
	pieces, err := c.fill(s.r)
	read := time.Now()
	s.turn.Lock()
	if s.left {
		runtime.Goexit()
	}
	s.pace.note(begun, read, pieces)
	if c.N > 0 {
		s.Hasher.add(c)
	}
	s.err = err
	if c.N == 0 {
		return nil, err
	}
	return c, nil
}

// readFull differs from io.ReadFull in that it tells a reader's own
// io.ErrUnexpectedEOF, which a decoder gives for a cut stream, from its io.EOF.
func readFull(r io.Reader, buf []byte) (n, pieces int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
		pieces++
	}
	return n, pieces, err
}

// advance moves on to the next chunk. io.EOF means that there is none.
func (s *Source) advance() error {
	if s.Cur != nil {
		s.Leave(s.Cur)
		s.off += int64(s.Cur.N)
		s.Cur.Release()
		s.Cur, s.Pos = nil, 0
	}
	if s.ahead != nil {
		s.Cur, s.ahead = s.ahead, nil
		return nil
	}
	var err error
	s.Cur, err = s.next()
	return err
}

// next is the chunk behind those that are held.
func (s *Source) next() (*Chunk, error) {
	// A stop wins over a chunk that is ready.
	select {
	case <-s.stop:
		return nil, ErrStopped
	default:
	}
	get := s.read
	if s.ready != nil {
		get = s.receive
	}
	c, err := get()
	if err == nil || err == io.EOF || err == ErrStopped {
		return c, err
	}
	return nil, &ReadError{Err: err}
}

// peek is the block that begins n bytes further on, at most one chunk away. It is nil where the
// stream ends before it.
func (s *Source) peek(n int64) ([]byte, error) {
	c, at := s.Cur, int64(s.Pos)+n
	if at >= int64(c.N) {
		if s.ahead == nil {
			next, err := s.next()
			if err == io.EOF {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			s.ahead = next
		}
		c, at = s.ahead, at-int64(c.N)
	}
	if at+BlockSize > int64(c.N) {
		return nil, nil
	}
	return c.buf[at : at+BlockSize], nil
}

// receive is the next chunk, read ahead.
func (s *Source) receive() (*Chunk, error) {
	select {
	case c := <-s.ready:
		if c == nil {
			return nil, cmp.Or(s.err, ErrStopped)
		}
		return c, nil
	case <-s.stop:
		return nil, ErrStopped
	}
}

// Piece returns between 1 and limit bytes, as many as lie together.
// They stay valid for as long as the chunk is held.
func (s *Source) Piece(limit int64) ([]byte, error) {
	for s.Cur == nil || s.Pos == s.Cur.N {
		if err := s.advance(); err != nil {
			return nil, err
		}
	}
	n := int(min(limit, int64(s.Cur.N-s.Pos)))
	b := s.Cur.buf[s.Pos : s.Pos+n]
	s.Pos += n
	return b, nil
}

// block returns the next 512 bytes. io.EOF means that the stream ended just
// before it, io.ErrUnexpectedEOF that it ended within.
func (s *Source) block() ([]byte, error) {
	b, err := s.Piece(BlockSize)
	if err == nil && len(b) < BlockSize {
		// Only the last chunk ends within a block. The reader may have an
		// error that explains it.
		if err := s.advance(); err != io.EOF {
			return nil, err
		}
		return nil, io.ErrUnexpectedEOF
	}
	return b, err
}

// Skip passes over n bytes.
func (s *Source) Skip(n int64) error {
	for n > 0 {
		b, err := s.Piece(n)
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

// DrainZeros reads the stream to its end, which must hold nothing but zeros.
func (s *Source) DrainZeros() error {
	for {
		b, err := s.Piece(ChunkSize)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if len(bytes.TrimLeft(b, "\x00")) > 0 {
			return ErrTrailing
		}
	}
}

var ErrTrailing = errors.New("there is more data after the end-of-archive marker")

// offset is the number of bytes consumed.
func (s *Source) offset() int64 { return s.off + int64(s.Pos) }
