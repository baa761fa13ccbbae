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
	"fmt"
	"path/filepath"

	"ocibundle/pipeline/bundle"
	"ocibundle/pipeline/host"
	"ocibundle/pipeline/userns"
	"ocibundle/specedit"
	"ocibundle/tarx"
	"ocibundle/tarx/handle"
)

// Run makes a bundle. Errors that it causes itself are a *DestinationError, a
// *DigestError, a *DecodeError or a *WindowError, and with an image an
// *ImageError, a *SeveralImagesError or a *PlatformError; those of the
// extraction are tarx's, those of the config specedit's.
func Run(ctx context.Context, c Config) (_ *Result, err error) {
	dest, err := bundle.OpenDestination(ctx, c.Output, c.Force)
	if err != nil {
		return nil, err
	}
	defer dest.Close()
	res := &Result{}
	if res.Output, err = filepath.Abs(c.Output); err != nil {
		return nil, fmt.Errorf("make the path of the bundle absolute: %w", err)
	}
	c.applyIDs(res.Output)
	// With an image, what the edits change is in the stream.
	if !c.Image {
		if err := c.checkSpec(res); err != nil {
			return nil, err
		}
	}
	res.Warnings = append(res.Warnings, c.IDs.Notes...)
	res.Warnings = append(res.Warnings, bundle.Unreachable(res.Output, c.IDs)...)

	st, err := bundle.NewStage(dest)
	if err != nil {
		return nil, err
	}
	defer func() {
		if rerr := st.Remove(); rerr != nil && err != nil {
			err = fmt.Errorf("%w; besides, %q could not be removed: %w", err, st.Name, rerr)
		}
	}()

	in, err := c.open(ctx, !c.Image)
	if err != nil {
		return nil, err
	}
	defer in.Close()

	rootfs, err := st.Mkdir("rootfs")
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
	if err := st.OpenToRoot(c.IDs); err != nil {
		return nil, err
	}
	if err := st.WriteFile("config.json", config); err != nil {
		return nil, err
	}
	if c.Sync {
		if err := st.Sync(); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	old, err := st.Publish(ctx)
	if err != nil {
		return nil, err
	}
	// From here on the bundle is there, and nothing may say otherwise.
	if c.Sync {
		if err := dest.Parent.Sync(); err != nil {
			res.Warnings = append(res.Warnings, fmt.Sprintf("the bundle's name may not be on disk yet: %v", handle.Cause(err)))
		}
	}
	if old != nil {
		if err := old.Remove(); err != nil {
			res.Warnings = append(res.Warnings, fmt.Sprintf("the old bundle could not be removed from %q: %v", old.Name, err))
		}
	}
	return res, nil
}

// applyIDs completes the config with what the ids and the host say.
func (c *Config) applyIDs(output string) {
	c.Extract.Mapping = c.IDs.Disk
	c.Extract.CapRootID = c.IDs.CapRootID
	if c.IDs.Mode == userns.ModeSelf {
		c.Extract.Owner = tarx.OwnerRootless
		// Every id may be kept, for none reaches the disk.
		c.Extract.Mapping.UIDMaps, c.Extract.Mapping.GIDMaps = nil, nil
	}
	c.Spec.Host = host.Describe(c.IDs)
	c.Spec.Host.Hostname = filepath.Base(output)
	if c.AbsoluteRoot {
		c.Spec.RootPath = filepath.Join(output, "rootfs")
	}
}
