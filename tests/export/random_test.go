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
	s := &streamMaker{Rand: rand.New(rand.NewPCG(seed, seed)), may: may, dirs: []string{""}, taken: map[string]bool{}}
	var out bytes.Buffer
	tw := tar.NewWriter(&out)
	put := func(h *tar.Header, body []byte) {
		h.Size = int64(len(body))
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	put(s.header(tar.TypeDir, "./"), nil)
	for range 150 {
		put(s.entry())
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// streamMaker makes the entries of a random stream.
type streamMaker struct {
	*rand.Rand
	may    mayHold
	dirs   []string        // with a slash; the root is ""
	others []string        // what a hard link may be to
	taken  map[string]bool // names
}

// entry makes an entry and its body.
func (s *streamMaker) entry() (*tar.Header, []byte) {
	kinds := []byte{tar.TypeReg, tar.TypeReg, tar.TypeReg, tar.TypeDir, tar.TypeDir, tar.TypeSymlink, tar.TypeFifo, tar.TypeLink, tar.TypeLink}
	if s.may.Devices {
		kinds = append(kinds, tar.TypeChar, tar.TypeBlock)
	}
	name := s.name()
	kind := kinds[s.IntN(len(kinds))]
	if kind == tar.TypeLink && len(s.others) == 0 {
		kind = tar.TypeReg
	}
	h := s.header(kind, name)
	switch kind {
	case tar.TypeDir:
		h.Name += "/"
		s.dirs = append(s.dirs, h.Name)
		return h, nil
	case tar.TypeLink:
		h.Linkname = s.others[s.IntN(len(s.others))]
		h.PAXRecords = nil
		return h, nil
	}
	s.others = append(s.others, name)
	switch kind {
	case tar.TypeReg:
		return h, s.body()
	case tar.TypeSymlink:
		h.Linkname = []string{"x", "/", "../../../etc/passwd", "\xff", strings.Repeat("y/", 1+s.IntN(2000))}[s.IntN(5)]
	case tar.TypeChar, tar.TypeBlock:
		h.Devmajor, h.Devminor = s.Int64N(1<<12), s.Int64N(1<<20)
	}
	return h, nil
}

// name makes a name that has not been there, in one of the directories.
func (s *streamMaker) name() string {
	const alphabet = "abc.-_ =\n\t\\\"'%*?\x01\x7f\x80\xc3\xa4\xff09AZ~!"
	for {
		n := 1 + s.IntN(8)
		switch s.IntN(20) {
		case 0:
			n = 255
		case 1:
			n = 90 + s.IntN(30) // about where ustar ends
		}
		b := make([]byte, n)
		for i := range b {
			b[i] = alphabet[s.IntN(len(alphabet))]
		}
		name := s.dirs[s.IntN(len(s.dirs))] + string(b)
		if string(b) != "." && string(b) != ".." && !s.taken[name] && len(name) < 3000 {
			s.taken[name] = true
			return name
		}
	}
}

// id makes a user or group id.
func (s *streamMaker) id() int {
	if s.may.HugeIDs && s.IntN(4) == 0 {
		return int(s.Uint32N(1<<32 - 2))
	}
	return []int{0, 0, 1, 33, 999, 65534, s.IntN(65536)}[s.IntN(7)]
}

// when makes a time, before 1970 too.
func (s *streamMaker) when() time.Time {
	switch s.IntN(4) {
	case 0:
		return time.Unix(s.Int64N(1<<31), 0)
	case 1:
		return time.Unix(-s.Int64N(1<<30), s.Int64N(1e9))
	}
	return time.Unix(s.Int64N(1<<33), s.Int64N(1e9))
}

// body makes the content of a file, with runs of zeros.
func (s *streamMaker) body() []byte {
	n := []int{0, 1, 511, 512, 513, s.IntN(5000), s.IntN(300000)}[s.IntN(7)]
	b := make([]byte, n)
	for at := 0; at < n; {
		run := b[at:min(n, at+1+s.IntN(20000))]
		if s.IntN(3) > 0 { // else a run of zeros
			for i := range run {
				run[i] = byte(s.Uint32())
			}
		}
		at += len(run)
	}
	return b
}

// header makes the header of an entry, with attributes.
func (s *streamMaker) header(kind byte, name string) *tar.Header {
	h := &tar.Header{Typeflag: kind, Name: name, Mode: int64(s.IntN(0o10000)), Uid: s.id(), Gid: s.id(), ModTime: s.when(),
		Format: tar.FormatPAX, PAXRecords: map[string]string{}}
	set := func(name, value string) { h.PAXRecords["SCHILY.xattr."+name] = value }
	if kind == tar.TypeReg || kind == tar.TypeDir {
		for i := range s.IntN(3) {
			value := make([]byte, 1+s.IntN(100))
			for i := range value {
				value[i] = byte(s.Uint32())
			}
			set(fmt.Sprintf("user.%d.é %c", i, 'a'+s.IntN(26)), string(value))
		}
	}
	if s.may.Trusted && s.IntN(5) == 0 {
		set("trusted.k", "\x00v")
	}
	if kind == tar.TypeReg && s.IntN(5) == 0 {
		set("security.capability", fileCapability(s.Uint32N(1<<30)))
	}
	return h
}

// fileCapability is a security.capability of version 2 (struct vfs_cap_data in linux/capability.h).
func fileCapability(permitted uint32) string {
	b := binary.LittleEndian.AppendUint32(nil, 0x02000001)
	b = binary.LittleEndian.AppendUint32(b, permitted)
	return string(append(b, make([]byte, 12)...))
}
