package extract

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/sys/unix"

	"ocibundle/tarx"
	"ocibundle/tarx/handle"
	"ocibundle/tarx/remove"
)

// directory makes or finds the directory of an entry.
func (x *Extractor) directory(h *tarx.Header, parent *openDir, full []byte, uid, gid uint32) error {
	// A directory that lacks a permission for its owner still takes its
	// children; it gets its own mode at the end.
	mode := h.Mode&0o777 | 0o700
	for try := 0; ; try++ {
		err := x.mkdir(parent, x.base, mode)
		if err == nil {
			flags := dirChown
			if mode != h.Mode {
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

// mkdir makes a directory. The few filesystems that take names of over 255
// bytes (NAME_MAX) are treated like the others: a record has no room for one.
func (x *Extractor) mkdir(parent *openDir, name cname, mode uint32) error {
	if len(name)-1 > unix.NAME_MAX {
		return unix.ENAMETOOLONG
	}
	return sysMkdirat(parent.fd, name, mode)
}

// maxTries is how often a name is cleared for an entry. Once is enough unless
// somebody else is at work in the tree.
const maxTries = 16

// nameDirectory notes an entry's metadata for a directory, for the end.
func (x *Extractor) nameDirectory(h *tarx.Header, d *openDir, uid, gid uint32) error {
	r := x.table.at(d.rec)
	again := r.flags&dirNamed != 0
	r.flags = r.flags&^dirImplied | dirChown | dirNamed
	r.mode = uint16(h.Mode)
	if !x.table.setOwner(d.rec, uid, gid) {
		return x.Refused(h, errors.New("directories have more than 65,535 owners"))
	}
	r.sec, r.nsec = h.Sec, h.Nsec
	x.table.dropACLs(d.rec)
	fd := d.fd
	if again && x.layer {
		if err := x.clearXattrs(fd); err != nil {
			return x.blame(h, err)
		}
	}
	if err := x.xattrs(h, fd, nil, d.rec); err != nil {
		return err
	}
	if again && x.Options.Owner == tarx.OwnerRootless {
		// The entry before this one may have had other ids.
		if err := unix.Fremovexattr(fd, tarx.XattrRootless); err != nil && err != unix.ENODATA && !tarx.XattrRefused(err) {
			return x.blame(h, opError("remove the attribute "+tarx.XattrRootless, err))
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
	if typ == 0 {
		return nil
	}
	if x.fresh {
		return errFolded
	}
	switch typ {
	case unix.S_IFDIR:
		x.settle() // files may be on their way into it
		x.dirs.forget()
		if err := remove.All(dir.fd, x.base.String()); err != nil {
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
func (x *Extractor) file(h *tarx.Header, dir *openDir, uid, gid uint32) error {
	m := fileMeta{size: h.Size, sec: h.Sec, nsec: h.Nsec, uid: uid, gid: gid, mode: uint16(h.Mode)}
	m.chown = x.Options.Owner == tarx.OwnerKeep && (uid != x.fsuid || gid != x.fsgid)
	mode := h.Mode & 0o777
	if len(h.Xattrs) > 0 || x.NotesOwner(h) {
		mode |= 0o200 // or a plain user may not set an attribute (xattr(7))
	}
	m.chmod = mode != h.Mode

	whole := h.Sparse == nil && (h.Stored == 0 || x.src.Cur.N-x.src.Pos >= int(min(h.Stored, tarx.ChunkSize+1)))
	if whole && x.fresh && len(h.Xattrs) == 0 && !x.NotesOwner(h) {
		x.cur.keys = append(x.cur.keys, x.key)
		dir.refs.Add(1)
		return x.wholeBody(h, job{dir: dir, mode: mode, meta: m})
	}
	var fd int
	err := x.create(dir, func() (err error) {
		fd, err = sysOpenat(dir.fd, x.base, createFlags, mode)
		return err
	})
	if err != nil {
		return x.blame(h, opError("create", err))
	}
	if len(h.Xattrs) > 0 {
		if err := x.xattrs(h, fd, &m, -1); err != nil {
			unix.Close(fd)
			return err
		}
	}
	if err := x.keepOwner(h, fd); err != nil {
		unix.Close(fd)
		return err
	}
	if whole {
		return x.wholeBody(h, job{fd: fd, meta: m})
	}
	return x.body(h, fd, &m)
}

// wholeBody queues j with the entry's contents, which lie in the chunk.
func (x *Extractor) wholeBody(h *tarx.Header, j job) error {
	if h.Stored > 0 {
		j.data, _ = x.src.Piece(h.Stored)
	}
	j.index = x.Parser.Index
	x.queue(j, h)
	return x.padding(h, nil)
}

// body queues what is to be written to fd, which it takes over.
func (x *Extractor) body(h *tarx.Header, fd int, m *fileMeta) error {
	big := &bigFile{fd: fd, name: tarx.ClipName(h.Name), index: x.Parser.Index, meta: *m}
	big.pending.Store(1) // ours
	x.big = big
	err := x.bodyParts(h, big)
	x.big = nil
	x.work.unref(big)
	return err
}

func (x *Extractor) bodyParts(h *tarx.Header, big *bigFile) error {
	if h.Sparse != nil {
		big.holes.Store(true) // the file may end with one
		for _, e := range h.Sparse {
			if err := x.bodyPart(big, e.Off, e.Size); err != nil {
				return err
			}
		}
	} else if err := x.bodyPart(big, 0, h.Stored); err != nil {
		return err
	}
	return x.padding(h, big)
}

func (x *Extractor) bodyPart(big *bigFile, off, size int64) error {
	for size > 0 {
		data, err := x.src.Piece(size)
		if err == io.EOF {
			return &tarx.EntryError{Name: big.name, Index: big.index, Kind: tarx.ErrMalformed, Err: tarx.ErrTruncated}
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
func (x *Extractor) padding(h *tarx.Header, big *bigFile) error {
	// The header lies in a chunk that may be gone once there was a body.
	err := x.src.Skip(x.Parser.Pad)
	if err == io.ErrUnexpectedEOF {
		if big != nil {
			return &tarx.EntryError{Name: big.name, Index: big.index, Kind: tarx.ErrMalformed, Err: tarx.ErrTruncated}
		}
		return x.Malformed(h, tarx.ErrTruncated)
	}
	return err
}

// queue puts a job into the current batch; h is nil for a part of a big file.
func (x *Extractor) queue(j job, h *tarx.Header) {
	b := x.cur
	j.nameOff = len(b.names)
	if h != nil {
		b.names = append(b.names, h.Name...)
		j.nameEnd = len(b.names)
	}
	if j.dir != nil {
		b.names = append(b.names, x.base...)
		j.baseEnd = len(b.names)
	}
	if j.from != nil {
		b.names = append(b.names, x.linkBase...)
		j.fromEnd = len(b.names)
		b.names = append(b.names, tarx.Clip(h.Link)...)
		j.linkEnd = len(b.names)
	}
	b.jobs = append(b.jobs, j)
	if len(b.jobs) >= x.room.jobs {
		x.flush(x.src.Cur)
	}
}

// symlink makes a symlink, target verbatim.
func (x *Extractor) symlink(h *tarx.Header, dir *openDir, uid, gid uint32) error {
	if err := x.CheckSymlink(h); err != nil {
		return err
	}
	x.target.set(h.Link)
	err := x.create(dir, func() error { return sysSymlinkat(x.target, dir.fd, x.base) })
	if err != nil {
		return x.blame(h, opError("create the symlink", err))
	}
	return x.nameMeta(h, dir, uid, gid, false)
}

// nameMeta puts metadata onto an entry that cannot be opened, through its
// directory and its name, which is not followed.
func (x *Extractor) nameMeta(h *tarx.Header, dir *openDir, uid, gid uint32, chmod bool) error {
	if x.Options.Owner == tarx.OwnerKeep && (uid != x.fsuid || gid != x.fsgid) {
		if err := unix.Fchownat(dir.fd, x.base.String(), int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return x.blame(h, opError("change the owner", err))
		}
	}
	if x.NotesOwner(h) {
		// The kernel allows user attributes on files and directories only.
		x.Lose(h, tarx.LossOwner, fmt.Sprintf("%d:%d", h.UID, h.GID))
	}
	if len(h.Xattrs) > 0 && !x.Options.NoXattrs {
		path := handle.Path(dir.fd) + "/" + x.base.String()
		for _, a := range h.Xattrs {
			name := string(a.Name)
			class, loss := x.ClassifyXattr(name)
			if class != tarx.XattrKeep {
				x.Lose(h, loss, name)
				continue
			}
			if err := unix.Lsetxattr(path, name, a.Value, 0); err != nil {
				if !refused(dir.fd, err) {
					return x.blame(h, opError("set the attribute "+name, err))
				}
				x.Lose(h, loss, name+": "+err.Error())
			}
		}
	}
	if chmod {
		if err := x.chmodName(dir, h.Mode); err != nil {
			return x.blame(h, opError("change the mode", err))
		}
	}
	if err := sysUtimes(dir.fd, x.base, h.Sec, h.Nsec); err != nil {
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
		return handle.Chmod(fd, mode)
	}
	return errors.New("the tree was changed by another process meanwhile")
}

// hardlink makes another name for what an earlier entry made.
func (x *Extractor) hardlink(h *tarx.Header, dir *openDir) error {
	parent, base, err := x.LinkTarget(h)
	if err != nil {
		return err
	}
	var from *openDir
	if x.isAside(x.LinkFull) {
		from, base, err = x.asidePlace(x.LinkFull)
	} else {
		from, err = x.lookup(parent, false)
	}
	if err != nil {
		return x.linkMissing(h, err)
	}
	x.linkBase.set(base)
	if x.fresh && slices.Contains(x.cur.keys, x.used.key(from.rec, base)) {
		x.cur.keys = append(x.cur.keys, x.key)
		dir.refs.Add(1)
		from.refs.Add(1)
		x.queue(job{dir: dir, from: from, index: x.Parser.Index}, h)
		return nil
	}
	// linkat(2) without AT_SYMLINK_FOLLOW links a symlink itself.
	for try := 0; ; try++ {
		pending := x.work.pending() // asked later, it might be done too late
		err = sysLinkat(from.fd, x.linkBase, dir.fd, x.base)
		if err == unix.ENOENT && pending {
			x.settle()
			err = sysLinkat(from.fd, x.linkBase, dir.fd, x.base)
		}
		if err != unix.EEXIST || try == maxTries {
			break
		}
		// Removing the name first would lose a file that is its own target.
		var a, b unix.Stat_t
		if err := unix.Fstatat(from.fd, x.linkBase.String(), &a, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return x.linkMissing(h, tarx.LinkToNothing(h))
		}
		if err := unix.Fstatat(dir.fd, x.base.String(), &b, unix.AT_SYMLINK_NOFOLLOW); err == nil {
			if a.Ino == b.Ino && a.Dev == b.Dev {
				return nil
			}
			if a.Mode&unix.S_IFMT == unix.S_IFDIR {
				return x.LinkToDirectory(h)
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
		return x.linkMissing(h, tarx.LinkToNothing(h))
	case unix.EPERM:
		var st unix.Stat_t
		if unix.Fstatat(from.fd, x.linkBase.String(), &st, unix.AT_SYMLINK_NOFOLLOW) == nil &&
			st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return x.LinkToDirectory(h)
		}
	}
	return x.blame(h, linkError(tarx.Clip(h.Link), err))
}

// linkMissing handles a hard link without a target. One to a device that was
// left out is left out too.
func (x *Extractor) linkMissing(h *tarx.Header, err error) error {
	if x.MissingTarget(h) {
		return nil
	}
	return x.blame(h, err)
}

// node makes a FIFO or a device.
func (x *Extractor) node(h *tarx.Header, dir *openDir, typ uint32, dev uint64, uid, gid uint32) error {
	err := x.create(dir, func() error { return sysMknodat(dir.fd, x.base, typ|h.Mode, dev) })
	if err != nil {
		if typ != unix.S_IFIFO && err == unix.EPERM && x.Options.Devices == tarx.DevicesAuto {
			return x.SkipDevice(h)
		}
		return x.blame(h, opError("create the "+tarx.TypeName(h.Type), err))
	}
	return x.nameMeta(h, dir, uid, gid, h.Mode&0o7000 != 0)
}

func (x *Extractor) device(h *tarx.Header, dir *openDir, uid, gid uint32) error {
	if err := x.CheckDevice(h); err != nil {
		return err
	}
	if x.Options.Devices == tarx.DevicesSkip {
		typ, err := x.typeOf(dir)
		if err == nil {
			err = x.remove(dir, typ) // the entry replaces it all the same
		}
		if err != nil {
			return x.blame(h, err)
		}
		return x.SkipDevice(h)
	}
	typ := uint32(unix.S_IFCHR)
	if h.Type == tarx.TypeBlock {
		typ = unix.S_IFBLK
	}
	return x.node(h, dir, typ, unix.Mkdev(uint32(h.Major), uint32(h.Minor)), uid, gid)
}
