package extract

import (
	"bytes"
	"context"
	"errors"
	"hash"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"ocibundle/tarx"
	"ocibundle/tarx/remove"
)

// A layer of an image takes things away from those below it with whiteouts
// (image-spec, layer.md, "Whiteouts"): an entry DIR/.wh.NAME hides DIR/NAME, and
// DIR/.wh..wh..opq hides all that is in DIR. What hides is its name, whatever
// its type. A whiteout hides what lower layers made, never what its own layer
// makes, and it may stand before or behind that.
//
// So a layer is read twice. The first reading, [Extractor.Whiteouts], looks at
// names only and takes things away at once: the tree holds lower layers then
// and nothing else, so whatever is found may go. The second one,
// [Extractor.Layer], makes the other entries. The way to do with one reading is
// to remember every name of the layer, and then memory grows with it; docker
// does that. The lowest layer, mostly the largest, has nothing to take away and
// needs the second reading only, and the first has another use: the caller can
// verify digests with it, before anything of the layer is made.
//
// Symlinks on the way to what a whiteout hides are followed, as Docker does it, below
// the root. But a directory that hides all it had is never one that a symlink leads
// to: engines write such a directory in the place of a lower layer's symlink, and what
// that leads to would be emptied. Nor does the first reading follow a symlink that a
// directory of this layer replaces, from that directory's entry on.

const (
	whiteoutPrefix = ".wh."
	// whiteoutMeta starts the names that aufs kept for itself.
	whiteoutMeta   = ".wh..wh."
	whiteoutOpaque = ".wh..wh..opq"
	// whiteoutLinks is where aufs kept the files of hard links.
	whiteoutLinks = ".wh..wh.plnk/"
)

type whiteoutKind int

const (
	whiteoutNone  whiteoutKind = iota
	whiteoutOne                // hides one name
	whiteoutAll                // hides all of a directory
	whiteoutOther              // metadata of aufs
)

// whiteout is what a name in a layer says.
type whiteout struct {
	kind whiteoutKind
	dir  []byte // normalized
	name []byte // hidden
}

// parseWhiteout looks at a normalized name.
func parseWhiteout(full []byte) (whiteout, error) {
	var w whiteout
	if !bytes.Contains(full, []byte(whiteoutPrefix)) {
		return w, nil
	}
	up := false
	for at, rest := 0, full; ; {
		part, after, more := bytes.Cut(rest, []byte{'/'})
		switch {
		case string(part) == "..":
			up = true
		case !bytes.HasPrefix(part, []byte(whiteoutPrefix)):
		case !more && string(part) == whiteoutOpaque:
			w.kind = whiteoutAll
		case bytes.HasPrefix(part, []byte(whiteoutMeta)):
			w.kind = whiteoutOther
			return w, nil
		case more:
			return w, errors.New("a whiteout has something below it")
		default:
			w.kind, w.name = whiteoutOne, part[len(whiteoutPrefix):]
			if len(w.name) == 0 || string(w.name) == "." || string(w.name) == ".." {
				return w, errors.New("a whiteout hides no name that a directory could hold")
			}
		}
		if !more {
			w.dir = full[:max(0, at-1)]
			break
		}
		at += len(part) + 1
		rest = after
	}
	if w.kind != whiteoutNone && up {
		return w, errors.New("a whiteout's name goes up")
	}
	return w, nil
}

// Whiteouts reads a layer and takes away from the tree what it hides of lower
// layers. Nothing else is made or changed. [Extractor.Layer] has to follow with
// the same bytes.
func (x *Extractor) Whiteouts(ctx context.Context, r io.Reader) error {
	p := &tarx.Parser{Layer: true}
	var full []byte
	return tarx.Scan(ctx, r, p, func(h *tarx.Header) error {
		if n := x.Report.Entries + p.Index; x.Options.MaxEntries > 0 && n > x.Options.MaxEntries {
			return &tarx.LimitError{What: "entries", Limit: x.Options.MaxEntries}
		}
		entry := func(kind, err error) error {
			return &tarx.EntryError{Name: string(h.Name), Index: p.Index, Kind: kind, Err: err}
		}
		var escapes bool
		var err error
		if full, escapes, err = tarx.Normalize(full[:0], h.Name); err != nil {
			return entry(tarx.ErrMalformed, err)
		}
		if escapes {
			return entry(tarx.ErrRefused, tarx.ErrEscapes)
		}
		w, err := parseWhiteout(full)
		switch {
		case err != nil:
			return entry(tarx.ErrMalformed, err)
		case w.kind == whiteoutOne || w.kind == whiteoutAll:
			err = x.hide(w)
		case w.kind == whiteoutNone && h.Type == tarx.TypeDir:
			err = x.clearSymlink(full)
		}
		if err != nil {
			return entry(nil, err)
		}
		return nil
	})
}

