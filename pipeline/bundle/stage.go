// Package bundle is a bundle on disk: where it is to appear, the stage in which it is
// made, publishing, and what is done with one that is there.
//
// A bundle appears whole or not at all. What changes one that is there, an edit or a
// removal, does so in one step too. After an error all is as it was before.
package bundle

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ocibundle/pipeline/userns"
	"ocibundle/tarx/handle"
	"ocibundle/tarx/remove"
)

// Stage is a directory beside the destination in which the bundle is made. It
// has mode 0700 and a random name; for as long as its maker lives it is locked.
// Publishing is one rename.
type Stage struct {
	dest *destination
	Name string
	dir  *os.File
	gone bool // published or removed
}

// NewStage removes what earlier runs that were killed have left, and makes a
// stage.
func NewStage(d *destination) (*Stage, error) {
	if err := sweep(d); err != nil {
		return nil, err
	}
	for range 100 {
		var random [8]byte
		rand.Read(random[:])
		name := stagePrefix(d.base) + hex.EncodeToString(random[:])
		err := unix.Mkdirat(int(d.Parent.Fd()), name, 0o700)
		if err == unix.EEXIST {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("create a directory beside %q: %w", d.dir, err)
		}
		dir, err := OpenAt(d.Parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
		if err == nil {
			err = unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		}
		// Another run's sweep came between: it took this for a stale one.
		if err == unix.ENOENT || err == unix.EWOULDBLOCK {
			if dir != nil {
				dir.Close()
			}
			continue
		}
		if err != nil {
			unix.Unlinkat(int(d.Parent.Fd()), name, unix.AT_REMOVEDIR)
			return nil, fmt.Errorf("lock a directory beside %q: %w", d.dir, err)
		}
		s := &Stage{dest: d, Name: name, dir: dir}
		if err := s.private(); err != nil {
			s.Remove()
			return nil, fmt.Errorf("prepare a directory beside %q: %w", d.dir, err)
		}
		return s, nil
	}
	return nil, fmt.Errorf("create a directory beside %q: every name is taken", d.dir)
}

// private takes away what a stage may have inherited from its parent: a setgid
// bit and a default access control list would go on to all that is made in it.
func (s *Stage) private() error {
	fd := int(s.dir.Fd())
	for _, name := range []string{"system.posix_acl_default", "system.posix_acl_access"} {
		err := unix.Fremovexattr(fd, name)
		if err != nil && err != unix.ENODATA && err != unix.ENOTSUP {
			return err
		}
	}
	return unix.Fchmod(fd, 0o700)
}

// Remove removes the stage with all that is in it. After publish it does
// nothing.
func (s *Stage) Remove() error {
	if s.gone {
		return nil
	}
	s.gone = true
	defer s.dir.Close()
	return remove.All(int(s.dest.Parent.Fd()), s.Name)
}

// Mkdir makes a directory in the stage.
func (s *Stage) Mkdir(name string) (*os.File, error) {
	if err := unix.Mkdirat(int(s.dir.Fd()), name, 0o700); err != nil {
		return nil, fmt.Errorf("create %q: %w", name, err)
	}
	f, err := OpenAt(s.dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", name, err)
	}
	return f, nil
}

// WriteFile makes a file in the stage.
func (s *Stage) WriteFile(name string, data []byte) error {
	fd, err := unix.Openat(int(s.dir.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("create %q: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644) // whatever the umask
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write %q: %w", name, handle.Cause(err))
	}
	return nil
}

// Sync flushes all of the stage's filesystem to disk.
func (s *Stage) Sync() error {
	if err := unix.Syncfs(int(s.dir.Fd())); err != nil {
		return fmt.Errorf("flush the bundle to disk: %w", err)
	}
	return nil
}

// Publish makes the stage appear as the destination, in one step. What was
// there under force is what left names, for the caller to remove.
func (s *Stage) Publish() (old *Stage, err error) {
	d := s.dest
	replace, err := d.state()
	if err != nil {
		return nil, err
	}
	fd := int(d.Parent.Fd())
	if replace {
		err = unix.Renameat2(fd, s.Name, fd, d.base, unix.RENAME_EXCHANGE)
	} else {
		// It takes the place of nothing, or of an empty directory.
		err = unix.Renameat(fd, s.Name, fd, d.base)
	}
	switch err {
	case nil:
	case unix.ENOTEMPTY, unix.EEXIST, unix.ENOTDIR:
		return nil, d.fail(DestExists, "")
	case unix.EBUSY:
		return nil, d.fail(DestMount, "")
	default:
		return nil, fmt.Errorf("rename the bundle to %q: %w", d.dir, err)
	}
	s.gone = true
	s.dir.Close()
	if !replace {
		return nil, nil
	}
	dir, err := OpenAt(d.Parent, s.Name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return nil, nil // another run has swept it already
	}
	unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	return &Stage{dest: d, Name: s.Name, dir: dir}, nil
}

// Admit opens the bundle's directory to the container's root where that is
// another user on the host: by its group, for passing through.
func (s *Stage) Admit(ids userns.State) error {
	if !foreignRoot(ids) {
		return nil
	}
	_, gid := ids.Disk.RootPair()
	fd := int(s.dir.Fd())
	if err := unix.Fchown(fd, -1, gid); err != nil {
		return fmt.Errorf("change the group of the bundle: %w", err)
	}
	if err := unix.Fchmod(fd, 0o710); err != nil {
		return fmt.Errorf("change the mode of the bundle: %w", err)
	}
	return nil
}

// TempFile makes a file in the stage that has no name there.
func (s *Stage) TempFile() (*os.File, error) {
	dir := int(s.dir.Fd())
	fd, err := unix.Openat(dir, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		// Not every filesystem can.
		const name = "spool"
		fd, err = unix.Openat(dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err == nil {
			err = unix.Unlinkat(dir, name, 0)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("create a file for the image: %w", err)
	}
	return os.NewFile(uintptr(fd), "the spooled image"), nil
}
