// Package decode brings a stream in: counted, digested, decompressed and limited.
//
// A stream is hostile. No program is run to decode it, and a decoder is given a
// bounded amount of memory.
package decode

import (
	"bufio"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/moby/go-archive/compression"
	"github.com/ulikunitz/xz"

	"ocibundle/tarx"
)

// maxWindow is the largest window, in bytes, that a compressed stream may ask
// a decoder to keep.
const maxWindow = 128 << 20

// Error is a compressed stream that does not decode.
type Error struct {
	// Format is "gzip", "bzip2", "xz" or "zstd".
	Format string
	Err    error
}

func (e *Error) Error() string {
	err := e.Err
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Sprintf("decode %s: the compressed stream is cut short", e.Format)
	}
	// The libraries put their own name in front.
	msg := err.Error()
	for _, p := range []string{e.Format + ": ", "magic number mismatch: "} {
		msg = strings.TrimPrefix(msg, p)
	}
	return fmt.Sprintf("decode %s: %s", e.Format, msg)
}

// Unwrap gives tarx.ErrMalformed and the cause.
func (e *Error) Unwrap() []error { return []error{tarx.ErrMalformed, e.Err} }

// WindowError is the refusal of a compressed stream that needs more memory
// than a decoder is given.
type WindowError struct{ Format string }

func (e *WindowError) Error() string {
	return fmt.Sprintf("decode %s: the window is larger than %d MiB", e.Format, maxWindow>>20)
}

// Is makes it a refusal.
func (e *WindowError) Is(target error) bool { return target == tarx.ErrRefused }

// headBytes is what a format is known by: a tar's first header.
const headBytes = 512

// peek reads the first bytes.
func peek(r io.Reader) ([]byte, error) {
	head := make([]byte, headBytes)
	n, err := io.ReadFull(r, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, &tarx.ReadError{Err: err}
	}
	return head[:n], nil
}

// detect finds the compression in the first bytes of a stream.
func detect(head []byte) compression.Compression {
	// A tar may start with a name that looks like a compressed stream: bzip2's
	// magic is "BZh".
	if len(head) == headBytes && string(head[257:262]) == "ustar" {
		return compression.None
	}
	return compression.Detect(head)
}

// decode undoes the compression of in.src, which starts with head. No program is
// run for it, whatever is in PATH. failed gives the error that reading ended with.
func (in *Stream) decode(format compression.Compression, head []byte, failed func() error) (io.Reader, error) {
	wrap := func(format string, r io.Reader, err error) (io.Reader, error) {
		d := &decodeReader{r: r, format: format, failed: failed}
		if err != nil {
			return nil, d.error(err)
		}
		return d, nil
	}
	switch format {
	case compression.Gzip:
		z, err := gzip.NewReader(bufio.NewReaderSize(in.src, 64<<10))
		return wrap("gzip", z, err)
	case compression.Bzip2:
		return wrap("bzip2", bzip2.NewReader(bufio.NewReaderSize(in.src, 64<<10)), nil)
	case compression.Xz:
		if xzWindow(head) > maxWindow {
			return nil, &WindowError{Format: "xz"}
		}
		tail := &xzTail{r: in.src}
		z, err := xz.NewReader(bufio.NewReaderSize(tail, 64<<10))
		tail.z = z
		return wrap("xz", tail.decoded(), err)
	case compression.Zstd:
		// The extractor reads ahead in a goroutine of its own. More of them in
		// here take 3 MiB and no less time.
		z, err := zstd.NewReader(in.src, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderConcurrency(1))
		if err != nil {
			return wrap("zstd", nil, err)
		}
		c := &closingReader{r: z}
		ahead := in.Close
		in.Close = func() { c.close(); ahead() }
		return wrap("zstd", c, nil)
	}
	return nil, fmt.Errorf("decode the stream: there is no decoder for format %d", format)
}

// closingReader closes a decoder only while nobody reads from it: after an
// error the extractor leaves a Read that is under way to itself, and that may
// wait for a pipe. The decoder is left to itself then too.
type closingReader struct {
	mu     sync.Mutex
	r      *zstd.Decoder
	closed bool
}

func (c *closingReader) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, zstd.ErrDecoderClosed
	}
	return c.r.Read(p)
}

func (c *closingReader) close() {
	if c.mu.TryLock() {
		defer c.mu.Unlock()
		c.closed = true
		c.r.Close()
	}
}

type decodeReader struct {
	r      io.Reader
	format string
	failed func() error
}

func (d *decodeReader) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if err != nil && err != io.EOF {
		err = d.error(err)
	}
	return n, err
}

func (d *decodeReader) error(err error) error {
	// A disk's error is not to be taken for a broken stream.
	if failed := d.failed(); failed != nil {
		return failed
	}
	switch {
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		return &WindowError{Format: d.format}
	case err == io.EOF: // of a stream that ends in its first header
		err = io.ErrUnexpectedEOF
	}
	return &Error{Format: d.format, Err: err}
}
