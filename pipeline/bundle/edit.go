package bundle

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"ocibundle/pipeline/host"
	"ocibundle/specedit"
)

// ErrNotBundle is wrapped where a directory is not what a bundle is: it has a
// rootfs directory and a config.json with an ociVersion.
var ErrNotBundle = errors.New("it is no bundle")

// editTemporary is what the new config is called until it is complete. What an
// edit that was killed left is removed by the next.
const editTemporary = ".config.json."

// Edit edits the config.json of a bundle in one step: whoever reads it
// sees the old one or the new one. Mode and owner stay. An edit that changes
// nothing does not touch the file.
func Edit(dir string, edits []specedit.Edit) (warnings []string, err error) {
	root, err := os.OpenRoot(dir)
	if info, statErr := os.Stat(dir); statErr == nil && !info.IsDir() {
		return nil, fmt.Errorf("%w: it is no directory", ErrNotBundle)
	}
	if err != nil {
		return nil, fmt.Errorf("edit the bundle: %w", err)
	}
	defer root.Close()
	lock, err := root.Open(".")
	if err != nil {
		return nil, fmt.Errorf("edit the bundle: %w", err)
	}
	defer lock.Close()
	// Two edits at once must not lose one of them.
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock %q: %w", dir, err)
	}

	info, err := root.Lstat("config.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: it has no config.json", ErrNotBundle)
	}
	if err != nil {
		return nil, fmt.Errorf("edit the bundle: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: its config.json is no regular file", ErrNotBundle)
	}
	old, err := root.ReadFile("config.json")
	if err != nil {
		return nil, fmt.Errorf("edit the bundle: %w", err)
	}
	var has struct{ OCIVersion *string }
	if json.Unmarshal(old, &has) == nil && has.OCIVersion == nil {
		return nil, fmt.Errorf("%w: its config.json has no ociVersion", ErrNotBundle)
	}
	rootfs, err := openRootfs(lock)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotBundle, err)
	}
	defer rootfs.Close()

	plan := specedit.Plan{Base: old, BaseLabel: filepath.Join(dir, "config.json"), Edits: edits,
		Host: specedit.Host{CgroupV2: host.UnifiedCgroups()}}
	if os.Geteuid() != 0 {
		plan.Host.Rootless, plan.Host.HardLimits = true, host.HardLimits()
	}
	config, err := plan.Build(specedit.RootUsers{Root: rootfs})
	if err != nil {
		return nil, err
	}
	if bytes.Equal(config, old) {
		return plan.Warnings(), nil
	}
	return plan.Warnings(), replaceConfig(root, lock, info, config)
}

func openRootfs(dir *os.File) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), "rootfs", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open its rootfs: %w", err)
	}
	return os.NewFile(uintptr(fd), "rootfs"), nil
}

// replaceConfig writes the new config beside the old one and renames it.
func replaceConfig(root *os.Root, dir *os.File, old fs.FileInfo, config []byte) (err error) {
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("read the bundle: %w", err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, editTemporary) {
			if err := root.Remove(name); err != nil {
				return fmt.Errorf("remove what an earlier edit left: %w", err)
			}
		}
	}
	name := editTemporary + rand.Text()
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write the config: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write the config: %w", err), root.Remove(name))
		}
	}()
	_, err = f.Write(config)
	if st, ok := old.Sys().(*syscall.Stat_t); ok && err == nil && (int(st.Uid) != os.Geteuid() || int(st.Gid) != os.Getegid()) {
		err = f.Chown(int(st.Uid), int(st.Gid))
	}
	if err == nil {
		err = f.Chmod(old.Mode().Perm())
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return root.Rename(name, "config.json")
}
