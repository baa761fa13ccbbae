package pipeline

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"ocibundle/specedit"
	"ocibundle/tarx"
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
func (a *archive) document(part string, m tarx.Member, want v1.Hash, limit int64) ([]byte, error) {
	if m.Size > limit {
		return nil, &ImageError{Part: part, Kind: tarx.ErrRefused,
			Err: fmt.Errorf("it has %d bytes, more than the %d that are read", m.Size, limit)}
	}
	b := make([]byte, m.Size)
	if _, err := a.f.ReadAt(b, m.Offset); err != nil {
		return nil, fmt.Errorf("read the spooled image: %w", cause(err))
	}
	if want.Hex != "" {
		if err := a.verifyBlob(m, want); err != nil {
			return nil, &ImageError{Part: part, Err: err}
		}
	}
	return b, nil
}

// blobName is where a blob lies (image-spec, image-layout.md).
func blobName(h v1.Hash) string { return path.Join("blobs", h.Algorithm, h.Hex) }

// blob finds what a descriptor describes.
func (a *archive) blob(what string, d v1.Descriptor) (string, tarx.Member, error) {
	part := what
	if d.Digest.Hex == "" {
		return part, tarx.Member{}, &ImageError{Part: part, Kind: tarx.ErrMalformed, Err: errors.New("its descriptor has no digest")}
	}
	part += " " + d.Digest.String()
	m, err := a.find(blobName(d.Digest))
	if err != nil {
		return part, m, &ImageError{Part: part, Err: err}
	}
	if m.Size != d.Size {
		return part, m, &ImageError{Part: part, Kind: tarx.ErrMalformed,
			Err: fmt.Errorf("it has %d bytes, and its descriptor says %d", m.Size, d.Size)}
	}
	return part, m, nil
}

// blobDocument reads what a descriptor describes.
func (a *archive) blobDocument(what string, d v1.Descriptor, limit int64) (string, []byte, error) {
	part, m, err := a.blob(what, d)
	if err != nil {
		return part, nil, err
	}
	b, err := a.document(part, m, d.Digest, limit)
	return part, b, err
}

// image reads the documents of the archive's image.
func (a *archive) image(want Platform) (*openedImage, error) {
	switch {
	case a.has("index.json"):
		return a.ociImage(want)
	case a.has("manifest.json"):
		return a.dockerImage(want)
	}
	return nil, fmt.Errorf("%w: %w", tarx.ErrMalformed, ErrNoImage)
}

// unmarshal reads JSON; what does not fit is malformed.
func unmarshal(part string, b []byte, to any) error {
	if err := json.Unmarshal(b, to); err != nil {
		return &ImageError{Part: part, Kind: tarx.ErrMalformed, Err: err}
	}
	return nil
}

// dockerImage is the form that docker save had before version 25, and that
// podman save and others still write: manifest.json names the members.
func (a *archive) dockerImage(want Platform) (*openedImage, error) {
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
		return &ImageError{Part: part, Kind: tarx.ErrMalformed, Err: fmt.Errorf(format, args...)}
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
		return nil, &ImageError{Part: part, Err: err}
	}
	cm, err := a.find(config)
	if err != nil {
		return nil, err
	}
	img := &openedImage{Image: Image{Names: d.RepoTags}}
	digest := digestInName(config)
	if img.config, err = a.document("the image's config "+config, cm, digest, specedit.MaxImageConfigSize); err != nil {
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
			return nil, &ImageError{Part: part, Err: err}
		}
		m, err := a.find(name)
		if err != nil {
			return nil, err
		}
		layer := imageLayer{member: m, diffID: diffIDs[i]}
		if strings.HasPrefix(name, "blobs/") {
			layer.digest = digestInName(name)
		}
		img.layers = append(img.layers, layer)
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
func (img *openedImage) readConfig(want Platform) (diffIDs []v1.Hash, err error) {
	const part = "the image's config"
	var config struct {
		OS           string    `json:"os"`
		Architecture string    `json:"architecture"`
		Variant      string    `json:"variant"`
		RootFS       v1.RootFS `json:"rootfs"`
	}
	if err := unmarshal(part, img.config, &config); err != nil {
		return nil, err
	}
	if t := config.RootFS.Type; t != "" && t != "layers" {
		return nil, &ImageError{Part: part, Kind: tarx.ErrMalformed, Err: fmt.Errorf("its rootfs is of type %q, not of layers", t)}
	}
	if n := len(config.RootFS.DiffIDs); n > maxLayers {
		return nil, &ImageError{Part: part, Kind: tarx.ErrRefused, Err: fmt.Errorf("the image has %d layers, more than %d", n, maxLayers)}
	}
	img.Platform = Platform{config.OS, config.Architecture, config.Variant}.normal()
	img.Layers = len(config.RootFS.DiffIDs)
	if os := img.Platform.OS; os != "" && os != "linux" {
		return nil, &PlatformError{Want: cmp.Or(want, here()), Have: []Platform{img.Platform}}
	}
	if want != (Platform{}) && img.Platform.Architecture != "" && !img.Platform.satisfies(want) {
		return nil, &PlatformError{Want: want, Have: []Platform{img.Platform}}
	}
	return config.RootFS.DiffIDs, nil
}

