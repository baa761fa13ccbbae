package bundle

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ocibundle/pipeline/userns"
	"ocibundle/tarx/handle"
	"ocibundle/tarx/remove"
)

// Stage is a directory beside the destination in which the bundle is made. It has mode 0700 and a
// random name; for as long as its maker lives it is locked. Publishing is one rename.
type Stage struct {
	dest *Destination
	Name string
	dir  *os.File
	gone bool // published or removed
	// spare are descriptors that are closed before the stage is removed, which has to open some: two,
	// for a directory and one in it (see handle.Stack).
	spare [2]*os.File
}

// errTaken is the error where somebody who may rename things in the parent directory does so.
var errTaken = errors.New("another directory has taken its place")

// NewStage removes what earlier runs that were killed have left, and makes a stage.
func NewStage(d *Destination) (*Stage, error) {
	if err := sweep(d); err != nil {
		return nil, err
	}
	for range 100 {
		name := stagePrefix(d.base) + randomHex()
		err := unix.Mkdirat(int(d.Parent.Fd()), name, 0o700)
		if err == unix.EEXIST {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("create a directory beside %q: %w", d.dir, err)
		}
		s, err := openStage(d, name)
		// Another run's sweep came between: it took this for a stale one.
		if errors.Is(err, unix.ENOENT) || err == unix.EWOULDBLOCK {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("prepare a directory beside %q: %w", d.dir, err)
		}
		return s, nil
	}
	return nil, fmt.Errorf("create a directory beside %q: every name is taken", d.dir)
}

// openStage opens the stage that was just made. Whoever may rename in the parent can have put
// something else in its place, whose owner, contents or open handles would be his: what was opened
// has to be what was made.
func openStage(d *Destination, name string) (_ *Stage, err error) {
	fd, err := handle.OpenSameMount(int(d.Parent.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if err == unix.EXDEV || err == unix.ENOTDIR || err == unix.ELOOP {
		return nil, errTaken
	}
	if err != nil {
		if err != unix.ENOENT {
			unix.Unlinkat(int(d.Parent.Fd()), name, unix.AT_REMOVEDIR)
		}
		return nil, err
	}
	s := &Stage{dest: d, Name: name, dir: os.NewFile(uintptr(fd), name)}
	defer func() {
		if err != nil {
			d.removeEmpty(s.dir, name) // best effort
			s.close()
		}
	}()
	if err := tryLock(fd); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	empty, err := holdsOnly(s.dir, func(string) bool { return false })
	if err != nil {
		return nil, err
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 || !empty {
		return nil, errTaken
	}
	if err := s.private(); err != nil {
		return nil, err
	}
	for i := range s.spare {
		if s.spare[i], err = OpenAt(s.dir, ".", unix.O_PATH); err != nil {
			return nil, err
		}
	}
	if same, err := d.named(s.dir, name); err != nil || !same {
		if err == nil {
			err = unix.ENOENT
		}
		return nil, err
	}
	return s, nil
}

func randomHex() string {
	var random [8]byte
	rand.Read(random[:])
	return hex.EncodeToString(random[:])
}

// private takes away what a stage may have inherited from its parent: a setgid bit and a default
// access control list would go on to all that is made in it.
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

func (s *Stage) closeSpare() {
	for _, f := range s.spare {
		f.Close() // which may be nil
	}
}

func (s *Stage) close() {
	s.closeSpare()
	s.dir.Close()
}

// Remove removes the stage with all that is in it. After Publish it does nothing.
func (s *Stage) Remove() error {
	if s.gone {
		return nil
	}
	s.gone = true
	s.closeSpare()
	defer s.dir.Close()
	if err := remove.Children(int(s.dir.Fd())); err != nil {
		return err
	}
	return s.dest.removeEmpty(s.dir, s.Name)
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

// RemoveDir removes a directory in the stage with all that is in it, if there is one.
func (s *Stage) RemoveDir(name string) error {
	if err := remove.All(int(s.dir.Fd()), name); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove %q: %w", name, err)
	}
	return nil
}

// WriteFile makes a file in the stage.
func (s *Stage) WriteFile(name string, data []byte) error {
	f, err := createAt(s.dir, name, 0o644)
	if err != nil {
		return fmt.Errorf("create %q: %w", name, err)
	}
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

// createAt makes a file in dir.
func createAt(dir *os.File, name string, mode uint32) (*os.File, error) {
	const flags = unix.O_RDWR | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(int(dir.Fd()), name, flags, mode)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Sync flushes all of the stage's filesystem to disk.
func (s *Stage) Sync() error {
	if err := unix.Syncfs(int(s.dir.Fd())); err != nil {
		return fmt.Errorf("flush the bundle to disk: %w", err)
	}
	return nil
}

// OpenToRoot opens the bundle's directory to the container's root where that is another user on the
// host: by its group, for passing through.
func (s *Stage) OpenToRoot(ids userns.State) error {
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

// spoolName is what TempFile's file is called for a moment.
const spoolName = "spool"

// TempFile makes a file in the stage that has no name there.
func (s *Stage) TempFile() (*os.File, error) {
	dir := int(s.dir.Fd())
	fd, err := unix.Openat(dir, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), "the spooled image"), nil
	}
	// Not every filesystem can.
	f, err := createAt(s.dir, spoolName, 0o600)
	if err == nil {
		err = unix.Unlinkat(dir, spoolName, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("create a file for the image: %w", err)
	}
	return f, nil
}
