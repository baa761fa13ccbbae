package extract

import (
	"archive/tar"
	"bytes"
	"fmt"
	"testing"

	"ocibundle/tarx"
	"ocibundle/tests/testenv"
)

// BenchmarkExtract makes 10,000 small files, and one of 64 MiB.
func BenchmarkExtract(b *testing.B) {
	for _, c := range []struct {
		name string
		data []byte
	}{
		{"small", testenv.SmallFiles(b, 10_000)},
		{"big", testenv.TarStream(b, tar.Header{Typeflag: tar.TypeReg, Name: "big", Mode: 0o644, Size: 64 << 20})},
	} {
		for _, o := range []tarx.Options{{Workers: 1}, {Workers: 2}, {Workers: 2, Feed: tarx.FeedProcess}, {Workers: 2, Feed: tarx.FeedReader}, {Workers: 8}} {
			b.Run(fmt.Sprintf("%s/workers=%d,feed=%d", c.name, o.Workers, o.Feed), func(b *testing.B) {
				b.SetBytes(int64(len(c.data)))
				b.ReportAllocs()
				for b.Loop() {
					b.StopTimer()
					root := testenv.OpenRoot(b)
					b.StartTimer()
					if _, err := Stream(b.Context(), bytes.NewReader(c.data), root, o); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkZeroRun looks for holes in data without any.
func BenchmarkZeroRun(b *testing.B) {
	data := bytes.Repeat([]byte("no zeros here... "), tarx.ChunkSize/17)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		for at := 0; at < len(data); at += zeroGranule {
			if zeroRun(data[at:]) > 0 {
				b.Fatal("a zero")
			}
		}
	}
}
