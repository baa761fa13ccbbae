package rewrite

import (
	"fmt"

	"golang.org/x/sys/unix"

	"ocibundle/tarx"
)

// outBuffer is how many bytes are written at once.
const outBuffer = 256 << 10

// WriteFile writes a regular file beside what the prefix is for.
func (r *Rewriter) WriteFile(name string, mode, uid, gid uint32, mtime int64, data []byte) error {
	if err := r.header(&tarx.OutHeader{Type: tarx.TypeReg, Name: name, Mode: mode, UID: uid, GID: gid, Size: int64(len(data)), Sec: mtime}); err != nil {
		return err
	}
	if err := r.write(data); err != nil {
		return err
	}
	return r.write(tarx.ZeroBlock[:tarx.Padding(int64(len(data)))])
}

// Close writes the end-of-archive marker and reports.
func (r *Rewriter) Close() (*tarx.Report, error) {
	r.owed = 2 * tarx.BlockSize
	for range 2 {
		if err := r.write(tarx.ZeroBlock[:]); err != nil {
			return nil, err
		}
	}
	if err := r.flush(); err != nil {
		return nil, err
	}
	r.Free()
	r.Report.Losses = r.Losses.List()
	return &r.Report, nil
}

// Abort ends the stream so that its reader notices. That the end-of-archive marker is missing is
// not enough: GNU tar and others take the end of the input for the end of the archive. Inside a
// body all notice; between two entries an extension header comes that announces a body, and none
// follows.
func (r *Rewriter) Abort() error {
	if r.werr == nil && r.owed == 0 {
		r.owed = tarx.BlockSize
		if err := r.write(tarx.UstarBlock("PaxHeaders.0/incomplete", tarx.UstarFields{Mode: 0o644, Size: tarx.BlockSize, Kind: tarx.TypePax})); err != nil {
			return err
		}
	}
	return r.flush()
}

// put writes the header of an entry, or makes what it says an error of it.
func (r *Rewriter) put(h *tarx.Header, o *tarx.OutHeader) error {
	if err := r.header(o); err != nil {
		return r.blame(h, err)
	}
	return nil
}

// header writes a header. The body that it announces has to follow.
func (r *Rewriter) header(o *tarx.OutHeader) error {
	if len(o.Name) >= unix.PathMax || o.Type == tarx.TypeLink && len(o.Link) >= unix.PathMax {
		return ErrLongPath
	}
	b, stored, err := tarx.AppendHeader(r.buf[:0], o)
	if err != nil {
		return err
	}
	r.buf = b
	r.owed = int64(len(b))
	if err := r.write(b); err != nil {
		return err
	}
	r.owed = stored + tarx.Padding(stored)
	return nil
}

func (r *Rewriter) write(b []byte) error {
	if r.werr == nil {
		_, r.werr = r.out.Write(b)
		r.owed -= int64(len(b))
	}
	return r.writeError()
}

func (r *Rewriter) flush() error {
	if r.werr == nil {
		r.werr = r.out.Flush()
	}
	return r.writeError()
}

func (r *Rewriter) writeError() error {
	if r.werr != nil {
		return fmt.Errorf("write archive: %w", r.werr)
	}
	return nil
}
