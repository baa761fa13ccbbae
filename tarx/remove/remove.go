// Package remove removes directory trees that somebody else may be changing.
package remove

import (
	"errors"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"ocibundle/tarx/handle"
)

// ErrMount is what [RemoveAll] reports of a mount point that it met.
var ErrMount = errors.New("is a mount point")

// All removes the entry called name of the directory that parent is open on, and everything below it. That there is
// no such entry is no error.
//
// Promise: every step is taken from an open directory to one name in it, so that nobody who renames or replaces things
// meanwhile can make it remove something outside the tree. A symbolic link is removed, not followed. A mount point is left
// as it is and reported as [ErrMount]; what lies beside it is still removed. Directories that the caller owns but cannot
// read, search or write are made accessible first. Trees of any depth take a bounded number of file descriptors, and
// directories of any size take bounded memory.
//
// It carries on after an error and returns the first, which is an [*fs.PathError] whose path begins with name.
// parent itself is neither changed nor closed.
func All(parent int, name string) error {
	if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return &fs.PathError{Op: "remove", Path: name, Err: unix.EINVAL}
	}
	r := remover{parent: parent}
	defer r.close()
	if r.removeFile(name) {
		r.removeDir(name)
	}
	for len(r.stack) > 0 {
		top := &r.stack[len(r.stack)-1]
		if n := len(top.subdirs); n > 0 {
			name := top.subdirs[n-1]
			top.subdirs = top.subdirs[:n-1]
			r.removeDir(name)
			continue
		}
		if r.read(top) {
			continue
		}
		if !r.leave() {
			break
		}
	}
	return r.err
}

const (
	// removeOpen is how many directories are held open at once. Those further up are closed and found again through "..".
	removeOpen = 32
	// removePasses limits how often one directory is read anew because it was not empty at the end: some filesystems skip
	// entries when others go, and somebody may be creating files all the while.
	removePasses = 64
)

// remover is a walk in progress: the directories from the top of the tree to where it is now.
type remover struct {
	parent int
	stack  []removeLevel
	open   int // the first index of stack whose fd is open; all after it are open too
	buf    []byte
	err    error
}

type removeLevel struct {
	name     string
	fd       int
	dev, ino uint64   // which directory it is, noted when fd is closed for the time being
	subdirs  []string // of what was read so far, those still to be removed
	removed  bool     // something went in this pass
	passes   int
	opened   bool // made accessible already
	kept     bool // something could not be removed, and has been reported
}

func (r *remover) close() {
	for _, d := range r.stack[min(r.open, len(r.stack)):] {
		unix.Close(d.fd)
	}
}

// fail notes the first error. The path is that of name in the current directory; of a very deep one only the end is kept.
func (r *remover) fail(op, name string, err error) {
	if n := len(r.stack); n > 0 {
		r.stack[n-1].kept = true
	}
	if r.err != nil {
		return
	}
	const shown = 64
	var parts []string
	for i, d := range r.stack {
		if i == 0 || i >= len(r.stack)-shown {
			parts = append(parts, d.name)
		} else if i == 1 {
			parts = append(parts, "...")
		}
	}
	r.err = &fs.PathError{Op: op, Path: path.Join(append(parts, name)...), Err: err}
}

func (r *remover) dirfd() int {
	if n := len(r.stack); n > 0 {
		return r.stack[n-1].fd
	}
	return r.parent
}

// unlock gives the caller access to the current directory, once. The caller's own directory above the tree is not ours to
// change.
func (r *remover) unlock() bool {
	if len(r.stack) == 0 {
		return false
	}
	d := &r.stack[len(r.stack)-1]
	if d.opened {
		return false
	}
	d.opened = true
	return unix.Fchmod(d.fd, 0o700) == nil
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
	if err == nil && len(r.stack) > 0 {
		r.stack[len(r.stack)-1].removed = true
	}
	return err
}

