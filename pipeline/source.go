package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"ocibundle/pipeline/decode"
	"ocibundle/pipeline/image"
	"ocibundle/pipeline/userns"
	"ocibundle/specedit/imageconfig"
	"ocibundle/tarx"
)

// open opens the stream and starts to read it.
func (c *Source) open(ctx context.Context, lendHash bool) (*decode.Stream, error) {
	// To open a FIFO waits for somebody who writes to it (fifo(7)).
	stream, err := decode.Await(ctx, c.Open, func(s io.ReadCloser) { s.Close() })
	if err != nil {
		return nil, err
	}
	if c.Progress == nil {
		c.Progress = new(decode.Progress)
	}
	in, err := decode.Open(ctx, stream, decode.Options{SHA256: c.SHA256, LendHash: lendHash, MaxBytes: c.MaxBytes, Progress: c.Progress})
	if err != nil {
		stream.Close()
		return nil, err
	}
	closeDecoder := in.Close
	in.Close = func() { closeDecoder(); stream.Close() }
	return in, nil
}

// extraction is how the stream's entries become files or headers with the ids of IDs.
func (c *Source) extraction() tarx.Options {
	o := c.Extract
	o.Mapping, o.CapRootID = c.IDs.Disk, c.IDs.CapRootID
	if c.IDs.Mode == userns.ModeSelf {
		o.Owner = tarx.OwnerRootless
	}
	// In the container's user namespace the kernel makes no device (mknod(2)), and one that root made outside could be
	// opened there by whoever has the mapped ids.
	if !c.IDs.Host.Empty() && o.Devices == tarx.DevicesAuto {
		o.Devices = tarx.DevicesSkip
	}
	return o
}

// tryEdits makes the config for a trial, before anything is extracted.
func (c *Source) tryEdits(res *Result) error {
	if err := c.Spec.Check(); err != nil {
		return err
	}
	res.Warnings = append(res.Warnings, c.Spec.Warnings()...)
	return nil
}

// openImage opens the image of an archive that was read to its end, and puts the edits of its
// own config in front of the others.
func (c *Source) openImage(a *image.Archive, in *decode.Stream, res *Result) (*image.Opened, error) {
	if err := in.Finish(c.SHA256); err != nil {
		return nil, err
	}
	img, err := a.Image(c.Choice)
	if err != nil {
		return nil, err
	}
	res.Image = &img.Image
	if w := foreign(img.Platform); w != "" {
		res.Warnings = append(res.Warnings, w)
	}
	imported, err := imageconfig.Edits("the image's config", img.Config,
		imageconfig.Options{FromImage: true, Rootless: c.Spec.Host.Rootless})
	if err != nil {
		// The user wrote none of it.
		return nil, &image.Error{Part: "read the image's config", Kind: tarx.ErrMalformed, Err: errors.New(err.Error())}
	}
	c.Spec.Edits = slices.Concat(imported.Edits, c.Spec.Edits)
	if w := imported.Warning(); w != "" {
		res.Warnings = append(res.Warnings, w)
	}
	res.Decisions = append(res.Decisions, imported.Decisions...)
	return img, c.tryEdits(res)
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

// explain says of a stream that is not as expected what it is.
func (c *Source) explain(in *decode.Stream, err error) error {
	if errors.Is(err, tarx.ErrNoDirectory) {
		return &image.PlatformError{Want: c.Choice.Platform}
	}
	return in.Explain(err)
}

// checkRootfs refuses what is not a root filesystem but holds one or more. has says what
// there is at the top.
func (c *Source) checkRootfs(has func(name string) bool) error {
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
