package image

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1"

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

// ociImage is an image layout (image-spec, image-layout.md) in a tar.
func (a *Archive) ociImage(want Platform) (*Opened, error) {
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
	img := &Opened{Image: Image{Names: g.names, Digest: d.Digest.String()}}
	if _, img.Config, err = a.blobDocument("the image's config", manifest.Config, imageconfig.MaxImageConfigSize); err != nil {
		return nil, err
	}
	diffIDs, err := img.readConfig(want)
	if err != nil {
		return nil, err
	}
	if len(diffIDs) != len(manifest.Layers) {
		return nil, &Error{Part: mpart, Kind: tarx.ErrMalformed,
			Err: fmt.Errorf("it has %d layers, and the image's config has %d", len(manifest.Layers), len(diffIDs))}
	}
	for i, l := range manifest.Layers {
		lpart, m, err := a.blob(fmt.Sprintf("layer %d", i+1), l)
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(string(l.MediaType), "+encrypted") {
			return nil, &Error{Part: lpart, Kind: tarx.ErrRefused, Err: errors.New("it is encrypted")}
		}
		img.LayerBlobs = append(img.LayerBlobs, Layer{Member: m, digest: l.Digest, DiffID: diffIDs[i]})
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
		return &Error{Part: part, Kind: tarx.ErrMalformed, Err: errors.New("it is an index and a manifest in one")}
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
		return nil, &Error{Part: part, Kind: tarx.ErrMalformed, Err: fmt.Errorf("it says to be of type %q, not an index", index.MediaType)}
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
		return nil, &Error{Part: part, Kind: tarx.ErrMalformed, Err: fmt.Errorf("it says to be of type %q, not a manifest", m.MediaType)}
	}
	if t := m.Config.MediaType; t != "" && !t.IsConfig() {
		return nil, &Error{Part: part, Kind: tarx.ErrMalformed, Err: fmt.Errorf("it is of an artifact with a config of type %q, not of an image", t)}
	}
	return m, nil
}

// groups lists the images that an index leads to. What is no image, as a
// signature or an attestation, is passed over.
func (a *Archive) groups(index *v1.IndexManifest) ([]*imageGroup, error) {
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
func (a *Archive) collect(g *imageGroup, d v1.Descriptor, budget *int) error {
	switch {
	case d.ArtifactType != "", d.Annotations[annotationReference] != "":
		return nil
	case d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown":
		return nil
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

// oneImage is the one image there is. Some tools list the platforms of an image
// in index.json itself.
func oneImage(groups []*imageGroup) (*imageGroup, error) {
	if len(groups) == 0 {
		return nil, &Error{Part: "index.json", Kind: tarx.ErrMalformed, Err: errors.New("it names no image")}
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
func (a *Archive) choose(g *imageGroup, want Platform) (v1.Descriptor, error) {
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
