package tarx

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"ocibundle/tests/testenv"
)

// slowHash falls behind whatever feeds it.
type slowHash struct{ hash.Hash }

func (s slowHash) Write(p []byte) (int, error) {
	time.Sleep(100 * time.Microsecond)
	return s.Hash.Write(p)
}

// A hash has had every byte of the stream when Extract returns, however it is
// cut into reads, and the zeros behind the end too.
func TestHash(t *testing.T) {
	testenv.NeedRoot(t) // the entries are root's
	for _, size := range []int64{0, 1, chunkSize - 2*blockSize, chunkSize, 3*chunkSize + 7, (chunkCount + hashCount + 3) * chunkSize} {
		data := stream(t, tar.Header{Typeflag: tar.TypeReg, Name: "f", Mode: 0o644, Size: size})
		data = append(data, make([]byte, 3*blockSize)...)
		want := sha256.Sum256(data)
		for name, r := range map[string]io.Reader{
			"whole":  bytes.NewReader(data),
			"halves": iotest.HalfReader(bytes.NewReader(data)),
			"end":    iotest.DataErrReader(bytes.NewReader(data)),
		} {
			h := slowHash{sha256.New()}
			if _, err := Extract(t.Context(), r, openRoot(t), Options{Hash: h}); err != nil {
				t.Fatal(err)
			}
			if got := h.Sum(nil); !bytes.Equal(got, want[:]) {
				t.Errorf("%d bytes, %s: %x, not %x", size, name, got, want)
			}
		}
	}
}

// A hash that is far behind holds nothing up when the extraction fails or is
// called off.
func TestHashStops(t *testing.T) {
	testenv.NeedRoot(t) // the entries are root's
	data := stream(t, tar.Header{Typeflag: tar.TypeReg, Name: "f", Mode: 0o644, Size: 8 * chunkSize})
	_, err := Extract(t.Context(), bytes.NewReader(data[:4*chunkSize]), openRoot(t), Options{Hash: slowHash{sha256.New()}})
	if !errors.Is(err, ErrTruncated) {
		t.Errorf("a cut stream: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	off := errors.New("called off")
	pr, pw := io.Pipe() // it never ends
	defer pr.Close()
	go func() {
		pw.Write(data[:4*chunkSize+100])
		cancel(off)
	}()
	if _, err := Extract(ctx, pr, openRoot(t), Options{Hash: slowHash{sha256.New()}}); err != off {
		t.Errorf("called off: %v", err)
	}
}
