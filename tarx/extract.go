package tarx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// impliedMode is the mode of the root and of every parent that no entry names.
const impliedMode = 0o755

// maxSkipped bounds the names remembered of devices that were left out, which
// a later hard link may want.
const maxSkipped = 1 << 16

// maxACLBytes bounds the access control lists kept for directories until the
// end: a default list must not reach the children made meanwhile.
const maxACLBytes = 4 << 20

// Extract reads one tar stream from r to its end and makes the tree that it
// describes below root, an empty directory that the caller owns and nobody
// else reaches. It sets the process's umask to 0 while it runs.
//
// Errors have ErrMalformed or ErrRefused in their chain, else they are of
// reading or writing. After a cancelled ctx the error is its cause. A Read of
// r that is under way then is not waited for.
func Extract(ctx context.Context, r io.Reader, root *os.File, o Options) (*Report, error) {
	x, err := NewExtractor(root, o)
	if err != nil {
		return nil, err
	}
	defer x.Close()
	if err := x.Extract(ctx, r); err != nil {
		return nil, err
	}
	return x.Finish(ctx)
}

// Extractor makes one tree of one stream or, for the layers of an image, of
// several, each on top of those before it.
type Extractor struct {
	opts    Options
	root    *os.File
	table   *dirTable
	dirs    *dirCache
	work    *workers
	cur     *batch
	src     *source
	p       *parser
	report  Report
	losses  losses
	owner   ownerMap
	shifted bool // ids on disk are not the container's
	layer   bool // the stream is a layer of an image
	fsuid   uint32
	fsgid   uint32

	newestSec  int64
	newestNsec int32
	haveNewest bool

	maxJobs int
	skipped map[string]struct{}

	// Scratch space, so that an entry costs no allocation.
	full, linkFull []byte
	base, linkBase cname
	target         cname
	pathBuf        []byte
}

// NewExtractor prepares the extraction below root.
func NewExtractor(root *os.File, o Options) (*Extractor, error) {
	x := &Extractor{opts: o, root: root, table: newDirTable()}
	x.owner = ownerMap{mapping: o.Mapping}
	x.shifted = shifts(o.Mapping.UIDMaps) || shifts(o.Mapping.GIDMaps)
	x.fsuid, x.fsgid = uint32(os.Geteuid()), uint32(os.Getegid())

	// Open handles are what the workers' queue and the directory cache cost.
	// Go raises the soft limit to the hard one at start.
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return nil, fmt.Errorf("read the limit of open files: %w", err)
	}
	if x.opts.Workers <= 0 {
		x.opts.Workers = max(1, min(4, runtime.GOMAXPROCS(0)))
	}
	batches := uint64(x.opts.Workers + queueLength + 2)
	budget := min(lim.Cur, 1<<16)
	x.maxJobs = int(max(1, min(128, budget/2/batches)))
	x.dirs = newDirCache(root, x.table, int(max(4, min(512, budget/4))))

	var st unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &st); err != nil {
		return nil, fmt.Errorf("stat the root directory: %w", err)
	}
	// A root made below a setgid directory would hand its group on to all that
	// is made in it.
	if err := unix.Fchmod(int(root.Fd()), 0o700); err != nil {
		return nil, fmt.Errorf("change the mode of the root directory: %w", err)
	}
	if st.Gid != x.fsgid {
		if err := unix.Fchown(int(root.Fd()), -1, int(x.fsgid)); err != nil {
			return nil, fmt.Errorf("change the group of the root directory: %w", err)
		}
	}
	x.dirs.root.rec = x.table.add(0, nil, st.Ino)
	r := x.table.at(0)
	r.flags |= dirImplied | dirChmod | dirChown
	return x, nil
}

// queueLength is how many batches wait for a worker at most.
const queueLength = 4

// Close gives back what the extractor holds. The root stays open.
func (x *Extractor) Close() {
	x.dirs.close()
}

