package extract

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"ocibundle/tarx"
)

// xattrs sets the attributes of a file or directory that is open as fd.
// Capabilities are put into m for later, since writing takes them away; for a
// directory, rec is its record.
func (x *Extractor) xattrs(h *tarx.Header, fd int, m *fileMeta, rec int) error {
	for _, a := range h.Xattrs {
		name := string(a.Name)
		class, loss := x.ClassifyXattr(name)
		switch class {
		case tarx.XattrSkip:
			x.Lose(h, loss, name)
			continue
		case tarx.XattrCap:
			if m == nil {
				x.Lose(h, loss, "not a file")
				continue
			}
			v, n, ok := tarx.ConvertCapability(a.Value, x.Options.CapRootID)
			if !ok {
				x.Lose(h, loss, fmt.Sprintf("a value of %d bytes", len(a.Value)))
				continue
			}
			m.cap, m.capLen = v, uint8(n)
			continue
		case tarx.XattrACL:
			if m == nil {
				if !x.table.deferACL(rec, name, a.Value) {
					return x.Refused(h, errors.New("directories have access control lists of more than 16 MiB"))
				}
				continue
			}
		}
		if err := unix.Fsetxattr(fd, name, a.Value, 0); err != nil {
			if !refused(fd, err) {
				return x.blame(h, opError("set the attribute "+name, err))
			}
			x.Lose(h, loss, name+": "+err.Error())
		}
	}
	return nil
}

// refused says that an attribute for what fd is open on is a loss, and not an I/O error.
func refused(fd int, err error) bool {
	return tarx.XattrRefused(err) || tarx.XattrTooLarge(fd, err)
}

// keepOwner notes the real ids where every file is the caller's.
func (x *Extractor) keepOwner(h *tarx.Header, fd int) error {
	if !x.NotesOwner(h) {
		return nil
	}
	if err := unix.Fsetxattr(fd, tarx.XattrRootless, tarx.RootlessValue(h.UID, h.GID), 0); err != nil {
		if !refused(fd, err) {
			return x.blame(h, opError("set the attribute "+tarx.XattrRootless, err))
		}
		x.Lose(h, tarx.LossOwner, fmt.Sprintf("%d:%d: %v", h.UID, h.GID, err))
	}
	return nil
}
