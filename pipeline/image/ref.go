package image

import (
	"fmt"
	"strings"

	"ocibundle/tarx"
)

// Choice says which image of an archive is wanted. The zero value is the only one there
// is, for this machine.
type Choice struct {
	// Platform is the one to pick from an image for several.
	Platform Platform
	// Ref names one of several images: a name as in docker images, a tag, a digest, or
	// the beginning of one.
	Ref string
}

// matches says how well a reference names an image: 0 for not at all. digests are of
// the image's manifests or its config, as "sha256:HEX".
func matches(ref string, names, digests []string) int {
	name, digest, _ := strings.Cut(ref, "@")
	for _, d := range digests {
		if d == ref || d == digest {
			return 3
		}
	}
	if digest != "" {
		return 0
	}
	best := 0
	for _, n := range names {
		full, want := fullName(n), fullName(name)
		switch {
		case n == ref, full == want:
			return 3
		case strings.HasSuffix(full, "/"+strings.TrimPrefix(want, "docker.io/library/")), strings.HasSuffix(full, ":"+ref):
			best = 2
		}
	}
	prefix := ref[strings.IndexByte(ref, ':')+1:]
	if best == 0 && len(prefix) >= minHexPrefix && isHex(prefix) {
		for _, d := range digests {
			if _, hex, _ := strings.Cut(d, ":"); strings.HasPrefix(d, ref) || strings.HasPrefix(hex, ref) {
				best = 1
			}
		}
	}
	return best
}

// minHexPrefix is the fewest digits that are taken for the beginning of a digest.
const minHexPrefix = 4

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// forImage recognizes the tag of what belongs to an image (cosign, specs/SIGNATURE_SPEC.md;
// distribution-spec, "Referrers Tag Schema").
func forImage(name string) bool {
	digest, ok := strings.CutPrefix(name[strings.LastIndexByte(name, ':')+1:], "sha256-")
	for _, suffix := range []string{".sig", ".att", ".sbom"} {
		digest = strings.TrimSuffix(digest, suffix)
	}
	return ok && len(digest) == 64 && isHex(digest)
}

// fullName gives a name its registry and its tag, as Docker does: redis is
// docker.io/library/redis:latest.
func fullName(s string) string {
	name, _, _ := strings.Cut(s, "@")
	tag := "latest"
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name, tag = name[:i], name[i+1:]
	}
	host, path, ok := strings.Cut(name, "/")
	if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" {
		host, path = "docker.io", name
	}
	if host == "index.docker.io" {
		host = "docker.io"
	}
	if host == "docker.io" && !strings.Contains(path, "/") {
		path = "library/" + path
	}
	return host + "/" + path + ":" + tag
}

// NoSuchImageError is an archive without the image that was asked for.
type NoSuchImageError struct {
	Ref string
	// Images names each that there is, by a name or by a digest.
	Images []string
}

func (e *NoSuchImageError) Error() string {
	return fmt.Sprintf("the archive has no image %q: it has %s", e.Ref, listed(e.Images))
}

// Is makes it a malformed stream where nothing else says what it is.
func (e *NoSuchImageError) Is(target error) bool { return target == tarx.ErrMalformed }
