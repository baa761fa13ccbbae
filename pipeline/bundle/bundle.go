// Package bundle is a bundle on disk: where it is to appear, the stage in which it is made,
// publishing, and what is done with one that is there.
//
// A bundle appears whole or not at all. What changes one that is there, an edit or a removal, does
// so in one step too. After an error all is as it was before.
//
// Bundles are hostile, and so may be the directory that one is in. What is in a bundle is opened
// only once it has proved to be a regular file or a directory, and by the handle that was looked
// at. A stage is what was made, or nothing is written to it; trees are emptied through open
// handles, and only an empty directory is removed by its name. So nobody who may rename things in
// the parent directory gets another tree of the caller's removed, or a directory of his own
// published for the caller's.
//
// What such a user can do nevertheless, the owner of the parent directory above all: keep a bundle
// from being made, move one away or put another in its place once it is there, as with everything
// else that is in a directory of his. Whoever then runs what has the bundle's name runs that
// user's.
package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"ocibundle/tarx/handle"
)

const (
	configName = "config.json"
	rootfsName = "rootfs"
)

// MaxConfig is the most bytes that a config.json may have to be read. The document that it becomes
// takes two hundred times as much memory, and no container's config comes near it.
const MaxConfig = 1 << 20

// Open opens what should be a bundle's directory. Where there is none, the error is an *Error.
func Open(name string) (*os.File, error) {
	dir, err := os.OpenFile(name, unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &Error{Kind: None, Dir: name, Err: handle.Cause(err)}
	case errors.Is(err, unix.ENOTDIR):
		return nil, &Error{Kind: None, Dir: name, Detail: "it is not a directory", Err: handle.Cause(err)}
	case err != nil:
		return nil, fmt.Errorf("open %q: %w", name, handle.Cause(err))
	}
	return dir, nil
}

// OpenAt opens one component in dir. It does not wait for the other end of a FIFO.
func OpenAt(dir *os.File, name string, flags int) (*os.File, error) {
	fd, err := handle.Openat(int(dir.Fd()), name, flags|unix.O_CLOEXEC|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), filepath.Join(dir.Name(), name)), nil
}

// unfit says of a part of a bundle what keeps the directory from being one, as opposed to an error
// of the system.
type unfit string

func (u unfit) Error() string { return string(u) }

// ReadConfig reads the config.json in dir, which may be anything. Errors are fs.ErrNotExist where
// there is none, or say what is there instead of a regular file of up to MaxConfig bytes.
func ReadConfig(dir *os.File) ([]byte, error) {
	h, err := handle.OpenSameMount(int(dir.Fd()), configName, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	switch err {
	case nil:
	case unix.EXDEV:
		return nil, unfit("it is a mount point")
	case unix.ELOOP:
		return nil, unfit("it is not a regular file")
	default:
		return nil, err
	}
	defer unix.Close(h)
	st, err := handle.Look(h, "")
	if err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, unfit("it is not a regular file")
	}
	fd, err := handle.Reopen(h, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), configName)
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxConfig+1))
	if err != nil {
		return nil, handle.Cause(err)
	}
	if len(text) > MaxConfig {
		return nil, unfit(fmt.Sprintf("it has more than %d MiB", MaxConfig>>20))
	}
	return text, nil
}

// Config reads the config.json of the directory name, which may be anything. Where there is none to be read the error is an
// *Error.
func Config(name string) ([]byte, error) {
	dir, err := Open(name)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	text, err := ReadConfig(dir)
	why, unfit := errors.AsType[unfit](err)
	switch {
	case unfit:
		return nil, &Error{Kind: None, Dir: name, Detail: fmt.Sprintf("of its %s: %v", configName, why)}
	case errors.Is(err, fs.ErrNotExist):
		return nil, &Error{Kind: None, Dir: name, Detail: "it has no " + configName}
	case err != nil:
		return nil, fmt.Errorf("read %q: %w", filepath.Join(name, configName), err)
	}
	return text, nil
}

// contents is what makes a directory a bundle.
type contents struct {
	rootfs *os.File // opened with O_PATH
	config []byte
	// bare says that there is a rootfs, and beside it nothing or an empty config.json: a bundle of which a
	// plain rm -rf has left what it could not remove, or a power loss what was on disk.
	bare bool
}

// Close closes what was opened.
func (c *contents) Close() { c.rootfs.Close() }

