package pipeline

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1"

	"ocibundle/specedit"
	"ocibundle/tarx"
	"ocibundle/tarx/extract"
)

// Image says which image a bundle was made of.
type Image struct {
	// Names are those that the archive gives it, none perhaps.
	Names []string
	// Digest is that of its manifest, or of its config where the archive has
	// no manifest.
	Digest string
	// Platform is what its config says.
	Platform Platform
	// Layers is their number.
	Layers int
}

// ErrNoImage is in the chain where the stream is a tar, but no image archive.
var ErrNoImage = errors.New("the stream is not an image archive: it has neither index.json nor manifest.json")

// ImageError is an image archive that is broken, or that is refused.
type ImageError struct {
	// Part of the archive that is to blame: a member, a blob, a layer.
	Part string
	// Kind is tarx.ErrMalformed or tarx.ErrRefused; nil for what Err says.
	Kind error
	Err  error
}

func (e *ImageError) Error() string { return e.Part + ": " + e.Err.Error() }

// Unwrap gives the kind and the cause.
func (e *ImageError) Unwrap() []error {
	if e.Kind == nil {
		return []error{e.Err}
	}
	return []error{e.Kind, e.Err}
}

// BlobDigestError is a part of an image that is not the one announced.
type BlobDigestError struct {
	// Want and Got are digests, "sha256:HEX".
	Want, Got string
}

func (e *BlobDigestError) Error() string {
	return fmt.Sprintf("verify the digest: it is %s, not %s", e.Got, e.Want)
}

// Is makes it a malformed stream.
func (e *BlobDigestError) Is(target error) bool { return target == tarx.ErrMalformed }

// SeveralImagesError is an archive of more than one image.
type SeveralImagesError struct {
	// Images names each, by a name or by a digest.
	Images []string
}

func (e *SeveralImagesError) Error() string {
	list := e.Images
	if len(list) > 10 {
		list = append(slices.Clone(list[:10]), "...")
	}
	return fmt.Sprintf("the archive has %d images: %s", len(e.Images), strings.Join(list, ", "))
}

// imageLayer is a layer as the archive has it.
type imageLayer struct {
	member tarx.Member
	digest v1.Hash // of the member's bytes; zero: not known
	diffID v1.Hash // of the layer, decoded
}

// openedImage is the image of an archive whose documents have been read and
// verified.
type openedImage struct {
	Image
	config []byte
	layers []imageLayer
}

