package export

import (
	"archive/tar"
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"ocibundle/tarx"
)

// target is where an entry's extended attributes are found: by handle, or where there can be none, by directory handle and
// name.
type target struct {
	fd   int
	path string
}

func (t target) list(buf []byte) (int, error) {
	if t.fd >= 0 {
		return unix.Flistxattr(t.fd, buf)
	}
	return unix.Llistxattr(t.path, buf)
}

func (t target) get(name string, buf []byte) (int, error) {
	if t.fd >= 0 {
		return unix.Fgetxattr(t.fd, name, buf)
	}
	return unix.Lgetxattr(t.path, name, buf)
}

// xattrs adds the extended attributes to hdr. With OwnerRootless it sets the owner also. The second name of a file repeats
// only its capabilities: readers that change the owner through every name, as Docker does, thereby clear them, and set them
// again from there.
func (e *exporter) xattrs(hdr *tar.Header, t target, again bool) error {
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
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		kind := tarx.LossXattr
		switch {
		case name == tarx.XattrCapability, name == tarx.XattrRootless && e.o.Owner == tarx.OwnerRootless:
		case again:
			continue
		case strings.HasPrefix(name, "security."):
			e.lose(tarx.LossSecurity, hdr.Name, name)
			continue
		case name == tarx.XattrACLAccess, name == tarx.XattrACLDefault:
			if e.shifted { // it has ids inside
				e.lose(tarx.LossACL, hdr.Name, name)
				continue
			}
		case strings.HasPrefix(name, "user."), strings.HasPrefix(name, "trusted."):
			// A record's key ends at the first "=" (pax: extended header).
			if strings.Contains(name, "=") {
				e.lose(kind, hdr.Name, name)
				continue
			}
		default:
			e.lose(kind, hdr.Name, name)
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
			v = e.capability(hdr.Name, v)
			if v == nil {
				continue
			}
		case name == tarx.XattrRootless && e.o.Owner == tarx.OwnerRootless:
			uid, gid, ok := tarx.ParseRootless(v)
			if !ok {
				e.lose(tarx.LossOwner, hdr.Name, "the attribute "+name+" makes no sense")
				continue
			}
			hdr.Uid, hdr.Gid = rootlessID(uid, hdr.Uid), rootlessID(gid, hdr.Gid)
			continue
		}
		if hdr.PAXRecords == nil {
			hdr.PAXRecords = map[string]string{}
		}
		hdr.PAXRecords[tarx.SchilyXattr+name] = string(v)
	}
	return nil
}

// capability turns a version 3 attribute of the container's root into version 2, which is what it means inside
// (capabilities(7), "Namespaced file capabilities"; struct vfs_ns_cap_data of linux/capability.h). It returns nil for
// another root's, which gives the container no capabilities.
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

func rootlessID(id uint32, disk int) int {
	if id == tarx.RootlessNoop {
		return disk
	}
	return int(id)
}
