package check

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// owners is what a walk over a tree has found out about the owners of its files.
type owners struct {
	outside int64  // files whose owner or group the mapping lacks
	first   string // the first of them: relative to the tree's root
	what    string // "uid" or "gid"
	id      uint32
	hidden  bool  // the first one's id has no name in this process's user namespace
	skipped int64 // directories that could not be read
	unread  string
}

// ownerLevel is a directory on the way down.
type ownerLevel struct {
	name     string
	fd       int
	dev, ino uint64
	offset   int64    // where to read on, noted when fd is closed for the time being
	dirs     []string // directories of the part that was read last
	done     bool
}

// ownerWalk compares the owners of a tree with a mapping.
//
// Directories are opened from their parents' handles, one name at a time, and never through a symbolic link or into
// another mount; nothing else is opened. Of a directory a part is read at a time, so memory holds no more than the names in
// one part for each level down, and ownerOpen handles.
type ownerWalk struct {
	mapping     user.IdentityMapping // container -> disk
	inNamespace bool
	dirents     []byte
	stack       []ownerLevel
	found       owners
}

// ownerOpen is how many directories are held open at once.
const ownerOpen = 32

func (w *ownerWalk) run(ctx context.Context, root *os.File) (owners, error) {
	w.dirents = make([]byte, 32<<10)
	defer func() {
		for _, l := range w.stack {
			if l.fd >= 0 {
				unix.Close(l.fd)
			}
		}
	}()
	fd, err := unix.Openat(int(root.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return w.found, err
	}
	w.stack = append(w.stack, ownerLevel{fd: fd})
	for len(w.stack) > 0 {
		if ctx.Err() != nil {
			return w.found, context.Cause(ctx)
		}
		top := &w.stack[len(w.stack)-1]
		switch {
		case len(top.dirs) > 0:
			name := top.dirs[0]
			top.dirs = top.dirs[1:]
			w.enter(top, name)
		case !top.done:
			if err := w.read(top); err != nil {
				w.skip("", err)
				top.done = true
			}
		default:
			if err := w.leave(); err != nil {
				return w.found, err
			}
		}
	}
	return w.found, nil
}

func (w *ownerWalk) path(name string) string {
	var parts []string
	for _, l := range w.stack[1:] {
		parts = append(parts, l.name)
	}
	if name != "" {
		parts = append(parts, name)
	}
	const shown = 32
	if len(parts) > shown {
		parts = append([]string{"..."}, parts[len(parts)-shown:]...)
	}
	return strings.Join(parts, "/")
}

func (w *ownerWalk) skip(name string, err error) {
	if errors.Is(err, fs.ErrNotExist) {
		return // removed meanwhile
	}
	if w.found.skipped == 0 {
		w.found.unread = w.path(name)
	}
	w.found.skipped++
}

// enter makes the directory name of the current one the current one.
func (w *ownerWalk) enter(dir *ownerLevel, name string) {
	fd, err := openBelow(dir.fd, name)
	switch err {
	case nil:
	case unix.EXDEV, unix.ENOTDIR, unix.ELOOP: // a mount point, or no directory any more
		return
	default:
		w.skip(name, err)
		return
	}
	if n := len(w.stack); n >= ownerOpen {
		far := &w.stack[n-ownerOpen]
		var st unix.Stat_t
		offset, err := unix.Seek(far.fd, 0, io.SeekCurrent)
		if err == nil && unix.Fstat(far.fd, &st) == nil {
			unix.Close(far.fd)
			far.fd, far.dev, far.ino, far.offset = -1, st.Dev, st.Ino, offset
		}
	}
	w.stack = append(w.stack, ownerLevel{name: name, fd: fd})
}

// leave returns to the directory above.
func (w *ownerWalk) leave() error {
	n := len(w.stack)
	last := w.stack[n-1]
	defer unix.Close(last.fd)
	w.stack = w.stack[:n-1]
	if n == 1 || w.stack[n-2].fd >= 0 {
		return nil
	}
	up := &w.stack[n-2]
	fd, err := unix.Openat(last.fd, "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Dev != up.dev || st.Ino != up.ino {
		unix.Close(fd)
		return errors.New("the rootfs was changed while it was looked through")
	}
	if _, err := unix.Seek(fd, up.offset, io.SeekStart); err != nil {
		unix.Close(fd)
		return err
	}
	up.fd = fd
	return nil
}

// read looks at the next part of the current directory, and at the directory itself with the first.
func (w *ownerWalk) read(dir *ownerLevel) error {
	n, err := unix.Getdents(dir.fd, w.dirents)
	if err == unix.EINTR {
		return nil
	}
	if err != nil {
		return err
	}
	if n == 0 {
		dir.done = true
		return nil
	}
	var names []string
	_, _, names = unix.ParseDirent(w.dirents[:n], -1, names) // without "." and ".."
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(dir.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			w.skip(name, err)
			continue
		}
		w.look(dir.fd, name, &st)
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			dir.dirs = append(dir.dirs, name)
		}
	}
	return nil
}

// look compares one owner.
func (w *ownerWalk) look(dirfd int, name string, st *unix.Stat_t) {
	what, id, hidden := "uid", st.Uid, false
	switch {
	case !mapsTo(w.mapping.UIDMaps, st.Uid):
	case !mapsTo(w.mapping.GIDMaps, st.Gid):
		what, id = "gid", st.Gid
	case w.inNamespace && st.Uid == overflowID && !ownerMapped(dirfd, name, st):
		hidden = true
	default:
		return
	}
	if w.found.outside == 0 {
		w.found.first, w.found.what, w.found.id, w.found.hidden = w.path(name), what, id, hidden
	}
	w.found.outside++
}

// openBelow opens a directory in another one, unless it is a mount point (EXDEV).
func openBelow(dirfd int, name string) (int, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	how := unix.OpenHow{Flags: flags, Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH}
	for {
		fd, err := unix.Openat2(dirfd, name, &how)
		switch err {
		case unix.EINTR, unix.EAGAIN:
			continue
		case unix.ENOSYS, unix.EPERM: // an old kernel, or a strict seccomp profile
			return openSameDevice(dirfd, name, flags)
		}
		return fd, err
	}
}

func openSameDevice(dirfd int, name string, flags int) (int, error) {
	fd, err := unix.Openat(dirfd, name, flags, 0)
	if err != nil {
		return -1, err
	}
	var up, down unix.Stat_t
	if err := errors.Join(unix.Fstat(dirfd, &up), unix.Fstat(fd, &down)); err != nil {
		unix.Close(fd)
		return -1, err
	}
	if up.Dev != down.Dev {
		unix.Close(fd)
		return -1, unix.EXDEV
	}
	return fd, nil
}
