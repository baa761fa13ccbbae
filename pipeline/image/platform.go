package image

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

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

// Here is the machine's platform.
func Here() Platform { return Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}.normal() }

// satisfies says that p is what is wanted. Any variant will do where none is
// wanted.
func (p Platform) satisfies(want Platform) bool {
	return p.OS == want.OS && p.Architecture == want.Architecture && (want.Variant == "" || p.Variant == want.Variant)
}

// Directory is what docker buildx build --output type=tar calls the directory for a platform
// where there are several (github.com/tonistiigi/fsutil, SubDirFS); empty for the zero value.
func (p Platform) Directory() string {
	if p == (Platform{}) {
		return ""
	}
	if p.Architecture == "arm" && p.Variant == "" {
		p.Variant = "v7"
	}
	return strings.ReplaceAll(p.String(), "/", "_")
}

// PlatformDirectories are the platforms for which has says that there is a directory.
func PlatformDirectories(has func(name string) bool) []Platform {
	var there []Platform
	for _, arch := range []string{"386", "amd64", "arm", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x"} {
		for _, variant := range []string{"", "v2", "v3", "v4", "v5", "v6"} {
			if p := (Platform{"linux", arch, variant}); has(p.Directory()) {
				there = append(there, p)
			}
		}
	}
	return there
}

// SeveralPlatformsError is a stream of directories, each the root filesystem for a platform.
type SeveralPlatformsError struct{ Have []Platform }

func (e *SeveralPlatformsError) Error() string {
	return "the stream has a directory for each of several platforms: " + platformList(e.Have)
}

// Is makes it a malformed stream: it is not that of one filesystem.
func (e *SeveralPlatformsError) Is(target error) bool { return target == tarx.ErrMalformed }

func platformList(all []Platform) string {
	var names []string
	for _, p := range all {
		names = append(names, p.String())
	}
	return strings.Join(names, ", ")
}

// PlatformError is an image that is not to be had for a platform.
type PlatformError struct {
	Want Platform
	// Have are the platforms that there are; none where the stream is not an image.
	Have []Platform
}

func (e *PlatformError) Error() string {
	if len(e.Have) == 0 {
		return fmt.Sprintf("the stream has no directory %q for %s", e.Want.Directory(), e.Want)
	}
	return fmt.Sprintf("the image is not for %s: it is for %s", e.Want, platformList(e.Have))
}

// Is makes it a refusal.
func (e *PlatformError) Is(target error) bool { return target == tarx.ErrRefused }
