package image

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1"

	"ocibundle/specedit/imageconfig"
	"ocibundle/tarx"
)

// savedImage is an element of manifest.json in what docker save writes.
type savedImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func (s *savedImage) name() string { return cmp.Or(strings.Join(s.RepoTags, " = "), s.Config) }

const dockerManifest = "manifest.json"

// dockerImage is the form that docker save had before version 25, and that podman save and
// others still write: manifest.json names the members.
func (a *Archive) dockerImage(want Choice) (*Opened, error) {
	b, err := a.member(dockerManifest)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte{'{'}) {
		return a.dirImage(b, want)
	}
	var list []savedImage
	if err := unmarshal(dockerManifest, b, &list); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, malformed(dockerManifest, "it names no image")
	}
	saved, err := chooseSaved(list, want.Ref)
	if err != nil {
		return nil, err
	}
	return a.openSaved(saved, want.Platform)
}

// chooseSaved is the one image there is, or the one that ref names.
func chooseSaved(list []savedImage, ref string) (*savedImage, error) {
	var all []*savedImage // each with all of its names
	var names []string
	for _, s := range list {
		same := slices.IndexFunc(all, func(o *savedImage) bool { return o.Config == s.Config && slices.Equal(o.Layers, s.Layers) })
		if same >= 0 {
			all[same].RepoTags = slices.Concat(all[same].RepoTags, s.RepoTags)
			continue
		}
		if len(all) >= maxIndexes*64 {
			return nil, &Error{Part: dockerManifest, Kind: tarx.ErrRefused, Err: fmt.Errorf("it names more than %d images", maxIndexes*64)}
		}
		all = append(all, &s)
	}
	for _, s := range all {
		names = append(names, s.name())
	}
	if ref != "" {
		all = best(all, func(s *savedImage) int { return matches(ref, s.RepoTags, []string{digestInName(s.Config).String()}) })
	}
	switch len(all) {
	case 0:
		return nil, &NoSuchImageError{Ref: ref, Images: names}
	case 1:
		return all[0], nil
	}
	return nil, &SeveralImagesError{Images: names}
}

// best keeps the elements with the highest rank above 0.
func best[T any](all []T, rank func(T) int) []T {
	var found []T
	top := 1
	for _, v := range all {
		r := rank(v)
		if r > top {
			top, found = r, nil
		}
		if r == top {
			found = append(found, v)
		}
	}
	return found
}

func (a *Archive) openSaved(d *savedImage, want Platform) (*Opened, error) {
	if d.Config == "" {
		return nil, malformed(dockerManifest, "it names no config for the image")
	}
	config, err := memberName(d.Config)
	if err != nil {
		return nil, &Error{Part: dockerManifest, Err: err}
	}
	m, err := a.find(config)
	if err != nil {
		return nil, err
	}
	img := &Opened{Image: Image{Names: d.RepoTags}}
	digest := digestInName(config)
	if img.Config, err = a.document("the image's config "+config, m, digest, imageconfig.MaxImageConfigSize); err != nil {
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
		return nil, malformed(dockerManifest, "it names %d layers, and the image's config has %d", len(d.Layers), len(diffIDs))
	}
	for i, l := range d.Layers {
		name, err := memberName(l)
		if err != nil {
			return nil, &Error{Part: dockerManifest, Err: err}
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

// digestInName is the digest that a member's name tells of its contents: HEX.json for a
// config, blobs/sha256/HEX.
func digestInName(name string) v1.Hash {
	base := strings.TrimSuffix(path.Base(name), ".json")
	if len(base) != 64 || !isHex(base) {
		return v1.Hash{}
	}
	return v1.Hash{Algorithm: "sha256", Hex: base}
}

// member reads a document of a fixed name.
func (a *Archive) member(name string) ([]byte, error) {
	m, err := a.find(name)
	if err != nil {
		return nil, err
	}
	return a.document(name, m, v1.Hash{}, maxManifest)
}

func malformed(part, format string, args ...any) error {
	return &Error{Part: part, Kind: tarx.ErrMalformed, Err: fmt.Errorf(format, args...)}
}

// errNoImage is in the chain where a layout names no image.
var errNoImage = errors.New("it names no image")
