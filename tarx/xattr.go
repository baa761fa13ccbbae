package tarx

import (
	"encoding/binary"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	XattrCapability = "security.capability"
	XattrRootless   = "user.rootlesscontainers"
	XattrACLAccess  = "system.posix_acl_access"
	XattrACLDefault = "system.posix_acl_default"
)

// XattrRefused says that a filesystem or the kernel does not take an attribute, in one of the many
// ways there are to say so. ENOSPC and EDQUOT are not among them: see [XattrTooLarge].
func XattrRefused(err error) bool {
	switch err {
	case unix.ENOTSUP, unix.EPERM, unix.EACCES, unix.EINVAL, unix.E2BIG, unix.ERANGE, unix.ENOSYS:
		return true
	}
	return false
}

// XattrTooLarge says whether ENOSPC, the answer to an attribute for what fd is open on or lies in, is
// about the attribute: ext4 gives it for attributes that do not fit into a block, and for a full
// disk. It is not full where there is room for the largest attribute there can be, and for an inode.
func XattrTooLarge(fd int, err error) bool {
	const largest = 64 << 10 // XATTR_SIZE_MAX
	var st unix.Statfs_t
	if err != unix.ENOSPC || unix.Fstatfs(fd, &st) != nil {
		return false
	}
	return st.Bavail >= uint64(largest/st.Bsize+1) && (st.Files == 0 || st.Ffree > 0)
}

// XattrClass says what becomes of an attribute.
type XattrClass int

const (
	XattrKeep XattrClass = iota
	XattrCap
	XattrSkip
	XattrACL
)

// ClassifyXattr is the same where shifted says that the ids in the stream are not
// those that are written.
func ClassifyXattr(name string, owner OwnerPolicy, shifted bool) (XattrClass, LossKind) {
	switch {
	case name == XattrCapability:
		return XattrCap, LossCapability
	case name == XattrRootless && owner == OwnerRootless:
		return XattrSkip, LossRootlessXattr
	case name == XattrACLAccess || name == XattrACLDefault:
		// The ids inside mean what they say only where the container's ids
		// are those on disk.
		if shifted || owner == OwnerRootless {
			return XattrSkip, LossACL
		}
		return XattrACL, LossACL
	case strings.HasPrefix(name, "security."):
		return XattrSkip, LossSecurity
	case strings.HasPrefix(name, "user."), strings.HasPrefix(name, "trusted."):
		return XattrKeep, LossXattr
	}
	return XattrSkip, LossXattr
}

const (
	VfsCapRevision2 = 0x02000000
	VfsCapRevision3 = 0x03000000
	VfsCapMask      = 0xff000000
	VfsCapLen2      = 20
	VfsCapLen3      = 24
)

// ConvertCapability makes a version 2 capability, or with a root id a version
// 3 one, of any value that starts like a capability (struct vfs_ns_cap_data in
// linux/capability.h). The root id of a version 3 value means something only on
// the host it was read on, so it is left out, as docker does.
func ConvertCapability(v []byte, rootID uint32) (out [VfsCapLen3]byte, n int, ok bool) {
	if len(v) < 4 || len(v) > VfsCapLen3 {
		return out, 0, false
	}
	n = copy(out[:], v)
	magic := binary.LittleEndian.Uint32(v)
	rev := magic & VfsCapMask
	switch {
	case rev == VfsCapRevision3 && len(v) == VfsCapLen3, rev == VfsCapRevision2 && len(v) == VfsCapLen2:
	default:
		return out, n, true // an old or unknown one, for the kernel to judge
	}
	if rootID == 0 {
		binary.LittleEndian.PutUint32(out[:], magic&^VfsCapMask|VfsCapRevision2)
		return out, VfsCapLen2, true
	}
	binary.LittleEndian.PutUint32(out[:], magic&^VfsCapMask|VfsCapRevision3)
	binary.LittleEndian.PutUint32(out[VfsCapLen2:], rootID)
	return out, VfsCapLen3, true
}

// RootlessValue encodes ids as the protobuf message Resource of
// rootless-containers/proto: two varints, fields 1 and 2, zeros left out.
func RootlessValue(uid, gid uint32) []byte {
	var b []byte
	if uid != 0 {
		b = binary.AppendUvarint(append(b, 1<<3), uint64(uid))
	}
	if gid != 0 {
		b = binary.AppendUvarint(append(b, 2<<3), uint64(gid))
	}
	return b
}

// RootlessNoop as an id in user.rootlesscontainers says that the id on disk is right.
const RootlessNoop = 1<<32 - 1

// ParseRootless reads the protobuf message in user.rootlesscontainers: field 1 is the uid, field 2 the gid, and what is
// absent is 0 (https://github.com/rootless-containers/proto).
func ParseRootless(b []byte) (uid, gid uint32, ok bool) {
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		if n <= 0 {
			return 0, 0, false
		}
		b = b[n:]
		v, n := binary.Uvarint(b)
		if n <= 0 || key&7 != 0 || v > RootlessNoop { // no other wire type than varint occurs
			return 0, 0, false
		}
		b = b[n:]
		switch key >> 3 {
		case 1:
			uid = uint32(v)
		case 2:
			gid = uint32(v)
		}
	}
	return uid, gid, true
}