// candidate is an image manifest that an index names.
type candidate struct {
	desc     v1.Descriptor
	platform Platform
}

// imageGroup is what one descriptor of index.json leads to: one image, for one
// or for several platforms.
type imageGroup struct {
	digest     v1.Hash
	names      []string
	candidates []candidate
}

// Annotations of a descriptor (image-spec, annotations.md; containerd,
// images/annotations.go; BuildKit, docs/attestations).
const (
	annotationRefName   = "org.opencontainers.image.ref.name"
	annotationImageName = "io.containerd.image.name"
	annotationReference = "vnd.docker.reference.type"
)

// ociImage is an image layout (image-spec, image-layout.md) in a tar.
func (a *archive) ociImage(want Platform) (*openedImage, error) {
	const part = "index.json"
	m, err := a.find(part)
	if err != nil {
		return nil, err
	}
	b, err := a.document(part, m, v1.Hash{}, maxManifest)
	if err != nil {
		return nil, err
	}
	index, err := parseIndex(part, b)
	if err != nil {
		return nil, err
	}
	groups, err := a.groups(index)
	if err != nil {
		return nil, err
	}
	g, err := oneImage(groups)
	if err != nil {
		return nil, err
	}
	d, err := a.choose(g, want)
	if err != nil {
		return nil, err
	}
	mpart, b, err := a.blobDocument("the manifest", d, maxManifest)
	if err != nil {
		return nil, err
	}
	manifest, err := parseManifest(mpart, b)
	if err != nil {
		return nil, err
	}
	img := &openedImage{Image: Image{Names: g.names, Digest: d.Digest.String()}}
	if _, img.config, err = a.blobDocument("the image's config", manifest.Config, specedit.MaxImageConfigSize); err != nil {
		return nil, err
	}
	diffIDs, err := img.readConfig(want)
	if err != nil {
		return nil, err
	}
	if len(diffIDs) != len(manifest.Layers) {
		return nil, &ImageError{Part: mpart, Kind: tarx.ErrMalformed,
			Err: fmt.Errorf("it has %d layers, and the image's config has %d", len(manifest.Layers), len(diffIDs))}
	}
	for i, l := range manifest.Layers {
		lpart, m, err := a.blob(fmt.Sprintf("layer %d", i+1), l)
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(string(l.MediaType), "+encrypted") {
			return nil, &ImageError{Part: lpart, Kind: tarx.ErrRefused, Err: errors.New("it is encrypted")}
		}
		img.layers = append(img.layers, imageLayer{member: m, digest: l.Digest, diffID: diffIDs[i]})
	}
	return img, nil
}

// ambiguous refuses a document that is an index to one reader and a manifest to
// another (CVE-2021-41190).
func ambiguous(part string, b []byte) error {
	var both struct {
		Manifests json.RawMessage `json:"manifests"`
		Layers    json.RawMessage `json:"layers"`
		Config    json.RawMessage `json:"config"`
	}
	if err := unmarshal(part, b, &both); err != nil {
		return err
	}
	if both.Manifests != nil && (both.Layers != nil || both.Config != nil) {
		return &ImageError{Part: part, Kind: tarx.ErrMalformed, Err: errors.New("it is an index and a manifest in one")}
	}
	return nil
}

func parseIndex(part string, b []byte) (*v1.IndexManifest, error) {
	if err := ambiguous(part, b); err != nil {
		return nil, err
	}
	index := new(v1.IndexManifest)
	if err := unmarshal(part, b, index); err != nil {
		return nil, err
	}
	if index.MediaType != "" && !index.MediaType.IsIndex() {
		return nil, &ImageError{Part: part, Kind: tarx.ErrMalformed, Err: fmt.Errorf("it says to be of type %q, not an index", index.MediaType)}
	}
	return index, nil
}

func parseManifest(part string, b []byte) (*v1.Manifest, error) {
	if err := ambiguous(part, b); err != nil {
		return nil, err
	}
	m := new(v1.Manifest)
	if err := unmarshal(part, b, m); err != nil {
		return nil, err
	}
	if m.MediaType != "" && !m.MediaType.IsImage() {
		return nil, &ImageError{Part: part, Kind: tarx.ErrMalformed, Err: fmt.Errorf("it says to be of type %q, not a manifest", m.MediaType)}
	}
	if t := m.Config.MediaType; t != "" && !t.IsConfig() {
		return nil, &ImageError{Part: part, Kind: tarx.ErrMalformed, Err: fmt.Errorf("it is of an artifact with a config of type %q, not of an image", t)}
	}
	return m, nil
}

