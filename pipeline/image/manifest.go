package image

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"ocibundle/specedit/imageconfig"
	"ocibundle/tarx"
	"ocibundle/tarx/handle"
)

// Sizes of the documents of an image, in bytes, beyond which they are not read.
// Registries allow manifests of 4 MiB.
const (
	maxManifest = 4 << 20
	maxLayers   = 4096
	maxIndexes  = 64
)

// document reads a member that is JSON, and verifies it where its digest is
// known.
func (a *Archive) document(part string, m tarx.Member, want v1.Hash, limit int64) ([]byte, error) {
	if m.Size > limit {
		return nil, &Error{Part: part, Kind: tarx.ErrRefused,
			Err: fmt.Errorf("it has %d bytes, more than the %d that are read", m.Size, limit)}
	}
	b := make([]byte, m.Size)
	if _, err := a.f.ReadAt(b, m.Offset); err != nil {
		return nil, fmt.Errorf("read the spooled image: %w", handle.Cause(err))
	}
	if want.Hex != "" {
		if err := a.verifyBlob(m, want); err != nil {
			return nil, &Error{Part: part, Err: err}
		}
	}
	return b, nil
}

// blobName is where a blob lies (image-spec, image-layout.md).
func blobName(h v1.Hash) string { return path.Join("blobs", h.Algorithm, h.Hex) }

// blob finds what a descriptor describes.
func (a *Archive) blob(what string, d v1.Descriptor) (string, tarx.Member, error) {
	part := what
	if d.Digest.Hex == "" {
		return part, tarx.Member{}, &Error{Part: part, Kind: tarx.ErrMalformed, Err: errors.New("its descriptor has no digest")}
	}
	part += " " + d.Digest.String()
	m, err := a.find(blobName(d.Digest))
	if err != nil {
		return part, m, &Error{Part: part, Err: err}
	}
	if m.Size != d.Size {
		return part, m, &Error{Part: part, Kind: tarx.ErrMalformed,
			Err: fmt.Errorf("it has %d bytes, and its descriptor says %d", m.Size, d.Size)}
	}
	return part, m, nil
}

// blobDocument reads what a descriptor describes.
func (a *Archive) blobDocument(what string, d v1.Descriptor, limit int64) (string, []byte, error) {
	part, m, err := a.blob(what, d)
	if err != nil {
		return part, nil, err
	}
	b, err := a.document(part, m, d.Digest, limit)
	return part, b, err
}

// Image reads the documents of the archive's image.
func (a *Archive) Image(want Platform) (*Opened, error) {
	switch {
	case a.has("index.json"):
		return a.ociImage(want)
	case a.has("manifest.json"):
		return a.dockerImage(want)
	}
	return nil, fmt.Errorf("%w: %w", tarx.ErrMalformed, ErrNotImage)
}

// unmarshal reads JSON; what does not fit is malformed.
func unmarshal(part string, b []byte, to any) error {
	if err := json.Unmarshal(b, to); err != nil {
		return &Error{Part: part, Kind: tarx.ErrMalformed, Err: err}
	}
	return nil
}

// dockerImage is the form that docker save had before version 25, and that
// podman save and others still write: manifest.json names the members.
func (a *Archive) dockerImage(want Platform) (*Opened, error) {
	const part = "manifest.json"
	m, err := a.find(part)
	if err != nil {
		return nil, err
	}
	b, err := a.document(part, m, v1.Hash{}, maxManifest)
	if err != nil {
		return nil, err
	}
	var list tarball.Manifest
	if err := unmarshal(part, b, &list); err != nil {
		return nil, err
	}
	malformed := func(format string, args ...any) error {
		return &Error{Part: part, Kind: tarx.ErrMalformed, Err: fmt.Errorf(format, args...)}
	}
	if len(list) == 0 {
		return nil, malformed("it names no image")
	}
	d := list[0]
	for _, other := range list[1:] {
		if other.Config == d.Config && slices.Equal(other.Layers, d.Layers) {
			d.RepoTags = append(d.RepoTags, other.RepoTags...)
			continue
		}
		var names []string
		for _, d := range list {
			names = append(names, cmp.Or(strings.Join(d.RepoTags, " = "), d.Config))
		}
		return nil, &SeveralImagesError{Images: names}
	}
	config, err := memberName(d.Config)
	if err != nil {
		return nil, &Error{Part: part, Err: err}
	}
	cm, err := a.find(config)
	if err != nil {
		return nil, err
	}
	img := &Opened{Image: Image{Names: d.RepoTags}}
	digest := digestInName(config)
	if img.Config, err = a.document("the image's config "+config, cm, digest, imageconfig.MaxImageConfigSize); err != nil {
		return nil, err
	}
	if digest.Hex != "" {
		img.Digest = digest.String()
	}
	diffIDs, err := img.readConfig(want)
	if err != nil {
		return nil, err
	}
	if len(diffIDs) != len(d.Layers) {
		return nil, malformed("it names %d layers, and the image's config has %d", len(d.Layers), len(diffIDs))
	}
	for i, l := range d.Layers {
		name, err := memberName(l)
		if err != nil {
			return nil, &Error{Part: part, Err: err}
		}
		m, err := a.find(name)
		if err != nil {
			return nil, err
		}
		layer := Layer{Member: m, DiffID: diffIDs[i]}
		if strings.HasPrefix(name, "blobs/") {
			layer.digest = digestInName(name)
		}
		img.LayerBlobs = append(img.LayerBlobs, layer)
	}
	return img, nil
}

var hexName = regexp.MustCompile(`^[0-9a-f]{64}(\.json)?$`)

// digestInName is the digest that a member's name tells of its contents:
// HEX.json for a config, blobs/sha256/HEX.
func digestInName(name string) v1.Hash {
	base := path.Base(name)
	if !hexName.MatchString(base) {
		return v1.Hash{}
	}
	return v1.Hash{Algorithm: "sha256", Hex: strings.TrimSuffix(base, ".json")}
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
		return nil, &Error{Part: part, Kind: tarx.ErrMalformed, Err: fmt.Errorf("its rootfs is of type %q, not of layers", t)}
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
