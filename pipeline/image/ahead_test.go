package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"ocibundle/tarx"
)

// countingFile counts what is read of an archive.
type countingFile struct {
	*bytes.Reader
	n atomic.Int64
}

func (c *countingFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.Reader.ReadAt(p, off)
	c.n.Add(int64(n))
	return n, err
}

// layered is an archive of layers, gzip each.
func layered(t *testing.T, temp func() (*os.File, error), layers ...[]byte) (*Archive, *countingFile, *Opened) {
	var all []byte
	img := new(Opened)
	for _, l := range layers {
		sum := sha256.Sum256(l)
		blob := packed(t, l)
		img.LayerBlobs = append(img.LayerBlobs, Layer{
			Member: tarx.Member{Offset: int64(len(all)), Size: int64(len(blob))},
			DiffID: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])},
		})
		all = append(all, blob...)
	}
	f := &countingFile{Reader: bytes.NewReader(all)}
	return &Archive{f: f, temp: temp}, f, img
}

func layer(t *testing.T, files map[string]string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range files {
		if err := errors.Join(w.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o644}), write(w, text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func write(w *tar.Writer, text string) error {
	_, err := w.Write([]byte(text))
	return err
}

func extracted(t *testing.T, ctx context.Context, a *Archive, img *Opened, maxBytes int64) (string, error) {
	x, dir := extractor(t)
	if err := a.Extract(ctx, x, img, maxBytes); err != nil {
		return "", err
	}
	if _, err := x.Finish(ctx); err != nil {
		t.Fatal(err)
	}
	var tree strings.Builder
	fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			b, _ := os.ReadFile(filepath.Join(dir, path))
			fmt.Fprintf(&tree, "%s=%.10s ", path, b)
		}
		return err
	})
	return tree.String(), nil
}

// Layers are decoded ahead of the one that is extracted, where there is room for what they decode to, and each is
// read once.
func TestExtractAhead(t *testing.T) {
	big := strings.Repeat("0123456789", 1<<20) // more than is given back at once
	layers := [][]byte{
		layer(t, map[string]string{"a": "1", "b": "1", "d/x": "1"}),
		layer(t, map[string]string{".wh.b": "", "c": big, "d/.wh..wh..opq": "", "d/y": "2"}),
		layer(t, map[string]string{"a": "3", "e": big}),
	}
	const want = "a=3 c=0123456789 d/y=2 e=0123456789 "
	full := func() (*os.File, error) { return nil, unix.ENOSPC }
	for name, c := range map[string]struct {
		temp  func() (*os.File, error)
		times func(n float64) bool // how often each byte of the archive is read
	}{
		"room":    {TempFile, func(n float64) bool { return n < 1.1 }},
		"no room": {full, func(n float64) bool { return n > 2 }},
	} {
		a, f, img := layered(t, c.temp, layers...)
		tree, err := extracted(t, t.Context(), a, img, 0)
		if err != nil || tree != want {
			t.Errorf("%s: %s, %v", name, tree, err)
		}
		if n := float64(f.n.Load()) / float64(f.Size()); !c.times(n) {
			t.Errorf("%s: every byte was read %.1f times", name, n)
		}
	}
}

// What is wrong with a layer is told when it is its turn.
func TestExtractAheadErrors(t *testing.T) {
	good := layer(t, map[string]string{"a": "1"})
	half := func(l []byte) []byte { return append(bytes.Clone(l[:1024]), "no header"...) }
	broken := func() (*os.File, error) { return os.OpenFile("/dev/null", os.O_RDONLY, 0) }
	wrong := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}
	for name, c := range map[string]struct {
		temp   func() (*os.File, error)
		layers [][]byte
		wrong  int // the layer whose digest is not the announced one
		want   string
	}{
		"a digest":        {TempFile, [][]byte{good, good, good}, 1, "layer 2 of 3"},
		"of two, first":   {TempFile, [][]byte{good, half(good), good}, 2, "layer 2 of 3"},
		"of two, lowest":  {TempFile, [][]byte{half(good), good, good}, 1, "layer 1 of 3"},
		"a broken disk":   {broken, [][]byte{good, good}, -1, "write the image to disk: bad file descriptor"},
		"a broken header": {TempFile, [][]byte{good, good, half(good)}, -1, "layer 3 of 3"},
	} {
		a, _, img := layered(t, c.temp, c.layers...)
		if c.wrong >= 0 {
			img.LayerBlobs[c.wrong].DiffID = wrong
		}
		if _, err := extracted(t, t.Context(), a, img, 0); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a, _, img := layered(t, TempFile, good, good, good)
	if _, err := extracted(t, ctx, a, img, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

// The limit is of all layers together, so that none is read before it is known what is left.
func TestExtractAheadLimit(t *testing.T) {
	l := layer(t, map[string]string{"a": "1"})
	for max, want := range map[int64]bool{int64(3 * len(l)): true, int64(3*len(l)) - 1: false} {
		a, _, img := layered(t, TempFile, l, l, l)
		_, err := extracted(t, t.Context(), a, img, max)
		if want && err != nil || !want && !isA[*tarx.LimitError](err) {
			t.Errorf("%d bytes of %d: %v", max, 3*len(l), err)
		}
	}
}

// What was read for the last time takes no room any more.
func TestDecodedIsFreed(t *testing.T) {
	d := &decodedLayer{Hash: sha256.New(), temp: TempFile}
	text := make([]byte, 4*freedAtOnce)
	for i := range text {
		text[i] = byte(i)
	}
	d.Write(text)
	defer d.Close()
	read, err := io.ReadAll(d.lastReader())
	if err != nil || !bytes.Equal(read, text) {
		t.Fatalf("%d bytes of %d, %v", len(read), len(text), err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(d.f.Fd()), &st); err != nil || st.Blocks*512 > freedAtOnce {
		t.Errorf("%d bytes are on disk, %v", st.Blocks*512, err)
	}
}

// Whoever stops does not wait for a Read: with -race, closing the file meanwhile is no race.
func TestDecodedClosedWhileRead(t *testing.T) {
	for i := range 30 {
		d := &decodedLayer{Hash: sha256.New(), temp: TempFile}
		d.Write(make([]byte, 4*freedAtOnce))
		r := d.lastReader()
		done := make(chan struct{})
		go func() {
			defer close(done)
			io.Copy(io.Discard, r)
		}()
		time.Sleep(time.Duration(i) * time.Millisecond / 4)
		d.Close()
		<-done
	}
}
