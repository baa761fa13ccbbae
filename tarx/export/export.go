// Package export writes a directory tree as a tar stream.
//
// The tree may be an attacker's who changes it meanwhile: see [Tree].
package export

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"ocibundle/tarx"
	"ocibundle/tarx/handle"
)

// Options are the choices of an export. The zero value exports a tree as it is.
type Options struct {
	// Mapping turns the ids on disk back into the container's: it is the mapping that the tree was
	// extracted with, container -> disk as this process sees it. Empty means identity. An id on
	// disk that it lacks is refused.
	Mapping user.IdentityMapping
	// Owner is the policy that the tree was extracted with. With OwnerRootless the ids in
	// user.rootlesscontainers count, and that attribute is not exported.
	Owner tarx.OwnerPolicy
	// InNamespace says that this process runs in a user namespace that lacks some of the host's
	// ids. The kernel shows their files as owned by the overflow id (user_namespaces(7)). They are
	// refused, rather than taken for nobody's. A group alone cannot be told apart like this.
	InNamespace bool
}

// LossSocket counts sockets, for which a tar stream has no type.
const LossSocket tarx.LossKind = "sockets"

// Tree writes the tree below root to w as a tar stream, POSIX.1-2001 (pax) where ustar does not
// suffice. root may have been opened with O_PATH.
//
// "./" comes first, with the metadata of root itself; then everything in the bytewise order of the
// names as they stand in the stream, where a directory's ends in a slash. Of a hard-link group the
// first name is the file and the others are links to it. Modification times keep their nanoseconds,
// holes stay holes (GNU sparse format 1.0), extended attributes are written as SCHILY.xattr
// records, security.capability in version 2. What cannot be written is counted in the report.
//
// The tree may be an attacker's who is changing it meanwhile: every entry is opened with O_PATH,
// from a directory to one name in it, and looked at; only regular files and directories are then
// opened to be read, by that handle. Symbolic links are never followed, mounts never entered.
// Memory is bounded: it holds parts of the listings of the directories on the way down, and the
// first names of hard-link groups that are still incomplete, of which there may be linkMemory.
//
// A w that is a [Splicer] takes large files without a copy.
//
// On an error w has got a part of the stream, without the end-of-archive marker. Errors name the
// entry. ErrRefused is an id outside the mapping, or what no header or bounded memory has room for.
func Tree(ctx context.Context, w io.Writer, root *os.File, o Options) (*tarx.Report, error) {
	e := exporter{
		ctx:     ctx,
		o:       o,
		buf:     make([]byte, exportBuffer),
		links:   links{groups: map[inode]linkGroup{}},
		shifted: o.Owner == tarx.OwnerRootless || tarx.Shifts(o.Mapping.UIDMaps) || tarx.Shifts(o.Mapping.GIDMaps),
	}
	defer e.stack.Close()
	var err error
	if e.handles, err = handle.Openat(unix.AT_FDCWD, "/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("open %q: %w", "/proc/self/fd", err)
	}
	defer unix.Close(e.handles)
	e.out = newOutput(w)
	if err := e.run(root); err != nil {
		e.out.end()
		return nil, err
	}
	if err := cmp.Or(e.out.write(make([]byte, 2*tarx.BlockSize)), e.out.flush()); err != nil {
		return nil, exportError("write archive", "", err)
	}
	e.report.Losses = e.losses.List()
	return &e.report, nil
}

const exportBuffer = 256 << 10 // of a directory listing

type exporter struct {
	ctx     context.Context
	o       Options
	out     *output
	head    []byte
	buf     []byte
	xbuf    []byte
	handles int // the directory of this process's descriptors, proc_pid_fd(5)
	links   links
	stack   handle.Stack[level]
	path    []byte // the current directory's name in the stream, ending in a slash; empty for the root
	listed  int    // the size of all listings
	report  tarx.Report
	losses  tarx.Losses
	// shifted says that ids on disk are not those of the container.
	shifted bool
}

// level is a directory on the way down.
type level struct {
	dir  *dirName
	list listing
}

func (e *exporter) run(root *os.File) error {
	// A descriptor of its own: reading a directory moves the offset.
	fd, err := handle.Openat(int(root.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err != nil {
		return exportError("open", "./", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return exportError("stat", "./", err)
	}
	if err := e.directory("", fd, &st); err != nil {
		return err
	}
	for e.stack.Len() > 0 {
		if err := context.Cause(e.ctx); err != nil {
			return err
		}
		top := e.stack.Current()
		if top.Data.list.empty() {
			if err := e.list(top); err != nil {
				return err
			}
		}
		if top.Data.list.empty() {
			if err := e.leave(); err != nil {
				return err
			}
			continue
		}
		if err := e.entry(top.FD, top.Data.list.next()); err != nil {
			return err
		}
	}
	return nil
}

// list reads the next part of the current directory's listing, if there is one. Listings of
// directories further up, which can be read again, give way to it.
func (e *exporter) list(top *handle.Level[level]) error {
	l := &top.Data.list
	e.listed -= l.size()
	err := l.read(top.FD, e.buf)
	e.listed += l.size()
	if err != nil {
		return exportError("list", e.name(""), err)
	}
	for i := 0; i < e.stack.Len()-1 && e.listed > listedMax; i++ {
		up := &e.stack.At(i).Data.list
		e.listed -= up.size()
		up.drop()
	}
	return nil
}

// leave returns to the directory above.
func (e *exporter) leave() error {
	l, err := e.stack.Leave()
	if err != nil {
		return exportError("return from", e.name(""), err)
	}
	unix.Close(l.FD)
	e.listed -= l.Data.list.size()
	e.path = e.path[:len(e.path)-len(l.Data.dir.name)]
	return nil
}

// name is the name in the stream of the entry base of the current directory, or of that itself.
func (e *exporter) name(base string) string {
	if len(e.path) == 0 && base == "" {
		return "./"
	}
	return string(e.path) + base
}

// exportError names the entry of the stream at which something went wrong, if it was at one.
func exportError(op, name string, err error) error {
	if named, ok := errors.AsType[*entryError](err); ok {
		return named.error
	}
	if name == "" {
		return fmt.Errorf("%s: %w", op, err)
	}
	if len(name) > 300 {
		name = name[:300] + "..."
	}
	return fmt.Errorf("%s %q: %w", op, name, err)
}

func refused(err error) error { return fmt.Errorf("%w (%w)", err, tarx.ErrRefused) }

var (
	errMount = errors.New("it is a mount point")
)

func (e *exporter) lose(kind tarx.LossKind, name, detail string) {
	e.losses.Add(kind, []byte(name), e.report.Entries, detail)
}

// write writes the header of an entry.
func (e *exporter) write(hdr *tarx.OutHeader) error {
	e.report.Entries++
	head, _, err := tarx.AppendHeader(e.head[:0], hdr)
	if err != nil {
		return exportError("write", hdr.Name, refused(err))
	}
	if e.head = head; cap(head) > exportBuffer {
		e.head = nil
	}
	if err := e.out.write(head); err != nil {
		return exportError("write", hdr.Name, err)
	}
	return nil
}

// copy writes n bytes of fd, from off on.
func (e *exporter) copy(name string, fd int, off, n int64) error {
	for n > 0 {
		b, err := e.out.room()
		if err != nil {
			return exportError("write", name, err)
		}
		m, err := pread(fd, b[:min(n, int64(len(b)))], off)
		if err != nil {
			return exportError("read", name, err)
		}
		if m == 0 {
			return exportError("read", name, errShrank)
		}
		e.out.take(m)
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
