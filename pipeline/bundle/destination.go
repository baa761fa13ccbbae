package bundle

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"ocibundle/tarx/handle"
)

// DestinationKind says why a destination cannot be used.
type DestinationKind int

// The kinds of a DestinationError.
const (
	// DestExists: something is there, and it is not an empty directory.
	DestExists DestinationKind = iota + 1
	// DestNotBundle: what is to be replaced is no bundle.
	DestNotBundle
	// DestStranger: what is to be replaced holds something that no bundle has.
	DestStranger
	// DestInUse: a running process has it as its root.
	DestInUse
	// DestHere: it is "." or "..", which a rename cannot replace.
	DestHere
	// DestMount: it is a mount point, which a rename cannot replace.
	DestMount
)

// DestinationError is a destination that cannot be used. It is untouched.
type DestinationError struct {
	Kind DestinationKind
	Dir  string
	// Detail is the first stranger's name, or what makes it no bundle.
	Detail string
	// PID is the process that has it as its root.
	PID int
}

func (e *DestinationError) Error() string {
	switch e.Kind {
	case DestExists:
		return fmt.Sprintf("%q exists and is not an empty directory", e.Dir)
	case DestNotBundle:
		return fmt.Sprintf("%q is not a bundle: %s", e.Dir, e.Detail)
	case DestStranger:
		return fmt.Sprintf("%q holds more than a bundle: %q", e.Dir, e.Detail)
	case DestInUse:
		return fmt.Sprintf("%q is in use: process %d has it as its root", e.Dir, e.PID)
	case DestHere:
		return fmt.Sprintf("%q cannot be replaced by a bundle", e.Dir)
	default:
		return fmt.Sprintf("%q is a mount point", e.Dir)
	}
}

// destination is where the bundle is to appear: a name in a directory that is
// held open, so that it stays the same one.
type destination struct {
	dir    string // as the user gave it
	Parent *os.File
	base   string
	force  bool
}

// OpenDestination looks at the destination without changing anything. Errors
// are a *DestinationError where something is in the way.
func OpenDestination(dir string, force bool) (*destination, error) {
	clean := filepath.Clean(dir)
	base := filepath.Base(clean)
	if base == "." || base == ".." || base == "/" {
		return nil, &DestinationError{Kind: DestHere, Dir: dir}
	}
	parent, err := os.OpenFile(filepath.Dir(clean), unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the directory that %q is to be in: %w", dir, handle.Cause(err))
	}
	d := &destination{dir: dir, Parent: parent, base: base, force: force}
	if err := d.check(); err != nil {
		parent.Close()
		return nil, err
	}
	return d, nil
}

func (d *destination) Close() { d.Parent.Close() }

func (d *destination) fail(kind DestinationKind, detail string) error {
	return &DestinationError{Kind: kind, Dir: d.dir, Detail: detail}
}

// check says whether the destination may be created or replaced as things are
// now.
func (d *destination) check() error {
	_, err := d.state()
	return err
}

// state is check, and tells whether there is a bundle to be replaced.
func (d *destination) state() (replace bool, err error) {
	var stx unix.Statx_t
	err = unix.Statx(int(d.Parent.Fd()), d.base, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_TYPE, &stx)
	if err == unix.ENOENT {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("stat %q: %w", d.dir, err)
	}
	if stx.Mode&unix.S_IFMT != unix.S_IFDIR {
		return false, d.fail(DestExists, "")
	}
	if stx.Attributes_mask&stx.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return false, d.fail(DestMount, "")
	}
	f, err := OpenAt(d.Parent, d.base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return false, fmt.Errorf("open %q: %w", d.dir, err)
	}
	defer f.Close()
	names, err := f.Readdirnames(16)
	if err != nil && err != io.EOF {
		return false, fmt.Errorf("list %q: %w", d.dir, handle.Cause(err))
	}
	if len(names) == 0 {
		return false, nil
	}
	if !d.force {
		return false, d.fail(DestExists, "")
	}
	for _, n := range names {
		if n != "rootfs" && n != "config.json" {
			return false, d.fail(DestStranger, n)
		}
	}
	if err := isBundle(f); err != nil {
		return false, d.fail(DestNotBundle, err.Error())
	}
	rootfs, err := OpenAt(f, "rootfs", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return false, fmt.Errorf("open %q: %w", filepath.Join(d.dir, "rootfs"), err)
	}
	defer rootfs.Close()
	pid, err := RootInUse(rootfs)
	if err != nil {
		return false, fmt.Errorf("look for processes in %q: %w", d.dir, err)
	}
	if pid != 0 {
		return false, &DestinationError{Kind: DestInUse, Dir: d.dir, PID: pid}
	}
	return true, nil
}
