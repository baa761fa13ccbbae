package pipeline

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"ocibundle/tarx/remove"
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
	parent *os.File
	base   string
	force  bool
}

// openDestination looks at the destination without changing anything. Errors
// are a *DestinationError where something is in the way.
func openDestination(dir string, force bool) (*destination, error) {
	clean := filepath.Clean(dir)
	base := filepath.Base(clean)
	if base == "." || base == ".." || base == "/" {
		return nil, &DestinationError{Kind: DestHere, Dir: dir}
	}
	parent, err := os.OpenFile(filepath.Dir(clean), unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the directory that %q is to be in: %w", dir, cause(err))
	}
	d := &destination{dir: dir, parent: parent, base: base, force: force}
	if err := d.check(); err != nil {
		parent.Close()
		return nil, err
	}
	return d, nil
}

// cause takes the operation and path, which the message has already, off an
// error.
func cause(err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Err
	}
	return err
}

func (d *destination) close() { d.parent.Close() }

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
	err = unix.Statx(int(d.parent.Fd()), d.base, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_TYPE, &stx)
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
	f, err := openAt(d.parent, d.base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return false, fmt.Errorf("open %q: %w", d.dir, err)
	}
	defer f.Close()
	names, err := f.Readdirnames(16)
	if err != nil && err != io.EOF {
		return false, fmt.Errorf("list %q: %w", d.dir, cause(err))
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
	rootfs, err := openAt(f, "rootfs", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
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

// openAt opens one component in dir. It does not wait for the other end of a
// FIFO.
func openAt(dir *os.File, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), filepath.Join(dir.Name(), name)), nil
}

// maxConfig is the most bytes that a config.json may have to be read.
const maxConfig = 16 << 20

// isBundle says why the open directory is none: a bundle has rootfs/ and a
// config.json with an ociVersion.
func isBundle(dir *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), "rootfs", &st, unix.AT_SYMLINK_NOFOLLOW); err != nil ||
		st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return errors.New("it has no directory rootfs")
	}
	f, err := openAt(dir, "config.json", unix.O_RDONLY|unix.O_NOFOLLOW)
	if err != nil {
		return fmt.Errorf("config.json cannot be read (%w)", err)
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return errors.New("its config.json is not a file")
	}
	var config struct {
		Version string `json:"ociVersion"`
	}
	if err := json.NewDecoder(io.LimitReader(f, maxConfig)).Decode(&config); err != nil {
		return errors.New("its config.json is not JSON")
	}
	if config.Version == "" {
		return errors.New("its config.json has no ociVersion")
	}
	return nil
}

// stage is a directory beside the destination in which the bundle is made. It
// has mode 0700 and a random name; for as long as its maker lives it is locked.
// Publishing is one rename.
type stage struct {
	dest *destination
	name string
	dir  *os.File
	gone bool // published or removed
}

// stagePrefix is what the names of all stages for a destination start with.
func stagePrefix(base string) string {
	const room = 180 // of the 255 bytes that a name may have
	if len(base) > room {
		sum := sha256.Sum256([]byte(base))
		base = base[:room] + "-" + hex.EncodeToString(sum[:8])
	}
	return "." + base + ".ocibundle-"
}

// newStage removes what earlier runs that were killed have left, and makes a
// stage.
func newStage(d *destination) (*stage, error) {
	if err := sweep(d); err != nil {
		return nil, err
	}
	for range 100 {
		var random [8]byte
		rand.Read(random[:])
		name := stagePrefix(d.base) + hex.EncodeToString(random[:])
		err := unix.Mkdirat(int(d.parent.Fd()), name, 0o700)
		if err == unix.EEXIST {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("create a directory beside %q: %w", d.dir, err)
		}
		dir, err := openAt(d.parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
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
			unix.Unlinkat(int(d.parent.Fd()), name, unix.AT_REMOVEDIR)
			return nil, fmt.Errorf("lock a directory beside %q: %w", d.dir, err)
		}
		s := &stage{dest: d, name: name, dir: dir}
		if err := s.private(); err != nil {
			s.remove()
			return nil, fmt.Errorf("prepare a directory beside %q: %w", d.dir, err)
		}
		return s, nil
	}
	return nil, fmt.Errorf("create a directory beside %q: every name is taken", d.dir)
}

// private takes away what a stage may have inherited from its parent: a setgid
// bit and a default access control list would go on to all that is made in it.
func (s *stage) private() error {
	fd := int(s.dir.Fd())
	for _, name := range []string{"system.posix_acl_default", "system.posix_acl_access"} {
		err := unix.Fremovexattr(fd, name)
		if err != nil && err != unix.ENODATA && err != unix.ENOTSUP {
			return err
		}
	}
	return unix.Fchmod(fd, 0o700)
}

// sweep removes the stages for d whose makers are dead: nobody holds their
// locks. Only directories of our own are touched, for others could have made
// theirs for us to find in a directory like /tmp.
func sweep(d *destination) error {
	// A handle of its own: the directory's offset is shared.
	dir, err := openAt(d.parent, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil // not readable: then there is nothing to find
	}
	defer dir.Close()
	prefix := stagePrefix(d.base)
	for {
		names, err := dir.Readdirnames(1024)
		for _, n := range names {
			if strings.HasPrefix(n, prefix) {
				if err := sweepOne(d, n); err != nil {
					return fmt.Errorf("remove %q, which an earlier run left: %w", n, err)
				}
			}
		}
		if err != nil || len(names) == 0 {
			return nil
		}
	}
}

func sweepOne(d *destination, name string) error {
	f, err := openAt(d.parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return nil
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || int(st.Uid) != os.Geteuid() {
		return nil
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil // at work
	}
	return remove.All(int(d.parent.Fd()), name)
}

// remove removes the stage with all that is in it. After publish it does
// nothing.
func (s *stage) remove() error {
	if s.gone {
		return nil
	}
	s.gone = true
	defer s.dir.Close()
	return remove.All(int(s.dest.parent.Fd()), s.name)
}

// mkdir makes a directory in the stage.
func (s *stage) mkdir(name string) (*os.File, error) {
	if err := unix.Mkdirat(int(s.dir.Fd()), name, 0o700); err != nil {
		return nil, fmt.Errorf("create %q: %w", name, err)
	}
	f, err := openAt(s.dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", name, err)
	}
	return f, nil
}

// writeFile makes a file in the stage.
func (s *stage) writeFile(name string, data []byte) error {
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
		return fmt.Errorf("write %q: %w", name, cause(err))
	}
	return nil
}

// sync flushes all of the stage's filesystem to disk.
func (s *stage) sync() error {
	if err := unix.Syncfs(int(s.dir.Fd())); err != nil {
		return fmt.Errorf("flush the bundle to disk: %w", err)
	}
	return nil
}

// publish makes the stage appear as the destination, in one step. What was
// there under force is what left names, for the caller to remove.
func (s *stage) publish() (old *stage, err error) {
	d := s.dest
	replace, err := d.state()
	if err != nil {
		return nil, err
	}
	fd := int(d.parent.Fd())
	if replace {
		err = unix.Renameat2(fd, s.name, fd, d.base, unix.RENAME_EXCHANGE)
	} else {
		// It takes the place of nothing, or of an empty directory.
		err = unix.Renameat(fd, s.name, fd, d.base)
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
	dir, err := openAt(d.parent, s.name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return nil, nil // another run has swept it already
	}
	unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	return &stage{dest: d, name: s.name, dir: dir}, nil
}
