package image

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"ocibundle/specedit/imageconfig"
	"ocibundle/tarx"
)

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

const layoutIndex = "index.json"

// Image reads the documents of the archive's image.
func (a *Archive) Image(want Choice) (*Opened, error) {
	docker := a.has(dockerManifest)
	if !a.has(layoutIndex) {
		if !docker {
			return nil, fmt.Errorf("%w: %w", tarx.ErrMalformed, ErrNotImage)
		}
		return a.dockerImage(want)
	}
	img, err := a.ociImage(want)
	// docker save of an image without a name leaves index.json empty, and that of older
	// engines tells the images' own ids in manifest.json alone.
	var unknown *NoSuchImageError
	if docker && (errors.Is(err, errNoImage) || errors.As(err, &unknown)) {
		if saved, derr := a.dockerImage(want); derr == nil || unknown == nil {
			return saved, derr
		}
	}
	return img, err
}

// ociImage is an image layout (image-spec, image-layout.md) in a tar.
func (a *Archive) ociImage(want Choice) (*Opened, error) {
	b, err := a.member(layoutIndex)
	if err != nil {
		return nil, err
	}
	index, err := parseIndex(layoutIndex, b)
	if err != nil {
		return nil, err
	}
	return a.fromIndex(layoutIndex, index, want)
}

