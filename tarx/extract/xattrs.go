package extract

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"ocibundle/tarx"
)

// classify says what becomes of the attribute called name and, where it is
// left out, which loss that is.
func (x *Extractor) classify(name string) (tarx.XattrClass, tarx.LossKind) {
	return tarx.ClassifyXattr(name, x.opts.Owner, x.shifted)
}

// xattrs sets the attributes of a file or directory that is open as fd.
// Capabilities are put into m for later, since writing takes them away; for a
// directory, rec is its record.
func (x *Extractor) xattrs(h *tarx.Header, fd int, m *fileMeta, rec int) error {
	if x.opts.NoXattrs {
		return nil
	}
	for _, a := range h.Xattrs {
		name := string(a.Name)
		class, loss := x.classify(name)
		switch class {
		case tarx.XattrSkip:
			x.losses.Add(loss, string(h.Name), x.p.Index, name)
			continue
		case tarx.XattrCap:
			if m == nil {
				x.losses.Add(loss, string(h.Name), x.p.Index, "not a file")
				continue
			}
			v, n, ok := tarx.ConvertCapability(a.Value, x.opts.CapRootID)
			if !ok {
				x.losses.Add(loss, string(h.Name), x.p.Index, fmt.Sprintf("a value of %d bytes", len(a.Value)))
				continue
			}
			m.cap, m.capLen = v, uint8(n)
			continue
		case tarx.XattrACL:
			if m == nil {
				r := x.table.at(rec)
				r.flags |= dirACL
				if x.table.aclBytes += len(a.Value); x.table.aclBytes > maxACLBytes {
					return x.refused(h, errors.New("directories have access control lists of more than 4 MiB"))
				}
				x.table.acls[rec] = append(x.table.acls[rec],
					deferredXattr{name, bytes.Clone(a.Value), x.p.Index, string(h.Name)})
				continue
			}
		}
		if err := unix.Fsetxattr(fd, name, a.Value, 0); err != nil {
			if !tarx.XattrRefused(err) {
				return x.blame(h, opError("set the attribute "+name, err))
			}
			x.losses.Add(loss, string(h.Name), x.p.Index, name+": "+err.Error())
		}
	}
	return nil
}

// notesOwner says that the ids of an entry are noted in an attribute: every
// file is the caller's, and the entry's is somebody else.
func (x *Extractor) notesOwner(h *tarx.Header) bool {
	return x.opts.Owner == tarx.OwnerRootless && (h.UID != 0 || h.GID != 0)
}

// keepOwner notes the real ids where every file is the caller's.
func (x *Extractor) keepOwner(h *tarx.Header, fd int) error {
	if !x.notesOwner(h) {
		return nil
	}
	if err := unix.Fsetxattr(fd, tarx.XattrRootless, tarx.RootlessValue(h.UID, h.GID), 0); err != nil {
		if !tarx.XattrRefused(err) {
			return x.blame(h, opError("set the attribute "+tarx.XattrRootless, err))
		}
		x.losses.Add(tarx.LossOwner, string(h.Name), x.p.Index, fmt.Sprintf("%d:%d: %v", h.UID, h.GID, err))
	}
	return nil
}
