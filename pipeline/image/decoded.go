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
// that would be more than what the disk has left for the tree, nothing is kept.
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
	if err == nil && d.size/freedAtOnce > (d.size-int64(n))/freedAtOnce { // not at every write
		var st unix.Statfs_t
		if unix.Fstatfs(int(d.f.Fd()), &st) == nil && int64(st.Bavail)*st.Bsize < d.size {
			err = unix.ENOSPC
		}
	}
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

func (d *decodedLayer) reader() *io.SectionReader { return io.NewSectionReader(d.f, 0, d.size) }

// lastReader gives the disk the space back as it reads: what it reads is on its way to the tree.
func (d *decodedLayer) lastReader() io.Reader { return &freeingReader{r: d.reader(), f: d.f} }

type freeingReader struct {
	r         *io.SectionReader
	f         *os.File
	at, freed int64
}

const freedAtOnce = 4 << 20 // bytes

func (r *freeingReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.at += int64(n)
	if r.at-r.freed >= freedAtOnce {
		free(r.f, r.freed, r.at-r.freed)
		r.freed = r.at
	}
	return n, err
}

// free gives the disk the space of a part of a file back: best effort. Somebody who does not wait for
// a Read may close the file meanwhile.
func free(f *os.File, off, size int64) {
	if conn, err := f.SyscallConn(); err == nil {
		conn.Control(func(fd uintptr) {
			unix.Fallocate(int(fd), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, size)
		})
	}
}

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
