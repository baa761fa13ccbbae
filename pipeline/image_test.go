package pipeline

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"math/rand"
	"os"
	"testing"

	"github.com/klauspost/compress/zstd"

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
		in, err := newInput(bytes.NewReader(packed), inputOptions{})
		if err != nil {
			t.Fatal(err)
		}
		root, err := os.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := extract.Stream(t.Context(), in.out, root, tarx.Options{Owner: tarx.OwnerRootless}); !errors.Is(err, tarx.ErrMalformed) {
			t.Error(err)
		}
		in.close()
		root.Close()
	}
	// Closed and then read it says so.
	in, err := newInput(bytes.NewReader(packed), inputOptions{})
	if err != nil {
		t.Fatal(err)
	}
	in.close()
	if _, err := io.ReadAll(in.out); err == nil {
		t.Error("a closed decoder can be read")
	}
}

func TestParsePlatform(t *testing.T) {
	for text, want := range map[string]string{
		"linux/amd64": "linux/amd64", "linux/amd64/v1": "linux/amd64", "linux/amd64/v3": "linux/amd64/v3", "Linux/x86_64": "linux/amd64",
		"linux/arm64/v8": "linux/arm64", "linux/arm64/8": "linux/arm64", "linux/aarch64": "linux/arm64", "linux/arm": "linux/arm",
		"linux/arm/v7": "linux/arm", "linux/armhf": "linux/arm", "linux/armel": "linux/arm/v6", "linux/i386": "linux/386", "linux/s390x": "linux/s390x",
		"": "", "linux": "", "linux/": "", "/amd64": "", "linux//v7": "", "linux/arm/v7/": "", "linux/a/b/c": "", "windows/amd64": "", "darwin/arm64": "",
	} {
		p, err := ParsePlatform(text)
		if want == "" {
			if err == nil {
				t.Errorf("%q is %v", text, p)
			}
		} else if err != nil || p.String() != want {
			t.Errorf("%q is %v, %v; want %s", text, p, err, want)
		}
	}
}

// A spooled image leaves nothing in the stage, on any filesystem, and what is freed is
// gone from the disk.
func TestSpool(t *testing.T) {
	dir := t.TempDir()
	dest, err := openDestination(dir+"/b", false)
	if err != nil {
		t.Fatal(err)
	}
	defer dest.close()
	st, err := newStage(dest)
	if err != nil {
		t.Fatal(err)
	}
	defer st.remove()
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
	a, err := spool(t.Context(), bytes.NewReader(stream.Bytes()), st)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	if names, err := os.ReadDir(dir + "/" + st.name); err != nil || len(names) > 0 {
		t.Errorf("in the stage: %v, %v", names, err)
	}
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
	if _, err := spool(t.Context(), io.MultiReader(bytes.NewReader(stream.Bytes()[:1000]), failing{full}), st); !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