// removeFile removes the entry name of the current directory, unless that may be a directory, which it reports. (Linux says
// EISDIR of one, POSIX and some filesystems EPERM; immutable files give that too.)
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

// removeDir makes the directory name of the current one the current one.
func (r *remover) removeDir(name string) {
	fd, err := r.openDir(name)
	switch err {
	case nil:
		r.enter(name, fd)
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
	return handle.OpenSameMount(r.dirfd(), name, flags)
}

func (r *remover) enter(name string, fd int) {
	if len(r.stack)-r.open >= removeOpen {
		d := &r.stack[r.open]
		var st unix.Stat_t
		// Where this fails, the directory stays open: one descriptor more is better than not finding it again.
		if unix.Fstat(d.fd, &st) == nil {
			unix.Close(d.fd)
			d.fd, d.dev, d.ino = -1, st.Dev, st.Ino
			r.open++
		}
	}
	r.stack = append(r.stack, removeLevel{name: name, fd: fd})
}

// read removes what the next part of the current directory lists and notes the directories in it. It reports false at the
// end.
func (r *remover) read(d *removeLevel) bool {
	if r.buf == nil {
		r.buf = make([]byte, 32<<10)
	}
	n, err := handle.Getdents(d.fd, r.buf)
	if err != nil {
		if err != unix.ENOENT { // removed by somebody else
			r.fail("read", "", err)
		}
		return false
	}
	if n == 0 {
		return false
	}
	for rest := r.buf[:n]; len(rest) > 0; {
		var name string
		var kind uint8
		name, kind, rest = handle.NextDirent(rest)
		if name == "." || name == ".." {
			continue
		}
		if kind == unix.DT_DIR || r.removeFile(name) {
			d.subdirs = append(d.subdirs, name)
		}
	}
	return true
}

// leave removes the current directory, which has been read to its end, and returns to the one above. It reports false where
// that one cannot be found again.
func (r *remover) leave() bool {
	n := len(r.stack)
	d := r.stack[n-1]
	if n > 1 && r.stack[n-2].fd < 0 {
		up := &r.stack[n-2]
		fd, err := handle.ReopenParent(d.fd, up.dev, up.ino)
		if err != nil {
			r.fail("open", "..", err)
			return false
		}
		up.fd = fd
		r.open = n - 2
	}
	r.stack = r.stack[:n-1]
	err := r.unlink(d.name, unix.AT_REMOVEDIR)
	switch {
	case err == nil:
	case (err == unix.ENOTEMPTY || err == unix.EEXIST) && d.removed && d.passes < removePasses:
		if _, err := unix.Seek(d.fd, 0, unix.SEEK_SET); err == nil {
			d.removed = false
			d.passes++
			r.stack = append(r.stack, d)
			return true
		}
		r.fail("remove", d.name, err)
	case d.kept: // the reason has been reported
		if len(r.stack) > 0 {
			r.stack[len(r.stack)-1].kept = true
		}
	default:
		r.fail("remove", d.name, mountError(err))
	}
	unix.Close(d.fd)
	return true
}

// mountError turns what the kernel says of mount points into ErrMount.
func mountError(err error) error {
	if err == unix.EXDEV || err == unix.EBUSY {
		return ErrMount
	}
	return err
}

// Children empties the directory that dir is open on.
func Children(dir int) error {
	fd, err := handle.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC) // an offset of its own
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	buf := make([]byte, 32<<10)
	for range removePasses {
		removed := false
		for {
			n, err := handle.Getdents(fd, buf)
			if err != nil {
				return err
			}
			if n == 0 {
				break
			}
			for rest := buf[:n]; len(rest) > 0; {
				var name string
				name, _, rest = handle.NextDirent(rest)
				if name == "." || name == ".." {
					continue
				}
				if err := All(fd, name); err != nil {
					return err
				}
				removed = true
			}
		}
		if !removed {
			return nil
		}
		// Some filesystems skip entries when others go.
		if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
			return err
		}
	}
	return errors.New("the directory does not get empty")
}
