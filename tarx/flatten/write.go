package flatten

import (
	"context"
	"fmt"
	"io"

	"ocibundle/tarx"
)

// Begin writes the directories that no entry has named, which Extract gives the newest time in
// all layers.
func (f *Flattener) Begin(w io.Writer) error {
	for i, d := range f.dirs {
		if d.gone || d.named {
			continue
		}
		o := tarx.OutHeader{Type: tarx.TypeDir, Name: "./" + f.path(int32(i), ""), Mode: tarx.ImpliedMode, Sec: f.newestSec, Nsec: f.newestNsec}
		if err := f.header(w, &o, nil); err != nil {
			return err
		}
	}
	return nil
}

// Write reads a layer again and writes those of its entries that are there at the end.
func (f *Flattener) Write(ctx context.Context, r io.Reader, w io.Writer) error {
	return f.scan(ctx, r, func(p *tarx.Parser, h *tarx.Header, full []byte) error {
		n := f.written
		if f.written++; int(n) >= len(f.places) {
			return errChanged
		}
		_, base := tarx.SplitPath(full)
		o := tarx.OutHeader{
			Type: h.Type, Mode: h.Mode, UID: h.UID, GID: h.GID, Size: h.Size, Sec: h.Sec, Nsec: h.Nsec,
			Major: h.Major, Minor: h.Minor, Xattrs: h.Xattrs, Sparse: h.Sparse,
		}
		var err error
		if o.Name, err = f.nameOf(n, h, base); err != nil || o.Name == "" {
			return err
		}
		switch h.Type {
		case tarx.TypeSymlink:
			o.Link = string(h.Link)
		case tarx.TypeLink:
			file := f.links[f.nextLink-1].inode
			o.Link = f.fileName(file, f.inodes[file])
		}
		return f.header(w, &o, func(size int64) error { return f.body(p, h, w, size) })
	})
}

// nameOf is the name by which an entry is written; empty if it is not.
func (f *Flattener) nameOf(n uint32, h *tarx.Header, base []byte) (string, error) {
	dir := f.places[n]
	if h.Type == tarx.TypeLink && f.nextLink < len(f.links) && f.links[f.nextLink].entry == n {
		l := &f.links[f.nextLink]
		f.nextLink++
		if !f.isThere(n) || f.inodes[l.inode].name == l {
			return "", nil
		}
		return f.path(dir, l.base), nil
	}
	switch {
	case dir == noPlace:
		return "", nil
	case int(dir) >= len(f.dirs) || h.Type == tarx.TypeLink:
		return "", errChanged
	case h.Type == tarx.TypeDir:
		if d := f.dirs[dir]; d.gone || d.entry != n {
			return "", nil
		}
		return "./" + f.path(dir, ""), nil
	}
	if i := f.inodes[n]; i != nil && !i.lost {
		return f.fileName(n, i), nil
	}
	if !f.isThere(n) {
		return "", nil
	}
	return f.path(dir, string(base)), nil
}

// header writes an entry; body, if not nil, what follows its header.
func (f *Flattener) header(w io.Writer, o *tarx.OutHeader, body func(size int64) error) error {
	b, stored, err := tarx.AppendHeader(f.buf[:0], o)
	if err != nil {
		return fmt.Errorf("%w: %w", tarx.ErrMalformed, err)
	}
	f.buf = b
	if _, err := w.Write(b); err != nil {
		return err
	}
	if body == nil || stored == 0 {
		return nil
	}
	return body(stored)
}

// body copies the contents of the current entry.
func (f *Flattener) body(p *tarx.Parser, h *tarx.Header, w io.Writer, size int64) error {
	if size != h.Stored {
		return errChanged
	}
	for left := size; left > 0; {
		b, err := p.Src.Piece(left)
		if err == io.EOF {
			err = tarx.ErrTruncated
		}
		if err != nil {
			return err
		}
		left -= int64(len(b))
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	h.Stored = 0 // the padding alone is left
	_, err := w.Write(tarx.ZeroBlock[:tarx.Padding(size)])
	return err
}

// End writes the end-of-archive marker.
func (f *Flattener) End(w io.Writer) error {
	if int(f.written) != len(f.places) {
		return errChanged
	}
	_, err := w.Write(make([]byte, 2*tarx.BlockSize))
	return err
}
