package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"ocibundle/tarx"
)

// Whatever the documents of an image archive say, its image is found or there is an error of the kinds
// that are told as what they are. Layers are where the archive has them, and a second look finds the
// same. In the documents @layer, @config and @manifest stand for the digests of the others.
func FuzzDocuments(f *testing.F) {
	const (
		config   = `{"architecture":"amd64","os":"linux","config":{"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":["@layer"]}}`
		manifest = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
			"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"@config","size":%d},
			"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"@layer","size":1024}]}`
		index  = `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"@manifest","size":%d}]}`
		docker = `[{"Config":"config.json","RepoTags":["a:b"],"Layers":["layer.tar"]}]`
	)
	f.Add(config, "", "", docker)
	f.Add(config, fmt.Sprintf(manifest, len(config)-len("@layer")+71), "", "")
	full := fmt.Sprintf(manifest, len(config)-len("@layer")+71)
	f.Add(config, full, fmt.Sprintf(index, len(full)-len("@config")-len("@layer")+2*71), docker)
	f.Add("{}", "[]", `{"manifests":[{},{"annotations":{"x":"y"}}]}`, `[{},{"Layers":[""]}]`)
	f.Fuzz(func(t *testing.T, config, manifest, index, docker string) {
		layer := string(make([]byte, 1024))
		digest := func(s string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s))) }
		config = strings.ReplaceAll(config, "@layer", digest(layer))
		manifest = strings.NewReplacer("@layer", digest(layer), "@config", digest(config)).Replace(manifest)
		index = strings.ReplaceAll(index, "@manifest", digest(manifest))
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		written := map[string]bool{} // documents that are alike are one blob
		for _, m := range [][2]string{
			{"index.json", index}, {"manifest.json", docker}, {"config.json", config}, {"layer.tar", layer},
			{"blobs/sha256/" + digest(manifest)[7:], manifest}, {"blobs/sha256/" + digest(config)[7:], config}, {"blobs/sha256/" + digest(layer)[7:], layer},
		} {
			if m[1] == "" || written[m[0]] {
				continue
			}
			written[m[0]] = true
			w.WriteHeader(&tar.Header{Name: m[0], Mode: 0o644, Size: int64(len(m[1]))})
			w.Write([]byte(m[1]))
		}
		w.Close()
		file, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		size := int64(b.Len())
		a, err := Spool(t.Context(), &b, file)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		img, err := a.Image(Choice{})
		again, err2 := a.Image(Choice{})
		if !reflect.DeepEqual(img, again) || (err == nil) != (err2 == nil) {
			t.Fatalf("%v %v, then %v %v", img, err, again, err2)
		}
		if err != nil {
			var several *SeveralImagesError
			if !errors.Is(err, tarx.ErrMalformed) && !errors.Is(err, tarx.ErrRefused) && !errors.As(err, &several) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		for _, l := range img.LayerBlobs {
			if m := l.Member; m.Offset < 0 || m.Size < 0 || m.Offset+m.Size > size || m.Kind != tarx.MemberFile {
				t.Fatalf("a layer at %d+%d of %d", m.Offset, m.Size, size)
			}
		}
		if img.Layers != len(img.LayerBlobs) {
			t.Fatalf("%d layers, and %d blobs", img.Layers, len(img.LayerBlobs))
		}
	})
}
