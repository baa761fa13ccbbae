package decode

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"math/rand"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"ocibundle/tarx"
	"ocibundle/tests/testenv"
)

// bzipped is "hello\n" as bzip2 -1 writes it.
var bzipped, _ = hex.DecodeString("425a6831314159265359c1c080e2000001410000100244a00030cd00c3462997177245385090c1c080e2")

func packers(t *testing.T) map[string]func([]byte) []byte {
	xzWith := func(c xz.WriterConfig) func([]byte) []byte {
		c.DictCap = 1 << 16
		return func(data []byte) []byte {
			var b bytes.Buffer
			w, err := c.NewWriter(&b)
			if err == nil {
				_, err = w.Write(data)
			}
			if err == nil {
				err = w.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			return b.Bytes()
		}
	}
	return map[string]func([]byte) []byte{
		"gzip": func(data []byte) []byte { return gzipped(t, data) },
		"zstd": func(data []byte) []byte {
			w, err := zstd.NewWriter(nil)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			return w.EncodeAll(data, nil)
		},
		"xz":         xzWith(xz.WriterConfig{BlockSize: 300}),
		"xz crc32":   xzWith(xz.WriterConfig{CheckSum: xz.CRC32}),
		"xz sha256":  xzWith(xz.WriterConfig{CheckSum: xz.SHA256}),
		"xz nothing": xzWith(xz.WriterConfig{NoCheckSum: true}),
	}
}

func decoded(packed []byte) ([]byte, error) {
	in, err := New(bytes.NewReader(packed), Options{})
	if err != nil {
		return nil, err
	}
	defer in.Close()
	got, err := io.ReadAll(in.Out)
	if err == nil {
		err = in.Finish("")
	}
	return got, err
}

// data is what packs well in parts.
func data(n int) []byte {
	r := rand.New(rand.NewSource(1))
	b := make([]byte, n)
	for i := range b {
		if i > n/3 && i < n/2 {
			b[i] = byte(r.Intn(256))
		} else if i >= 100 {
			b[i] = b[i-1-r.Intn(100)]
		}
	}
	b[0] = 'x'
	return b
}

// Streams may be in several pieces. Zeros behind them are padding, of any length: gzip(1),
// zstd(1) and GNU tar read over them. Anything else is not.
func TestBehindTheStream(t *testing.T) {
	plain := data(20_000)
	for name, pack := range packers(t) {
		packed := pack(plain)
		for _, n := range []int{0, 1, 2, 3, 4, 7, 8, 512, 70_000} {
			pad := make([]byte, n)
			if got, err := decoded(append(bytes.Clone(packed), pad...)); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s: %d zeros: %d bytes, %v", name, n, len(got), err)
			}
			if _, err := decoded(append(append(bytes.Clone(packed), pad...), 'x')); !errors.Is(err, tarx.ErrMalformed) {
				t.Errorf("%s: %d zeros and an x: %v", name, n, err)
			}
		}
		if got, err := decoded(append(bytes.Clone(packed), packed...)); err != nil || !bytes.Equal(got, append(bytes.Clone(plain), plain...)) {
			t.Errorf("%s: twice: %d bytes, %v", name, len(got), err)
		}
	}
	for _, n := range []int{0, 1, 2, 3, 4, 512} {
		if got, err := decoded(append(bytes.Clone(bzipped), make([]byte, n)...)); err != nil || string(got) != "hello\n" {
			t.Errorf("bzip2: %d zeros: %q, %v", n, got, err)
		}
		if _, err := decoded(append(append(bytes.Clone(bzipped), make([]byte, n)...), 'x')); !errors.Is(err, tarx.ErrMalformed) {
			t.Errorf("bzip2: %d zeros and an x: %v", n, err)
		}
	}
}

// A stream that is cut anywhere, or with a byte changed, is never taken for a whole one.
func TestBrokenStreams(t *testing.T) {
	testenv.Long(t)
	plain := data(900)
	all := packers(t)
	all["bzip2"] = func([]byte) []byte { return bzipped }
	for name, pack := range all {
		packed := pack(plain)
		for n := 7; n < len(packed); n++ {
			if got, err := decoded(packed[:n]); !errors.Is(err, tarx.ErrMalformed) {
				t.Fatalf("%s: %d of %d bytes: %d bytes, %v", name, n, len(packed), len(got), err)
			}
		}
		if !strings.HasPrefix(name, "xz") || name == "xz nothing" {
			continue
		}
		for i := 6; i < len(packed); i++ {
			b := bytes.Clone(packed)
			b[i] ^= 1 << (i % 8)
			got, err := decoded(b)
			if err == nil && bytes.Equal(got, plain) {
				continue // a property of the coding that makes no difference to this data
			}
			if window, ok := errors.AsType[*WindowError](err); !errors.Is(err, tarx.ErrMalformed) && (!ok || window.Format != "xz") {
				t.Fatalf("%s: byte %d of %d changed: %v", name, i, len(packed), err)
			}
		}
	}
}
