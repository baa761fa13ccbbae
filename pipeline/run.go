// Package pipeline turns a container's filesystem stream into a bundle.
//
// It promises that the destination appears whole or not at all: everything is
// made in a private directory beside it, which one rename(2) publishes. After
// an error, a cancelled context included, the destination is as it was and
// nothing is left beside it. What a killed process leaves, the next run for
// the same destination removes.
//
// It prints nothing and never exits.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"ocibundle/pipeline/userns"
	"ocibundle/specedit"
	"ocibundle/tarx"
	"ocibundle/tarx/extract"
)

// Config is a bundle to be made.
type Config struct {
	// Output is the bundle's directory.
	Output string
	// Force replaces a bundle that is there.
	Force bool
	// Sync flushes the bundle to disk before it is published.
	Sync bool
	// Open opens the stream. It is called once all else has been checked.
	Open func() (io.ReadCloser, error)
	// SHA256 is the digest that the stream must have, in lower-case
	// hexadecimal; empty for none.
	SHA256 string
	// MaxBytes is the most bytes that the stream, decoded, may have; 0 for no
	// limit.
	MaxBytes int64
	// Image says that the stream is an image archive. The image's own config
	// comes before the edits of Spec.
	Image bool
	// Platform is the one to pick from an image for several.
	Platform Platform
	// Extract are the options of the extraction. Its mapping is set from IDs.
	Extract tarx.Options
	// IDs is how the container's ids get to the disk.
	IDs userns.State
	// Spec is the config to be written. Its mapping is set from IDs.
	Spec specedit.Plan
	// AbsoluteRoot writes root.path absolute.
	AbsoluteRoot bool
	// Progress, if not nil, counts along.
	Progress *Progress
}

// Result is what was done.
type Result struct {
	// Output is the bundle's absolute path.
	Output string
	// Report is what extraction says.
	Report *tarx.Report
	// BytesRead is the number of bytes of the stream as they came in.
	BytesRead int64
	// SHA256 is the stream's digest, where it was asked for.
	SHA256 string
	// Image is the image that the stream held, nil where it was none.
	Image *Image
	// Decisions are sentences about what was decided on the way.
	Decisions []string
	// Warnings are sentences for the user.
	Warnings []string
}

// ErrImageArchive is in the chain where the stream is an image archive and not
// a filesystem.
var ErrImageArchive = errors.New("the stream is an image archive, not a container's filesystem")

