package pipeline

import (
	"context"
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

	"ocibundle/pipeline/userns"
	"ocibundle/tarx"
	"ocibundle/tarx/export"
)

// ExportConfig is a bundle to be written as a tar stream.
type ExportConfig struct {
	// Dir is the bundle.
	Dir string
	// Out takes the stream.
	Out io.Writer
	// IDs is how this process sees the ids on disk: what userns.Enter says of ModeWidest.
	IDs userns.State
}

// Export writes the rootfs of a bundle as a tar stream with the container's own ids, which it recovers through the mapping
// in the bundle's config.json; see [tarx.Export] for the rest. Where there is no bundle, or something is mounted in it, the
// error is a *BundleError and nothing was written. An id on disk that the mapping lacks is tarx.ErrRefused.
func Export(ctx context.Context, c ExportConfig) (*tarx.Report, error) {
	dir, err := openBundle(c.Dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if err := isBundle(dir); err != nil {
		return nil, &BundleError{Kind: BundleNone, Dir: c.Dir, Detail: err.Error()}
	}
	if err := notMounted(c.Dir, dir); err != nil {
		return nil, err
	}
	host, err := bundleMapping(dir)
	if err != nil {
		return nil, fmt.Errorf("read the mapping of %q: %w", c.Dir, err)
	}
	o := export.Options{InNamespace: c.IDs.InNamespace}
	if single(host.UIDMaps) && single(host.GIDMaps) {
		o.Owner = tarx.OwnerRootless
	}
	if o.Mapping, err = c.IDs.ToDisk(host); err != nil {
		return nil, err
	}
	rootfs, err := openAt(dir, "rootfs", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", filepath.Join(c.Dir, "rootfs"), err)
	}
	defer rootfs.Close()
	if f, ok := c.Out.(*os.File); ok {
		// Where it is a pipe, fewer wake-ups; elsewhere it means nothing.
		unix.FcntlInt(f.Fd(), unix.F_SETPIPE_SZ, 1<<20)
	}
	return export.Tree(ctx, c.Out, rootfs, o)
}

// single says that a mapping is that of a bundle whose files all belong to one user: container root is the only id.
func single(maps []user.IDMap) bool {
	return len(maps) == 1 && maps[0].ID == 0 && maps[0].Count == 1
}

// bundleMapping reads the mapping in the config of a bundle: container ids to ids on the host.
func bundleMapping(dir *os.File) (user.IdentityMapping, error) {
	var m user.IdentityMapping
	f, err := openAt(dir, "config.json", unix.O_RDONLY|unix.O_NOFOLLOW)
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
	if err := json.NewDecoder(io.LimitReader(f, maxConfig)).Decode(&config); err != nil {
		return m, err
	}
	m.UIDMaps = idMaps(config.Linux.UIDMappings)
	m.GIDMaps = idMaps(config.Linux.GIDMappings)
	return m, nil
}

func idMaps(mappings []specs.LinuxIDMapping) []user.IDMap {
	var maps []user.IDMap
	for _, m := range mappings {
		maps = append(maps, user.IDMap{ID: int64(m.ContainerID), ParentID: int64(m.HostID), Count: int64(m.Size)})
	}
	return maps
}

// openBundle opens what should be a bundle's directory. Where there is none, the error is a *BundleError.
func openBundle(name string) (*os.File, error) {
	dir, err := os.OpenFile(name, unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &BundleError{Kind: BundleNone, Dir: name, Err: cause(err)}
	case errors.Is(err, unix.ENOTDIR):
		return nil, &BundleError{Kind: BundleNone, Dir: name, Detail: "it is not a directory", Err: cause(err)}
	case err != nil:
		return nil, fmt.Errorf("open %q: %w", name, cause(err))
	}
	return dir, nil
}
