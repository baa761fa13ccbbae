package decode

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

func TestAheadReader(t *testing.T) {
	want := bytes.Repeat([]byte("ahead of the decoder "), 50_000)
	for name, r := range map[string]io.Reader{
		"whole": bytes.NewReader(want), "halves": iotest.HalfReader(bytes.NewReader(want)), "end": iotest.DataErrReader(bytes.NewReader(want)),
	} {
		a := newAheadReader(r)
		if err := iotest.TestReader(a, want); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := a.failed(); err != nil {
			t.Errorf("%s: failed: %v", name, err)
		}
		a.close()
	}
}

// An error comes behind what was read before it, and is remembered only then.
func TestAheadReaderFails(t *testing.T) {
	bad := errors.New("bad disk")
	a := newAheadReader(io.MultiReader(strings.NewReader("data"), iotest.ErrReader(bad)))
	defer a.close()
	b := make([]byte, 3)
	if n, err := a.Read(b); n != 3 || err != nil || a.failed() != nil {
		t.Errorf("%d, %v, failed %v", n, err, a.failed())
	}
	if rest, err := io.ReadAll(a); string(rest) != "a" || err != bad || a.failed() != bad {
		t.Errorf("%q, %v, failed %v", rest, err, a.failed())
	}
}

// The goroutine of a reader that nobody reads to its end goes away.
func TestAheadReaderCloses(t *testing.T) {
	a := newAheadReader(readerFunc(func(p []byte) (int, error) { return len(p), nil }))
	if _, err := io.CopyN(io.Discard, a, 10*aheadBytes); err != nil {
		t.Fatal(err)
	}
	a.close()
	for range a.full { // until it is closed, or the test times out
	}
	if n, err := io.Copy(io.Discard, a); n > aheadBytes || err != os.ErrClosed {
		t.Errorf("%d bytes after that, %v", n, err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
