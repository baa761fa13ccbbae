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
	"ocibundle/tarx/handle"
)

// Run reads a stream, extracts it into a rootfs, writes a config.json beside it, and makes the bundle appear when all of
// it is there. Errors that it causes itself are a *bundle.DestinationError, a *decode.DigestError, a *decode.Error or a
// *decode.WindowError, and with an image an *image.Error, an *image.SeveralImagesError or an *image.PlatformError; those of the
// extraction are tarx's, those of the config specedit's.
func Run(ctx context.Context, c Config) (_ *Result, err error) {
	dest, err := bundle.OpenDestination(ctx, c.Output, c.Force)
	if err != nil {
		return nil, err
	}
	defer dest.Close()
	res, err := c.prepare()
	if err != nil {
		return nil, err
	}
	st, err := bundle.NewStage(dest)
	if err != nil {
		return nil, err
	}
	defer func() {
		if rerr := st.Remove(); rerr != nil && err != nil {
			err = fmt.Errorf("%w; besides, %q could not be removed: %w", err, st.Name, rerr)
		}
	}()
	if err := c.extract(ctx, st, res); err != nil {
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

// prepare completes the config with what the ids and the host say, and finds what is wrong with it before anything is read.
func (c *Config) prepare() (*Result, error) {
	res := &Result{}
	var err error
	if res.Output, err = filepath.Abs(c.Output); err != nil {
		return nil, fmt.Errorf("make the path of the bundle absolute: %w", err)
	}
	c.Extract = c.extraction()
	if c.IDs.Mode == userns.ModeSelf {
		// Every id may be kept, for none reaches the disk.
		c.Extract.Mapping.UIDMaps, c.Extract.Mapping.GIDMaps = nil, nil
	}
	if c.Spec.Host, err = host.Describe(c.IDs); err != nil {
		return nil, err
	}
	c.Spec.Host.Hostname = filepath.Base(res.Output)
	if c.AbsoluteRoot {
		c.Spec.RootPath = filepath.Join(res.Output, rootfsName)
	}
	// With an image, what the edits change is in the stream.
	if !c.Image {
		if err := c.tryEdits(res); err != nil {
			return nil, err
		}
	}
	res.Warnings = append(res.Warnings, c.IDs.Notes...)
	res.Warnings = append(res.Warnings, bundle.Unreachable(res.Output, c.IDs)...)
	return res, nil
}
