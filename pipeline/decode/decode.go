// Package decode brings a stream in: counted, digested, decompressed and limited.
//
// A stream is hostile. No program is run to decode it, and a decoder is given a
// bounded amount of memory.
package decode

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/moby/go-archive/compression"

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
	if isTar(head) {
		return compression.None
	}
	return compression.Detect(head)
}

// isTar recognizes all but the oldest tars.
func isTar(head []byte) bool { return len(head) == headBytes && string(head[257:262]) == "ustar" }

// decode undoes the compression of in.src. No program is run for it, whatever is in PATH. failed gives the error that reading ended with.
func (in *Stream) decode(format compression.Compression, failed func() error) (io.Reader, error) {
	d := &decodeReader{in: in, failed: failed}
	in.head = nil
	var err error
	switch format {
	case compression.Gzip:
		d.format = "gzip"
		d.r, err = newGzipReader(bufio.NewReaderSize(in.src, 64<<10))
	case compression.Bzip2:
		d.format, d.r = "bzip2", newBzip2Reader(in.src)
	case compression.Xz:
		d.format = "xz"
		d.r, err = newXzReader(bufio.NewReaderSize(in.src, 64<<10))
	case compression.Zstd:
		d.format = "zstd"
		z := &zstdReader{in: bufio.NewReaderSize(in.src, 64<<10)}
		ahead := in.Close
		in.Close = func() { z.close(); ahead() }
		d.r = z
	default:
		return nil, fmt.Errorf("decode the stream: there is no decoder for format %d", format)
	}
	if err != nil {
		return nil, d.error(err)
	}
	return d, nil
}

type decodeReader struct {
	in     *Stream // whose head is what is decoded
	r      io.Reader
	format string
	failed func() error
}

func (d *decodeReader) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if left := headBytes - len(d.in.head); left > 0 {
		d.in.head = append(d.in.head, p[:min(n, left)]...)
	}
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
	if _, ok := errors.AsType[*WindowError](err); ok {
		return err
	}
	return &Error{Format: d.format, Err: noEOF(err)}
}