// noConfig says that there is no config.json, or that there is nothing in it.
func (c *contents) noConfig() string {
	if c.config == nil {
		return "it has no " + configName
	}
	return "its " + configName + " is empty"
}

// inspect looks at a directory that the user calls name. Unless it is a bundle, which has a
// directory rootfs and a config.json with an ociVersion, the error is an *Error of kind None. What
// the system does not let us see is another error.
func inspect(dir *os.File, name string) (*contents, error) {
	c, err := inspectRemains(dir, name)
	if err == nil && c.bare {
		c.Close()
		return nil, &Error{Kind: None, Dir: name, Detail: c.noConfig(), Bare: true}
	}
	return c, err
}

// inspectRemains is inspect, and takes a bare rootfs for a bundle.
func inspectRemains(dir *os.File, name string) (_ *contents, err error) {
	none := func(format string, args ...any) error {
		return &Error{Kind: None, Dir: name, Detail: fmt.Sprintf(format, args...)}
	}
	c := &contents{}
	c.rootfs, err = OpenAt(dir, rootfsName, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	switch err {
	case nil:
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP:
		return nil, none("it has no directory %s", rootfsName)
	default:
		return nil, fmt.Errorf("open %q: %w", filepath.Join(name, rootfsName), err)
	}
	defer func() {
		if err != nil {
			c.rootfs.Close()
		}
	}()
	c.config, err = ReadConfig(dir)
	if why, ok := errors.AsType[unfit](err); ok {
		return nil, none("of its %s: %v", configName, why)
	}
	if err != nil && err != unix.ENOENT {
		return nil, fmt.Errorf("read %q: %w", filepath.Join(name, configName), err)
	}
	if len(c.config) == 0 {
		if c.bare, err = holdsOnly(dir, func(n string) bool { return n == rootfsName || n == configName }); err == nil && !c.bare {
			err = none("%s", c.noConfig())
		}
		return c, err
	}
	var is struct {
		Version string `json:"ociVersion"`
	}
	if err := json.Unmarshal(c.config, &is); err != nil {
		return nil, none("its %s cannot be understood: %v", configName, err)
	}
	if is.Version == "" {
		return nil, none("its %s has no ociVersion", configName)
	}
	return c, nil
}

// holdsOnly says whether all names in dir are among those expected.
func holdsOnly(dir *os.File, expected func(name string) bool) (bool, error) {
	stranger, err := firstStranger(dir, expected)
	return stranger == "", err
}

// firstStranger finds a name in dir that is not expected.
func firstStranger(dir *os.File, expected func(name string) bool) (string, error) {
	list, err := OpenAt(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY) // an offset of its own
	if err != nil {
		return "", fmt.Errorf("open %q: %w", dir.Name(), err)
	}
	defer list.Close()
	for {
		names, err := list.Readdirnames(1024)
		for _, n := range names {
			if !expected(n) {
				return n, nil
			}
		}
		if err == io.EOF {
			return "", nil
		}
		if err != nil {
			return "", fmt.Errorf("list %q: %w", dir.Name(), handle.Cause(err))
		}
	}
}

// mapping reads the mapping in a config: container ids to ids on the host.
func mapping(config []byte) (user.IdentityMapping, error) {
	var c struct {
		Linux struct {
			UIDMappings []specs.LinuxIDMapping `json:"uidMappings"`
			GIDMappings []specs.LinuxIDMapping `json:"gidMappings"`
		} `json:"linux"`
	}
	err := json.Unmarshal(config, &c)
	return user.IdentityMapping{UIDMaps: IDMaps(c.Linux.UIDMappings), GIDMaps: IDMaps(c.Linux.GIDMappings)}, err
}

// IDMaps turns the mappings of a config into those of an IdentityMapping.
func IDMaps(mappings []specs.LinuxIDMapping) []user.IDMap {
	var maps []user.IDMap
	for _, m := range mappings {
		maps = append(maps, user.IDMap{ID: int64(m.ContainerID), ParentID: int64(m.HostID), Count: int64(m.Size)})
	}
	return maps
}

// single says that a mapping is that of a bundle whose files all belong to one user: container root
// is the only id.
func single(maps []user.IDMap) bool {
	return len(maps) == 1 && maps[0].ID == 0 && maps[0].Count == 1
}
