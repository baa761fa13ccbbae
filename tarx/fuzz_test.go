package tarx

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

	"golang.org/x/sys/unix"
)

// addSeeds gives a fuzzer the archives that Go's own tests are made of, and
// some of ours.
func addSeeds(f *testing.F) {
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
	f.Add(stream(f,
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

// seal makes the mutations of a fuzzer worth reading: header blocks get the
// right checksum, and the stream its end-of-archive marker.
func seal(data []byte) []byte {
	b := bytes.Clone(data)
	b = append(b, make([]byte, padding(int64(len(b))))...)
	for at := 0; at < len(b); at += blockSize {
		block := b[at : at+blockSize]
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
	return append(b, make([]byte, 2*blockSize)...)
}

// parsed is one entry, in words: what must be the same for both parsers.
type parsed struct{ head, body string }

func parseOurs(data []byte) (entries []parsed, err error) {
	stop := make(chan struct{})
	defer close(stop)
	p := &parser{src: newSource(bytes.NewReader(data), nil, stop)}
	for {
		h, err := p.next()
		if err == io.EOF {
			return entries, p.src.drainZeros()
		}
		if err != nil {
			return entries, err
		}
		mtime := fmt.Sprint(h.sec, h.nsec)
		xattrs := map[string]string{}
		for _, a := range h.xattrs {
			xattrs[string(a.name)] = string(a.value)
		}
		head := fmt.Sprintf("%q %q %q %o %d:%d %d %s %d:%d %q", h.typ, h.name, h.link, h.mode, h.uid, h.gid, h.size, mtime, h.major,
			h.minor, xattrs)
		if h.size > 1<<20 {
			return entries, errBig
		}
		body := make([]byte, h.size)
		parts := h.sparse
		if parts == nil {
			parts = []extent{{0, h.stored}}
		}
		// The name lives in a chunk that reading the body may let go.
		for _, e := range parts {
			for at, left := e.off, e.size; left > 0; {
				b, err := p.src.piece(left)
				if err != nil {
					return entries, p.broken(ErrTruncated)
				}
				copy(body[at:], b)
				at += int64(len(b))
				left -= int64(len(b))
			}
		}
		if err := p.endBody(); err != nil {
			return entries, err
		}
		entries = append(entries, parsed{head, string(body)})
	}
}

var errBig = errors.New("too big for a fuzzer")

func parseTheirs(data []byte) (entries []parsed, err error) {
	r := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return entries, nil
		}
		if err != nil {
			return entries, err
		}
		typ := h.Typeflag
		switch typ {
		case tar.TypeXGlobalHeader:
			continue
		case tar.TypeCont, tar.TypeGNUSparse:
			typ = tar.TypeReg
		}
		if h.Size > 1<<20 {
			return entries, errBig
		}
		xattrs := map[string]string{}
		for k, v := range h.PAXRecords {
			if name, ok := strings.CutPrefix(k, schilyXattr); ok {
				xattrs[name] = v
			}
		}
		head := fmt.Sprintf("%q %q %q %o %d:%d %d %s %d:%d %q", typ, h.Name, h.Linkname, uint32(h.Mode)&0o7777, h.Uid, h.Gid, h.Size,
			fmt.Sprint(h.ModTime.Unix(), h.ModTime.Nanosecond()), h.Devmajor, h.Devminor, xattrs)
		body, err := io.ReadAll(r)
		if err != nil {
			return entries, err
		}
		entries = append(entries, parsed{head, string(body)})
	}
}

// FuzzParser compares our parser with archive/tar: what ours accepts, the other
// reads in the same way.
func FuzzParser(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		compareParsers(t, data)
		compareParsers(t, seal(data))
	})
}

func compareParsers(t *testing.T, data []byte) {
	ours, err := parseOurs(data)
	if errors.Is(err, errBig) {
		return
	}
	theirs, terr := parseTheirs(data)
	if errors.Is(terr, errBig) {
		return
	}
	if err == nil && terr != nil {
		t.Fatalf("archive/tar refuses what we accept: %v", terr)
	}
	if err == nil && len(ours) != len(theirs) {
		t.Fatalf("%d entries, archive/tar sees %d", len(ours), len(theirs))
	}
	// Up to where we refuse, the entries are the same too.
	for i := range min(len(ours), len(theirs)) {
		if ours[i] != theirs[i] {
			t.Fatalf("entry %d: %s (%d bytes), archive/tar sees %s (%d bytes)", i+1, ours[i].head, len(ours[i].body), theirs[i].head,
				len(theirs[i].body))
		}
	}
	if err == nil || terr != nil {
		return
	}
	// We refuse what archive/tar accepts: only for the reasons named.
	for _, reason := range []string{ErrTruncated.Error(), ErrEmpty.Error(), errTrailing.Error(), errExtension.Error(),
		"has a body of", "are not supported", "is out of range", "the name is empty"} {
		if strings.Contains(err.Error(), reason) {
			return
		}
	}
	t.Fatalf("we refuse what archive/tar accepts: %v", err)
}

// FuzzExtract extracts arbitrary bytes. Nothing beside the root may change.
func FuzzExtract(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		data = seal(data)
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "canary"), []byte("alive"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(dir, "root"), 0o700); err != nil {
			t.Fatal(err)
		}
		before := outside(t, dir)
		root, err := os.Open(filepath.Join(dir, "root"))
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		_, err = Extract(t.Context(), bytes.NewReader(data), root, Options{Devices: DevicesSkip, MaxEntries: 1000})
		var file *FileError
		if err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrRefused) && !errors.As(err, &file) {
			t.Fatalf("an error of no kind: %v", err)
		}
		if after := outside(t, dir); after != before {
			t.Fatalf("outside the root:\n%s\nbefore:\n%s", after, before)
		}
		parent, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer parent.Close()
		if err := RemoveAll(int(parent.Fd()), "root"); err != nil {
			t.Fatal(err)
		}
	})
}

// outside describes what lies beside the root in dir, contents and metadata.
func outside(t *testing.T, dir string) string {
	t.Helper()
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, n := range names {
		path := filepath.Join(dir, n.Name())
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			t.Fatal(err)
		}
		if n.Name() == "root" {
			fmt.Fprintf(&b, "root %d\n", st.Ino)
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		st.Atim = unix.Timespec{}
		fmt.Fprintf(&b, "%s %+v %q\n", n.Name(), st, text)
	}
	return b.String()
}