// groups lists the images that an index leads to. What is no image, as a
// signature or an attestation, is passed over.
func (a *archive) groups(index *v1.IndexManifest) ([]*imageGroup, error) {
	var groups []*imageGroup
	budget := maxIndexes
	for _, d := range index.Manifests {
		names := descriptorNames(d)
		if i := slices.IndexFunc(groups, func(g *imageGroup) bool { return g.digest == d.Digest }); i >= 0 {
			for _, n := range names {
				if !slices.Contains(groups[i].names, n) {
					groups[i].names = append(groups[i].names, n)
				}
			}
			continue
		}
		g := &imageGroup{digest: d.Digest, names: names}
		if err := a.collect(g, d, &budget); err != nil {
			return nil, err
		}
		if len(g.candidates) > 0 {
			groups = append(groups, g)
		}
	}
	return groups, nil
}

func descriptorNames(d v1.Descriptor) []string {
	for _, key := range []string{annotationImageName, annotationRefName} {
		if n := d.Annotations[key]; n != "" {
			return []string{n}
		}
	}
	return nil
}

// collect adds the images that d leads to, through indexes in indexes.
func (a *archive) collect(g *imageGroup, d v1.Descriptor, budget *int) error {
	switch {
	case d.ArtifactType != "", d.Annotations[annotationReference] != "":
		return nil
	case d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown":
		return nil
	case d.MediaType.IsIndex():
		if *budget--; *budget < 0 {
			return &ImageError{Part: "index.json", Kind: tarx.ErrRefused, Err: fmt.Errorf("there are more than %d indexes", maxIndexes)}
		}
		part, b, err := a.blobDocument("the index", d, maxManifest)
		if err != nil {
			return err
		}
		index, err := parseIndex(part, b)
		if err != nil {
			return err
		}
		for _, d := range index.Manifests {
			if err := a.collect(g, d, budget); err != nil {
				return err
			}
		}
	case d.MediaType.IsImage():
		c := candidate{desc: d}
		if p := d.Platform; p != nil {
			c.platform = Platform{p.OS, p.Architecture, p.Variant}.normal()
		}
		g.candidates = append(g.candidates, c)
	}
	return nil
}

// oneImage is the one image there is. Some tools list the platforms of an image
// in index.json itself.
func oneImage(groups []*imageGroup) (*imageGroup, error) {
	if len(groups) == 0 {
		return nil, &ImageError{Part: "index.json", Kind: tarx.ErrMalformed, Err: errors.New("it names no image")}
	}
	one := &imageGroup{names: groups[0].names}
	same := true
	seen := map[Platform]bool{}
	var names []string
	for _, g := range groups {
		names = append(names, cmp.Or(strings.Join(g.names, " = "), g.digest.String()))
		c := g.candidates[0]
		if len(g.candidates) != 1 || c.platform == (Platform{}) || seen[c.platform] || !slices.Equal(g.names, one.names) {
			same = false
		}
		seen[c.platform] = true
		one.candidates = append(one.candidates, g.candidates...)
	}
	if len(groups) > 1 && !same {
		return nil, &SeveralImagesError{Images: names}
	}
	return one, nil
}

// choose picks the manifest for a platform. Archives often hold one platform of
// an index that names many.
func (a *archive) choose(g *imageGroup, want Platform) (v1.Descriptor, error) {
	var there []candidate
	for _, c := range g.candidates {
		if a.has(blobName(c.desc.Digest)) {
			there = append(there, c)
		}
	}
	if len(there) == 0 {
		there = g.candidates // so that what is missing is named
	}
	if len(there) == 1 {
		// That it is the wrong one shows in its config, for an index need not
		// say what it is for; where it does, both have to be right.
		c := there[0]
		if want != (Platform{}) && c.platform != (Platform{}) && !c.platform.satisfies(want) {
			return c.desc, &PlatformError{Want: want, Have: []Platform{c.platform}}
		}
		return c.desc, nil
	}
	want = cmp.Or(want, here())
	var best *candidate
	var have []Platform
	for i, c := range there {
		if c.platform == want {
			return c.desc, nil
		}
		if best == nil && c.platform.satisfies(want) {
			best = &there[i]
		}
		have = append(have, c.platform)
	}
	if best == nil {
		return v1.Descriptor{}, &PlatformError{Want: want, Have: have}
	}
	return best.desc, nil
}
