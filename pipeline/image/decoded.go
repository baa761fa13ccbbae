package image

import (
	"errors"
	"hash"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"ocibundle/tarx/handle"
)

// decodedLayer keeps what a compressed layer decodes to, in a file, from the first
// reading for the second: to decode it again takes several times as long. It is a hash
// that writes down what it gets, as the goroutine that hashes has time for it. Where
// the disk has no room, nothing is kept.
type decodedLayer struct {
	hash.Hash
	temp func() (*os.File, error)
	f    *os.File
	size int64
	err  error
}

func (d *decodedLayer) Write(p []byte) (int, error) {
	if d.err == nil {
		d.err = d.keep(p)
	}
	return d.Hash.Write(p)
}

func (d *decodedLayer) keep(p []byte) (err error) {
	if d.f == nil {
		if d.f, err = d.temp(); err != nil {
			return err
		}
	}
	n, err := d.f.Write(p)
	d.size += int64(n)
	if err != nil {
		d.f.Truncate(0) // gives the room back: best effort
	}
	return err
}

// noRoom says that an error is of a disk, a quota or a limit that has been reached.
func noRoom(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG)
}

// whole says that what was decoded is there to be read.
func (d *decodedLayer) whole() bool { return d != nil && d.f != nil && d.err == nil }

func (d *decodedLayer) reader() io.Reader { return io.NewSectionReader(d.f, 0, d.size) }

// failed is why it could not be kept, unless it is for want of room.
func (d *decodedLayer) failed() error {
	if d == nil || d.err == nil || noRoom(d.err) {
		return nil
	}
	return &spoolError{handle.Cause(d.err)}
}

func (d *decodedLayer) Close() {
	if d.f != nil {
		d.f.Close()
	}
}
