package extract

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"ocibundle/tarx"
)

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
	if create && x.upper && (err == unix.ENOTDIR || err == unix.ELOOP) {
		return x.imply(path)
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
		return nil, &tarx.NameError{Msg: fmt.Sprintf("there is no directory %q", path)}
	case unix.ENOTDIR:
		return nil, tarx.NotDirectory(path)
	case unix.ELOOP:
		return nil, &tarx.NameError{Msg: fmt.Sprintf("%q is a loop of symlinks", path)}
	}
	return nil, opError(fmt.Sprintf("open the directory %q", tarx.Clip(path)), err)
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
	up, base := tarx.SplitPath(path)
	parent, err := x.lookup(up, true)
	if named, ok := errors.AsType[*tarx.NameError](err); ok && named.NotDir {
		err = tarx.NotDirectory(path) // a file that was on its way
	}
	if err != nil {
		return nil, err
	}
	if tarx.Dots(base) {
		fd, err := x.dirs.resolve(path)
		if err != nil {
			return nil, opError(fmt.Sprintf("open the directory %q", tarx.Clip(path)), err)
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
	if err := x.mkdir(parent, name, tarx.ImpliedMode); err != nil {
		if err == unix.EEXIST {
			if x.work.pending() {
				x.settle() // it may be a symlink to what is on its way
				return x.lookup(path, true)
			}
			return x.inTheWay(path, parent, name)
		}
		return nil, opError(fmt.Sprintf("create the directory %q", tarx.Clip(path)), err)
	}
	return x.enter(parent, path, name, dirImplied|dirChown)
}

// inTheWay finds the directory at path after all, or deals with what has its name.
func (x *Extractor) inTheWay(path []byte, parent *openDir, name cname) (*openDir, error) {
	// Of "a/../b" it may have been "a" alone that was missing.
	fd, err := x.dirs.resolve(path)
	if err == nil {
		return x.opened(path, fd)
	}
	if x.upper && !x.own.Has(int32(parent.rec), name[:len(name)-1]) && (err == unix.ENOTDIR || err == unix.ENOENT || err == unix.ELOOP) {
		// What an upper layer has below a file, or below a symlink that leads nowhere, hides that,
		// as in the engines, where a layer's directories are those of a filesystem of its own.
		// What the layer has made itself is in the way as in any stream.
		x.dirs.forget()
		if err := sysUnlinkat(parent.fd, name, 0); err != nil && err != unix.ENOENT {
			return nil, opError(fmt.Sprintf("replace %q", tarx.Clip(path)), err)
		}
		if err := x.mkdir(parent, name, tarx.ImpliedMode); err != nil {
			return nil, opError(fmt.Sprintf("create the directory %q", tarx.Clip(path)), err)
		}
		return x.enter(parent, path, name, dirImplied|dirChown)
	}
	if err == unix.ENOTDIR {
		return nil, tarx.NotDirectory(path)
	}
	return nil, tarx.LeadsNowhere(path)
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