// extractImage makes the tree of an image archive and puts the edits of its own
// config in front of the plan's.
func (c *Config) extractImage(ctx context.Context, in *input, st *stage, rootfs *os.File, res *Result) error {
	a, err := spool(ctx, in.out, st)
	if err != nil {
		return err
	}
	defer a.close()
	if err := in.finish(c.SHA256); err != nil {
		return err
	}
	img, err := a.image(c.Platform)
	if err != nil {
		return err
	}
	res.Image = &img.Image
	if w := foreign(img.Platform); w != "" {
		res.Warnings = append(res.Warnings, w)
	}
	imported, err := specedit.ImageConfig("the image's config", img.config,
		specedit.ImageConfigOptions{FromImage: true, Rootless: c.Spec.Host.Rootless})
	if err != nil {
		// The user wrote none of it.
		return &ImageError{Part: "read the image's config", Kind: tarx.ErrMalformed, Err: errors.New(err.Error())}
	}
	c.Spec.Edits = slices.Concat(imported.Edits, c.Spec.Edits)
	if w := imported.Warning(); w != "" {
		res.Warnings = append(res.Warnings, w)
	}
	res.Decisions = append(res.Decisions, imported.Decisions...)
	if err := c.check(res); err != nil {
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
	for i, l := range img.layers {
		if err := a.extractLayer(ctx, x, l, i == 0, c.MaxBytes, &left); err != nil {
			if errors.Is(err, tarx.ErrMalformed) || errors.Is(err, tarx.ErrRefused) {
				part := fmt.Sprintf("layer %d of %d (%s)", i+1, len(img.layers), l.diffID)
				err = &ImageError{Part: part, Err: err}
			}
			return err
		}
		if !slices.ContainsFunc(img.layers[i+1:], func(n imageLayer) bool { return n.member.Offset == l.member.Offset }) {
			a.free(l.member)
		}
	}
	res.Report, err = x.Finish(ctx)
	return err
}

// foreign warns of an image that this machine does not run.
func foreign(p Platform) string {
	h := here()
	if p.Architecture == "" || p.Architecture == h.Architecture ||
		h.Architecture == "amd64" && p.Architecture == "386" || h.Architecture == "arm64" && p.Architecture == "arm" {
		return ""
	}
	return fmt.Sprintf("the image is for %s, and this machine is %s", p, h)
}

// extractLayer puts one layer onto the tree. The first reading verifies it, and
// takes away what it hides; the lowest layer hides nothing, and is made in the
// same reading. What has been verified lies where nobody else can change it.
func (a *archive) extractLayer(ctx context.Context, x *extract.Extractor, l imageLayer, lowest bool, limit int64, left *int64) error {
	first := x.Whiteouts
	if lowest {
		first = x.Layer
	}
	if err := a.verifyLayer(l, limit, left, func(r io.Reader) error { return first(ctx, r) }); err != nil || lowest {
		return err
	}
	in, err := newInput(a.open(l.member), inputOptions{})
	if err != nil {
		return err
	}
	defer in.close()
	return x.Layer(ctx, in.out)
}

// verifyLayer has f read a layer and compares its digests with those announced.
func (a *archive) verifyLayer(l imageLayer, limit int64, left *int64, f func(io.Reader) error) error {
	var raw *digester
	var src io.Reader = a.open(l.member)
	if l.digest.Hex != "" && l.digest != l.diffID {
		h, err := v1.Hasher(l.digest.Algorithm)
		if err != nil {
			return err
		}
		raw = newDigester(src, h)
		src = raw
	}
	in, err := newInput(src, inputOptions{})
	if err != nil {
		return a.blameBlob(l, err)
	}
	defer in.close()
	h, err := v1.Hasher(l.diffID.Algorithm)
	if err != nil {
		return err
	}
	diff := newDigester(in.out, h)
	var out io.Reader = diff
	var limited *limitReader
	if limit > 0 {
		limited = &limitReader{r: diff, limit: limit, left: *left}
		out = limited
	}
	if err := f(out); err != nil {
		return a.blameBlob(l, err)
	}
	if limited != nil {
		*left = limited.left
	}
	if err := in.finish(""); err != nil {
		return a.blameBlob(l, err)
	}
	if raw != nil {
		if err := compare(l.digest, raw.sum()); err != nil {
			return err
		}
	}
	return compare(l.diffID, diff.sum())
}

// blameBlob tells a broken archive from a broken layer: err is what a layer
// with another digest looks like too.
func (a *archive) blameBlob(l imageLayer, err error) error {
	if l.digest.Hex == "" || !errors.Is(err, tarx.ErrMalformed) {
		return err
	}
	if derr := a.verifyBlob(l.member, l.digest); derr != nil {
		return derr
	}
	return err
}

func compare(want v1.Hash, got string) error {
	if want.Hex != got {
		return &BlobDigestError{Want: want.String(), Got: want.Algorithm + ":" + got}
	}
	return nil
}

func (a *archive) verifyBlob(m tarx.Member, want v1.Hash) error {
	h, err := v1.Hasher(want.Algorithm)
	if err != nil {
		return err
	}
	if _, err := io.Copy(h, a.open(m)); err != nil {
		return fmt.Errorf("read the spooled image: %w", err)
	}
	return compare(want, hex.EncodeToString(h.Sum(nil)))
}
