// Package image reads image archives: what docker save and its like write, and OCI
// image layouts in a tar. It finds the image, verifies its documents and layers, and
// hands the layers to whoever makes a tree of them.
package image

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1"

	"ocibundle/tarx"
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

// ErrNotImage is in the chain where the stream is a tar, but no image archive.
var ErrNotImage = errors.New("the stream is not an image archive: it has neither index.json nor manifest.json")

// Error is an image archive that is broken, or that is refused.
type Error struct {
	// Part of the archive that is to blame: a member, a blob, a layer.
	Part string
	// Kind is tarx.ErrMalformed or tarx.ErrRefused; nil for what Err says.
	Kind error
	Err  error
}

func (e *Error) Error() string { return e.Part + ": " + e.Err.Error() }

// Unwrap gives the kind and the cause.
func (e *Error) Unwrap() []error {
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
	return fmt.Sprintf("the archive has %d images: %s", len(e.Images), listed(e.Images))
}

// listed is the beginning of a list, in words.
func listed(names []string) string {
	if len(names) > 10 {
		names = append(slices.Clone(names[:10]), "...")
	}
	return strings.Join(names, ", ")
}

// Layer is a layer as the archive has it.
type Layer struct {
	Member tarx.Member
	digest v1.Hash // of the member's bytes; zero: not known
	DiffID v1.Hash // of the layer, decoded
}

// Opened is the image of an archive whose documents have been read and
// verified.
type Opened struct {
	Image
	Config     []byte
	LayerBlobs []Layer
}

// readConfig reads of an image's config what the tree depends on.
func (img *Opened) readConfig(want Platform) (diffIDs []v1.Hash, err error) {
	const part = "the image's config"
	var config struct {
		OS           string    `json:"os"`
		Architecture string    `json:"architecture"`
		Variant      string    `json:"variant"`
		RootFS       v1.RootFS `json:"rootfs"`
	}
	if err := unmarshal(part, img.Config, &config); err != nil {
		return nil, err
	}
	if t := config.RootFS.Type; t != "" && t != "layers" {
		return nil, malformed(part, "its rootfs is of type %q, not of layers", t)
	}
	if n := len(config.RootFS.DiffIDs); n > maxLayers {
		return nil, &Error{Part: part, Kind: tarx.ErrRefused, Err: fmt.Errorf("the image has %d layers, more than %d", n, maxLayers)}
	}
	img.Platform = Platform{config.OS, config.Architecture, config.Variant}.normal()
	img.Layers = len(config.RootFS.DiffIDs)
	if os := img.Platform.OS; os != "" && os != "linux" {
		return nil, &PlatformError{Want: cmp.Or(want, Here()), Have: []Platform{img.Platform}}
	}
	if want != (Platform{}) && img.Platform.Architecture != "" && !img.Platform.satisfies(want) {
		return nil, &PlatformError{Want: want, Have: []Platform{img.Platform}}
	}
	return config.RootFS.DiffIDs, nil
}
