// Package export writes a directory tree as a tar stream.
//
// The tree may be an attacker's who changes it meanwhile: see [Tree].
package export

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/moby/go-archive/tarheader"
	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"ocibundle/tarx"
	"ocibundle/tarx/handle"
)

// Options are the choices of an export. The zero value exports a tree as it is.
type Options struct {
	// Mapping turns the ids on disk back into the container's: it is the mapping that the tree was extracted with,
	// container -> disk as this process sees it. Empty means identity. An id on disk that it lacks is refused.
	Mapping user.IdentityMapping
	// Owner is the policy that the tree was extracted with. With OwnerRootless the ids in user.rootlesscontainers count,
	// and that attribute is not exported.
	Owner tarx.OwnerPolicy
	// InNamespace says that this process runs in a user namespace that lacks some of the host's ids. The kernel shows their
	// files as owned by the overflow id (user_namespaces(7)). They are refused, rather than taken for nobody's. A group
	// alone cannot be told apart like this.
	InNamespace bool
}

// LossSocket counts sockets, for which a tar stream has no type.
const LossSocket tarx.LossKind = "sockets"

// Tree writes the tree below root to w as a tar stream, POSIX.1-2001 (pax) where ustar does not suffice.
//
// "./" comes first, with the metadata of root itself; then everything in the bytewise order of the names as they stand in
// the stream, where a directory's ends in a slash. Of a hard-link group the first name is the file and the others are links
// to it. Modification times keep their nanoseconds, holes stay holes (GNU sparse format 1.0), extended attributes are
// written as SCHILY.xattr records, security.capability in version 2. What cannot be written is counted in the report.
//
// The tree may be an attacker's who is changing it meanwhile: entries are opened from a directory to one name in it,
// symbolic links are never followed, and nothing but regular files and directories is opened. Memory holds the listings of
// the directories on the way down, and the first names of hard-link groups that are still incomplete.
//
// On an error w has got a part of the stream, without the end-of-archive marker. Errors name the entry; an id outside the
// mapping is ErrRefused.
func Tree(ctx context.Context, w io.Writer, root *os.File, o Options) (*tarx.Report, error) {
	buffered := bufio.NewWriterSize(w, exportBuffer)
	e := exporter{
		ctx:     ctx,
		o:       o,
		out:     buffered,
		tw:      tar.NewWriter(buffered),
		buf:     make([]byte, exportBuffer),
		links:   map[inode]linkGroup{},
		shifted: o.Owner == tarx.OwnerRootless || tarx.Shifts(o.Mapping.UIDMaps) || tarx.Shifts(o.Mapping.GIDMaps),
	}
	defer e.close()
	if err := e.run(root); err != nil {
		return nil, err
	}
	if err := e.tw.Close(); err != nil {
		return nil, fmt.Errorf("write archive: %w", err)
	}
	if err := buffered.Flush(); err != nil {
		return nil, fmt.Errorf("write archive: %w", err)
	}
	e.report.Losses = e.losses.List()
	return &e.report, nil
}

const (
	exportBuffer = 256 << 10
	// exportOpen is how many directories are held open at once.
	exportOpen = 32
	// xattrMax is the kernel's limit for a value and for a list (xattr(7)).
	xattrMax = 64 << 10
)

type inode struct{ dev, ino uint64 }

// linkGroup is a file with several names of which not all have been met.
type linkGroup struct {
	first string
	left  uint64
}

type exporter struct {
	ctx    context.Context
	o      Options
	out    *bufio.Writer
	tw     *tar.Writer
	buf    []byte
	xbuf   []byte
	links  map[inode]linkGroup
	stack  []exportLevel
	open   int // the first index of stack whose fd is open; all after it are open too
	report tarx.Report
	losses tarx.Losses
	// shifted says that ids on disk are not those of the container.
	shifted bool
}

type exportLevel struct {
	name     string // in the stream, ending in a slash; empty for the root
	fd       int
	dev, ino uint64 // which directory it is, noted when fd is closed for the time being
	list     []dirEntry
}

func (e *exporter) close() {
	for _, l := range e.stack[min(e.open, len(e.stack)):] {
		unix.Close(l.fd)
	}
}