// Run makes a bundle. Errors that it causes itself are a *DestinationError, a
// *DigestError, a *DecodeError or a *WindowError, and with an image an
// *ImageError, a *SeveralImagesError or a *PlatformError; those of the
// extraction are tarx's, those of the config specedit's.
func Run(ctx context.Context, c Config) (_ *Result, err error) {
	dest, err := openDestination(c.Output, c.Force)
	if err != nil {
		return nil, err
	}
	defer dest.close()
	res := &Result{}
	if res.Output, err = filepath.Abs(c.Output); err != nil {
		return nil, fmt.Errorf("make the path of the bundle absolute: %w", err)
	}
	c.settle(res)
	// With an image, what the edits change is in the stream.
	if !c.Image {
		if err := c.check(res); err != nil {
			return nil, err
		}
	}
	res.Warnings = append(res.Warnings, c.IDs.Notes...)
	res.Warnings = append(res.Warnings, unreachable(res.Output, c.IDs)...)

	st, err := newStage(dest)
	if err != nil {
		return nil, err
	}
	defer func() {
		if rerr := st.remove(); rerr != nil && err != nil {
			err = fmt.Errorf("%w; besides, %q could not be removed: %w", err, st.name, rerr)
		}
	}()

	// To open a FIFO waits for somebody who writes to it (fifo(7)).
	stream, err := await(ctx, c.Open, func(s io.ReadCloser) { s.Close() })
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	if c.Progress == nil {
		c.Progress = new(Progress)
	}
	in, err := openInput(ctx, stream, inputOptions{
		sha256: c.SHA256, lendHash: !c.Image, maxBytes: c.MaxBytes, progress: c.Progress,
	})
	if err != nil {
		return nil, err
	}
	defer in.close()

	rootfs, err := st.mkdir("rootfs")
	if err != nil {
		return nil, err
	}
	defer rootfs.Close()
	if c.Image {
		err = c.extractImage(ctx, in, st, rootfs, res)
	} else {
		err = c.extractExport(ctx, in, rootfs, res)
	}
	if err != nil {
		return nil, err
	}
	res.BytesRead, res.SHA256 = c.Progress.Read(), c.SHA256

	config, err := c.Spec.Build(specedit.RootUsers{Root: rootfs})
	if err != nil {
		return nil, err
	}
	if err := st.admit(c.IDs); err != nil {
		return nil, err
	}
	if err := st.writeFile("config.json", config); err != nil {
		return nil, err
	}
	if c.Sync {
		if err := st.sync(); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	old, err := st.publish()
	if err != nil {
		return nil, err
	}
	// From here on the bundle is there, and nothing may say otherwise.
	if c.Sync {
		if err := dest.parent.Sync(); err != nil {
			res.Warnings = append(res.Warnings, fmt.Sprintf("the bundle's name may not be on disk yet: %v", cause(err)))
		}
	}
	if old != nil {
		if err := old.remove(); err != nil {
			res.Warnings = append(res.Warnings, fmt.Sprintf("the old bundle could not be removed from %q: %v", old.name, err))
		}
	}
	return res, nil
}

// check makes the config for a trial, before anything is extracted.
func (c *Config) check(res *Result) error {
	if err := c.Spec.Check(); err != nil {
		return err
	}
	res.Warnings = append(res.Warnings, c.Spec.Warnings()...)
	return nil
}

// extractExport makes the tree of a container's filesystem.
func (c *Config) extractExport(ctx context.Context, in *input, rootfs *os.File, res *Result) (err error) {
	o := c.Extract
	o.Feed, o.Hash = in.feed, in.hash
	if res.Report, err = extract.Stream(ctx, in.out, rootfs, o); err != nil {
		return err
	}
	if err := in.finish(c.SHA256); err != nil {
		return err
	}
	if isImageArchive(rootfs) {
		return fmt.Errorf("%w: %w", tarx.ErrMalformed, ErrImageArchive)
	}
	return nil
}

// settle completes the config with what the ids and the host say.
func (c *Config) settle(res *Result) {
	c.Extract.Mapping = c.IDs.Disk
	c.Extract.CapRootID = c.IDs.CapRootID
	if c.IDs.Mode == userns.ModeSelf {
		c.Extract.Owner = tarx.OwnerRootless
		// Every id may be kept, for none reaches the disk.
		c.Extract.Mapping.UIDMaps, c.Extract.Mapping.GIDMaps = nil, nil
	}
	c.Spec.Host = Host(c.IDs)
	c.Spec.Host.Hostname = filepath.Base(res.Output)
	if c.AbsoluteRoot {
		c.Spec.RootPath = filepath.Join(res.Output, "rootfs")
	}
}

// Host gathers what a default config depends on.
func Host(ids userns.State) specedit.Host {
	var fs unix.Statfs_t
	v2 := unix.Statfs("/sys/fs/cgroup", &fs) == nil && int64(fs.Type) == unix.CGROUP2_SUPER_MAGIC
	h := specedit.Host{
		CgroupV2: v2,
		Rootless: ids.Rootless && !ids.Host.Empty(),
		Mapping:  ids.Host,
	}
	if h.Rootless {
		h.HardLimits = HardLimits()
	}
	return h
}

// finish checks that the stream was read to its end and is the one announced.
func (in *input) finish(want string) error {
	n, err := io.Copy(io.Discard, in.src)
	if err != nil {
		return &tarx.ReadError{Err: err}
	}
	if n > 0 {
		return fmt.Errorf("%w: %d bytes follow the compressed stream", tarx.ErrMalformed, n)
	}
	return in.verify(want)
}

// isImageArchive recognizes what docker save and its like write: the files of
// an image, and nothing of a root filesystem.
func isImageArchive(rootfs *os.File) bool {
	has := func(name string) bool {
		var st unix.Stat_t
		return unix.Fstatat(int(rootfs.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
	}
	return (has("oci-layout") || has("manifest.json")) && !has("etc") && !has("proc")
}

// admit opens the bundle's directory to the container's root where that is
// another user on the host: by its group, for passing through.
func (s *stage) admit(ids userns.State) error {
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

// foreignRoot says that the container's root may not be the caller. In a
// namespace the caller is id 0.
func foreignRoot(ids userns.State) bool {
	if ids.Mode != userns.ModeExplicit {
		return false
	}
	uid, gid := ids.Disk.RootPair()
	return !ids.InNamespace || uid != 0 || gid != 0
}

// unreachable warns of what keeps the container's root from its bundle when it
// is another user on the host: directories on the way that it may not search,
// and a runtime that has no right to give it anything.
func unreachable(output string, ids userns.State) (warnings []string) {
	if !foreignRoot(ids) {
		return nil
	}
	if ids.InNamespace {
		warnings = append(warnings, "the container's root is not the caller, which an ordinary user's crun takes and runc does not")
	}
	uid, gid := ids.Disk.RootPair()
	if dir := unsearchable(filepath.Dir(output), uid, gid, ids.Disk); dir != "" {
		host, _ := ids.Host.RootPair()
		warnings = append(warnings, fmt.Sprintf("the container's root (uid %d on the host) may not search %q, so the bundle will not start", host, dir))
	}
	return warnings
}

// unsearchable finds a directory that a container's root, with the ids uid and gid on disk, may not search: dir, or one
// above it. Empty: there is none.
func unsearchable(dir string, uid, gid int, disk user.IdentityMapping) string {
	for ; ; dir = filepath.Dir(dir) {
		var st unix.Stat_t
		if unix.Stat(dir, &st) == nil {
			search := uint32(0o001)
			switch {
			case int(st.Uid) == uid:
				search = 0o100
			case int(st.Gid) == gid:
				search = 0o010
			}
			// Where both ids are the container's, its root has every right
			// (user_namespaces(7), "Capabilities").
			_, _, foreign := disk.ToContainer(int(st.Uid), int(st.Gid))
			if st.Mode&search == 0 && foreign != nil {
				return dir
			}
		}
		if dir == "/" {
			return ""
		}
	}
}
