package image

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"reflect"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1"

	"ocibundle/tarx"
	"ocibundle/tarx/handle"
)

// Limits of the documents of an image. Registries allow manifests of 4 MiB.
const (
	maxManifest = 4 << 20 // bytes
	maxValues   = 1 << 17 // objects, arrays and what is in them: each takes some hundred bytes of memory
	maxLayers   = 4096
	maxIndexes  = 64
)

// document reads a member that is JSON, and verifies it where its digest is known.
func (a *Archive) document(part string, m tarx.Member, want v1.Hash, limit int64) ([]byte, error) {
	refuse := func(format string, args ...any) ([]byte, error) {
		return nil, &Error{Part: part, Kind: tarx.ErrRefused, Err: fmt.Errorf(format, args...)}
	}
	if m.Size > limit {
		return refuse("it has %d bytes, more than the %d that are read", m.Size, limit)
	}
	b := make([]byte, m.Size)
	if _, err := a.f.ReadAt(b, m.Offset); err != nil {
		return nil, fmt.Errorf("read the image: %w", handle.Cause(err))
	}
	if want.Hex != "" {
		h, err := v1.Hasher(want.Algorithm)
		if err != nil {
			return nil, err
		}
		h.Write(b)
		if err := compare(want, hex.EncodeToString(h.Sum(nil))); err != nil {
			return nil, &Error{Part: part, Err: err}
		}
	}
	if bytes.Count(b, []byte{','})+bytes.Count(b, []byte{'['})+bytes.Count(b, []byte{'{'}) > maxValues {
		return refuse("it has more than %d values", maxValues)
	}
	return b, nil
}

// unmarshal reads JSON; what does not fit is malformed.
func unmarshal(part string, b []byte, to any) error {
	err := json.Unmarshal(b, to)
	if err == nil {
		return nil
	}
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		err = fmt.Errorf("it is not valid JSON (at byte %d)", syntax.Offset)
	case errors.As(err, &typ):
		what := "it"
		if typ.Field != "" {
			what = fmt.Sprintf("%q", typ.Field)
		}
		err = fmt.Errorf("%s is %s, expected %s", what, valueName(typ.Value), typeName(typ.Type))
	default: // the one type with rules of its own
		err = errors.New("a digest in it is malformed or of an unknown kind")
	}
	return &Error{Part: part, Kind: tarx.ErrMalformed, Err: err}
}

// valueName names what [json.UnmarshalTypeError] found, such as "number 1.5".
func valueName(value string) string {
	switch first, _, _ := strings.Cut(value, " "); first {
	case "array", "object":
		return "an " + first
	case "bool":
		return "a boolean"
	default:
		return "a " + first
	}
}

func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Struct, reflect.Map, reflect.Pointer:
		return "an object"
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "a boolean"
	}
	return "a number"
}

// blobName is where a blob lies in an image layout (image-spec, image-layout.md).
func blobName(h v1.Hash) string { return path.Join("blobs", h.Algorithm, h.Hex) }

// blobMember is the name of the member that holds a blob. In the form of skopeo's dir: it
// is the digest alone, behind which a manifest that is not the first has a suffix.
func (a *Archive) blobMember(h v1.Hash) string {
	names := []string{blobName(h)}
	if a.dir {
		names = append(names, h.Hex, h.Hex+".manifest.json", h.Algorithm+"-"+h.Hex)
	}
	for _, name := range names {
		if a.has(name) {
			return name
		}
	}
	return names[0]
}

// blob finds what a descriptor describes.
func (a *Archive) blob(what string, d v1.Descriptor) (string, tarx.Member, error) {
	part := what
	if d.Digest.Hex == "" {
		return part, tarx.Member{}, &Error{Part: part, Kind: tarx.ErrMalformed, Err: errors.New("its descriptor has no digest")}
	}
	part += " " + d.Digest.String()
	m, err := a.find(a.blobMember(d.Digest))
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
