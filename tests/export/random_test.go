package export

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// mayHold says what a random stream may have in it.
type mayHold struct {
	Devices bool
	Trusted bool
	HugeIDs bool
}

// randomStream makes a stream of a container's filesystem: every parent has an entry, no name comes
// twice, and everything in it can be kept.
func randomStream(t *testing.T, seed uint64, may mayHold) []byte {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, seed))
	var out bytes.Buffer
	tw := tar.NewWriter(&out)
	dirs := []string{""}
	var others []string
	taken := map[string]bool{}

	const alphabet = "abc.-_ =\n\t\\\"'%*?\x01\x7f\x80\xc3\xa4\xff09AZ~!"
	name := func() string {
		for {
			n := 1 + r.IntN(8)
			switch r.IntN(20) {
			case 0:
				n = 255
			case 1:
				n = 90 + r.IntN(30) // about where ustar ends
			}
			b := make([]byte, n)
			for i := range b {
				b[i] = alphabet[r.IntN(len(alphabet))]
			}
			name := dirs[r.IntN(len(dirs))] + string(b)
			if string(b) != "." && string(b) != ".." && !taken[name] && len(name) < 3000 {
				taken[name] = true
				return name
			}
		}
	}
	id := func() int {
		if may.HugeIDs && r.IntN(4) == 0 {
			return int(r.Uint32N(1<<32 - 2))
		}
		return []int{0, 0, 1, 33, 999, 65534, r.IntN(65536)}[r.IntN(7)]
	}
	when := func() time.Time {
		switch r.IntN(4) {
		case 0:
			return time.Unix(r.Int64N(1<<31), 0)
		case 1:
			return time.Unix(-r.Int64N(1<<30), r.Int64N(1e9))
		}
		return time.Unix(r.Int64N(1<<33), r.Int64N(1e9))
	}
	body := func() []byte {
		n := []int{0, 1, 511, 512, 513, r.IntN(5000), r.IntN(300000)}[r.IntN(7)]
		b := make([]byte, n)
		for at := 0; at < n; {
			run := b[at:min(n, at+1+r.IntN(20000))]
			if r.IntN(3) > 0 { // else a run of zeros
				for i := range run {
					run[i] = byte(r.Uint32())
				}
			}
			at += len(run)
		}
		return b
	}
	header := func(kind byte, name string) *tar.Header {
		h := &tar.Header{Typeflag: kind, Name: name, Mode: int64(r.IntN(0o10000)), Uid: id(), Gid: id(), ModTime: when(),
			Format: tar.FormatPAX, PAXRecords: map[string]string{}}
		set := func(name, value string) { h.PAXRecords["SCHILY.xattr."+name] = value }
		if kind == tar.TypeReg || kind == tar.TypeDir {
			for i := range r.IntN(3) {
				value := make([]byte, 1+r.IntN(100))
				for i := range value {
					value[i] = byte(r.Uint32())
				}
				set(fmt.Sprintf("user.%d.é %c", i, 'a'+r.IntN(26)), string(value))
			}
		}
		if may.Trusted && r.IntN(5) == 0 {
			set("trusted.k", "\x00v")
		}
		if kind == tar.TypeReg && r.IntN(5) == 0 {
			set("security.capability", fileCapability(r.Uint32N(1<<30)))
		}
		return h
	}
	put := func(h *tar.Header, body []byte) {
		h.Size = int64(len(body))
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(body); err != nil {
			t.Fatal(err)
		}
	}

	put(header(tar.TypeDir, "./"), nil)
	for range 150 {
		n := name()
		kinds := []byte{tar.TypeReg, tar.TypeReg, tar.TypeReg, tar.TypeDir, tar.TypeDir, tar.TypeSymlink, tar.TypeFifo, tar.TypeLink, tar.TypeLink}
		if may.Devices {
			kinds = append(kinds, tar.TypeChar, tar.TypeBlock)
		}
		kind := kinds[r.IntN(len(kinds))]
		if kind == tar.TypeLink && len(others) == 0 {
			kind = tar.TypeReg
		}
		h := header(kind, n)
		switch kind {
		case tar.TypeReg:
			put(h, body())
		case tar.TypeDir:
			dirs = append(dirs, n+"/")
			h.Name += "/"
			put(h, nil)
			continue
		case tar.TypeSymlink:
			h.Linkname = []string{"x", "/", "../../../etc/passwd", "\xff", strings.Repeat("y/", 1+r.IntN(2000))}[r.IntN(5)]
			put(h, nil)
		case tar.TypeLink:
			h.Linkname = others[r.IntN(len(others))]
			h.PAXRecords = nil
			put(h, nil)
			continue
		case tar.TypeChar, tar.TypeBlock:
			h.Devmajor, h.Devminor = r.Int64N(1<<12), r.Int64N(1<<20)
			put(h, nil)
		default:
			put(h, nil)
		}
		others = append(others, n)
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// fileCapability is a security.capability of version 2 (struct vfs_cap_data in linux/capability.h).
func fileCapability(permitted uint32) string {
	b := binary.LittleEndian.AppendUint32(nil, 0x02000001)
	b = binary.LittleEndian.AppendUint32(b, permitted)
	return string(append(b, make([]byte, 12)...))
}
