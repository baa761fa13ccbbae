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

// single says that a mapping is that of a bundle whose files all belong to one user: container root is the only id.
func single(maps []user.IDMap) bool {
	return len(maps) == 1 && maps[0].ID == 0 && maps[0].Count == 1
}

// bundleMapping reads the mapping in the config of a bundle: container ids to ids on the host.
func bundleMapping(dir *os.File) (user.IdentityMapping, error) {
	var m user.IdentityMapping
	f, err := OpenAt(dir, "config.json", unix.O_RDONLY|unix.O_NOFOLLOW)
	if err != nil {
		return m, err
	}
	defer f.Close()
	var config struct {
		Linux struct {
			UIDMappings []specs.LinuxIDMapping `json:"uidMappings"`
			GIDMappings []specs.LinuxIDMapping `json:"gidMappings"`
		} `json:"linux"`
	}
	if err := json.NewDecoder(io.LimitReader(f, MaxConfig)).Decode(&config); err != nil {
		return m, err
	}
	m.UIDMaps = IdMaps(config.Linux.UIDMappings)
	m.GIDMaps = IdMaps(config.Linux.GIDMappings)
	return m, nil
}

func IdMaps(mappings []specs.LinuxIDMapping) []user.IDMap {
	var maps []user.IDMap
	for _, m := range mappings {
		maps = append(maps, user.IDMap{ID: int64(m.ContainerID), ParentID: int64(m.HostID), Count: int64(m.Size)})
	}
	return maps
}

// Open opens what should be a bundle's directory. Where there is none, the error is a *BundleError.
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

// OpenAt opens one component in dir. It does not wait for the other end of a
// FIFO.
func OpenAt(dir *os.File, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), filepath.Join(dir.Name(), name)), nil
}

// MaxConfig is the most bytes that a config.json may have to be read.
const MaxConfig = 16 << 20

// isBundle says why the open directory is none: a bundle has rootfs/ and a
// config.json with an ociVersion.
func isBundle(dir *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), "rootfs", &st, unix.AT_SYMLINK_NOFOLLOW); err != nil ||
		st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return errors.New("it has no directory rootfs")
	}
	f, err := OpenAt(dir, "config.json", unix.O_RDONLY|unix.O_NOFOLLOW)
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
	if err := json.NewDecoder(io.LimitReader(f, MaxConfig)).Decode(&config); err != nil {
		return errors.New("its config.json is not JSON")
	}
	if config.Version == "" {
		return errors.New("its config.json has no ociVersion")
	}
	return nil
}
