package decode

import (
	"bytes"
	"strings"
	"testing"

	"github.com/moby/go-archive/compression"
)

// The engine's own detection of what a stream is compressed with is the oracle.
func TestDetect(t *testing.T) {
	names := map[compression.Compression]string{compression.None: "", compression.Gzip: "gzip", compression.Bzip2: "bzip2",
		compression.Xz: "xz", compression.Zstd: "zstd"}
	seen := map[string]bool{}
	for _, magic := range []string{"\x1f\x8b\x08", "BZh", "\xfd7zXZ\x00", "\x28\xb5\x2f\xfd", "\x50\x2a\x4d\x18\x00\x00\x00\x00", "\x5f\x2a\x4d\x18\x01\x00\x00\x00"} {
		for i := range len(magic) + 1 {
			for b := range 256 { // every other byte in one place, and the beginning alone
				head := []byte(magic)
				if i < len(head) {
					head[i] = byte(b)
				}
				for _, head := range [][]byte{head[:i], head, append(bytes.Clone(head), "rest of the stream"...)} {
					want := names[compression.Detect(head)]
					if got := detect(head); got != want {
						t.Errorf("%q is %q, want %q", head, got, want)
					}
					seen[want] = true
				}
			}
		}
	}
	if len(seen) != len(names) {
		t.Errorf("only %v were met", seen)
	}
	tarHead := []byte("BZh" + strings.Repeat("\x00", headBytes-3))
	copy(tarHead[257:], "ustar")
	if got := detect(tarHead); got != "" {
		t.Errorf("a tar whose first name begins with BZh is %q", got)
	}
}
