package decode

import (
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
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
	quit chan struct{}
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
		quit: make(chan struct{}),
		done: make(chan struct{}),
	}
	for range cap(d.free) {
		d.free <- nil
	}
	go d.run()
	return d
}

func (d *Digester) run() {
	defer close(d.done)
	for {
		select {
		case b := <-d.work:
			d.h.Write(b)
			d.free <- b
		case <-d.quit:
			for {
				select {
				case b := <-d.work: // that came before
					d.h.Write(b)
				default:
					return
				}
			}
		}
	}
}

func (d *Digester) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	for rest := p[:n]; len(rest) > 0; {
		var b []byte
		select {
		case b = <-d.free:
		case <-d.quit:
			return 0, os.ErrClosed
		}
		if b == nil {
			b = make([]byte, digestBuffer)
		}
		m := copy(b[:digestBuffer], rest)
		select {
		case d.work <- b[:m]:
		case <-d.quit:
			return 0, os.ErrClosed
		}
		rest = rest[m:]
	}
	if err != nil {
		d.stop()
	}
	return n, err
}

func (d *Digester) stop() { d.once.Do(func() { close(d.quit) }) }

// Close waits until what was read is hashed. A Read that is under way, as that of a reader who has been left alone, or
// comes later fails.
func (d *Digester) Close() {
	d.stop()
	<-d.done
}

// Sum is the hash of all that was read. Nothing may be read meanwhile.
func (d *Digester) Sum() string {
	d.Close()
	return hex.EncodeToString(d.h.Sum(nil))
}