// Extract reads one stream to its end.
func (x *Extractor) Extract(ctx context.Context, r io.Reader) (err error) {
	old := unix.Umask(0)
	defer unix.Umask(old)

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	x.work = startWorkers(x.opts.Workers, queueLength, x.maxJobs, &x.losses)
	// A failing worker stops the reading, however long that would wait.
	go func(failed <-chan struct{}) {
		select {
		case <-failed:
			cancel(errStopped)
		case <-ctx.Done():
		}
	}(x.work.failed)
	x.src = newSource(r, ctx.Done())
	x.src.leave = x.flush
	x.p = &parser{src: x.src, layer: x.layer}
	x.cur = <-x.work.free

	err = x.entries()
	if x.src.cur != nil {
		x.flush(x.src.cur)
	}
	werr := x.work.stop()
	switch {
	case werr != nil && (err == nil || errors.Is(err, errStopped) || earlier(werr, err)):
		err = werr
	case errors.Is(err, errStopped):
		err = context.Cause(ctx)
	}
	if x.p.globals > 0 {
		x.losses.add(LossGlobalHeader, x.p.globalDetail, 0, "")
	}
	x.dirs.reap()
	return err
}

// earlier says that a is about an earlier entry than b.
func earlier(a, b error) bool {
	var ea, eb *EntryError
	return errors.As(a, &ea) && (!errors.As(b, &eb) || ea.Index < eb.Index)
}

func (x *Extractor) entries() error {
	for {
		h, err := x.p.next()
		if err == io.EOF {
			return x.end()
		}
		if err != nil {
			return err
		}
		if x.work.broken() {
			return errStopped
		}
		x.report.Entries++
		if x.opts.MaxEntries > 0 && x.report.Entries > x.opts.MaxEntries {
			return &LimitError{What: "entries", Limit: x.opts.MaxEntries}
		}
		if err := x.entry(h); err != nil {
			return err
		}
		if len(x.dirs.dead) > 0 {
			x.dirs.reap()
		}
	}
}

// end checks that nothing but zeros follows.
func (x *Extractor) end() error {
	err := x.src.drainZeros()
	if err == errTrailing {
		return x.p.broken(err)
	}
	return err
}

// flush hands the current batch to the workers, with its chunk.
func (x *Extractor) flush(c *chunk) {
	if len(x.cur.jobs) == 0 {
		return
	}
	c.refs.Add(1)
	x.cur.chunk = c
	x.work.queue <- x.cur
	x.cur = <-x.work.free
}

// entry makes what one header describes.
func (x *Extractor) entry(h *header) error {
	full, escapes, err := normalize(x.full[:0], h.name)
	x.full = full
	if err != nil {
		return x.malformed(h, err)
	}
	if escapes {
		return x.refused(h, errEscapes)
	}
	if x.layer {
		if passed, err := x.passWhiteout(h, full); passed || err != nil {
			return err
		}
	}
	if h.sec > x.newestSec || h.sec == x.newestSec && h.nsec > x.newestNsec || !x.haveNewest {
		x.newestSec, x.newestNsec, x.haveNewest = h.sec, h.nsec, true
	}
	parent, base := splitPath(full)
	if dots(base) && h.typ != typeDir {
		if len(full) == 0 {
			return x.malformed(h, fmt.Errorf("the root directory cannot be a %s", typeName(h.typ)))
		}
		return x.malformed(h, fmt.Errorf("a %s cannot be called %q", typeName(h.typ), base))
	}
	uid, gid, err := x.owner.disk(h.uid, h.gid)
	if err != nil {
		return x.refused(h, err)
	}
	if dots(base) {
		d, err := x.lookup(full, true)
		if err != nil {
			return x.blame(h, err)
		}
		x.report.Directories++
		x.table.at(d.rec).flags |= dirChmod
		return x.nameDirectory(h, d, uid, gid)
	}
	dir, err := x.lookup(parent, true)
	if err != nil {
		return x.blame(h, err)
	}
	x.base.set(base)
	switch h.typ {
	case typeDir:
		x.report.Directories++
		return x.directory(h, dir, full, uid, gid)
	case typeReg:
		x.report.Files++
		x.report.Bytes += h.size
		return x.file(h, dir, uid, gid)
	case typeSymlink:
		x.report.Symlinks++
		return x.symlink(h, dir, uid, gid)
	case typeLink:
		x.report.Hardlinks++
		return x.hardlink(h, dir)
	case typeFIFO:
		x.report.FIFOs++
		return x.node(h, dir, unix.S_IFIFO, 0, uid, gid)
	default:
		x.report.Devices++
		return x.device(h, dir, uid, gid)
	}
}

