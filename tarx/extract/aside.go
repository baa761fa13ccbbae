package extract

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"ocibundle/tarx"
)

// A hard link names an earlier entry, and that may be one that is not to be in the
// tree: one that Options.Exclude leaves out, or a file of ".wh..wh.plnk", in which aufs
// kept what a layer's hard links have in common. Nothing in a stream says whether such
// a link will come. So these entries are made after all, in a directory outside the
// tree, and links to them are made from there. The directory is flat: a name in it is
// a hash of the entry's, so that nothing has to be remembered, and as no name has a
// slash, what was left out cannot lead anywhere.

// isAside says that what an entry calls path is not in the tree.
func (x *Extractor) isAside(path []byte) bool {
	return x.Options.Exclude.Match(path) || x.layer && bytes.HasPrefix(path, []byte(whiteoutLinks))
}

// asidePlace is where it is instead.
func (x *Extractor) asidePlace(path []byte) (dir *openDir, base []byte, err error) {
	if x.aside == nil {
		if x.Options.Aside == nil {
			return nil, nil, &tarx.NameError{Msg: fmt.Sprintf("%q is left out", tarx.Clip(path))}
		}
		f, err := x.Options.Aside()
		if err != nil {
			return nil, nil, err
		}
		defer f.Close()
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, nil, opError("duplicate a handle", err)
		}
		x.aside = &openDir{fd: fd, rec: -1}
	}
	h := sha256.New()
	if !x.Options.Exclude.Match(path) {
		fmt.Fprintf(h, "%d", x.layers) // every layer has links of its own
	}
	h.Write([]byte{0})
	h.Write(path)
	return x.aside, hex.AppendEncode(nil, h.Sum(nil)), nil
}

// putAside makes what a later hard link may name, and nothing of the tree.
func (x *Extractor) putAside(h *tarx.Header) error {
	uid, gid, err := x.Owner.Disk(h.UID, h.GID)
	switch {
	case err != nil, x.Options.Aside == nil, h.Type == tarx.TypeDir, h.Type == tarx.TypeChar, h.Type == tarx.TypeBlock:
		return x.Parser.SkipBody() // no link can be made to these
	}
	dir, base, err := x.asidePlace(x.Full)
	if err != nil {
		return x.blame(h, err)
	}
	x.base.set(base)
	x.claim(dir, base)
	switch h.Type {
	case tarx.TypeReg:
		return x.file(h, dir, uid, gid)
	case tarx.TypeSymlink:
		return x.symlink(h, dir, uid, gid)
	case tarx.TypeFIFO:
		return x.node(h, dir, unix.S_IFIFO, 0, uid, gid)
	}
	err = x.hardlink(h, dir)
	if errors.Is(err, tarx.ErrMalformed) {
		return nil // a link to nothing, which is left out
	}
	return err
}
