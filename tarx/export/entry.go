package export

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"ocibundle/tarx"
	"ocibundle/tarx/handle"
)

// entry writes the entry base of the directory dirfd.
func (e *exporter) entry(dirfd int, base string) error {
	h, err := handle.OpenSameMount(dirfd, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if err == unix.EXDEV {
		err = errMount
	}
	if err != nil {
		return exportError("open", e.name(base), err)
	}
	defer unix.Close(h)
	var st unix.Stat_t
	if err := unix.Fstat(h, &st); err != nil {
		return exportError("stat", e.name(base), err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		base += "/"
		if err := e.foreign(h, &st); err != nil {
			return exportError("export", e.name(base), err)
		}
		fd, err := handle.Openat(h, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
		if err != nil {
			return exportError("open", e.name(base), err)
		}
		return e.directory(base, fd, &st)
	case unix.S_IFREG:
		return e.file(e.name(base), base, h, &st)
	case unix.S_IFSOCK:
		e.lose(LossSocket, e.name(base), "")
		return nil
	default:
		return e.special(e.name(base), base, h, &st)
	}
}

// directory writes the directory that fd is open on and makes it the current one; fd is its to
// close. base ends in a slash.
func (e *exporter) directory(base string, fd int, st *unix.Stat_t) error {
	hdr, err := e.header(e.name(base), tarx.TypeDir, st, target{fd: fd})
	if err == nil {
		e.report.Directories++
		err = e.write(hdr)
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	dir := &dirName{name: base}
	if e.stack.Len() > 0 {
		dir.up = e.stack.Current().Data.dir
	}
	e.path = append(e.path, base...)
	e.stack.Enter(fd, level{dir: dir, list: listing{more: true}})
	return nil
}

func (e *exporter) file(name, base string, h int, st *unix.Stat_t) error {
	if err := e.foreign(h, st); err != nil {
		return exportError("export", name, err)
	}
	// As handle.Reopen does it, from a directory that is open already.
	fd, err := handle.Openat(e.handles, strconv.Itoa(h), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC)
	if err != nil {
		return exportError("open", name, err)
	}
	lent := false
	defer func() {
		if lent {
			e.out.release(fd)
		} else {
			unix.Close(fd)
		}
	}()
	link, err := e.link(base, st)
	if err != nil {
		return exportError("export", name, err)
	}
	if link != "" {
		return e.hardlink(name, link, st, target{fd: fd})
	}
	hdr, err := e.header(name, tarx.TypeReg, st, target{fd: fd})
	if err != nil {
		return err
	}
	hdr.Size = st.Size
	e.report.Files++
	e.report.Bytes += st.Size
	parts := []tarx.Extent{{Size: st.Size}}
	if st.Blocks*512 < st.Size {
		if parts, err = extents(fd, st.Size, maxExtents); err != nil {
			return exportError("find holes of", name, err)
		}
		if !dense(parts, st.Size) {
			hdr.Sparse = parts
		}
	}
	if err := e.write(hdr); err != nil {
		return err
	}
	var stored int64
	for _, p := range parts {
		stored += p.Size
		if e.out.splicer != nil && p.Size >= spliceMin {
			lent = true
			err = e.out.lend(piece{name: name, fd: fd, off: p.Off, n: p.Size})
		} else {
			err = e.copy(name, fd, p.Off, p.Size)
		}
		if err != nil {
			return err
		}
	}
	if err := e.out.write(tarx.ZeroBlock[:tarx.Padding(stored)]); err != nil {
		return exportError("write", name, err)
	}
	return nil
}

// hardlink writes another name of a file that has been written as link.
func (e *exporter) hardlink(name, link string, st *unix.Stat_t, t target) error {
	t.again = true
	hdr, err := e.header(name, tarx.TypeLink, st, t)
	if err != nil {
		return err
	}
	hdr.Link = link
	e.report.Hardlinks++
	return e.write(hdr)
}

// special writes what is neither a regular file nor a directory. It is not opened.
func (e *exporter) special(name, base string, h int, st *unix.Stat_t) error {
	t := target{fd: -1, path: handle.Path(h)}
	link, err := e.link(base, st)
	if err != nil {
		return exportError("export", name, err)
	}
	if link != "" {
		return e.hardlink(name, link, st, t)
	}
	kind, count := byte(tarx.TypeChar), &e.report.Devices
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		kind = tarx.TypeBlock
	case unix.S_IFIFO:
		kind, count = tarx.TypeFIFO, &e.report.FIFOs
	case unix.S_IFLNK:
		kind, count = tarx.TypeSymlink, &e.report.Symlinks
	}
	hdr, err := e.header(name, kind, st, t)
	if err != nil {
		return err
	}
	switch kind {
	case tarx.TypeSymlink:
		b := e.buf[:unix.PathMax]
		n, err := unix.Readlinkat(h, "", b)
		if err != nil {
			return exportError("read link", name, err)
		}
		hdr.Link = string(b[:n])
	case tarx.TypeChar, tarx.TypeBlock:
		hdr.Major, hdr.Minor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	}
	*count++
	return e.write(hdr)
}

// header makes the header of an entry.
func (e *exporter) header(name string, kind byte, st *unix.Stat_t, t target) (*tarx.OutHeader, error) {
	sec, nsec := st.Mtim.Unix()
	hdr := &tarx.OutHeader{Type: kind, Name: name, Mode: st.Mode & 0o7777, Sec: sec, Nsec: int32(nsec)}
	var err error
	if hdr.UID, err = e.containerID("uid", e.o.Mapping.UIDMaps, st.Uid); err == nil {
		hdr.GID, err = e.containerID("gid", e.o.Mapping.GIDMaps, st.Gid)
	}
	if err != nil {
		return nil, exportError("export", name, err)
	}
	// Only root can have attributes on links, FIFOs and devices, and they cost a look-up in /proc.
	if t.fd >= 0 || os.Geteuid() == 0 {
		if err := e.xattrs(hdr, t); err != nil {
			return nil, err
		}
	}
	return hdr, nil
}

func (e *exporter) containerID(what string, maps []user.IDMap, id uint32) (uint32, error) {
	c, ok := tarx.ToContainer(maps, id)
	if !ok || c < 0 || c >= math.MaxUint32 {
		return 0, &unmappedDiskID{what, id, maps}
	}
	return uint32(c), nil
}

// overflowID is the default of the sysctl kernel.overflowuid.
const overflowID = 65534

// foreign refuses the file or directory of a user whom this process's user namespace lacks.
func (e *exporter) foreign(h int, st *unix.Stat_t) error {
	if e.o.InNamespace && st.Uid == overflowID && !handle.OwnerMapped(h) {
		return fmt.Errorf("its owner is outside this user namespace (%w)", tarx.ErrRefused)
	}
	return nil
}

type unmappedDiskID struct {
	what string
	id   uint32
	maps []user.IDMap
}

func (u *unmappedDiskID) Error() string {
	var ranges []string
	for _, m := range u.maps {
		ranges = append(ranges, fmt.Sprintf("%d-%d", m.ParentID, m.ParentID+m.Count-1))
	}
	return fmt.Sprintf("%s %d on disk is outside the mapping, which has %s", u.what, u.id, strings.Join(ranges, ", "))
}

func (u *unmappedDiskID) Is(target error) bool { return target == tarx.ErrRefused }