func (x *Extractor) malformed(h *header, err error) error {
	return &EntryError{Name: string(h.name), Index: x.p.index, Kind: ErrMalformed, Err: err}
}

func (x *Extractor) refused(h *header, err error) error {
	return &EntryError{Name: string(h.name), Index: x.p.index, Kind: ErrRefused, Err: err}
}

// blame makes err one of this entry. The stream is at fault where its names
// ask for what no filesystem can do.
func (x *Extractor) blame(h *header, err error) error {
	var kind error
	var named *nameError
	if errors.As(err, &named) || errors.Is(err, unix.ENAMETOOLONG) {
		kind = ErrMalformed
	}
	return &EntryError{Name: string(h.name), Index: x.p.index, Kind: kind, Err: err}
}

// nameError says that a name does not fit the tree so far.
type nameError struct{ msg string }

func (e *nameError) Error() string { return e.msg }

// normalize appends name to b with one slash between components and none
// around them, and without "." components. ".." stays, for the kernel to
// resolve. escapes says that there are more of them than there is to leave.
func normalize(b, name []byte) (out []byte, escapes bool, err error) {
	if bytes.IndexByte(name, 0) >= 0 {
		return b, false, errors.New("there is a NUL in the name")
	}
	depth := 0
	for len(name) > 0 {
		var part []byte
		part, name, _ = bytes.Cut(name, []byte{'/'})
		switch string(part) {
		case "", ".":
			continue
		case "..":
			if depth--; depth < 0 {
				return b, true, nil
			}
		default:
			depth++
		}
		if len(b) > 0 {
			b = append(b, '/')
		}
		b = append(b, part...)
	}
	return b, false, nil
}

// splitPath cuts a normalized path before its last component.
func splitPath(path []byte) (parent, base []byte) {
	i := bytes.LastIndexByte(path, '/')
	if i < 0 {
		return nil, path
	}
	return path[:i], path[i+1:]
}

// dots says that a last component names a directory that is there already.
func dots(base []byte) bool { return len(base) == 0 || string(base) == ".." }

// lookup opens the directory at a normalized path. Missing parents are made
// where the caller says so.
func (x *Extractor) lookup(path []byte, create bool) (*openDir, error) {
	if d := x.dirs.get(path); d != nil {
		return d, nil
	}
	fd, err := x.dirs.resolve(path)
	if err == nil {
		return x.opened(path, fd)
	}
	switch err {
	case unix.ENOENT:
		if create {
			return x.imply(path)
		}
		return nil, &nameError{fmt.Sprintf("there is no directory %q", path)}
	case unix.ENOTDIR:
		return nil, &nameError{fmt.Sprintf("%q, or what leads to it, is not a directory", path)}
	case unix.ELOOP:
		return nil, &nameError{fmt.Sprintf("%q goes round in symlinks", path)}
	}
	return nil, opError(fmt.Sprintf("open the directory %q", clip(path)), err)
}

func clip(b []byte) []byte {
	if len(b) > 300 {
		return b[:300]
	}
	return b
}

// opened takes a directory that was found under path into the cache.
func (x *Extractor) opened(path []byte, fd int) (*openDir, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, opError("stat a directory", err)
	}
	rec, ok := x.table.find(st.Ino)
	if !ok {
		unix.Close(fd)
		return nil, opError("open a directory", errors.New("the tree was changed by another process meanwhile"))
	}
	return x.dirs.add(path, fd, rec), nil
}

