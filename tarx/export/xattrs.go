package export

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"ocibundle/tarx"
)

const (
	// xattrMax is the kernel's limit for a value and for a list (xattr(7)).
	xattrMax = 64 << 10
	// xattrsMax is how much the attributes of one file may have: a header has no more room.
	xattrsMax = 1 << 20
)

// target is where an entry's extended attributes are found: by a handle, or by the path of one that
// was opened with O_PATH.
type target struct {
	fd   int // -1: there is none
	path string
	// again says that the file was written under another name.
	again bool
}

func (t target) list(buf []byte) (int, error) {
	if t.fd >= 0 {
		return unix.Flistxattr(t.fd, buf)
	}
	return unix.Listxattr(t.path, buf)
}

func (t target) get(name string, buf []byte) (int, error) {
	if t.fd >= 0 {
		return unix.Fgetxattr(t.fd, name, buf)
	}
	return unix.Getxattr(t.path, name, buf)
}

// xattrs adds the extended attributes to hdr. With OwnerRootless it sets the owner also. The second
// name of a file repeats only its capabilities: readers that change the owner through every name,
// as Docker does, thereby clear them, and set them again from there.
func (e *exporter) xattrs(hdr *tarx.OutHeader, t target) error {
	if e.xbuf == nil {
		e.xbuf = make([]byte, 2*xattrMax)
	}
	list, value := e.xbuf[:xattrMax], e.xbuf[xattrMax:]
	n, err := t.list(list)
	switch {
	case err == unix.ENOTSUP:
		return nil
	case err != nil:
		return exportError("list attributes of", hdr.Name, err)
	case n == 0:
		return nil
	}
	total := 0
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if loss, keep := e.keeps(name, t); !keep {
			if loss != "" {
				e.lose(loss, hdr.Name, name)
			}
			continue
		}
		n, err := t.get(name, value)
		switch {
		case err == unix.ENODATA: // removed since
			continue
		case err == unix.EOVERFLOW && name == tarx.XattrCapability:
			// Its root id has no number in this user namespace.
			e.lose(tarx.LossCapability, hdr.Name, name+" of a root id outside the mapping")
			continue
		case err != nil:
			return exportError("read attribute "+name+" of", hdr.Name, err)
		}
		v := value[:n]
		switch {
		case name == tarx.XattrCapability:
			if v = e.capability(hdr.Name, v); v == nil {
				continue
			}
		case name == tarx.XattrRootless && e.o.Owner == tarx.OwnerRootless:
			uid, gid, ok := tarx.ParseRootless(v)
			if !ok {
				e.lose(tarx.LossOwner, hdr.Name, "the attribute "+name+" cannot be understood")
				continue
			}
			hdr.UID, hdr.GID = rootlessID(uid, hdr.UID), rootlessID(gid, hdr.GID)
			continue
		}
		// A file may have thousands of large ones, and all of them have to go into a header.
		if total += len(name) + len(v); total > xattrsMax {
			return exportError("write", hdr.Name, refused(tarx.ErrHeaderSize))
		}
		hdr.Xattrs = append(hdr.Xattrs, tarx.Xattr{Name: []byte(name), Value: bytes.Clone(v)})
	}
	slices.SortFunc(hdr.Xattrs, func(a, b tarx.Xattr) int { return bytes.Compare(a.Name, b.Name) })
	return nil
}

// keeps says whether an attribute is exported, and if not, what that is a loss of.
func (e *exporter) keeps(name string, t target) (loss tarx.LossKind, keep bool) {
	switch {
	case name == tarx.XattrCapability, name == tarx.XattrRootless && e.o.Owner == tarx.OwnerRootless:
		return "", true
	case t.again:
		return "", false
	case strings.HasPrefix(name, "security."):
		return tarx.LossSecurity, false
	case name == tarx.XattrACLAccess, name == tarx.XattrACLDefault:
		return tarx.LossACL, !e.shifted // it has ids inside
	case strings.HasPrefix(name, "user."), strings.HasPrefix(name, "trusted."):
		return tarx.LossXattr, !strings.Contains(name, "=") // where a record's key ends (pax: extended header)
	}
	return tarx.LossXattr, false
}

// capability turns a version 3 attribute of the container's root into version 2, which is what it
// means inside (capabilities(7), "Namespaced file capabilities"; struct vfs_ns_cap_data of
// linux/capability.h). It returns nil for another root's, which gives the container no
// capabilities.
func (e *exporter) capability(name string, v []byte) []byte {
	if len(v) != tarx.VfsCapLen3 || binary.LittleEndian.Uint32(v)&tarx.VfsCapMask != tarx.VfsCapRevision3 {
		return v
	}
	rootid := binary.LittleEndian.Uint32(v[tarx.VfsCapLen2:])
	if id, ok := tarx.ToContainer(e.o.Mapping.UIDMaps, rootid); !ok || id != 0 {
		e.lose(tarx.LossCapability, name, fmt.Sprintf("%s of the root id %d", tarx.XattrCapability, rootid))
		return nil
	}
	binary.LittleEndian.PutUint32(v, binary.LittleEndian.Uint32(v)&^tarx.VfsCapMask|tarx.VfsCapRevision2)
	return v[:tarx.VfsCapLen2]
}

func rootlessID(id, disk uint32) uint32 {
	if id == tarx.RootlessNoop {
		return disk
	}
	return id
}
