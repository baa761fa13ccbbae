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
