package tarx

import (
	"archive/tar"
	"bytes"
	"io"
	"testing"

	"ocibundle/tests/testenv"
)

// BenchmarkParser reads headers and passes over the bodies. archive/tar does
// the same for comparison.
func BenchmarkParser(b *testing.B) {
	data := testenv.SmallFiles(b, 10_000)
	b.Run("ours", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		for b.Loop() {
			if err := Scan(b.Context(), bytes.NewReader(data), new(Parser), func(*Header) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("archive-tar", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		for b.Loop() {
			r := tar.NewReader(bytes.NewReader(data))
			for {
				if _, err := r.Next(); err == io.EOF {
					break
				} else if err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