// imply makes the directory at path, which no entry has named.
func (x *Extractor) imply(path []byte) (*openDir, error) {
	up, base := splitPath(path)
	parent, err := x.lookup(up, true)
	if err != nil {
		return nil, err
	}
	if dots(base) {
		fd, err := x.dirs.resolve(path)
		if err != nil {
			return nil, opError(fmt.Sprintf("open the directory %q", clip(path)), err)
		}
		return x.opened(path, fd)
	}
	var name cname
	name.set(base)
	if err := sysMkdirat(parent.fd, name, impliedMode); err != nil {
		if err == unix.EEXIST {
			return nil, &nameError{fmt.Sprintf("%q is a symlink that leads nowhere", path)}
		}
		return nil, opError(fmt.Sprintf("create the directory %q", clip(path)), err)
	}
	return x.enter(parent, path, name, dirImplied|dirChown)
}

// enter opens the directory name of parent, which has just been made or found
// there, and gives it a record if it has none.
func (x *Extractor) enter(parent *openDir, path []byte, name cname, flags uint8) (*openDir, error) {
	fd, err := sysOpenat(parent.fd, name, dirFlags|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, opError("open the directory", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, opError("stat the directory", err)
	}
	rec, found := x.table.find(st.Ino)
	// A number that is known belongs to a directory that is gone, unless this
	// one was found and not made.
	if !found || flags != 0 {
		rec = x.table.add(parent.rec, name[:len(name)-1], st.Ino)
		x.table.at(rec).flags = flags
	}
	return x.dirs.add(path, fd, rec), nil
}

// directory makes or finds the directory of an entry.
func (x *Extractor) directory(h *header, parent *openDir, full []byte, uid, gid uint32) error {
	// A directory that lacks a permission for its owner still takes its
	// children; it gets its own mode at the end.
	mode := h.mode&0o777 | 0o700
	for try := 0; ; try++ {
		err := sysMkdirat(parent.fd, x.base, mode)
		if err == nil {
			flags := dirChown
			if mode != h.mode {
				flags |= dirChmod
			}
			d, err := x.enter(parent, full, x.base, flags)
			if err != nil {
				return x.blame(h, err)
			}
			return x.nameDirectory(h, d, uid, gid)
		}
		if err != unix.EEXIST || try == maxTries {
			return x.blame(h, opError("create the directory", err))
		}
		typ, err := x.typeOf(parent)
		if err != nil {
			return x.blame(h, err)
		}
		if typ == unix.S_IFDIR {
			d := x.dirs.get(full)
			if d == nil {
				if d, err = x.enter(parent, full, x.base, 0); err != nil {
					return x.blame(h, err)
				}
			}
			x.table.at(d.rec).flags |= dirChmod
			return x.nameDirectory(h, d, uid, gid)
		}
		if err := x.remove(parent, typ); err != nil {
			return x.blame(h, err)
		}
	}
}

// maxTries is how often a name is cleared for an entry. Once is enough unless
// somebody else is at work in the tree.
const maxTries = 16

// nameDirectory notes an entry's metadata for a directory, for the end.
func (x *Extractor) nameDirectory(h *header, d *openDir, uid, gid uint32) error {
	r := x.table.at(d.rec)
	again := r.flags&dirNamed != 0
	r.flags = r.flags&^dirImplied | dirChown | dirNamed
	r.mode = uint16(h.mode)
	r.owner = x.table.owner(uid, gid)
	r.sec, r.nsec = h.sec, h.nsec
	delete(x.table.acls, d.rec)
	r.flags &^= dirACL
	fd := d.fd
	if again && x.layer {
		if err := x.clearXattrs(fd); err != nil {
			return x.blame(h, err)
		}
	}
	if err := x.xattrs(h, fd, nil, d.rec); err != nil {
		return err
	}
	if again && x.opts.Owner == OwnerRootless {
		// The entry before this one may have had other ids.
		if err := unix.Fremovexattr(fd, xattrRootless); err != nil && err != unix.ENODATA && !xattrRefused(err) {
			return x.blame(h, opError("remove the attribute "+xattrRootless, err))
		}
	}
	return x.keepOwner(h, fd)
}

// typeOf is the type of the entry x.base of dir, 0 if there is none.
func (x *Extractor) typeOf(dir *openDir) (uint32, error) {
	var st unix.Stat_t
	err := unix.Fstatat(dir.fd, x.base.String(), &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return 0, nil
	}
	if err != nil {
		return 0, opError("stat", err)
	}
	return st.Mode & unix.S_IFMT, nil
}

// remove clears the name x.base of dir for a later entry.
func (x *Extractor) remove(dir *openDir, typ uint32) error {
	switch typ {
	case 0:
		return nil
	case unix.S_IFDIR:
		x.dirs.forget()
		if err := RemoveAll(dir.fd, x.base.String()); err != nil {
			return opError("replace the directory", err)
		}
		return nil
	case unix.S_IFLNK:
		x.dirs.forget()
	}
	if err := sysUnlinkat(dir.fd, x.base, 0); err != nil && err != unix.ENOENT {
		return opError("replace", err)
	}
	return nil
}

// create calls f until the name x.base of dir is free for it.
func (x *Extractor) create(dir *openDir, f func() error) error {
	for try := 0; ; try++ {
		err := f()
		if err != unix.EEXIST || try == maxTries {
			return err
		}
		typ, err := x.typeOf(dir)
		if err != nil {
			return err
		}
		if err := x.remove(dir, typ); err != nil {
			return err
		}
	}
}

// file makes a regular file and queues its contents.
func (x *Extractor) file(h *header, dir *openDir, uid, gid uint32) error {
	m := fileMeta{size: h.size, sec: h.sec, nsec: h.nsec, uid: uid, gid: gid, mode: uint16(h.mode)}
	m.chown = x.opts.Owner == OwnerKeep && (uid != x.fsuid || gid != x.fsgid)
	mode := h.mode & 0o777
	if len(h.xattrs) > 0 || x.opts.Owner == OwnerRootless && (h.uid != 0 || h.gid != 0) {
		mode |= 0o200 // or a plain user may not set an attribute (xattr(7))
	}
	m.chmod = mode != h.mode

	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := sysOpenat(dir.fd, x.base, flags, mode)
	if err == unix.EEXIST {
		err = x.create(dir, func() (err error) {
			fd, err = sysOpenat(dir.fd, x.base, flags, mode)
			return err
		})
	}
	if err != nil {
		return x.blame(h, opError("create", err))
	}
	if len(h.xattrs) > 0 {
		if err := x.xattrs(h, fd, &m, -1); err != nil {
			unix.Close(fd)
			return err
		}
	}
	if err := x.keepOwner(h, fd); err != nil {
		unix.Close(fd)
		return err
	}
	return x.body(h, fd, &m)
}

// body queues what is to be written to fd, which it takes over.
func (x *Extractor) body(h *header, fd int, m *fileMeta) error {
	whole := h.sparse == nil && (h.stored == 0 || x.src.cur.n-x.src.pos >= int(min(h.stored, chunkSize+1)))
	if whole {
		var data []byte
		if h.stored > 0 {
			data, _ = x.src.piece(h.stored)
		}
		x.queue(job{fd: fd, data: data, meta: *m, index: x.p.index}, h.name)
		return x.padding(h, nil)
	}

	big := &bigFile{fd: fd, name: string(h.name), index: x.p.index, meta: *m}
	big.pending.Store(1) // ours
	defer x.work.unref(big)
	if h.sparse != nil {
		big.holes.Store(true) // the file may end with one
		for _, e := range h.sparse {
			if err := x.bodyPart(big, e.off, e.size); err != nil {
				return err
			}
		}
	} else if err := x.bodyPart(big, 0, h.stored); err != nil {
		return err
	}
	return x.padding(h, big)
}

func (x *Extractor) bodyPart(big *bigFile, off, size int64) error {
	for size > 0 {
		data, err := x.src.piece(size)
		if err == io.EOF {
			return &EntryError{Name: big.name, Index: big.index, Kind: ErrMalformed, Err: ErrTruncated}
		}
		if err != nil {
			return err
		}
		big.pending.Add(1)
		x.queue(job{fd: big.fd, data: data, off: off, big: big, index: big.index}, nil)
		off += int64(len(data))
		size -= int64(len(data))
	}
	return nil
}

// padding passes over what fills the body's last block.
func (x *Extractor) padding(h *header, big *bigFile) error {
	// The header lies in a chunk that may be gone once there was a body.
	err := x.src.skip(x.p.pad)
	if err == io.ErrUnexpectedEOF {
		if big != nil {
			return &EntryError{Name: big.name, Index: big.index, Kind: ErrMalformed, Err: ErrTruncated}
		}
		return x.malformed(h, ErrTruncated)
	}
	return err
}

func (x *Extractor) queue(j job, name []byte) {
	b := x.cur
	j.nameOff = len(b.names)
	b.names = append(b.names, name...)
	j.nameEnd = len(b.names)
	b.jobs = append(b.jobs, j)
	if len(b.jobs) >= x.maxJobs {
		x.flush(x.src.cur)
	}
}

// symlink makes a symlink, target verbatim.
func (x *Extractor) symlink(h *header, dir *openDir, uid, gid uint32) error {
	switch {
	case len(h.link) == 0:
		return x.malformed(h, errors.New("the symlink's target is empty"))
	case bytes.IndexByte(h.link, 0) >= 0:
		return x.malformed(h, errors.New("there is a NUL in the symlink's target"))
	}
	x.target.set(h.link)
	err := x.create(dir, func() error { return sysSymlinkat(x.target, dir.fd, x.base) })
	if err != nil {
		return x.blame(h, opError("create the symlink", err))
	}
	return x.nameMeta(h, dir, uid, gid, false)
}

// nameMeta puts metadata onto an entry that cannot be opened, through its
// directory and its name, which is not followed.
func (x *Extractor) nameMeta(h *header, dir *openDir, uid, gid uint32, chmod bool) error {
	if x.opts.Owner == OwnerKeep && (uid != x.fsuid || gid != x.fsgid) {
		if err := unix.Fchownat(dir.fd, x.base.String(), int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return x.blame(h, opError("change the owner", err))
		}
	}
	if x.opts.Owner == OwnerRootless && (h.uid != 0 || h.gid != 0) {
		// The kernel allows user attributes on files and directories only.
		x.losses.add(LossOwner, string(h.name), x.p.index, fmt.Sprintf("%d:%d", h.uid, h.gid))
	}
	if len(h.xattrs) > 0 && !x.opts.NoXattrs {
		path := procFD(dir.fd) + "/" + x.base.String()
		for _, a := range h.xattrs {
			name := string(a.name)
			class, loss := x.classify(name)
			if class != xattrKeep {
				x.losses.add(loss, string(h.name), x.p.index, name)
				continue
			}
			if err := unix.Lsetxattr(path, name, a.value, 0); err != nil {
				if !xattrRefused(err) {
					return x.blame(h, opError("set the attribute "+name, err))
				}
				x.losses.add(loss, string(h.name), x.p.index, name+": "+err.Error())
			}
		}
	}
	if chmod {
		if err := x.chmodName(dir, h.mode); err != nil {
			return x.blame(h, opError("change the mode", err))
		}
	}
	if err := sysUtimes(dir.fd, x.base, h.sec, h.nsec); err != nil {
		return x.blame(h, opError("set the times", err))
	}
	return nil
}

// chmodName changes the mode of a FIFO or a device. fchmodat(2) follows
// symlinks, so it goes through a handle; one of another type is left alone.
func (x *Extractor) chmodName(dir *openDir, mode uint32) error {
	fd, err := sysOpenat(dir.fd, x.base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFIFO, unix.S_IFCHR, unix.S_IFBLK:
		return chmodHandle(fd, mode)
	}
	return errors.New("the tree was changed by another process meanwhile")
}

// hardlink makes another name for what an earlier entry made.
func (x *Extractor) hardlink(h *header, dir *openDir) error {
	full, escapes, err := normalize(x.linkFull[:0], h.link)
	x.linkFull = full
	if err != nil {
		return x.malformed(h, fmt.Errorf("hard link target: %w", err))
	}
	if escapes {
		return x.refused(h, fmt.Errorf("the hard link's target %q leaves the root directory", clip(h.link)))
	}
	parent, base := splitPath(full)
	if dots(base) {
		return x.malformed(h, fmt.Errorf("the hard link's target %q is a directory", clip(h.link)))
	}
	from, err := x.lookup(parent, false)
	if err != nil {
		return x.linkMissing(h, full, err)
	}
	x.linkBase.set(base)
	// linkat(2) without AT_SYMLINK_FOLLOW links a symlink itself.
	for try := 0; ; try++ {
		err = sysLinkat(from.fd, x.linkBase, dir.fd, x.base)
		if err != unix.EEXIST || try == maxTries {
			break
		}
		// Removing the name first would lose a file that is its own target.
		var a, b unix.Stat_t
		if err := unix.Fstatat(from.fd, x.linkBase.String(), &a, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return x.linkMissing(h, full, &nameError{fmt.Sprintf("the hard link's target %q does not exist", clip(h.link))})
		}
		if err := unix.Fstatat(dir.fd, x.base.String(), &b, unix.AT_SYMLINK_NOFOLLOW); err == nil {
			if a.Ino == b.Ino && a.Dev == b.Dev {
				return nil
			}
			if a.Mode&unix.S_IFMT == unix.S_IFDIR {
				return x.malformed(h, fmt.Errorf("the hard link's target %q is a directory", clip(h.link)))
			}
			if err := x.remove(dir, b.Mode&unix.S_IFMT); err != nil {
				return x.blame(h, err)
			}
		}
	}
	switch err {
	case nil:
		return nil
	case unix.ENOENT:
		return x.linkMissing(h, full, &nameError{fmt.Sprintf("the hard link's target %q does not exist", clip(h.link))})
	case unix.EPERM:
		var st unix.Stat_t
		if unix.Fstatat(from.fd, x.linkBase.String(), &st, unix.AT_SYMLINK_NOFOLLOW) == nil &&
			st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return x.malformed(h, fmt.Errorf("the hard link's target %q is a directory", clip(h.link)))
		}
	}
	return x.blame(h, opError(fmt.Sprintf("link to %q", clip(h.link)), err))
}

