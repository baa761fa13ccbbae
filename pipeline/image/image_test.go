package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"math/rand"
	"os"
	"testing"

	"github.com/klauspost/compress/zstd"

	"ocibundle/pipeline/decode"
	"ocibundle/tarx"
	"ocibundle/tarx/extract"
)

// A decoder is closed while the extractor, which has found an error, may still be
// reading from it. This is for the race detector.
func TestCloseWhileReading(t *testing.T) {
	random := make([]byte, 16<<20)
	rand.New(rand.NewSource(1)).Read(random)
	var stream bytes.Buffer
	w := tar.NewWriter(&stream)
	if err := w.WriteHeader(&tar.Header{Name: "a", Size: 300 << 10, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	w.Write(random[:300<<10])
	stream.Write(random)
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	packed := enc.EncodeAll(stream.Bytes(), nil)
	for range 5 {
		in, err := decode.New(bytes.NewReader(packed), decode.Options{})
		if err != nil {
			t.Fatal(err)
		}
		root, err := os.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := extract.Stream(t.Context(), in.Out, root, tarx.Options{Owner: tarx.OwnerRootless}); !errors.Is(err, tarx.ErrMalformed) {
			t.Error(err)
		}
		in.Close()
		root.Close()
	}
	// Closed and then read it says so.
	in, err := decode.New(bytes.NewReader(packed), decode.Options{})
	if err != nil {
		t.Fatal(err)
	}
	in.Close()
	if _, err := io.ReadAll(in.Out); err == nil {
		t.Error("a closed decoder can be read")
	}
}

// Members of a spooled image are read in any order, and what is freed takes nothing from
// the others.
func TestSpool(t *testing.T) {
	spool := func() *os.File {
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	body := bytes.Repeat([]byte("x"), 1<<20)
	var stream bytes.Buffer
	w := tar.NewWriter(&stream)
	for _, name := range []string{"a", "b"} {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(body)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		w.Write(body)
	}
	w.Close()
	a, err := Spool(t.Context(), bytes.NewReader(stream.Bytes()), spool())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	one, err := a.find("a")
	if err != nil {
		t.Fatal(err)
	}
	a.free(one)
	two, err := a.find("b")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(a.open(two)); err != nil || !bytes.Equal(got, body) {
		t.Errorf("the other member has %d bytes, %v", len(got), err)
	}
	full := errors.New("full")
	if _, err := Spool(t.Context(), io.MultiReader(bytes.NewReader(stream.Bytes()[:1000]), failing{full}), spool()); !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
