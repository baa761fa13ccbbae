package pipeline

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"ocibundle/specedit"
	"ocibundle/tarx"
)

// Platform is what an image is for, in Go's names. The zero value stands for
// the machine's own.
type Platform struct{ OS, Architecture, Variant string }

func (p Platform) String() string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// ParsePlatform reads OS/ARCH[/VARIANT].
func ParsePlatform(s string) (Platform, error) {
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return Platform{}, errors.New("it is not of the form OS/ARCH[/VARIANT]")
	}
	p := Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	if p = p.normal(); p.OS != "linux" {
		return p, errors.New("bundles are for linux")
	}
	return p, nil
}

// normal gives a platform its usual names, as containerd does
// (github.com/containerd/platforms): the variant that an architecture has
// anyway is left out.
func (p Platform) normal() Platform {
	p.OS, p.Architecture, p.Variant = strings.ToLower(p.OS), strings.ToLower(p.Architecture), strings.ToLower(p.Variant)
	switch p.Architecture {
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "i386", "i686":
		p.Architecture = "386"
	case "aarch64":
		p.Architecture = "arm64"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	}
	usual := map[string]string{"amd64": "v1", "arm64": "v8", "arm": "v7"}
	if p.Variant == usual[p.Architecture] || p.Architecture == "arm64" && p.Variant == "8" {
		p.Variant = ""
	}
	return p
}

// here is the machine's platform.
func here() Platform { return Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}.normal() }

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

// PlatformError is an image that is not to be had for a platform.
type PlatformError struct {
	Want Platform
	// Have are the platforms that there are.
	Have []Platform
}

func (e *PlatformError) Error() string {
	var have []string
	for _, p := range e.Have {
		have = append(have, p.String())
	}
	return fmt.Sprintf("the image is not for %s: it is for %s", e.Want, strings.Join(have, ", "))
}

// Is makes it a refusal.
func (e *PlatformError) Is(target error) bool { return target == tarx.ErrRefused }

// Sizes of the documents of an image, in bytes, beyond which they are not read.
// Registries allow manifests of 4 MiB.
const (
	maxManifest = 4 << 20
	maxLayers   = 4096
	maxIndexes  = 64
)

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

	x, err := tarx.NewExtractor(rootfs, c.Extract)
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
func (a *archive) extractLayer(ctx context.Context, x *tarx.Extractor, l imageLayer, lowest bool, limit int64, left *int64) error {
	first := x.Whiteouts
	if lowest {
		first = x.Layer
	}
	if err := a.verifyLayer(l, limit, left, func(r io.Reader) error { return first(ctx, r) }); err != nil || lowest {
		return err
	}
	in, err := openInput(a.open(l.member), "", 0, nil)
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
	in, err := openInput(src, "", 0, nil)
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

// satisfies says that p is what is wanted. Any variant will do where none is
// wanted.
func (p Platform) satisfies(want Platform) bool {
	return p.OS == want.OS && p.Architecture == want.Architecture && (want.Variant == "" || p.Variant == want.Variant)
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
