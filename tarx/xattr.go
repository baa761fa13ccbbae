package tarx

import (
	"cmp"
	"encoding/binary"
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
	kind map[LossKind]*Loss
}

func (l *losses) add(k LossKind, name string, index int64, detail string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kind == nil {
		l.kind = make(map[LossKind]*Loss)
	}
	e := l.kind[k]
	if e == nil {
		e = &Loss{Kind: k, firstIndex: index, First: name, Detail: detail}
		l.kind[k] = e
	}
	e.Count++
	// Workers finish in any order; the report is the same each time.
	if index < e.firstIndex {
		e.firstIndex, e.First, e.Detail = index, name, detail
	}
}

func (l *losses) list() []Loss {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Loss
	for _, e := range l.kind {
		out = append(out, *e)
	}
	slices.SortFunc(out, func(a, b Loss) int { return cmp.Compare(a.Kind, b.Kind) })
	return out
}