// linkMissing handles a hard link without a target. One to a device that was
// left out is left out too.
func (x *Extractor) linkMissing(h *header, full []byte, err error) error {
	if _, ok := x.skipped[string(full)]; ok {
		return x.skipDevice(h, "a link to a device")
	}
	return x.blame(h, err)
}

// node makes a FIFO or a device.
func (x *Extractor) node(h *header, dir *openDir, typ uint32, dev uint64, uid, gid uint32) error {
	err := x.create(dir, func() error { return sysMknodat(dir.fd, x.base, typ|h.mode, dev) })
	if err != nil {
		if typ != unix.S_IFIFO && err == unix.EPERM && x.opts.Devices == DevicesAuto {
			return x.skipDevice(h, fmt.Sprintf("%d:%d", h.major, h.minor))
		}
		return x.blame(h, opError("create the "+typeName(h.typ), err))
	}
	return x.nameMeta(h, dir, uid, gid, h.mode&0o7000 != 0)
}

func (x *Extractor) device(h *header, dir *openDir, uid, gid uint32) error {
	// The kernel's dev_t has 12 bits for the major and 20 for the minor number.
	if h.major < 0 || h.major >= 1<<12 || h.minor < 0 || h.minor >= 1<<20 {
		return x.malformed(h, fmt.Errorf("device number %d:%d is out of range", h.major, h.minor))
	}
	switch x.opts.Devices {
	case DevicesError:
		return x.refused(h, fmt.Errorf("it is a %s", typeName(h.typ)))
	case DevicesSkip:
		typ, err := x.typeOf(dir)
		if err == nil {
			err = x.remove(dir, typ) // the entry replaces it all the same
		}
		if err != nil {
			return x.blame(h, err)
		}
		return x.skipDevice(h, fmt.Sprintf("%d:%d", h.major, h.minor))
	}
	typ := uint32(unix.S_IFCHR)
	if h.typ == typeBlock {
		typ = unix.S_IFBLK
	}
	return x.node(h, dir, typ, unix.Mkdev(uint32(h.major), uint32(h.minor)), uid, gid)
}