// hide takes away what a whiteout hides. That there is nothing is fine.
func (x *Extractor) hide(w whiteout) error {
	parent, base := w.dir, []byte(nil)
	if w.kind == whiteoutAll {
		parent, base = tarx.SplitPath(w.dir)
	}
	fd, err := x.dirs.resolve(parent)
	if err == nil && len(base) > 0 {
		x.base.set(base)
		up := fd
		fd, err = sysOpenat(up, x.base, dirFlags|unix.O_NOFOLLOW, 0)
		unix.Close(up)
	}
	switch err {
	case nil:
	case unix.ENOENT, unix.ENAMETOOLONG, unix.ENOTDIR, unix.ELOOP:
		return nil
	default:
		return opError("open the directory of the whiteout", err)
	}
	defer unix.Close(fd)
	// What is gone may be part of any path.
	x.dirs.forget()
	if err := x.reap(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return opError("stat the directory of the whiteout", err)
	}
	if rec, ok := x.table.find(st.Ino); ok {
		x.table.at(rec).flags &^= dirDone
	}
	if w.kind == whiteoutAll {
		err = remove.Children(fd)
	} else {
		err = remove.All(fd, string(w.name))
	}
	if err != nil && !errors.Is(err, unix.ENAMETOOLONG) {
		return opError("remove what the whiteout hides", err)
	}
	return nil
}

// clearSymlink takes away a lower layer's symlink where this layer has a directory.
func (x *Extractor) clearSymlink(path []byte) error {
	parent, base := tarx.SplitPath(path)
	if tarx.Dots(base) || len(base) > unix.NAME_MAX {
		return nil
	}
	fd, err := x.dirs.resolve(parent)
	if err != nil {
		return nil // there is no such directory
	}
	defer unix.Close(fd)
	x.base.set(base)
	dir := openDir{fd: fd}
	typ, err := x.typeOf(&dir)
	if err != nil || typ != unix.S_IFLNK {
		return err
	}
	x.fresh = false
	return x.remove(&dir, typ)
}

// Layer reads a layer and makes its entries, but for whiteouts, on top of the
// tree. A directory that the layer does not name keeps its metadata. A layer
// may be without entries and without an end-of-archive marker: that it is
// complete is for the caller to know, by its digest: h, if it is not nil, gets
// all that is read.
func (x *Extractor) Layer(ctx context.Context, r io.Reader, h hash.Hash) error {
	x.Options.Hash = h
	x.upper = x.layers > 0
	x.layers++
	x.layer = true
	defer func() {
		x.layer, x.upper = false, false
		x.own.Free()
	}()
	return x.Extract(ctx, r)
}

// passWhiteout passes over an entry that is a whiteout or metadata of aufs.
func (x *Extractor) passWhiteout(h *tarx.Header) (passed bool, err error) {
	w, err := parseWhiteout(x.Full)
	if err != nil {
		return false, x.Malformed(h, err)
	}
	switch w.kind {
	case whiteoutNone:
		return false, nil
	case whiteoutOther:
		x.Lose(h, tarx.LossAufs, "")
		if x.isAside(x.Full) {
			return true, x.putAside(h)
		}
	default:
		x.Report.Whiteouts++
	}
	return true, x.Parser.SkipBody()
}

// clearXattrs removes what an entry of a lower layer gave a directory: the
// attributes of a directory are those of the topmost layer that names it.
func (x *Extractor) clearXattrs(fd int) error {
	if x.Options.NoXattrs {
		return nil
	}
	buf := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := unix.Flistxattr(fd, buf)
	if err != nil {
		if tarx.XattrRefused(err) {
			return nil
		}
		return opError("list the attributes", err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(buf[:n]), "\x00"), "\x00") {
		if class, _ := x.ClassifyXattr(name); name == "" || class != tarx.XattrKeep {
			continue
		}
		if err := unix.Fremovexattr(fd, name); err != nil && err != unix.ENODATA && !tarx.XattrRefused(err) {
			return opError("remove the attribute "+name, err)
		}
	}
	return nil
}
