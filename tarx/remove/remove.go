// Package remove removes directory trees that somebody else may be changing.
package remove

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"ocibundle/tarx/handle"
)

// ErrMount is what [All] reports of a mount point that it met.
var ErrMount = errors.New("is a mount point")

// All removes the entry called name of the directory that parent is open on, and everything below
// it. Where there is no such entry, there is nothing to do.
//
// Promise: every step is taken from an open directory to one name in it, so that nobody who renames
// or replaces things meanwhile can make it remove something outside the tree. A symbolic link is
// removed, not followed. A mount point is left as it is and reported as [ErrMount]; what lies
// beside it is still removed. Directories that the caller owns but cannot read, search or write are
// made accessible first. Trees of any depth take a bounded number of file descriptors, and
// directories of any size take bounded memory.
//
// Two threads remove what is larger. All carries on after an error and returns the first, which is
// an [*fs.PathError] whose path begins with name, unless a second attempt succeeds and all is gone
// in the end. parent itself is neither changed nor closed.
func All(parent int, name string) error {
	if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return &fs.PathError{Op: "remove", Path: name, Err: unix.EINVAL}
	}
	r := remover{parent: parent, crew: &crew{}}
	defer r.crew.end()
	if r.removeFile(name) {
		r.enter(level{name: name})
	}
	return r.walk()
}

// Empty is [All], but leaves the directory called name itself, empty.
func Empty(parent int, name string) error {
	r := remover{parent: parent, crew: &crew{}}
	defer r.crew.end()
	r.enter(level{name: name, stays: true})
	return r.walk()
}

// Children empties the directory that dir is open on, as [All] does, except the entries called
// keep, and leaves the directory itself as it is. Paths in errors begin below it.
func Children(dir int, keep ...string) error {
	fd, err := handle.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC) // an offset of its own
	if err != nil {
		return err
	}
	r := remover{spare: keep, crew: &crew{}}
	defer r.crew.end()
	r.stack.Enter(fd, level{stays: true, opened: true})
	return r.walk()
}

// removePasses limits how often one directory is read anew because it was not empty at the end:
// some filesystems skip entries when others go, and somebody may be creating files all the while.
const removePasses = 64

// remover is a walk in progress, on one thread.
type remover struct {
	crew   *crew
	nested int // how many walks of this thread wait until this one has ended
	parent int // the directory that holds the tree
	stack  handle.Stack[level]
	spare  []string // entries of the top that stay
	buf    []byte
	gone   int // how many entries it has removed
	err    error
}

type level struct {
	name    string
	subdirs []string // of what was read so far, those still to be removed
	removed bool     // something went in this pass
	passes  int
	opened  bool // made accessible already, or not ours to change
	kept    bool // something could not be removed, and has been reported
	stays   bool // to be emptied, not removed
	found   bool // something was listed in this pass, or could not be
	given   []*part
	lent    bool // another walk's, of which subdirs are a part given to this one
}

func (r *remover) walk() error {
	defer r.stack.Close()
	for r.stack.Len() > 0 {
		r.share()
		top := r.stack.Current()
		if n := len(top.Data.subdirs); n > 0 {
			name := top.Data.subdirs[n-1]
			top.Data.subdirs = top.Data.subdirs[:n-1]
			r.enter(level{name: name})
			continue
		}
		if !top.Data.lent && r.read(top) {
			continue
		}
		r.collect(&top.Data)
		if top.Data.lent || !r.leave() {
			break
		}
	}
	return r.err
}

// current is the current directory, or nil above the tree.
func (r *remover) current() *level {
	if r.stack.Len() == 0 {
		return nil
	}
	return &r.stack.Current().Data
}

// fail notes the first error. The path is that of name in the current directory; of a very deep one
// only the end is kept.
func (r *remover) fail(op, name string, err error) {
	if d := r.current(); d != nil {
		d.kept = true
	}
	if r.err != nil {
		return
	}
	const shown = 64
	var parts []string
	n := r.stack.Len()
	for i := range n {
		if i == 0 || i >= n-shown {
			parts = append(parts, r.stack.At(i).Data.name)
		} else if i == 1 {
			parts = append(parts, "...")
		}
	}
	r.err = &fs.PathError{Op: op, Path: path.Join(append(parts, name)...), Err: err}
}

func (r *remover) dirfd() int {
	if r.stack.Len() > 0 {
		return r.stack.Current().FD
	}
	return r.parent
}

// unlock gives the caller access to the current directory, once. A directory above the tree is not
// ours to change.
func (r *remover) unlock() bool {
	d := r.current()
	if d == nil || d.opened {
		return false
	}
	d.opened = true
	return unix.Fchmod(r.dirfd(), 0o700) == nil
}

