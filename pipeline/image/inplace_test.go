package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1"

	"ocibundle/tarx"
	"ocibundle/tarx/extract"
)

func oneFile(t *testing.T, text string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "f", Size: int64(len(text)), Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// changing is a file that has other bytes once it has been read to its end.
type changing struct {
	now, then []byte
}

func (c *changing) ReadAt(p []byte, off int64) (int, error) {
	n, err := bytes.NewReader(c.now).ReadAt(p, off)
	if off+int64(n) == int64(len(c.now)) {
		c.now = c.then
	}
	return n, err
}

// An upper layer is read twice. Where the archive was not copied, somebody may change it between the
// two readings.
func TestInPlaceChanged(t *testing.T) {
	good, evil := oneFile(t, "good"), oneFile(t, "evil")
	sum := sha256.Sum256(good)
	member := tarx.Member{Size: int64(len(good))}
	l := Layer{Member: member, DiffID: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}}
	for name, c := range map[string]struct {
		then []byte
		want bool
	}{"the same": {good, false}, "changed": {evil, true}} {
		root, err := os.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		x, err := extract.New(root, tarx.Options{Owner: tarx.OwnerRootless})
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		a := &Archive{f: &changing{good, c.then}}
		err = a.ExtractLayer(t.Context(), x, l, false, 0, nil)
		if _, got := errors.AsType[*BlobDigestError](err); got != c.want || !c.want && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		a.Free(l.Member) // nothing of a file that is not ours
	}
}

// The limit of what is read holds for both readings.
func TestInPlaceLimit(t *testing.T) {
	good := oneFile(t, "good")
	sum := sha256.Sum256(good)
	now, then := packed(t, good), packed(t, oneFile(t, strings.Repeat("\x00", 1<<20)))
	size := max(len(now), len(then))
	now, then = append(now, make([]byte, size-len(now))...), append(then, make([]byte, size-len(then))...) // zeros are padding
	l := Layer{Member: tarx.Member{Size: int64(size)}, DiffID: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}}
	root, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	x, err := extract.New(root, tarx.Options{Owner: tarx.OwnerRootless})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	left := int64(len(good))
	err = (&Archive{f: &changing{now, then}}).ExtractLayer(t.Context(), x, l, false, left, &left)
	if _, ok := errors.AsType[*tarx.LimitError](err); !ok {
		t.Errorf("a megabyte where %d bytes are allowed: %v", len(good), err)
	}
}

func packed(t *testing.T, b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
