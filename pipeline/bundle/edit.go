package bundle

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"ocibundle/pipeline/host"
	"ocibundle/specedit"
	"ocibundle/tarx/handle"
)

// editPrefix is what the name of the new config begins with until it is complete. What an edit that
// was killed has left is removed by the next.
const editPrefix = ".config.json."

func isEditTemporary(name string) bool { return hasRandom(name, editPrefix) }

// Edit edits the config.json of a bundle in one step: whoever reads it sees the old one or the new
// one. Mode and owner stay. An edit that changes nothing does not touch the file. Where there is no
// bundle, or another process works on it, the error is an *Error; those of the edits are
// specedit's.
func Edit(ctx context.Context, dir string, edits []specedit.Edit) (warnings []string, err error) {
	f, err := openLocked(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c, err := inspect(f, dir)
	if err != nil {
		return nil, err
	}
	defer c.Close()

	plan := specedit.Plan{Base: c.config, BaseLabel: filepath.Join(dir, configName), Edits: edits,
		Host: specedit.Host{CgroupV2: host.UnifiedCgroups()}}
	if os.Geteuid() != 0 {
		plan.Host.Rootless, plan.Host.HardLimits = true, host.HardLimits()
	}
	config, err := plan.Build(specedit.RootUsers{Root: c.rootfs})
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if !bytes.Equal(config, c.config) {
		if err := replaceConfig(ctx, f, config); err != nil {
			return nil, err
		}
	}
	return plan.Warnings(), nil
}

// openLocked opens the bundle dir and locks it: two edits at once must not lose one of them.
func openLocked(ctx context.Context, dir string) (*os.File, error) {
	for {
		f, err := Open(dir)
		if err != nil {
			return nil, err
		}
		err = lock(ctx, f, func() (bool, error) {
			again, err := Open(dir)
			if err != nil {
				return false, err
			}
			defer again.Close()
			return handle.SameFile(int(f.Fd()), int(again.Fd()), "")
		})
		if err == nil {
			return f, nil
		}
		f.Close()
		if err == errLocked {
			err = &Error{Kind: Busy, Dir: dir}
		}
		if err != errMoved { // it was replaced
			return nil, err
		}
	}
}

// replaceConfig writes the new config beside the old one and renames it. After an error nothing is
// left of it.
func replaceConfig(ctx context.Context, dir *os.File, config []byte) (err error) {
	defer func() {
		if err != nil && err != context.Cause(ctx) {
			err = fmt.Errorf("write the config: %w", err)
		}
	}()
	if err := removeTemporaries(dir); err != nil {
		return err
	}
	old, err := handle.Look(int(dir.Fd()), configName)
	if err != nil {
		return err
	}
	name := editPrefix + randomHex()
	f, err := createAt(dir, name, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(config)
	if err == nil && (int(old.Uid) != os.Geteuid() || int(old.Gid) != os.Getegid()) {
		err = f.Chown(int(old.Uid), int(old.Gid))
	}
	if err == nil {
		err = f.Chmod(os.FileMode(old.Mode & 0o777))
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	fd := int(dir.Fd())
	if err == nil {
		err = unix.Renameat(fd, name, fd, configName)
	}
	if err != nil {
		err = handle.Cause(err)
		if rerr := handle.Unlinkat(fd, name, 0); rerr != nil {
			err = fmt.Errorf("%w; besides, %q could not be removed: %w", err, name, rerr)
		}
	}
	return err
}

// removeTemporaries removes what earlier edits that were killed have left. The lock says that none
// is at work.
func removeTemporaries(dir *os.File) error {
	list, err := OpenAt(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer list.Close()
	for {
		names, err := list.Readdirnames(1024)
		for _, n := range names {
			if isEditTemporary(n) {
				if err := handle.Unlinkat(int(dir.Fd()), n, 0); err != nil && err != unix.ENOENT {
					return fmt.Errorf("remove %q, which an earlier edit left: %w", n, err)
				}
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return handle.Cause(err)
		}
	}
}
