package tarx

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	xattrCapability = "security.capability"
	xattrRootless   = "user.rootlesscontainers"
	xattrACLAccess  = "system.posix_acl_access"
	xattrACLDefault = "system.posix_acl_default"
)

// xattrRefused says that a filesystem or the kernel does not take an
// attribute, in one of the many ways there are to say so. ENOSPC and EDQUOT are
// what ext4 says of a value too large for it; a full disk shows at the next
// write.
func xattrRefused(err error) bool {
	switch err {
	case unix.ENOTSUP, unix.EPERM, unix.EACCES, unix.EINVAL, unix.E2BIG, unix.ERANGE, unix.ENOSPC, unix.EDQUOT,
		unix.ENOSYS:
		return true
	}
	return false
}

// xattrClass says what becomes of an attribute.
type xattrClass int

const (
	xattrKeep xattrClass = iota
	xattrCap
	xattrSkip
	xattrACL
)

// classify says what becomes of the attribute called name and, where it is
// left out, which loss that is.
func (x *Extractor) classify(name string) (xattrClass, LossKind) {
	return classify(name, x.opts.Owner, x.shifted)
}

// classify is the same where shifted says that the ids in the stream are not
// those that are written.
func classify(name string, owner OwnerPolicy, shifted bool) (xattrClass, LossKind) {
	switch {
	case name == xattrCapability:
		return xattrCap, LossCapability
	case name == xattrRootless && owner == OwnerRootless:
		return xattrSkip, LossRootlessXattr
	case name == xattrACLAccess || name == xattrACLDefault:
		// The ids inside mean what they say only where the container's ids
		// are those on disk.
		if shifted || owner == OwnerRootless {
			return xattrSkip, LossACL
		}
		return xattrACL, LossACL
	case strings.HasPrefix(name, "security."):
		return xattrSkip, LossSecurity
	case strings.HasPrefix(name, "user."), strings.HasPrefix(name, "trusted."):
		return xattrKeep, LossXattr
	}
	return xattrSkip, LossXattr
}

const (
	vfsCapRevision2 = 0x02000000
	vfsCapRevision3 = 0x03000000
	vfsCapMask      = 0xff000000
	vfsCapLen2      = 20
	vfsCapLen3      = 24
)

// convertCapability makes a version 2 capability, or with a root id a version
// 3 one, of any value that starts like a capability (struct vfs_ns_cap_data in
// linux/capability.h). The root id of a version 3 value means something only on
// the host it was read on, so it is left out, as docker does.
func convertCapability(v []byte, rootID uint32) (out [vfsCapLen3]byte, n int, ok bool) {
	if len(v) < 4 || len(v) > vfsCapLen3 {
		return out, 0, false
	}
	n = copy(out[:], v)
	magic := binary.LittleEndian.Uint32(v)
	rev := magic & vfsCapMask
	switch {
	case rev == vfsCapRevision3 && len(v) == vfsCapLen3, rev == vfsCapRevision2 && len(v) == vfsCapLen2:
	default:
		return out, n, true // an old or unknown one, for the kernel to judge
	}
	if rootID == 0 {
		binary.LittleEndian.PutUint32(out[:], magic&^vfsCapMask|vfsCapRevision2)
		return out, vfsCapLen2, true
	}
	binary.LittleEndian.PutUint32(out[:], magic&^vfsCapMask|vfsCapRevision3)
	binary.LittleEndian.PutUint32(out[vfsCapLen2:], rootID)
	return out, vfsCapLen3, true
}

// rootlessValue encodes ids as the protobuf message Resource of
// rootless-containers/proto: two varints, fields 1 and 2, zeros left out.
func rootlessValue(uid, gid uint32) []byte {
	var b []byte
	if uid != 0 {
		b = binary.AppendUvarint(append(b, 1<<3), uint64(uid))
	}
	if gid != 0 {
		b = binary.AppendUvarint(append(b, 2<<3), uint64(gid))
	}
	return b
}

// losses collects from all goroutines.
type losses struct {
	mu   sync.Mutex
	kind map[LossKind]*firstLoss
}

// firstLoss is a Loss with the index of the entry that it names.
type firstLoss struct {
	Loss
	index int64
}

// add counts a loss at the entry with this index.
func (l *losses) add(k LossKind, name string, index int64, detail string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kind == nil {
		l.kind = make(map[LossKind]*firstLoss)
	}
	e := l.kind[k]
	if e == nil {
		e = &firstLoss{Loss{Kind: k, First: name, Detail: detail}, index}
		l.kind[k] = e
	}
	e.Count++
	// Workers finish in any order; the report is the same each time.
	if index < e.index {
		e.index, e.First, e.Detail = index, name, detail
	}
}

// list returns what was counted, in a fixed order.
func (l *losses) list() []Loss {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Loss
	for _, e := range l.kind {
		out = append(out, e.Loss)
	}
	slices.SortFunc(out, func(a, b Loss) int { return cmp.Compare(a.Kind, b.Kind) })
	return out
}

// xattrs sets the attributes of a file or directory that is open as fd.
// Capabilities are put into m for later, since writing takes them away; for a
// directory, rec is its record.
func (x *Extractor) xattrs(h *header, fd int, m *fileMeta, rec int) error {
	if x.opts.NoXattrs {
		return nil
	}
	for _, a := range h.xattrs {
		name := string(a.name)
		class, loss := x.classify(name)
		switch class {
		case xattrSkip:
			x.losses.add(loss, string(h.name), x.p.index, name)
			continue
		case xattrCap:
			if m == nil {
				x.losses.add(loss, string(h.name), x.p.index, "not a file")
				continue
			}
			v, n, ok := convertCapability(a.value, x.opts.CapRootID)
			if !ok {
				x.losses.add(loss, string(h.name), x.p.index, fmt.Sprintf("a value of %d bytes", len(a.value)))
				continue
			}
			m.cap, m.capLen = v, uint8(n)
			continue
		case xattrACL:
			if m == nil {
				r := x.table.at(rec)
				r.flags |= dirACL
				if x.table.aclBytes += len(a.value); x.table.aclBytes > maxACLBytes {
					return x.refused(h, errors.New("directories have access control lists of more than 4 MiB"))
				}
				x.table.acls[rec] = append(x.table.acls[rec],
					deferredXattr{name, bytes.Clone(a.value), x.p.index, string(h.name)})
				continue
			}
		}
		if err := unix.Fsetxattr(fd, name, a.value, 0); err != nil {
			if !xattrRefused(err) {
				return x.blame(h, opError("set the attribute "+name, err))
			}
			x.losses.add(loss, string(h.name), x.p.index, name+": "+err.Error())
		}
	}
	return nil
}

// notesOwner says that the ids of an entry are noted in an attribute: every
// file is the caller's, and the entry's is somebody else.
func (x *Extractor) notesOwner(h *header) bool {
	return x.opts.Owner == OwnerRootless && (h.uid != 0 || h.gid != 0)
}

// keepOwner notes the real ids where every file is the caller's.
func (x *Extractor) keepOwner(h *header, fd int) error {
	if !x.notesOwner(h) {
		return nil
	}
	if err := unix.Fsetxattr(fd, xattrRootless, rootlessValue(h.uid, h.gid), 0); err != nil {
		if !xattrRefused(err) {
			return x.blame(h, opError("set the attribute "+xattrRootless, err))
		}
		x.losses.add(LossOwner, string(h.name), x.p.index, fmt.Sprintf("%d:%d: %v", h.uid, h.gid, err))
	}
	return nil
}
