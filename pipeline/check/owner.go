package check

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"ocibundle/pipeline/host"
	"ocibundle/tarx/handle"
)

// owners is what a walk over a tree has found out about the owners of its files.
type owners struct {
	outside int64  // files whose owner or group the mapping lacks
	first   string // the first of them: relative to the tree's root
	what    string // "uid" or "gid"
	id      uint32
	hidden  bool   // the first one's id has no name in this process's user namespace
	skipped int64  // directories that could not be read
	unread  string // the first of them
	why     error
}

// ownerLevel is what a directory on the way down has with it.
type ownerLevel struct {
	name string
	dirs []string // directories of the part that was read last
	done bool
}

// ownerWalk compares the owners of a tree with a mapping.
//
// Directories are opened from their parents' handles, one name at a time, and never through a
// symbolic link or into another mount; nothing else is opened. Of a directory a part is read at a
// time, so memory holds no more than the names in one part for each level down.
type ownerWalk struct {
	mapping     user.IdentityMapping // container -> disk
	inNamespace bool
	dirents     []byte
	stack       handle.Stack[ownerLevel]
	found       owners
	fault       error // what ends the walk, and says nothing about the tree
}

func (w *ownerWalk) run(ctx context.Context, root *os.File) (owners, error) {
	w.dirents = make([]byte, 32<<10)
	defer w.stack.Close()
	fd, err := handle.Openat(int(root.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err != nil {
		return w.found, err
	}
	w.stack.Enter(fd, ownerLevel{})
	for w.stack.Len() > 0 && w.fault == nil {
		if ctx.Err() != nil {
			return w.found, context.Cause(ctx)
		}
		top := w.stack.Current()
		switch {
		case len(top.Data.dirs) > 0:
			name := top.Data.dirs[0]
			top.Data.dirs = top.Data.dirs[1:]
			w.enter(top.FD, name)
		case !top.Data.done:
			if err := w.read(top.FD, &top.Data); err != nil {
				w.skip("", err)
				top.Data.done = true
			}
		default:
			l, err := w.stack.Leave()
			if err != nil {
				return w.found, err
			}
			unix.Close(l.FD)
		}
	}
	return w.found, w.fault
}

func (w *ownerWalk) path(name string) string {
	const shown = 32
	var parts []string
	for i := max(1, w.stack.Len()-shown); i < w.stack.Len(); i++ {
		parts = append(parts, w.stack.At(i).Data.name)
	}
	if name != "" {
		parts = append(parts, name)
	}
	if w.stack.Len() > shown {
		parts = append([]string{"..."}, parts...)
	}
	return strings.Join(parts, "/")
}

func (w *ownerWalk) skip(name string, err error) {
	if errors.Is(err, fs.ErrNotExist) {
		return // removed meanwhile
	}
	if host.IsFault(err) {
		w.fault = &fs.PathError{Op: "look at", Path: "/" + w.path(name), Err: err}
		return
	}
	if w.found.skipped == 0 {
		w.found.unread, w.found.why = w.path(name), err
	}
	w.found.skipped++
}

// enter makes the directory name of the current one the current one.
func (w *ownerWalk) enter(dirfd int, name string) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err := handle.OpenSameMount(dirfd, name, flags)
	switch err {
	case nil:
		w.stack.Enter(fd, ownerLevel{name: name})
	case unix.EXDEV, unix.ENOTDIR, unix.ELOOP: // a mount point, or not a directory any more
	default:
		w.skip(name, err)
	}
}

// read looks at the next part of the current directory.
func (w *ownerWalk) read(dirfd int, dir *ownerLevel) error {
	n, err := handle.Getdents(dirfd, w.dirents)
	if err != nil {
		return err
	}
	dir.done = n == 0
	for rest := w.dirents[:n]; len(rest) > 0; {
		raw, _, next := handle.NextDirent(rest)
		rest = next
		if handle.IsDot(raw) {
			continue
		}
		name := string(raw)
		var st unix.Stat_t
		if err := unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			w.skip(name, err)
			continue
		}
		w.look(dirfd, name, &st)
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
