package tarx

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"testing"
)

// smallFiles is a stream of n files of 1 KiB, 50 to a directory.
func smallFiles(b *testing.B, n int) []byte {
	b.Helper()
	var headers []tar.Header
	for i := range n {
		if i%50 == 0 {
			headers = append(headers, tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("d%d/", i/50), Mode: 0o755, ModTime: someTime})
		}
		headers = append(headers, tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("d%d/f%d", i/50, i), Mode: 0o644, Size: 1024,
			ModTime: someTime})
	}
	return stream(b, headers...)
}

// BenchmarkParser reads headers and passes over the bodies. archive/tar does
// the same for comparison.
func BenchmarkParser(b *testing.B) {
	data := smallFiles(b, 10_000)
	b.Run("ours", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		for b.Loop() {
			if err := scan(b.Context(), bytes.NewReader(data), new(parser), func(*header) error { return nil }); err != nil {
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

// BenchmarkExtract makes 10,000 small files, and one of 64 MiB.
func BenchmarkExtract(b *testing.B) {
	for _, c := range []struct {
		name string
		data []byte
	}{
		{"small", smallFiles(b, 10_000)},
		{"big", stream(b, tar.Header{Typeflag: tar.TypeReg, Name: "big", Mode: 0o644, Size: 64 << 20})},
	} {
		for _, o := range []Options{{Workers: 1}, {Workers: 2}, {Workers: 2, Feed: FeedProcess}, {Workers: 2, Feed: FeedReader}, {Workers: 8}} {
			b.Run(fmt.Sprintf("%s/workers=%d,feed=%d", c.name, o.Workers, o.Feed), func(b *testing.B) {
				b.SetBytes(int64(len(c.data)))
				b.ReportAllocs()
				for b.Loop() {
					b.StopTimer()
					root := openRoot(b)
					b.StartTimer()
					if _, err := Extract(b.Context(), bytes.NewReader(c.data), root, o); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkZeroRun looks for holes in data without any.
func BenchmarkZeroRun(b *testing.B) {
	data := bytes.Repeat([]byte("no zeros here... "), chunkSize/17)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		for at := 0; at < len(data); at += zeroGranule {
			if zeroRun(data[at:]) > 0 {
				b.Fatal("a zero")
			}
		}
	}
}
