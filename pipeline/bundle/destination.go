package bundle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"ocibundle/tarx/handle"
)

// Destination is where a bundle is to appear: a name in a directory that is held open, so that it
// stays the same one.
type Destination struct {
	// Parent is the directory that the bundle is to be in.
	Parent *os.File

	dir   string // as the user gave it
	base  string
	force bool
	old   *os.File // the bundle that is to be replaced
}

// OpenDestination looks at the destination without changing anything. force takes a bundle that is
// there for one to be replaced, and a directory that holds nothing but a rootfs. Errors are a
// *DestinationError where something is in the way, and an *Error where something is mounted below it.
func OpenDestination(ctx context.Context, dir string, force bool) (*Destination, error) {
	clean := filepath.Clean(dir)
	base := filepath.Base(clean)
	if base == "." || base == ".." || base == "/" {
		return nil, &DestinationError{Kind: DestHere, Dir: dir}
	}
	parent, err := os.OpenFile(filepath.Dir(clean), unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the directory that %q is to be in: %w", dir, handle.Cause(err))
	}
	d := &Destination{dir: dir, Parent: parent, base: base, force: force}
	if err := d.look(ctx); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// Close closes the handles.
func (d *Destination) Close() {
	d.Parent.Close()
	if d.old != nil {
		d.old.Close()
	}
}

func (d *Destination) fail(kind DestinationKind, detail string) error {
	return &DestinationError{Kind: kind, Dir: d.dir, Detail: detail}
}

// look finds out what is there.
func (d *Destination) look(ctx context.Context) error {
	st, err := handle.Look(int(d.Parent.Fd()), d.base)
	switch {
	case err == unix.ENOENT:
		return nil
	case err != nil:
		return fmt.Errorf("stat %q: %w", d.dir, err)
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return d.fail(DestExists, "")
	}
	fd, err := handle.OpenSameMount(int(d.Parent.Fd()), d.base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	switch err {
	case nil:
	case unix.EXDEV:
		return d.fail(DestMount, "")
	case unix.ENOENT:
		return nil // it has just gone
	default:
		return fmt.Errorf("open %q: %w", d.dir, err)
	}
	return d.lookInto(ctx, os.NewFile(uintptr(fd), d.dir))
}

// lookInto finds out whether the directory that f is open on may give way. f is its to close.
func (d *Destination) lookInto(ctx context.Context, f *os.File) error {
	empty, err := holdsOnly(f, func(string) bool { return false })
	if err == nil && !empty {
		err = d.fail(DestExists, "")
		if d.force {
			err = d.replaceable(ctx, f)
		}
	}
	if errors.Is(err, unix.ENOENT) { // as of a directory that is gone since it was opened: getdents(2)
		if same, nerr := d.named(f, d.base); nerr == nil && !same {
			err = d.fail(DestBusy, "")
		}
	}
	if empty || err != nil {
		f.Close()
		return err
	}
	d.old = f
	return nil
}

// replaceable says whether the directory that f is open on may be replaced as things are now.
func (d *Destination) replaceable(ctx context.Context, f *os.File) error {
	stranger, err := firstStranger(f, func(n string) bool {
		return n == rootfsName || n == configName || isEditTemporary(n)
	})
	if err != nil {
		return err
	}
	if stranger != "" {
		return d.fail(DestStranger, stranger)
	}
	c, err := inspectRemains(f, d.dir)
	if be, ok := errors.AsType[*Error](err); ok {
		return d.fail(DestNotBundle, be.Detail)
	}
	if err != nil {
		return err
	}
	defer c.Close()
	if err := notMounted(d.dir, f); err != nil {
		return err
	}
	pid, err := rootInUse(ctx, c.rootfs)
	if err != nil {
		return fmt.Errorf("look for processes in %q: %w", d.dir, err)
	}
	if pid != 0 {
		return &DestinationError{Kind: DestInUse, Dir: d.dir, PID: pid}
	}
	return nil
}

// named says whether name, in the directory that the bundle is to be in, is what f is open on.
func (d *Destination) named(f *os.File, name string) (bool, error) {
	same, err := handle.SameFile(int(f.Fd()), int(d.Parent.Fd()), name)
	if err != nil && err != unix.ENOENT {
		return false, fmt.Errorf("stat %q: %w", name, err)
	}
	return same, nil
}

// removeEmpty removes the empty directory that f is open on and that is called name. The kernel has
// no way to remove what a handle is open on; what goes by the name alone is empty, whatever it is.
func (d *Destination) removeEmpty(f *os.File, name string) error {
	same, err := handle.SameFile(int(f.Fd()), int(d.Parent.Fd()), name)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	if !same {
		return fmt.Errorf("%w; it is empty now, wherever it is", errTaken)
	}
	if err := handle.Unlinkat(int(d.Parent.Fd()), name, unix.AT_REMOVEDIR); err != unix.ENOENT {
		return err
	}
	return nil
}