func (x *Extractor) skipDevice(h *header, detail string) error {
	kind := LossDevice
	if strings.HasPrefix(string(x.full), "dev/") {
		kind = LossDeviceInDev // the runtime mounts its own over it
	}
	x.losses.add(kind, string(h.name), x.p.index, detail)
	if x.skipped == nil {
		x.skipped = make(map[string]struct{})
	}
	if len(x.skipped) >= maxSkipped {
		return x.refused(h, fmt.Errorf("there are more than %d devices that cannot be created", maxSkipped))
	}
	x.skipped[string(x.full)] = struct{}{}
	return nil
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

// keepOwner notes the real ids where every file is the caller's.
func (x *Extractor) keepOwner(h *header, fd int) error {
	if x.opts.Owner != OwnerRootless || h.uid == 0 && h.gid == 0 {
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

// Finish puts metadata onto the directories, children before parents, and
// reports.
func (x *Extractor) Finish(ctx context.Context) (*Report, error) {
	uid, gid, err := x.owner.disk(0, 0)
	if err != nil {
		return nil, fmt.Errorf("own the root directory: %w", err)
	}
	for i := x.table.count - 1; i >= 0; i-- {
		if i&0xfff == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		r := x.table.at(i)
		meta := dirMeta{mode: r.mode, sec: r.sec, nsec: r.nsec}
		if r.flags&dirImplied != 0 {
			meta = dirMeta{mode: impliedMode, uid: uid, gid: gid, sec: x.newestSec, nsec: x.newestNsec}
		} else {
			o := x.table.owners[r.owner]
			meta.uid, meta.gid = o[0], o[1]
		}
		if err := x.finishDir(i, r, meta); err != nil {
			x.pathBuf = x.table.path(x.pathBuf[:0], i)
			return nil, fmt.Errorf("finish the directory %q: %w", clip(x.pathBuf), err)
		}
	}
	x.report.Losses = x.losses.list()
	return &x.report, nil
}

func (x *Extractor) finishDir(i int, r *dirRecord, m dirMeta) error {
	fd := x.dirs.root.fd
	if i != 0 {
		x.pathBuf = x.table.path(x.pathBuf[:0], i)
		var err error
		fd, err = x.dirs.openReal(x.pathBuf)
		switch err {
		case nil:
		case unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EXDEV:
			return nil // a later entry replaced it
		default:
			return opError("open", err)
		}
		defer unix.Close(fd)
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return opError("stat", err)
		}
		if st.Ino != r.ino {
			return nil
		}
		if rec, ok := x.table.find(r.ino); ok && rec != i {
			return nil // the number went to a directory made later
		}
	}
	if r.flags&dirChown != 0 && x.opts.Owner == OwnerKeep && (i == 0 || m.uid != x.fsuid || m.gid != x.fsgid) {
		if err := unix.Fchown(fd, int(m.uid), int(m.gid)); err != nil {
			return opError("change the owner", err)
		}
	}
	if r.flags&dirACL != 0 {
		for _, a := range x.table.acls[i] {
			if err := unix.Fsetxattr(fd, a.name, a.value, 0); err != nil {
				if !xattrRefused(err) {
					return opError("set the attribute "+a.name, err)
				}
				x.losses.add(LossACL, a.entry, a.index, a.name+": "+err.Error())
			}
		}
	}
	if r.flags&dirChmod != 0 {
		if err := unix.Fchmod(fd, uint32(m.mode)); err != nil {
			return opError("change the mode", err)
		}
	}
	if err := sysUtimes(fd, nil, m.sec, m.nsec); err != nil {
		return opError("set the times", err)
	}
	return nil
}