// unlink is unlinkat(2) in the current directory.
func (r *remover) unlink(name string, flags int) error {
	err := handle.Unlinkat(r.dirfd(), name, flags)
	if err == unix.EACCES && r.unlock() {
		err = handle.Unlinkat(r.dirfd(), name, flags)
	}
	if err == unix.ENOENT {
		return nil
	}
	if err == nil {
		r.gone++
		if d := r.current(); d != nil {
			d.removed = true
		}
	}
	return err
}

// removeFile removes the entry name of the current directory, unless that may be a directory, which
// it reports. (Linux says EISDIR of one, POSIX and some filesystems EPERM; immutable files give
// that too.)
func (r *remover) removeFile(name string) (isDir bool) {
	switch err := r.unlink(name, 0); err {
	case nil:
		return false
	case unix.EISDIR, unix.EPERM:
		return true
	default:
		r.fail("remove", name, mountError(err))
		return false
	}
}

// enter makes a directory of the current one the current one.
func (r *remover) enter(l level) {
	name := l.name
	fd, err := r.openDir(name)
	switch err {
	case nil:
		r.stack.Enter(fd, l)
	case unix.ENOENT:
	case unix.ENOTDIR, unix.ELOOP: // an immutable file, or what was a directory when it was listed
		if err := r.unlink(name, 0); err != nil {
			r.fail("remove", name, mountError(err))
		}
	default:
		// An empty directory goes without being read.
		if err != unix.EACCES || r.unlink(name, unix.AT_REMOVEDIR) != nil {
			r.fail("open", name, mountError(err))
		}
	}
}

// openDir opens the directory name of the current one for reading.
func (r *remover) openDir(name string) (int, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err := handle.OpenSameMount(r.dirfd(), name, flags)
	for err == unix.EMFILE && r.stack.CloseFarthest() {
		fd, err = handle.OpenSameMount(r.dirfd(), name, flags)
	}
	if err != unix.EACCES {
		return fd, err
	}
	// Either the current directory cannot be searched, or this one cannot be read.
	if r.unlock() {
		if fd, err = handle.OpenSameMount(r.dirfd(), name, flags); err != unix.EACCES {
			return fd, err
		}
	}
	h, herr := handle.OpenSameMount(r.dirfd(), name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if herr != nil {
		return -1, err
	}
	defer unix.Close(h)
	if handle.Chmod(h, 0o700) != nil {
		return -1, err
	}
	return handle.Reopen(h, flags&^unix.O_NOFOLLOW)
}

// read removes what the next part of the current directory lists and notes the directories in it.
// It reports false at the end.
func (r *remover) read(d *handle.Level[level]) bool {
	if r.buf == nil {
		r.buf = make([]byte, 32<<10)
	}
	n, err := handle.Getdents(d.FD, r.buf)
	if err != nil {
		if err != unix.ENOENT { // removed by somebody else
			d.Data.found = true
			r.fail("read", "", err)
		}
		return false
	}
	if n == 0 {
		return false
	}
	for rest := r.buf[:n]; len(rest) > 0; {
		raw, kind, next := handle.NextDirent(rest)
		rest = next
		name := string(raw)
		if handle.IsDot(raw) || r.stack.Len() == 1 && slices.Contains(r.spare, name) {
			continue
		}
		d.Data.found = true
		if kind == unix.DT_DIR || r.removeFile(name) {
			d.Data.subdirs = append(d.Data.subdirs, name)
		}
	}
	return true
}

// leave removes the current directory, which has been read to its end, and returns to the one
// above. It reports false where that one cannot be found again.
func (r *remover) leave() bool {
	d, err := r.stack.Leave()
	if err != nil {
		r.fail("open", "..", err)
		return false
	}
	if !d.Data.stays {
		err = r.unlink(d.Data.name, unix.AT_REMOVEDIR)
	} else if d.Data.found && (d.Data.removed || d.Data.kept) {
		err = unix.ENOTEMPTY // for all that is known
	}
	switch {
	case err == nil && r.stack.Len() == 0:
		r.err = nil // whatever failed has been done since
	case err == nil:
	case (err == unix.ENOTEMPTY || err == unix.EEXIST) && d.Data.removed && d.Data.passes < removePasses:
		if _, err = unix.Seek(d.FD, 0, unix.SEEK_SET); err == nil {
			d.Data.removed, d.Data.found = false, false
			d.Data.passes++
			r.stack.Enter(d.FD, d.Data)
			return true
		}
		r.fail("remove", d.Data.name, err)
	case d.Data.kept: // the reason has been reported
		if up := r.current(); up != nil {
			up.kept = true
		}
	default:
		r.fail("remove", d.Data.name, mountError(err))
	}
	unix.Close(d.FD)
	return true
}

// mountError turns what the kernel says of mount points into ErrMount.
func mountError(err error) error {
	if err == unix.EXDEV || err == unix.EBUSY {
		return ErrMount
	}
	return err
}