func (e *exporter) run(root *os.File) error {
	// A descriptor of its own: reading a directory moves the offset.
	fd, err := handle.Openat(int(root.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err != nil {
		return exportError("open", "./", err)
	}
	if err := e.directory("", fd); err != nil {
		return err
	}
	for len(e.stack) > 0 {
		if err := context.Cause(e.ctx); err != nil {
			return err
		}
		top := &e.stack[len(e.stack)-1]
		if len(top.list) == 0 {
			if err := e.leave(); err != nil {
				return err
			}
			continue
		}
		next := top.list[0]
		top.list = top.list[1:]
		if err := e.entry(top, next); err != nil {
			return err
		}
	}
	return nil
}

// exportError names the entry of the stream at which something went wrong.
func exportError(op, name string, err error) error {
	if len(name) > 300 {
		name = name[:300] + "..."
	}
	return fmt.Errorf("%s %q: %w", op, name, err)
}

var errChanged = errors.New("it was replaced while being exported")

func (e *exporter) entry(dir *exportLevel, d dirEntry) error {
	name := dir.name + d.name
	switch d.kind {
	case unix.DT_DIR:
		fd, err := handle.Openat(dir.fd, d.name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC)
		if err != nil {
			return exportError("open", name+"/", err)
		}
		return e.directory(name+"/", fd)
	case unix.DT_REG:
		fd, err := handle.Openat(dir.fd, d.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC)
		if err != nil {
			return exportError("open", name, err)
		}
		defer unix.Close(fd)
		return e.file(name, fd)
	case unix.DT_SOCK:
		e.lose(LossSocket, name, "")
		return nil
	default:
		return e.special(dir.fd, d.name, name)
	}
}

// directory writes the directory that fd is open on and makes it the current one; fd is its to close.
func (e *exporter) directory(name string, fd int) error {
	l := exportLevel{name: name, fd: fd}
	shown := name
	if name == "" {
		shown = "./"
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return exportError("stat", shown, err)
	}
	hdr, err := e.header(shown, &st, "", target{fd: fd})
	if err == nil {
		l.list, err = readSorted(fd, e.buf)
		if err != nil {
			err = exportError("list", shown, err)
		}
	}
	if err == nil {
		e.report.Directories++
		err = e.writeHeader(hdr)
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	if len(e.stack)-e.open >= exportOpen {
		far := &e.stack[e.open]
		var st unix.Stat_t
		if unix.Fstat(far.fd, &st) == nil {
			unix.Close(far.fd)
			far.fd, far.dev, far.ino = -1, st.Dev, st.Ino
			e.open++
		}
	}
	e.stack = append(e.stack, l)
	return nil
}

// leave returns to the directory above.
func (e *exporter) leave() error {
	n := len(e.stack)
	fd := e.stack[n-1].fd
	if n > 1 && e.stack[n-2].fd < 0 {
		up := &e.stack[n-2]
		upFD, err := handle.ReopenParent(fd, up.dev, up.ino)
		if err != nil {
			return exportError("open", up.name, err)
		}
		up.fd = upFD
		e.open = n - 2
	}
	e.stack = e.stack[:n-1]
	unix.Close(fd)
	return nil
}

func (e *exporter) file(name string, fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return exportError("stat", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return exportError("open", name, errChanged)
	}
	link := e.link(name, &st)
	hdr, err := e.header(name, &st, link, target{fd: fd})
	if err != nil {
		return err
	}
	if link != "" {
		e.report.Hardlinks++
		return e.writeHeader(hdr)
	}
	e.report.Files++
	e.report.Bytes += st.Size
	if st.Blocks*512 < st.Size {
		parts, err := extents(fd, st.Size, maxExtents)
		if err != nil {
			return exportError("find holes of", name, err)
		}
		if !dense(parts, st.Size) {
			return e.sparse(hdr, fd, parts)
		}
	}
	if err := e.writeHeader(hdr); err != nil {
		return err
	}
	return e.copy(name, e.tw, fd, 0, st.Size)
}

// special writes what is neither a regular file nor a directory, without opening it.
func (e *exporter) special(dirfd int, base, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dirfd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return exportError("stat", name, err)
	}
	count := &e.report.Devices
	linkname := ""
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		e.lose(LossSocket, name, "")
		return nil
	case unix.S_IFREG, unix.S_IFDIR:
		return exportError("open", name, errChanged)
	case unix.S_IFLNK:
		count = &e.report.Symlinks
		b := make([]byte, max(st.Size+1, 256))
		n, err := unix.Readlinkat(dirfd, base, b)
		for err == nil && n == len(b) { // it has grown since, or the filesystem gives no size
			b = make([]byte, 2*len(b))
			n, err = unix.Readlinkat(dirfd, base, b)
		}
		if err != nil {
			return exportError("read link", name, err)
		}
		linkname = string(b[:n])
	case unix.S_IFIFO:
		count = &e.report.FIFOs
	}
	link := e.link(name, &st)
	if link != "" {
		linkname = link
		count = &e.report.Hardlinks
	}
	hdr, err := e.header(name, &st, link, target{fd: -1, path: handle.Path(dirfd) + "/" + base})
	if err != nil {
		return err
	}
	hdr.Linkname = linkname
	*count++
	return e.writeHeader(hdr)
}

// link gives the first name of a file that has been written under another one.
func (e *exporter) link(name string, st *unix.Stat_t) string {
	if st.Nlink < 2 {
		return ""
	}
	id := inode{st.Dev, st.Ino}
	g, ok := e.links[id]
	if !ok {
		e.links[id] = linkGroup{first: name, left: uint64(st.Nlink) - 1}
		return ""
	}
	if g.left--; g.left == 0 {
		delete(e.links, id)
	} else {
		e.links[id] = g
	}
	return g.first
}

func (e *exporter) lose(kind tarx.LossKind, name, detail string) {
	e.losses.Add(kind, name, e.report.Entries, detail)
}

// header makes the header of an entry; link is the first name of its hard-link group, if it has been written.
func (e *exporter) header(name string, st *unix.Stat_t, link string, t target) (*tar.Header, error) {
	hdr, err := tarheader.FileInfoHeaderNoLookups(statInfo{st}, "")
	if err != nil {
		return nil, exportError("describe", name, err)
	}
	hdr.Name = name
	hdr.Format = tar.FormatPAX
	uid, gid, err := e.owner(st)
	if err == nil && e.o.InNamespace && st.Uid == overflowID && t.fd >= 0 && !handle.OwnerMapped(t.fd) {
		err = errOverflow
	}
	if err != nil {
		return nil, exportError("export", name, err)
	}
	hdr.Uid, hdr.Gid = uid, gid
	// Only root can have attributes on links, FIFOs and devices, and they cost a look-up in /proc.
	if t.fd >= 0 || os.Geteuid() == 0 {
		if err := e.xattrs(hdr, t, link != ""); err != nil {
			return nil, err
		}
	}
	if link != "" {
		hdr.Typeflag, hdr.Linkname, hdr.Size = tar.TypeLink, link, 0
		hdr.Devmajor, hdr.Devminor = 0, 0
	}
	return hdr, nil
}

func (e *exporter) owner(st *unix.Stat_t) (uid, gid int, err error) {
	m := e.o.Mapping
	uid, ok := tarx.ToContainer(m.UIDMaps, st.Uid)
	if !ok {
		return 0, 0, &unmappedDiskID{"uid", st.Uid, m.UIDMaps}
	}
	gid, ok = tarx.ToContainer(m.GIDMaps, st.Gid)
	if !ok {
		return 0, 0, &unmappedDiskID{"gid", st.Gid, m.GIDMaps}
	}
	return uid, gid, nil
}

// overflowID is the default of the sysctl kernel.overflowuid.
const overflowID = 65534

var errOverflow = fmt.Errorf("its owner is outside this user namespace (%w)", tarx.ErrRefused)

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

func (e *exporter) writeHeader(hdr *tar.Header) error {
	e.report.Entries++
	if err := e.tw.WriteHeader(hdr); err != nil {
		return exportError("write", hdr.Name, err)
	}
	return nil
}

// copy writes n bytes of fd, from off on, to w.
func (e *exporter) copy(name string, w io.Writer, fd int, off, n int64) error {
	for n > 0 {
		b := e.buf[:min(n, int64(len(e.buf)))]
		m, err := pread(fd, b, off)
		if err != nil {
			return exportError("read", name, err)
		}
		if m == 0 {
			return exportError("read", name, errors.New("it shrank while being exported"))
		}
		if _, err := w.Write(b[:m]); err != nil {
			return exportError("write", name, err)
		}
		off += int64(m)
		n -= int64(m)
		if n > 0 {
			if err := context.Cause(e.ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func pread(fd int, b []byte, off int64) (int, error) {
	for {
		n, err := unix.Pread(fd, b, off)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// statInfo is what stat(2) says, as the standard library shows it.
type statInfo struct{ st *unix.Stat_t }

func (s statInfo) Name() string       { return "" }
func (s statInfo) Size() int64        { return s.st.Size }
func (s statInfo) ModTime() time.Time { return time.Unix(s.st.Mtim.Unix()) }
func (s statInfo) IsDir() bool        { return s.Mode().IsDir() }

func (s statInfo) Mode() fs.FileMode {
	mode := fs.FileMode(s.st.Mode & 0o777)
	switch s.st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	case unix.S_IFIFO:
		mode |= fs.ModeNamedPipe
	case unix.S_IFCHR:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFBLK:
		mode |= fs.ModeDevice
	}
	if s.st.Mode&unix.S_ISUID != 0 {
		mode |= fs.ModeSetuid
	}
	if s.st.Mode&unix.S_ISGID != 0 {
		mode |= fs.ModeSetgid
	}
	if s.st.Mode&unix.S_ISVTX != 0 {
		mode |= fs.ModeSticky
	}
	return mode
}

func (s statInfo) Sys() any {
	return &syscall.Stat_t{Mode: s.st.Mode, Uid: s.st.Uid, Gid: s.st.Gid, Rdev: s.st.Rdev}
}
