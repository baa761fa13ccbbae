package pipeline

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

	"ocibundle/tarx/remove"
)

// BundleKind says why a bundle cannot be removed or exported.
type BundleKind int

// The kinds of a BundleError.
const (
	// BundleNone: there is no bundle of that name.
	BundleNone BundleKind = iota + 1
	// BundleMounted: something is mounted on it or below it.
	BundleMounted
	// BundleInUse: a running process has it as its root.
	BundleInUse
	// BundleBusy: another process is editing or removing it.
	BundleBusy
)

// BundleError is a bundle that cannot be removed or exported. It is untouched.
type BundleError struct {
	Kind BundleKind
	Dir  string
	// Detail is what makes it no bundle, or the mount point.
	Detail string
	// PID is the process that has it as its root.
	PID int
	// Err is the system's error, if there is one.
	Err error
}

func (e *BundleError) Error() string {
	switch e.Kind {
	case BundleMounted:
		return fmt.Sprintf("%q is in use: %q is a mount point", e.Dir, e.Detail)
	case BundleInUse:
		return fmt.Sprintf("%q is in use: process %d has it as its root", e.Dir, e.PID)
	case BundleBusy:
		return fmt.Sprintf("%q is in use: another process is at work on it", e.Dir)
	}
	if errors.Is(e.Err, fs.ErrNotExist) {
		return fmt.Sprintf("%q does not exist", e.Dir)
	}
	return fmt.Sprintf("%q is not a bundle: %s", e.Dir, e.Detail)
}

// Unwrap gives the system's error.
func (e *BundleError) Unwrap() error { return e.Err }

// RemoveOptions are the choices of a removal.
type RemoveOptions struct {
	// AbsentOK takes it for done where there is nothing of that name.
	AbsentOK bool
}

// CheckInUse looks for running processes that have one of the bundles as their root. It says nothing of directories that
// are no bundles. A user's containers run in user namespaces that only a process outside of any of the user's others may
// look into, so this is for before [userns.Enter], and Remove's own look does not replace it.
func CheckInUse(dirs ...string) error {
	for _, dir := range dirs {
		rootfs, err := os.OpenFile(filepath.Join(dir, "rootfs"), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			continue // for Remove to judge
		}
		pid, err := RootInUse(rootfs)
		rootfs.Close()
		if err != nil {
			return err
		}
		if pid != 0 {
			return &BundleError{Kind: BundleInUse, Dir: dir, PID: pid}
		}
	}
	return nil
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
		if be, ok := errors.AsType[*BundleError](err); ok && o.AbsentOK && errors.Is(be.Err, fs.ErrNotExist) {
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
	b.dest.close()
}

func openDoomed(dir string) (_ *doomed, err error) {
	none := func(detail string, err error) error {
		return &BundleError{Kind: BundleNone, Dir: dir, Detail: detail, Err: err}
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
		return nil, fmt.Errorf("open the directory that %q is in: %w", dir, cause(err))
	}
	b := &doomed{dest: &destination{dir: dir, parent: parent, base: base}}
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
	b.dir, err = openAt(parent, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
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
	rootfs, err := openAt(b.dir, "rootfs", unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", filepath.Join(dir, "rootfs"), err)
	}
	defer rootfs.Close()
	pid, err := RootInUse(rootfs)
	if err != nil {
		return nil, fmt.Errorf("look for processes in %q: %w", dir, err)
	}
	if pid != 0 {
		return nil, &BundleError{Kind: BundleInUse, Dir: dir, PID: pid}
	}
	// A stage is locked by whoever is at work on it, and so that nobody's sweep takes this for a stale one.
	switch err := unix.Flock(int(b.dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err {
	case nil:
	case unix.EWOULDBLOCK:
		return nil, &BundleError{Kind: BundleBusy, Dir: dir}
	default:
		return nil, fmt.Errorf("lock %q: %w", dir, err)
	}
	return b, nil
}

func (b *doomed) remove() error {
	parent := int(b.dest.parent.Fd())
	var random [8]byte
	rand.Read(random[:])
	name := stagePrefix(b.dest.base) + hex.EncodeToString(random[:])
	if err := unix.Renameat2(parent, b.dest.base, parent, name, unix.RENAME_NOREPLACE); err != nil {
		if err == unix.EBUSY {
			return &BundleError{Kind: BundleMounted, Dir: b.dest.dir, Detail: b.dest.dir, Err: err}
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
	if err := unix.Fstatat(int(b.dest.parent.Fd()), name, &is, unix.AT_SYMLINK_NOFOLLOW); err != nil {
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

// notMounted says whether something is mounted on f, which the user calls dir, or below it (proc_pid_mountinfo(5)).
func notMounted(dir string, f *os.File) error {
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return fmt.Errorf("find the path of %q: %w", dir, cause(err))
	}
	var point string
	err = eachMount("self", func(m mount) {
		if m.point == path || strings.HasPrefix(m.point, path+"/") {
			point = m.point
		}
	})
	if err != nil {
		return err
	}
	if point != "" {
		return &BundleError{Kind: BundleMounted, Dir: dir, Detail: point}
	}
	return nil
}

// unescapeMount undoes the kernel's escapes of space, tab, newline and backslash: three octal digits.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
