package decode

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"runtime/debug"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// zstdReader reads zstd frames, one behind the other (RFC 8878). The library would keep the
// window of one while it makes that of the next, and take zeros for a broken frame: here it
// sees one frame at a time.
type zstdReader struct {
	in      *bufio.Reader
	decoder *zstd.Decoder
	window  uint64 // the largest that decoder has had
	frame   zstdFrame

	// An extraction that failed leaves a Read that is under way to itself, and that may
	// wait for a pipe. The decoder is left to itself then too.
	mu     sync.Mutex
	closed bool
}

func (x *zstdReader) Read(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return 0, zstd.ErrDecoderClosed
	}
	for {
		if x.frame.r == nil {
			if err := x.nextFrame(); err != nil {
				return 0, err
			}
		}
		n, err := x.decoder.Read(p)
		if err == io.EOF {
			x.frame.r, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// nextFrame prepares the next frame; io.EOF says that there is none.
func (x *zstdReader) nextFrame() error {
	const longest = 18 // of a frame's header
	b, err := x.in.Peek(longest)
	if len(b) == 0 {
		return err
	}
	if b[0] == 0 {
		return onlyZeros(x.in)
	}
	h, err := readZstdHeader(b)
	if err != nil {
		return err
	}
	if h.skip > 0 {
		_, err := x.in.Discard(h.skip)
		return noEOF(err)
	}
	if h.window > maxWindow {
		return &WindowError{Format: "zstd"}
	}
	x.frame = zstdFrame{r: x.in, left: h.length, checksum: h.checksum}
	if x.decoder != nil && h.window <= x.window {
		return x.decoder.Reset(&x.frame)
	}
	if x.decoder != nil {
		x.decoder.Close()
		x.decoder = nil
		debug.FreeOSMemory() // or both windows would be there for a while
	}
	x.window = max(h.window, 8<<20)
	// The extractor reads ahead in a goroutine of its own. More of them in here take
	// 3 MiB and no less time.
	x.decoder, err = zstd.NewReader(&x.frame, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderConcurrency(1))
	return err
}

func (x *zstdReader) close() {
	if x.mu.TryLock() {
		defer x.mu.Unlock()
		x.closed = true
		if x.decoder != nil {
			x.decoder.Close()
		}
	}
}

// zstdHeader is what a frame begins with.
type zstdHeader struct {
	skip     int // all of a frame to be skipped, in bytes
	length   int // of the header, in bytes
	window   uint64
	checksum bool
}

// readZstdHeader reads a header from b, which has less than 18 bytes only at the end of
// the stream.
func readZstdHeader(b []byte) (h zstdHeader, err error) {
	le := binary.LittleEndian
	b = append(make([]byte, 0, 32), b...)
	cut := len(b)
	b = b[:32]
	switch magic := le.Uint32(b); {
	case cut < 5:
		return h, io.ErrUnexpectedEOF
	case magic&^0xf == 0x184d2a50:
		h.skip = 8 + int(le.Uint32(b[4:]))
		return h, nil
	case magic != 0xfd2fb528:
		return h, errBehind
	}
	flags, at := b[4], 5
	single := flags&0x20 != 0
	if !single {
		base := uint64(1) << (10 + b[5]>>3)
		h.window = base + base/8*uint64(b[5]&7)
		at++
	}
	at += []int{0, 1, 2, 4}[flags&3] // a dictionary's id
	size := []int{0, 2, 4, 8}[flags>>6]
	if size == 0 && single {
		size = 1
	}
	if single { // all of it is the window
		h.window = le.Uint64(b[at:])
		if size < 8 {
			h.window &= 1<<(8*size) - 1
		}
		if size == 2 {
			h.window += 256
		}
	}
	h.length, h.checksum = at+size, flags&4 != 0
	if cut < h.length {
		err = io.ErrUnexpectedEOF
	}
	return h, err
}

// zstdFrame gives the bytes of one frame.
type zstdFrame struct {
	r        *bufio.Reader
	left     int  // of what is being read: the header, a block, the checksum
	last     bool // no block follows
	checksum bool // it follows the last block
}

var errZstdBlock = errors.New("broken block header")

func (f *zstdFrame) Read(p []byte) (int, error) {
	for f.left == 0 {
		switch {
		case !f.last:
			b, err := f.r.Peek(3)
			if err != nil {
				return 0, noEOF(err)
			}
			header := int(b[0]) | int(b[1])<<8 | int(b[2])<<16
			f.last = header&1 != 0
			switch f.left = 3 + header>>3; header >> 1 & 3 {
			case 1: // one byte, repeated
				f.left = 4
			case 3:
				return 0, errZstdBlock
			}
		case f.checksum:
			f.left, f.checksum = 4, false
		default:
			return 0, io.EOF
		}
	}
	n, err := f.r.Read(p[:min(len(p), f.left)])
	f.left -= n
	return n, noEOF(err)
}
