package bundle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"ocibundle/tarx/handle"
	"ocibundle/tarx/remove"
)

// RemoveOptions are the choices of a removal.
type RemoveOptions struct {
	// Force takes it for done where there is nothing of that name, and removes a directory that
	// holds nothing but a rootfs.
	Force bool
}

// Remove removes bundles, with everything in their directories. All of them are looked at first:
// unless each one is a bundle, has nothing mounted below it and is not a running process's root,
// none is removed, and the error is an *Error. A symbolic link to a bundle is not one.
//
// A bundle vanishes in one step: it is renamed to a name like that of the stage it was made in, and
// removed there. So nobody meets half a bundle under its name, however the removal is interrupted,
// and what is left over is removed by the next Remove or Run for the same name. What cannot be
// removed (an immutable file, say) gets its name back, config.json included, so that the user sees
// it and may try again. Where the filesystem cannot rename it, as an overlay whose lower layer it
// is in, or a full one, it is removed where it is, config.json last.
func Remove(ctx context.Context, dirs []string, o RemoveOptions) error {
	var all []*removal
	defer func() {
		for _, r := range all {
			r.close()
		}
	}()
	for _, dir := range dirs {
		r, err := startRemoval(ctx, dir, o, all)
		if be, ok := errors.AsType[*Error](err); ok && o.Force && errors.Is(be.Err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if r != nil {
			all = append(all, r)
		}
	}
	for _, r := range all {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := r.run(); err != nil {
			return err
		}
	}
	return nil
}

// removal is a bundle that is to be removed. It is locked.
type removal struct {
	dest *Destination
	dir  *os.File
}

func (r *removal) close() {
	if r.dir != nil {
		r.dir.Close()
	}
	r.dest.Close()
}

// startRemoval opens and locks the bundle dir. It returns nil where that is one of those before.
func startRemoval(ctx context.Context, dir string, o RemoveOptions, before []*removal) (_ *removal, err error) {
	clean := filepath.Clean(dir)
	base := filepath.Base(clean)
	if dir == "" || base == "." || base == ".." || base == "/" {
		return nil, &Error{Kind: None, Dir: dir, Detail: "it has no name of its own"}
	}
	parent, err := os.OpenFile(filepath.Dir(clean), unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, &Error{Kind: None, Dir: dir, Err: fs.ErrNotExist}
	}
	if err != nil {
		return nil, fmt.Errorf("open the directory that %q is in: %w", dir, handle.Cause(err))
	}
	r := &removal{dest: &Destination{dir: dir, Parent: parent, base: base}}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if err := sweep(r.dest); err != nil {
		return nil, err
	}
	for {
		if err := r.open(); err != nil {
			return nil, err
		}
		for _, b := range before {
			if same, err := r.dest.named(b.dir, base); err == nil && same {
				r.close()
				return nil, nil
			}
		}
		switch err := lock(ctx, r.dir, func() (bool, error) { return r.dest.named(r.dir, base) }); err {
		case nil:
			return r, r.removable(ctx, o)
		case errLocked:
			return nil, &Error{Kind: Busy, Dir: dir}
		case errMoved: // it was removed or replaced
			r.dir.Close()
		default:
			return nil, err
		}
	}
}

// open opens the directory.
func (r *removal) open() error {
	dir := r.dest.dir
	fd, err := handle.OpenSameMount(int(r.dest.Parent.Fd()), r.dest.base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	switch err {
	case nil:
		r.dir = os.NewFile(uintptr(fd), dir)
		return nil
	case unix.ENOENT:
		return &Error{Kind: None, Dir: dir, Err: err}
	case unix.ENOTDIR, unix.ELOOP:
		return &Error{Kind: None, Dir: dir, Detail: "it is not a directory", Err: err}
	case unix.EXDEV:
		return &Error{Kind: Mounted, Dir: dir, Detail: dir}
	default:
		return fmt.Errorf("open %q: %w", dir, err)
	}
}

// removable says whether the directory may be removed.
func (r *removal) removable(ctx context.Context, o RemoveOptions) error {
	dir := r.dest.dir
	look := inspect
	if o.Force {
		look = inspectRemains
	}
	c, err := look(r.dir, dir)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := notMounted(dir, r.dir); err != nil {
		return err
	}
	pid, err := rootInUse(ctx, c.rootfs)
	if err != nil {
		return fmt.Errorf("look for processes in %q: %w", dir, err)
	}
	if pid != 0 {
		return &Error{Kind: InUse, Dir: dir, PID: pid}
	}
	return nil
}

func (r *removal) run() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(r.dir.Fd()), &st); err != nil {
		return fmt.Errorf("stat %q: %w", r.dest.dir, err)
	}
	// As a stage has it, for a sweep to know it by. Where this may not be done, the rest fails as
	// well.
	unix.Fchmod(int(r.dir.Fd()), 0o700)
	name, err := r.rename()
	if err == nil {
		err = r.remove(name)
	}
	if err == nil {
		return nil
	}
	rerr := unix.Faccessat(int(r.dir.Fd()), rootfsName, unix.F_OK, unix.AT_SYMLINK_NOFOLLOW)
	if name == r.dest.base || rerr == nil { // without a rootfs it is nothing that Remove would take
		unix.Fchmod(int(r.dir.Fd()), st.Mode&0o7777)
	}
	if name == r.dest.base {
		return err
	}
	if rerr == nil {
		parent := int(r.dest.Parent.Fd())
		rerr = unix.Renameat2(parent, name, parent, r.dest.base, unix.RENAME_NOREPLACE)
	}
	if rerr != nil {
		err = fmt.Errorf("%w; what is left is called %q", err, name)
	}
	return err
}

// rename gives the bundle a stage's name, and returns what it is called now.
func (r *removal) rename() (name string, err error) {
	parent, base, dir := int(r.dest.Parent.Fd()), r.dest.base, r.dest.dir
	name = stagePrefix(base) + randomHex()
	switch err := unix.Renameat2(parent, base, parent, name, unix.RENAME_NOREPLACE); err {
	case nil:
	case unix.EXDEV, unix.EINVAL: // an overlay's lower layer; a filesystem that knows no flags
		return base, nil
	case unix.ENOSPC, unix.EDQUOT: // no room for another name, which is what a removal is for
		return base, nil
	case unix.EBUSY:
		return base, &Error{Kind: Mounted, Dir: dir, Detail: dir, Err: err}
	default:
		return base, fmt.Errorf("remove %q: %w", dir, err)
	}
	same, err := r.dest.named(r.dir, name)
	if err == nil && !same {
		err = fmt.Errorf("remove %q: %w", dir, errTaken)
	}
	return name, err
}

// remove empties the bundle and removes its directory. As long as there are a directory rootfs and
// config.json, what is left is a bundle, so they go last. With the rootfs alone, which is empty by
// then, it is what Force takes.
func (r *removal) remove(name string) error {
	fd, dir := int(r.dir.Fd()), r.dest.dir
	err := remove.Children(fd, rootfsName, configName)
	if err == nil {
		err = remove.Empty(fd, rootfsName)
	}
	if err == nil {
		err = remove.All(fd, configName)
	}
	if err == nil {
		err = remove.Children(fd) // with what has come meanwhile
	}
	if err == nil {
		err = r.dest.removeEmpty(r.dir, name)
	}
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%s %q: %w", pe.Op, filepath.Join(dir, pe.Path), pe.Err)
	}
	if err != nil {
		return fmt.Errorf("remove %q: %w", dir, err)
	}
	return nil
}
