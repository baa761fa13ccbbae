package bundle

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"ocibundle/tarx/handle"
	"ocibundle/tarx/remove"
)

// RemoveOptions are the choices of a removal.
type RemoveOptions struct {
	// AbsentOK takes it for done where there is nothing of that name.
	AbsentOK bool
}

// Remove removes bundles, with everything in their directories. All of them are looked at first: unless each one is a
// bundle, has nothing mounted below it and is no running process's root, none is removed, and the error is a *BundleError.
// A symbolic link to a bundle is none.
//
// A bundle vanishes in one step: it is renamed to a name like that of the stage it was made in, and removed there. So
// nobody meets half a bundle under its name, however the removal is interrupted, and what is left over is removed by the
// next Remove or Run for the same name. What cannot be removed (an immutable file, say) gets its name back, config.json
// included, so that the user sees it and may try again.
func Remove(ctx context.Context, dirs []string, o RemoveOptions) error {
	var bundles []*doomed
	defer func() {
		for _, b := range bundles {
			b.close()
		}
	}()
	for _, dir := range dirs {
		b, err := openDoomed(dir)
		if be, ok := errors.AsType[*Error](err); ok && o.AbsentOK && errors.Is(be.Err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		bundles = append(bundles, b)
	}
	for _, b := range bundles {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := b.remove(); err != nil {
			return err
		}
	}
	return nil
}

// doomed is a bundle that is to be removed.
type doomed struct {
	dest *destination
	dir  *os.File
}

func (b *doomed) close() {
	b.dir.Close()
	b.dest.Close()
}

func openDoomed(dir string) (_ *doomed, err error) {
	none := func(detail string, err error) error {
		return &Error{Kind: None, Dir: dir, Detail: detail, Err: err}
	}
	clean := filepath.Clean(dir)
	base := filepath.Base(clean)
	if dir == "" || base == "." || base == ".." || base == "/" {
		return nil, none("it has no name of its own", nil)
	}
	parent, err := os.OpenFile(filepath.Dir(clean), unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, none("", fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("open the directory that %q is in: %w", dir, handle.Cause(err))
	}
	b := &doomed{dest: &destination{dir: dir, Parent: parent, base: base}}
	defer func() {
		if err != nil {
			if b.dir != nil {
				b.dir.Close()
			}
			parent.Close()
		}
	}()
	if err := sweep(b.dest); err != nil {
		return nil, err
	}
	b.dir, err = OpenAt(parent, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	switch err {
	case nil:
	case unix.ENOENT:
		return nil, none("", err)
	case unix.ENOTDIR, unix.ELOOP:
		return nil, none("it is not a directory", err)
	default:
		return nil, fmt.Errorf("open %q: %w", dir, err)
	}
	if err := isBundle(b.dir); err != nil {
		return nil, none(err.Error(), nil)
	}
	if err := notMounted(dir, b.dir); err != nil {
		return nil, err
	}
	rootfs, err := OpenAt(b.dir, "rootfs", unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", filepath.Join(dir, "rootfs"), err)
	}
	defer rootfs.Close()
	pid, err := RootInUse(rootfs)
	if err != nil {
		return nil, fmt.Errorf("look for processes in %q: %w", dir, err)
	}
	if pid != 0 {
		return nil, &Error{Kind: InUse, Dir: dir, PID: pid}
	}
	// A stage is locked by whoever is at work on it, and so that nobody's sweep takes this for a stale one.
	switch err := unix.Flock(int(b.dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err {
	case nil:
	case unix.EWOULDBLOCK:
		return nil, &Error{Kind: Busy, Dir: dir}
	default:
		return nil, fmt.Errorf("lock %q: %w", dir, err)
	}
	return b, nil
}

func (b *doomed) remove() error {
	parent := int(b.dest.Parent.Fd())
	var random [8]byte
	rand.Read(random[:])
	name := stagePrefix(b.dest.base) + hex.EncodeToString(random[:])
	if err := unix.Renameat2(parent, b.dest.base, parent, name, unix.RENAME_NOREPLACE); err != nil {
		if err == unix.EBUSY {
			return &Error{Kind: Mounted, Dir: b.dest.dir, Detail: b.dest.dir, Err: err}
		}
		return fmt.Errorf("remove %q: %w", b.dest.dir, err)
	}
	err := b.isNamed(name)
	if err == nil {
		// config.json goes last: as long as it is there, what is left is a bundle.
		err = remove.All(int(b.dir.Fd()), "rootfs")
	}
	if err == nil {
		err = remove.All(parent, name)
	}
	if err == nil {
		return nil
	}
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = fmt.Errorf("%s %q: %w", pe.Op, filepath.Join(b.dest.dir, strings.TrimPrefix(pe.Path, name)), pe.Err)
	} else {
		err = fmt.Errorf("remove %q: %w", b.dest.dir, err)
	}
	if rerr := unix.Renameat2(parent, name, parent, b.dest.base, unix.RENAME_NOREPLACE); rerr != nil && rerr != unix.ENOENT {
		err = fmt.Errorf("%w; what is left is called %q", err, name)
	}
	return err
}

// isNamed checks that name is the directory that was looked at, and not one that somebody has put in its place.
func (b *doomed) isNamed(name string) error {
	var is, was unix.Stat_t
	if err := unix.Fstatat(int(b.dest.Parent.Fd()), name, &is, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if err := unix.Fstat(int(b.dir.Fd()), &was); err != nil {
		return err
	}
	if is.Dev != was.Dev || is.Ino != was.Ino {
		return errors.New("another directory has taken its place")
	}
	return nil
}
