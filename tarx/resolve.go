package tarx

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// nameError says that a name does not fit the tree so far.
type nameError struct {
	msg    string
	notDir bool
}

func (e *nameError) Error() string { return e.msg }

func notDirectory(path []byte) error {
	return &nameError{msg: fmt.Sprintf("%q, or what leads to it, is not a directory", path), notDir: true}
}

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
	// What is done by now is seen; asked later, it might be done too late.
	pending := !create && x.work.pending()
	fd, err := x.dirs.resolve(path)
	if err == nil {
		return x.opened(path, fd)
	}
	switch err {
	case unix.ENOENT:
		if create {
			return x.imply(path)
		}
		if pending {
			x.settle()
			return x.lookup(path, false)
		}
		return nil, &nameError{msg: fmt.Sprintf("there is no directory %q", path)}
	case unix.ENOTDIR:
		return nil, notDirectory(path)
	case unix.ELOOP:
		return nil, &nameError{msg: fmt.Sprintf("%q goes round in symlinks", path)}
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
	x.table.reopened(rec)
	if x.room.miss(x.root) {
		x.dirs.room = x.room.dirs
	}
	return x.dirs.add(path, fd, rec), nil
}

// imply makes the directory at path, which no entry has named.
func (x *Extractor) imply(path []byte) (*openDir, error) {
	up, base := splitPath(path)
	parent, err := x.lookup(up, true)
	if named, ok := errors.AsType[*nameError](err); ok && named.notDir {
		err = notDirectory(path) // a file that was on its way
	}
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
	key := x.used.key(parent.rec, base)
	if !x.used.note(key) && x.work.onItsWay(key) {
		x.settle()
		return x.lookup(path, true)
	}
	var name cname
	name.set(base)
	if err := x.mkdir(parent, name, impliedMode); err != nil {
		if err == unix.EEXIST {
			if x.work.pending() {
				x.settle() // it may be a symlink to what is on its way
				return x.lookup(path, true)
			}
			// Of "a/../b" it may have been "a" alone that was missing.
			fd, err := x.dirs.resolve(path)
			switch err {
			case nil:
				return x.opened(path, fd)
			case unix.ENOTDIR:
				return nil, notDirectory(path)
			}
			return nil, &nameError{msg: fmt.Sprintf("%q is a symlink that leads nowhere", path)}
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
	} else {
		x.table.reopened(rec)
	}
	return x.dirs.add(path, fd, rec), nil
}
