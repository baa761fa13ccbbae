package decode

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"ocibundle/tarx"
)

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func testFile(t *testing.T, data []byte) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "stream")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func testPipe(t *testing.T, data []byte) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		w.Write(data)
		w.Close()
	}()
	t.Cleanup(func() { r.Close() })
	return r
}

// What makes a stream is told from where it comes, and whoever hashes it, the
// digest is that of the bytes as they come in.
func TestInputFeed(t *testing.T) {
	plain := bytes.Repeat([]byte("not a tar, which nobody asks here\n"), 10_000)
	packed := gzipped(t, plain)
	for _, c := range []struct {
		name string
		r    io.Reader
		raw  []byte
		feed tarx.Feed
		lent bool
	}{
		{"file", testFile(t, plain), plain, tarx.FeedNothing, true},
		{"pipe", testPipe(t, plain), plain, tarx.FeedProcess, true},
		{"memory", bytes.NewReader(plain), plain, tarx.FeedNothing, true},
		{"packed file", testFile(t, packed), packed, tarx.FeedReader, false},
		{"packed pipe", testPipe(t, packed), packed, tarx.FeedReader, false},
	} {
		sum := sha256.Sum256(c.raw)
		want := hex.EncodeToString(sum[:])
		in, err := New(c.r, Options{SHA256: want, LendHash: true, Progress: new(Progress)})
		if err != nil {
			t.Fatal(err)
		}
		if in.Feed != c.feed || (in.Hash != nil) != c.lent {
			t.Errorf("%s: feed %d, hash lent %t; want %d, %t", c.name, in.Feed, in.Hash != nil, c.feed, c.lent)
		}
		got, err := io.ReadAll(in.Out)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: %d bytes, %v; want %d", c.name, len(got), err, len(plain))
		}
		if in.Hash != nil {
			in.Hash.Write(got)
		}
		if err := in.Finish(want); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		in.Close()
	}
}

// A disk's error is not taken for a broken stream, wherever in it.
func TestInputReadError(t *testing.T) {
	packed := gzipped(t, bytes.Repeat([]byte{'x'}, 1<<20))
	bad := errors.New("bad disk")
	for _, n := range []int{0, 5, 12, headBytes + 10, len(packed) - 4} {
		in, err := New(io.MultiReader(bytes.NewReader(packed[:n]), iotest.ErrReader(bad)), Options{})
		if err == nil {
			_, err = io.Copy(io.Discard, in.Out)
			in.Close()
		}
		if !errors.Is(err, bad) || errors.Is(err, tarx.ErrMalformed) {
			t.Errorf("after %d of %d bytes: %v", n, len(packed), err)
		}
	}
}

// What waits for its first bytes can be called off, and is left alone then.
func TestOpenInputCalledOff(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	off := errors.New("called off")
	pr, pw := io.Pipe()
	defer pr.Close()
	go func() {
		pw.Write([]byte{0x1f, 0x8b, 8})
		cancel(off)
	}()
	if _, err := Open(ctx, pr, Options{}); err != off {
		t.Error(err)
	}
}
