package decode

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
)

// Zeros behind a compressed stream are padding, as on tapes and block devices. GNU tar and
// gzip read over them. Other data is an error.

var errBehind = errors.New("data other than zeros follows the compressed stream")

// onlyZeros reads r to its end. It gives io.EOF if there is nothing but zeros.
func onlyZeros(r io.Reader) error {
	b := make([]byte, 4096)
	for {
		n, err := r.Read(b)
		if len(bytes.TrimLeft(b[:n], "\x00")) > 0 {
			return errBehind
		}
		if err != nil {
			return err
		}
	}
}

// gzipReader reads gzip members, one behind the other (RFC 1952, section 2.2).
type gzipReader struct {
	in *bufio.Reader
	z  *gzip.Reader
}

func newGzipReader(in *bufio.Reader) (*gzipReader, error) {
	z, err := gzip.NewReader(in)
	if err != nil {
		return nil, err
	}
	z.Multistream(false)
	return &gzipReader{in, z}, nil
}

func (g *gzipReader) Read(p []byte) (int, error) {
	for {
		n, err := g.z.Read(p)
		if err != io.EOF {
			return n, err
		}
		if n > 0 {
			return n, nil // the end comes again
		}
		b, err := g.in.Peek(1)
		if err != nil {
			return 0, err
		}
		if b[0] != 0x1f {
			return 0, onlyZeros(g.in)
		}
		if err := g.z.Reset(g.in); err != nil {
			return 0, noEOF(err)
		}
		g.z.Multistream(false)
	}
}

// noEOF is for where more has to come.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// bzip2Reader reads bzip2 streams, one behind the other. The decoder looks for another one
// behind each, and nothing stops it or tells how far it has read. So the input has two zeros
// behind it: every whole one ends in the decoder's complaint that they are no stream.
type bzip2Reader struct {
	io.Reader
	in *tail
}

const bzip2Magic = len("BZ")

func newBzip2Reader(r io.Reader) *bzip2Reader {
	in := &tail{Reader: bufio.NewReaderSize(io.MultiReader(r, bytes.NewReader(make([]byte, bzip2Magic))), 64<<10)}
	return &bzip2Reader{bzip2.NewReader(in), in}
}

func (z *bzip2Reader) Read(b []byte) (int, error) {
	n, err := z.Reader.Read(b)
	switch err {
	case io.EOF: // it took the zeros for a part of the stream
		err = io.ErrUnexpectedEOF
	case bzip2.StructuralError("bad magic value in continuation file"):
		err = errBehind
		if z.in.zeros >= bzip2Magic {
			err = onlyZeros(z.in)
		}
	}
	return n, err
}

// tail counts the zeros that were last read.
type tail struct {
	*bufio.Reader
	zeros int
}

func (t *tail) ReadByte() (byte, error) {
	b, err := t.Reader.ReadByte()
	if t.zeros++; b != 0 || err != nil {
		t.zeros = 0
	}
	return b, err
}
