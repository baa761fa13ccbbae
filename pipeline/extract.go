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
		return err
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
	if res.Report, err = extract.Stream(ctx, in.Out, rootfs, o); err != nil {
		return err
	}
	if err := in.Finish(c.SHA256); err != nil {
		return err
	}
	if isImageArchive(rootfs) {
		return fmt.Errorf("%w: %w", tarx.ErrMalformed, ErrImageArchive)
	}
	return nil
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