// dirImage is what skopeo's dir: holds: manifest.json is that of the image, and blobs are
// named by their digests (containers-transports(5)).
func (a *Archive) dirImage(b []byte, want Choice) (*Opened, error) {
	var kind struct {
		SchemaVersion *int            `json:"schemaVersion"`
		Manifests     json.RawMessage `json:"manifests"`
		MediaType     types.MediaType `json:"mediaType"`
	}
	if err := unmarshal(dockerManifest, b, &kind); err != nil {
		return nil, err
	}
	if kind.SchemaVersion == nil || *kind.SchemaVersion != 2 {
		return nil, malformed(dockerManifest, "it is neither a list of images, as docker save writes, nor an image manifest of version 2")
	}
	digest, size, err := v1.SHA256(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	a.dir = true
	a.members[blobName(digest)] = a.members[dockerManifest]
	d := v1.Descriptor{MediaType: kind.MediaType, Digest: digest, Size: size}
	if d.MediaType == "" {
		d.MediaType = types.OCIManifestSchema1
		if kind.Manifests != nil {
			d.MediaType = types.OCIImageIndex
		}
	}
	return a.fromIndex(dockerManifest, &v1.IndexManifest{Manifests: []v1.Descriptor{d}}, want)
}

// fromIndex opens the image that is wanted of those that an index names.
func (a *Archive) fromIndex(part string, index *v1.IndexManifest, want Choice) (*Opened, error) {
	groups, err := a.groups(index)
	if err != nil {
		return nil, err
	}
	if len(groups) == 0 {
		return nil, &Error{Part: part, Kind: tarx.ErrMalformed, Err: errNoImage}
	}
	g, err := oneImage(groups, want.Ref)
	if err != nil {
		return nil, err
	}
	d, err := a.choose(g, want.Platform)
	if err != nil {
		return nil, err
	}
	return a.openManifest(g.names, d, want.Platform)
}

func (a *Archive) openManifest(names []string, d v1.Descriptor, want Platform) (*Opened, error) {
	part, b, err := a.blobDocument("the manifest", d, maxManifest)
	if err != nil {
		return nil, err
	}
	manifest, err := parseManifest(part, b)
	if err != nil {
		return nil, err
	}
	img := &Opened{Image: Image{Names: names, Digest: d.Digest.String()}}
	if _, img.Config, err = a.blobDocument("the image's config", manifest.Config, imageconfig.MaxImageConfigSize); err != nil {
		return nil, err
	}
	diffIDs, err := img.readConfig(want)
	if err != nil {
		return nil, err
	}
	if len(diffIDs) != len(manifest.Layers) {
		return nil, malformed(part, "it has %d layers, and the image's config has %d", len(manifest.Layers), len(diffIDs))
	}
	for i, l := range manifest.Layers {
		part, m, err := a.blob(fmt.Sprintf("layer %d", i+1), l)
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(string(l.MediaType), "+encrypted") {
			return nil, &Error{Part: part, Kind: tarx.ErrRefused, Err: errors.New("it is encrypted")}
		}
		img.LayerBlobs = append(img.LayerBlobs, Layer{Member: m, digest: l.Digest, DiffID: diffIDs[i]})
	}
	return img, nil
}

// ambiguous refuses a document that is an index to one reader and a manifest to
// another (CVE-2021-41190).
func ambiguous(part string, b []byte) error {
	var both struct{ Manifests, Layers, Config json.RawMessage }
	if err := unmarshal(part, b, &both); err != nil {
		return err
	}
	if both.Manifests != nil && (both.Layers != nil || both.Config != nil) {
		return malformed(part, "it is an index and a manifest in one")
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
		return nil, malformed(part, "it says that it is of type %q, not an index", index.MediaType)
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
		return nil, malformed(part, "it says that it is of type %q, not a manifest", m.MediaType)
	}
	if t := m.Config.MediaType; t != "" && !t.IsConfig() {
		return nil, malformed(part, "it is of an artifact with a config of type %q, not of an image", t)
	}
	return m, nil
}

// groups lists the images that an index leads to. What is no image, as a signature or an
// attestation, is passed over.
func (a *Archive) groups(index *v1.IndexManifest) ([]*imageGroup, error) {
	var groups []*imageGroup
	byDigest := map[v1.Hash]*imageGroup{}
	budget := maxIndexes
	for _, d := range index.Manifests {
		g := byDigest[d.Digest]
		if g == nil {
			g = &imageGroup{digest: d.Digest}
			byDigest[d.Digest] = g
			if err := a.collect(g, d, &budget); err != nil {
				return nil, err
			}
			if len(g.candidates) > 0 {
				groups = append(groups, g)
			}
		}
		for _, n := range descriptorNames(d) {
			if !slices.Contains(g.names, n) && len(g.names) < maxNames {
				g.names = append(g.names, n)
			}
		}
	}
	return groups, nil
}

// maxNames is how many names of one image are told.
const maxNames = 1000

func descriptorNames(d v1.Descriptor) []string {
	for _, key := range []string{annotationImageName, annotationRefName} {
		if n := d.Annotations[key]; n != "" {
			return []string{n}
		}
	}
	return nil
}

// isImage says that a descriptor is of an image or an index, and not of what tells
// something about one.
func isImage(d v1.Descriptor) bool {
	// go-containerregistry takes the type of an image's config for that of an artifact.
	if t := types.MediaType(d.ArtifactType); t != "" && !t.IsConfig() || d.Annotations[annotationReference] != "" {
		return false
	}
	if p := d.Platform; p != nil && p.OS == "unknown" && p.Architecture == "unknown" {
		return false
	}
	if kind, ok := strings.CutPrefix(d.Annotations["kind"], "dev.cosignproject.cosign/"); ok {
		return kind == "image" || kind == "imageIndex"
	}
	return !slices.ContainsFunc(descriptorNames(d), forImage)
}

// collect adds the images that d leads to, through indexes in indexes.
func (a *Archive) collect(g *imageGroup, d v1.Descriptor, budget *int) error {
	switch {
	case !isImage(d):
	case d.MediaType.IsIndex():
		if *budget--; *budget < 0 {
			return &Error{Part: "index.json", Kind: tarx.ErrRefused, Err: fmt.Errorf("there are more than %d indexes", maxIndexes)}
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

// oneImage is the one image there is, or the one that ref names. Some tools list the
// platforms of an image in index.json itself.
func oneImage(groups []*imageGroup, ref string) (*imageGroup, error) {
	var names []string
	for _, g := range groups {
		names = append(names, cmp.Or(strings.Join(g.names, " = "), g.digest.String()))
	}
	if ref != "" {
		if groups = best(groups, func(g *imageGroup) int { return matches(ref, g.names, g.digests()) }); len(groups) == 0 {
			return nil, &NoSuchImageError{Ref: ref, Images: names}
		}
	}
	one := &imageGroup{names: groups[0].names}
	same := true
	seen := map[Platform]bool{}
	for _, g := range groups {
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

// digests are those by which an image can be named.
func (g *imageGroup) digests() []string {
	all := []string{g.digest.String()}
	for _, c := range g.candidates {
		all = append(all, c.desc.Digest.String())
	}
	return all
}

// choose picks the manifest for a platform. Archives often hold one platform of
// an index that names many.
func (a *Archive) choose(g *imageGroup, want Platform) (v1.Descriptor, error) {
	var there []candidate
	for _, c := range g.candidates {
		if a.has(a.blobMember(c.desc.Digest)) {
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
	want = cmp.Or(want, Here())
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
