package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"ocibundle/pipeline/bundle"
	"ocibundle/pipeline/decode"
	"ocibundle/pipeline/image"
	"ocibundle/specedit/imageconfig"
	"ocibundle/tarx"
	"ocibundle/tarx/extract"
)

// extractImage makes the tree of an image archive and puts the edits of its own
// config in front of the plan's.
func (c *Config) extractImage(ctx context.Context, in *decode.Stream, st *bundle.Stage, rootfs *os.File, res *Result) error {
	f, err := st.TempFile()
	if err != nil {
		return err
	}
	a, err := image.Spool(ctx, in.Out, f)
	if err != nil {
		return in.Explain(err)
	}
	defer a.Close()
	if err := in.Finish(c.SHA256); err != nil {
		return err
	}
	img, err := a.Image(c.Choice)
	if err != nil {
		return err
	}
	res.Image = &img.Image
	if w := foreign(img.Platform); w != "" {
		res.Warnings = append(res.Warnings, w)
	}
	imported, err := imageconfig.Edits("the image's config", img.Config,
		imageconfig.Options{FromImage: true, Rootless: c.Spec.Host.Rootless})
	if err != nil {
		// The user wrote none of it.
		return &image.Error{Part: "read the image's config", Kind: tarx.ErrMalformed, Err: errors.New(err.Error())}
	}
	c.Spec.Edits = slices.Concat(imported.Edits, c.Spec.Edits)
	if w := imported.Warning(); w != "" {
		res.Warnings = append(res.Warnings, w)
	}
	res.Decisions = append(res.Decisions, imported.Decisions...)
	if err := c.tryEdits(res); err != nil {
		return err
	}

	o := c.Extract
	o.Feed = tarx.FeedReader // it decodes and digests
	x, err := extract.New(rootfs, o)
	if err != nil {
		return err
	}
	defer x.Close()
	left := c.MaxBytes
	for i, l := range img.LayerBlobs {
		if err := a.ExtractLayer(ctx, x, l, i == 0, c.MaxBytes, &left); err != nil {
			if errors.Is(err, tarx.ErrMalformed) || errors.Is(err, tarx.ErrRefused) {
				part := fmt.Sprintf("layer %d of %d (%s)", i+1, len(img.LayerBlobs), l.DiffID)
				err = &image.Error{Part: part, Err: err}
			}
			return err
		}
		if !slices.ContainsFunc(img.LayerBlobs[i+1:], func(n image.Layer) bool { return n.Member.Offset == l.Member.Offset }) {
			a.Free(l.Member)
		}
	}
	res.Report, err = x.Finish(ctx)
	return err
}

// foreign warns of an image that this machine does not run.
func foreign(p image.Platform) string {
	h := image.Here()
	if p.Architecture == "" || p.Architecture == h.Architecture ||
		h.Architecture == "amd64" && p.Architecture == "386" || h.Architecture == "arm64" && p.Architecture == "arm" {
		return ""
	}
	return fmt.Sprintf("the image is for %s, and this machine is %s", p, h)
}

// extractExport makes the tree of a container's filesystem.
func (c *Config) extractExport(ctx context.Context, in *decode.Stream, rootfs *os.File, res *Result) (err error) {
	o := c.Extract
	o.Feed, o.Hash = in.Feed, in.Hash
	o.StripPrefix = c.Choice.Platform.Directory()
	if res.Report, err = extract.Stream(ctx, in.Out, rootfs, o); err != nil {
		return c.explain(in, err)
	}
	if err := in.Finish(c.SHA256); err != nil {
		return err
	}
	return c.checkRootfs(func(name string) bool {
		var st unix.Stat_t
		return unix.Fstatat(int(rootfs.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
	})
}

// explain says of a stream that is not as expected what it is.
func (c *Config) explain(in *decode.Stream, err error) error {
	if errors.Is(err, tarx.ErrNoDirectory) {
		return &image.PlatformError{Want: c.Choice.Platform}
	}
	return in.Explain(err)
}

// checkRootfs refuses what is not a root filesystem but holds one or more. has says what
// there is at the top.
func (c *Config) checkRootfs(has func(name string) bool) error {
	if c.Choice.Platform != (image.Platform{}) || has("etc") || has("proc") {
		return nil
	}
	if has("oci-layout") || has("manifest.json") {
		return fmt.Errorf("%w: %w", tarx.ErrMalformed, ErrImageArchive)
	}
	if list := image.PlatformDirectories(has); len(list) > 0 && !has("usr") && !has("bin") {
		return &image.SeveralPlatformsError{Have: list}
	}
	return nil
}
