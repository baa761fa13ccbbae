package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"ocibundle/tests/hostile/tarscript"
)

// The names of the media types (image-spec, media-types.md).
const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar"
)

type object = map[string]any

// archiver puts an archive together, in which anything may be wrong.
type archiver struct {
	t       *testing.T
	members []tar.Header
	bodies  [][]byte
	sums    func() hash.Hash // of the digests; nil: SHA-256
}

func (a *archiver) add(name string, body []byte) {
	a.members = append(a.members, tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644})
	a.bodies = append(a.bodies, body)
}

func (a *archiver) link(typ byte, name, target string) {
	a.members = append(a.members, tar.Header{Typeflag: typ, Name: name, Linkname: target})
	a.bodies = append(a.bodies, nil)
}

func (a *archiver) digest(b []byte) string {
	if a.sums == nil {
		return fmt.Sprintf("sha256:%x", sha256.Sum256(b))
	}
	h := a.sums()
	h.Write(b)
	return fmt.Sprintf("sha512:%x", h.Sum(nil))
}

// blob adds a blob, once, and returns its descriptor.
func (a *archiver) blob(typ string, b []byte) object {
	d := a.digest(b)
	name := "blobs/" + strings.Replace(d, ":", "/", 1)
	if !slices.ContainsFunc(a.members, func(h tar.Header) bool { return h.Name == name }) {
		a.add(name, b)
	}
	return object{"mediaType": typ, "digest": d, "size": len(b)}
}

func (a *archiver) json(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		a.t.Fatal(err)
	}
	return b
}

// layer makes a layer of a script.
func (a *archiver) layer(script string) []byte {
	b, err := tarscript.Build(script, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	return b
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func zstandard(b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return w.EncodeAll(b, nil)
}

// config makes an image's config for layers.
func (a *archiver) config(platform string, layers ...[]byte) object {
	if platform == "" {
		platform = "linux/" + runtime.GOARCH
	}
	parts := append(strings.Split(platform, "/"), "")
	ids := []string{}
	for _, l := range layers {
		ids = append(ids, a.digest(l))
	}
	c := object{"os": parts[0], "architecture": parts[1], "config": object{"Cmd": []string{"/x"}}, "rootfs": object{"type": "layers", "diff_ids": ids}}
	if parts[2] != "" {
		c["variant"] = parts[2]
	}
	return c
}

// manifest adds a manifest with its config and layers, and returns its descriptor.
func (a *archiver) manifest(config object, layers ...[]byte) object {
	m := object{"schemaVersion": 2, "mediaType": typeManifest, "config": a.blob(typeConfig, a.json(config))}
	list := []object{}
	for _, l := range layers {
		list = append(list, a.blob(typeLayer, l))
	}
	m["layers"] = list
	return a.blob(typeManifest, a.json(m))
}

// image adds an image of one layer with the file x, which says what it is for.
func (a *archiver) image(platform string) object {
	l := a.layer("file x = " + cmpOr(platform, "linux/"+runtime.GOARCH))
	return a.manifest(a.config(platform, l), l)
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// forPlatform says in a descriptor what it is for.
func forPlatform(d object, platform string) object {
	parts := append(strings.Split(platform, "/"), "")
	p := object{"os": parts[0], "architecture": parts[1]}
	if parts[2] != "" {
		p["variant"] = parts[2]
	}
	d = maps.Clone(d)
	d["platform"] = p
	return d
}

func annotated(d object, pairs ...string) object {
	d = maps.Clone(d)
	all := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		all[pairs[i]] = pairs[i+1]
	}
	d["annotations"] = all
	return d
}

func named(d object, name string) object {
	return annotated(d, "org.opencontainers.image.ref.name", name)
}

// index makes an index of descriptors.
func (a *archiver) index(list ...object) object {
	return object{"schemaVersion": 2, "mediaType": typeIndex, "manifests": list}
}

// layout adds what makes an image layout, index.json last.
func (a *archiver) layout(list ...object) {
	a.add("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	a.add("index.json", a.json(a.index(list...)))
}

// docker adds an image in the old form of docker save.
func (a *archiver) docker(config object, layers ...[]byte) object {
	text := a.json(config)
	name := strings.TrimPrefix(a.digest(text), "sha256:") + ".json"
	a.add(name, text)
	var names []string
	for i, l := range layers {
		n := fmt.Sprintf("%02d/layer.tar", i)
		a.add(n, l)
		names = append(names, n)
	}
	return object{"Config": name, "RepoTags": []string{"x:latest"}, "Layers": names}
}

func (a *archiver) bytes() []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i, h := range a.members {
		h.Size = int64(len(a.bodies[i]))
		if err := w.WriteHeader(&h); err != nil {
			a.t.Fatal(err)
		}
		w.Write(a.bodies[i])
	}
	if err := w.Close(); err != nil {
		a.t.Fatal(err)
	}
	return b.Bytes()
}
