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
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

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
		x, _ := extractor(t)
		a := &Archive{f: &changing{good, c.then}}
		err := a.extractLayer(t.Context(), x, l, false, 0, new(int64))
		if isA[*BlobDigestError](err) != c.want || !c.want && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		a.free(l.Member) // nothing of a file that is not ours
	}
}

// What a compressed layer decodes to is kept for the second reading: nobody can change it then. Where there is no room to
// keep it, the layer is decoded and verified again.
func TestDecodedOnce(t *testing.T) {
	good := oneFile(t, "good")
	sum := sha256.Sum256(good)
	now, then := packed(t, good), packed(t, oneFile(t, "evil"))
	now, then = sameSize(now, then)
	l := Layer{Member: tarx.Member{Size: int64(len(now))}, DiffID: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}}
	open := func(name string, flags int) func() (*os.File, error) {
		return func() (*os.File, error) { return os.OpenFile(name, flags, 0) }
	}
	for name, c := range map[string]struct {
		temp func() (*os.File, error)
		want func(error) bool
	}{
		"room":      {TempFile, func(err error) bool { return err == nil }},
		"full disk": {open("/dev/full", os.O_RDWR), func(err error) bool { return isA[*BlobDigestError](err) }},
		"no inode":  {func() (*os.File, error) { return nil, unix.ENOSPC }, func(err error) bool { return isA[*BlobDigestError](err) }},
		"broken":    {open("/dev/null", os.O_RDONLY), func(err error) bool { return isA[*spoolError](err) }},
	} {
		x, dir := extractor(t)
		err := (&Archive{f: &changing{now, then}, temp: c.temp}).extractLayer(t.Context(), x, l, false, 0, new(int64))
		if !c.want(err) {
			t.Errorf("%s: %v", name, err)
		}
		if b, rerr := os.ReadFile(filepath.Join(dir, "f")); err == nil && (rerr != nil || string(b) != "good") {
			t.Errorf("%s: the file has %q, %v", name, b, rerr)
		}
	}
}

func isA[E error](err error) bool {
	_, is := errors.AsType[E](err)
	return is
}

// The limit of what is read holds for both readings.
func TestInPlaceLimit(t *testing.T) {
	good := oneFile(t, "good")
	sum := sha256.Sum256(good)
	now, then := packed(t, good), packed(t, oneFile(t, strings.Repeat("\x00", 1<<20)))
	now, then = sameSize(now, then)
	l := Layer{Member: tarx.Member{Size: int64(len(now))}, DiffID: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}}
	x, _ := extractor(t)
	left := int64(len(good))
	full := func() (*os.File, error) { return nil, unix.ENOSPC } // so that it is decoded twice
	err := (&Archive{f: &changing{now, then}, temp: full}).extractLayer(t.Context(), x, l, false, left, &left)
	if !isA[*tarx.LimitError](err) {
		t.Errorf("a megabyte where %d bytes are allowed: %v", len(good), err)
	}
}

// extractor is one for a directory that is empty.
func extractor(t *testing.T) (x *extract.Extractor, dir string) {
	dir = t.TempDir()
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	if x, err = extract.New(root, tarx.Options{Owner: tarx.OwnerRootless}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.Close)
	return x, dir
}

// sameSize makes two streams as long as the longer one: zeros are padding.
func sameSize(a, b []byte) ([]byte, []byte) {
	size := max(len(a), len(b))
	return append(a, make([]byte, size-len(a))...), append(b, make([]byte, size-len(b))...)
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
