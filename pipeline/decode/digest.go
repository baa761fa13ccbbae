package decode

import (
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"sync"

	"ocibundle/tarx"
)

// DigestError is a stream that is not the one announced.
type DigestError struct {
	// Want and Got are lower-case hexadecimal SHA-256 digests.
	Want, Got string
}

func (e *DigestError) Error() string {
	return fmt.Sprintf("verify the digest: the stream is sha256:%s, not sha256:%s", e.Got, e.Want)
}

// Is makes it a malformed stream.
func (e *DigestError) Is(target error) bool { return target == tarx.ErrMalformed }

// Digester hashes what passes through it in a goroutine of its own: hashing
// costs about as much as all the rest.
type Digester struct {
	r    io.Reader
	work chan []byte
	free chan []byte
	h    hash.Hash
	once sync.Once
	done chan struct{}
}

const digestBuffer = 256 << 10

// NewDigester makes a Digester that hashes what is read from r, in a goroutine of its own.
func NewDigester(r io.Reader, h hash.Hash) *Digester {
	d := &Digester{
		r:    r,
		work: make(chan []byte, 4),
		free: make(chan []byte, 6),
		h:    h,
		done: make(chan struct{}),
	}
	go func() {
		defer close(d.done)
		for b := range d.work {
			d.h.Write(b)
			d.free <- b
		}
	}()
	for range cap(d.free) {
		d.free <- nil
	}
	return d
}

func (d *Digester) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	for rest := p[:n]; len(rest) > 0; {
		b := <-d.free
		if b == nil {
			b = make([]byte, digestBuffer)
		}
		m := copy(b[:digestBuffer], rest)
		d.work <- b[:m]
		rest = rest[m:]
	}
	if err != nil {
		d.stop()
	}
	return n, err
}

func (d *Digester) stop() { d.once.Do(func() { close(d.work) }) }

// Close waits until all that was read is hashed. Nothing may be read any more.
func (d *Digester) Close() {
	d.stop()
	<-d.done
}

// Sum is the hash of all that was read.
func (d *Digester) Sum() string {
	d.Close()
	return hex.EncodeToString(d.h.Sum(nil))
}
