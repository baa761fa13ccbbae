package testenv

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// SmallFiles is a stream of n files of 1 KiB, 50 to a directory.
func SmallFiles(b *testing.B, n int) []byte {
	b.Helper()
	var headers []tar.Header
	for i := range n {
		if i%50 == 0 {
			headers = append(headers, tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("d%d/", i/50), Mode: 0o755, ModTime: SomeTime})
		}
		headers = append(headers, tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("d%d/f%d", i/50, i), Mode: 0o644, Size: 1024,
			ModTime: SomeTime})
	}
	return TarStream(b, headers...)
}

// OpenRoot makes an empty directory and opens it until the end of the test.
func OpenRoot(t testing.TB) *os.File {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

// TarStream is a stream of entries; the body of a file is as many times x as its size says.
func TarStream(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range headers {
		h := headers[i]
		var body []byte
		if h.Typeflag == tar.TypeReg {
			body = bytes.Repeat([]byte{'x'}, int(h.Size))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// tarBlock is the size of a block of a tar stream, in bytes.
const tarBlock = 512

var SomeTime = time.Unix(1_700_000_000, 123_456_789)

// TarSeeds gives a fuzzer the archives that Go's own tests are made of, and some of ours.
func TarSeeds(f *testing.F) {
	f.Helper()
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		f.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(goroot)), "src/archive/tar/testdata/*.tar"))
	if err != nil || len(names) == 0 {
		f.Fatalf("find the archives in Go's source: %d, %v", len(names), err)
	}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			f.Fatal(err)
		}
		if len(b) < 1<<18 {
			f.Add(b)
		}
	}
	f.Add(TarStream(f,
		tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o755},
		tar.Header{Typeflag: tar.TypeReg, Name: "d/f", Mode: 0o4644, Size: 700},
		tar.Header{Typeflag: tar.TypeLink, Name: "h", Linkname: "d/f"},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "s", Linkname: "../../etc"},
		tar.Header{Typeflag: tar.TypeReg, Name: "s/passwd", Mode: 0o644, Size: 1},
		tar.Header{Typeflag: tar.TypeFifo, Name: "s", Mode: 0o644},
		tar.Header{Typeflag: tar.TypeReg, Name: strings.Repeat("long/", 40) + "f", Mode: 0o644, Size: 1,
			PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}},
	))
}

// SealTar makes the mutations of a fuzzer worth reading: header blocks get the right checksum, and
// the stream its end-of-archive marker.
func SealTar(data []byte) []byte {
	b := bytes.Clone(data)
	b = append(b, make([]byte, -len(b)&(tarBlock-1))...)
	for at := 0; at < len(b); at += tarBlock {
		block := b[at : at+tarBlock]
		if string(block[257:262]) != "ustar" {
			continue
		}
		copy(block[148:156], "        ")
		sum := 0
		for _, c := range block {
			sum += int(c)
		}
		copy(block[148:156], fmt.Sprintf("%06o\x00 ", sum))
	}
	return append(b, make([]byte, 2*tarBlock)...)
}

// ParsedEntry is one entry, in words: what must be the same for both parsers.
type ParsedEntry struct{ Head, Body string }

var ErrTooBig = errors.New("too big for a fuzzer")

// ParseTar reads a stream as archive/tar does, up to the first error.
func ParseTar(data []byte) (entries []ParsedEntry, err error) {
	r := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return entries, nil
		}
		if err != nil {
			return entries, err
		}
		// What archive/tar leaves to its caller: what belongs to a volume and is not a file of it,
		// directories that only their name tells, and sizes that mean nothing.
		typ := h.Typeflag
		switch typ {
		case tar.TypeXGlobalHeader, 'V', 'M':
			continue
		case tar.TypeGNUSparse: // a file, whatever its name, as for GNU tar
			typ = tar.TypeReg
		case tar.TypeReg, tar.TypeCont:
			typ = tar.TypeReg
			if strings.HasSuffix(h.Name, "/") {
				typ = tar.TypeDir
			}
		case 'D':
			typ, h.Size = tar.TypeDir, 0
			if _, err := io.Copy(io.Discard, r); err != nil {
				return entries, err
			}
		case tar.TypeLink, tar.TypeSymlink, tar.TypeDir, tar.TypeFifo:
			h.Size = 0
		}
		if h.Size > 1<<20 {
			return entries, ErrTooBig
		}
		xattrs := map[string]string{}
		for k, v := range h.PAXRecords {
			if name, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
				xattrs[name] = v
			}
		}
		head := fmt.Sprintf("%q %q %q %o %d:%d %d %s %d:%d %q", typ, h.Name, h.Linkname, uint32(h.Mode)&0o7777, h.Uid, h.Gid, h.Size,
			fmt.Sprint(h.ModTime.Unix(), h.ModTime.Nanosecond()), h.Devmajor, h.Devminor, xattrs)
		body, err := io.ReadAll(r)
		if err != nil {
			return entries, err
		}
		entries = append(entries, ParsedEntry{head, string(body)})
	}
}

// TarLines makes a layer of lines: "f NAME [CONTENT]", "d NAME", "l NAME TARGET" for a symlink, "h
// NAME TARGET" for a hard link, "p NAME". A word in front such as "mode=700", "time=5" or
// "user.x=y" is an attribute.
func TarLines(t *testing.T, lines string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for line := range strings.Lines(lines) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		h := &tar.Header{Mode: 0o644, ModTime: time.Unix(1000, 0), Format: tar.FormatPAX, PAXRecords: map[string]string{}}
		for strings.Contains(words[0], "=") {
			key, value, _ := strings.Cut(words[0], "=")
			words = words[1:]
			var n int64
			switch key {
			case "mode":
				fmt.Sscanf(value, "%o", &h.Mode)
			case "time":
				fmt.Sscan(value, &n)
				h.ModTime = time.Unix(n, 0)
			case "uid":
				fmt.Sscan(value, &h.Uid)
			default:
				h.PAXRecords["SCHILY.xattr."+key] = value
			}
		}
		h.Name = words[1]
		rest := strings.Join(words[2:], " ")
		h.Typeflag = map[string]byte{"f": tar.TypeReg, "d": tar.TypeDir, "l": tar.TypeSymlink, "h": tar.TypeLink, "p": tar.TypeFifo}[words[0]]
		switch words[0] {
		case "f":
			h.Size = int64(len(rest))
		case "d":
			if h.Mode == 0o644 {
				h.Mode = 0o755
			}
		case "l", "h":
			h.Linkname = rest
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if words[0] == "f" {
			io.WriteString(w, rest)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
