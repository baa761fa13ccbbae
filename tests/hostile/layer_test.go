package hostile

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"ocibundle/tests/testenv"
)

// asLayer makes an image archive (image-spec, image-layout.md) whose upper layer is the
// stream. Its digests are right: whoever wrote the stream wrote them too.
func asLayer(t *testing.T, stream []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	member := func(name string, body []byte) {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(body)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		w.Write(body)
	}
	text := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	type object = map[string]any
	digest := func(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }
	blob := func(kind string, b []byte) object {
		member("blobs/sha256/"+digest(b)[len("sha256:"):], b)
		return object{"mediaType": "application/vnd.oci.image." + kind, "digest": digest(b), "size": len(b)}
	}
	lower := make([]byte, 1024)
	if bytes.Equal(lower, stream) {
		lower = nil
	}
	config := blob("config.v1+json", text(object{"os": "linux", "architecture": runtime.GOARCH,
		"rootfs": object{"type": "layers", "diff_ids": []string{digest(lower), digest(stream)}}}))
	manifest := blob("manifest.v1+json", text(object{"schemaVersion": 2, "config": config,
		"layers": []object{blob("layer.v1.tar", lower), blob("layer.v1.tar", stream)}}))
	member("index.json", text(object{"schemaVersion": 2, "manifests": []object{manifest}}))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// layerTrees are the archives that are fine as a layer, with their trees: that a layer is
// complete its digest says, so it needs no end marker and no entries, and whiteouts of
// its own it does not feel.
var layerTrees = map[string]string{
	"cut between entries, in a header, in padding; a second archive/empty":                             "",
	"cut between entries, in a header, in padding; a second archive/no entries, only the end":          "",
	"cut between entries, in a header, in padding; a second archive/a lot of zeros":                    "",
	"cut between entries, in a header, in padding; a second archive/one zero block":                    "",
	"cut between entries, in a header, in padding; a second archive/no end marker":                     "file f = x",
	"cut between entries, in a header, in padding; a second archive/no end marker after an empty file": "file f",
	"cut between entries, in a header, in padding; a second archive/no end marker after a directory":   "file f = x\ndir d",
	"cut between entries, in a header, in padding; a second archive/half an end marker":                "file f = x",
	"names that are not UTF-8/whiteouts are ordinary names":                                            "dir d\nfile d/a = x",
}

// TestHostileLayers runs every archive as a layer of an image.
func TestHostileLayers(t *testing.T) {
	testenv.NeedRoot(t)
	var mu sync.Mutex
	runs, others := 0, 0
	t.Run("layers", func(t *testing.T) {
		for _, c := range cases() {
			t.Run(c.row+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				c.flags = append([]string{"--image"}, c.flags...)
				tree, other := layerTrees[c.row+"/"+c.name]
				if other {
					c.want, c.tree = 0, tree
				}
				for _, who := range []identity{asRoot, asUser} {
					s := newScene(t, who)
					archive, err := c.bytes(s.vars)
					s.check(err)
					for _, wrong := range s.extract(&c, asLayer(t, archive)) {
						t.Errorf("%s: %s", who.name, wrong)
					}
					mu.Lock()
					runs++
					if other {
						others++
					}
					mu.Unlock()
				}
			})
		}
	})
	if others != 2*len(layerTrees) {
		t.Errorf("%d runs of what is fine as a layer, want %d", others, 2*len(layerTrees))
	}
	fmt.Printf("hostile: %d runs as a layer\n", runs)
}
