package rewrite

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ocibundle/tarx"
	"ocibundle/tarx/export"
	"ocibundle/tarx/extract"
	"ocibundle/tests/testenv"
)

// rewrite gives what a Rewriter makes of a stream.
func rewrite(t *testing.T, data []byte, keep ...string) (*Rewriter, []byte, error) {
	t.Helper()
	var out bytes.Buffer
	r := New(&out, "rootfs/", keep, tarx.Options{MaxEntries: 1000})
	err := r.Rewrite(t.Context(), bytes.NewReader(data))
	if err == nil {
		_, err = r.Close()
	} else if aerr := r.Abort(); aerr != nil {
		t.Fatal(aerr)
	}
	return r, out.Bytes(), err
}

// extracted is a tree in words, as the export of it: of what the stream has below prefix.
func extracted(t *testing.T, data []byte, prefix string) ([]testenv.ParsedEntry, error) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	// Devices would be the caller's to remove; a Rewriter keeps them all.
	if _, err := extract.Stream(t.Context(), bytes.NewReader(data), root, tarx.Options{MaxEntries: 4000}); err != nil {
		return nil, err
	}
	below, err := os.Open(filepath.Join(dir, prefix))
	if err != nil {
		t.Fatal(err)
	}
	defer below.Close()
	var out bytes.Buffer
	if _, err := export.Tree(t.Context(), &out, below, export.Options{}); err != nil {
		t.Fatal(err)
	}
	entries, err := testenv.ParseTar(out.Bytes())
	if err != nil && !errors.Is(err, testenv.ErrTooBig) {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return entries, nil
}

// checkNames reads a rewritten stream as somebody who trusts every name in it.
func checkNames(t *testing.T, out []byte) {
	t.Helper()
	symlinks := map[string]bool{}
	files := map[string]bool{}
	inside := func(what, name string) {
		if name != path.Clean(name) || !strings.HasPrefix(name+"/", "rootfs/") {
			t.Fatalf("%s %q", what, name)
		}
		for up := path.Dir(name); up != "."; up = path.Dir(up) {
			if symlinks[up] {
				t.Fatalf("%s %q is below a symlink", what, name)
			}
		}
	}
	tr := tar.NewReader(bytes.NewReader(out))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(h.Name, "/")
		inside("the entry", name)
		if h.Uname != "" || h.Gname != "" {
			t.Fatalf("%q belongs to %s:%s", name, h.Uname, h.Gname)
		}
		switch h.Typeflag {
		case tar.TypeLink:
			inside("the target of a hard link", h.Linkname)
			if !files[h.Linkname] && !symlinks[h.Linkname] {
				t.Fatalf("%q is a link to %q, which is not there", name, h.Linkname)
			}
			symlinks[name], files[name] = symlinks[h.Linkname], files[h.Linkname]
		case tar.TypeDir, tar.TypeReg:
			if symlinks[name] {
				t.Fatalf("%q takes the place of a symlink", name)
			}
			files[name] = h.Typeflag == tar.TypeReg
		case tar.TypeSymlink:
			symlinks[name], files[name] = true, false
		default:
			symlinks[name], files[name] = false, true
		}
	}
}

// FuzzRewrite rewrites arbitrary bytes.
func FuzzRewrite(f *testing.F) {
	testenv.TarSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) { compareRewrite(t, testenv.SealTar(data)) })
}

// Streams of few names, so that they meet each other in every way: replaced, linked, led through.
func TestRewriteRandom(t *testing.T) {
	testenv.NeedRoot(t) // to make the tree that it is compared with
	names := []string{"a", "b", "a/b", "b/a", "a/b/c", "c", "c/a", "./b//c", "a/../b", "b/../c/b", "/a/c", "c/c/c/c", "."}
	targets := []string{"a", "b", "/c", "../b", "a/b", ".", "..", "nowhere", "c/../a", "../../c/a"}
	types := []byte{tar.TypeReg, tar.TypeReg, tar.TypeDir, tar.TypeDir, tar.TypeSymlink, tar.TypeSymlink, tar.TypeLink, tar.TypeFifo}
	taken := 0
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 1))
		var entries []tar.Header
		for range 1 + r.IntN(12) {
			h := tar.Header{Typeflag: types[r.IntN(len(types))], Name: names[r.IntN(len(names))], Mode: 0o600 + int64(r.IntN(0o200)),
				ModTime: time.Unix(int64(r.IntN(1000)), 0)}
			switch h.Typeflag {
			case tar.TypeReg:
				h.Size = int64(r.IntN(600))
			case tar.TypeSymlink:
				h.Linkname = targets[r.IntN(len(targets))]
			case tar.TypeLink:
				h.Linkname = names[r.IntN(len(names))]
			}
			entries = append(entries, h)
		}
		func() {
			defer func() {
				if t.Failed() {
					for _, h := range entries {
						t.Logf("%c %q %q", h.Typeflag, h.Name, h.Linkname)
					}
				}
			}()
			if compareRewrite(t, testenv.TarStream(t, entries...)) {
				taken++
			}
		}()
	}
	if taken < 50 {
		t.Errorf("only %d streams were taken", taken)
	}
}

// compareRewrite rewrites a stream. What comes out can be trusted by everybody, and is the same
// tree. It reports whether the stream was taken.
func compareRewrite(t *testing.T, data []byte) bool {
	_, out, err := rewrite(t, data)
	if err != nil {
		if !errors.Is(err, tarx.ErrMalformed) && !errors.Is(err, tarx.ErrRefused) {
			t.Fatalf("an error of no kind: %v", err)
		}
		for tr := tar.NewReader(bytes.NewReader(out)); ; {
			if _, err := tr.Next(); err == io.EOF {
				t.Fatal("a stream that was cut looks whole")
			} else if err != nil {
				break
			}
		}
	} else {
		checkNames(t, out)
	}
	want, xerr := extracted(t, data, ".")
	var file *extract.FileError
	switch {
	case errors.As(xerr, &file) || errors.Is(xerr, fs.ErrPermission):
		return false // what only a disk says
	case xerr == nil && err != nil:
		if !errors.Is(err, ErrReplaced) && !errors.Is(err, ErrLongPath) {
			t.Fatalf("a Rewriter refuses what an Extractor takes: %v", err)
		}
		return false
	case xerr != nil && err == nil:
		t.Fatalf("a Rewriter takes what an Extractor refuses: %v", xerr)
	case xerr != nil:
		return false
	}
	got, err := extracted(t, out, "rootfs")
	if err != nil {
		t.Fatalf("extract what was written: %v", err)
	}
	if len(got) != len(want) {
		t.Fatalf("%d entries, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("%s (%d bytes), want %s (%d bytes)", got[i].Head, len(got[i].Body), want[i].Head, len(want[i].Body))
		}
	}
	return true
}

// Files that are kept are those that were there last, and what cannot be had is an error.
func TestRewriteReadFile(t *testing.T) {
	file := func(name string, size int64) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644}
	}
	link := func(name, target string) tar.Header {
		return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}
	}
	sym := func(name, target string) tar.Header {
		return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target}
	}
	for _, c := range []struct {
		name    string
		entries []tar.Header
		want    int // its size; -1: an error, -2: none
	}{
		{"none", []tar.Header{file("a", 1)}, -2},
		{"plain", []tar.Header{file("etc/passwd", 3)}, 3},
		{"twice", []tar.Header{file("etc/passwd", 3), file("./etc//passwd", 5)}, 5},
		{"through a symlink", []tar.Header{sym("etc", "/usr/etc"), file("usr/etc/passwd", 4)}, 4},
		{"below a symlink", []tar.Header{file("usr/etc/x", 1), sym("etc", "/usr/etc"), file("etc/passwd", 4)}, 4},
		{"before the symlink", []tar.Header{file("usr/etc/passwd", 4), sym("etc", "usr/etc")}, -1},
		{"the symlink changes", []tar.Header{file("a/x", 1), file("b/x", 1), sym("etc", "a"), file("etc/passwd", 4), sym("etc", "b")}, -2},
		{"a symlink itself", []tar.Header{file("etc/x", 4), sym("etc/passwd", "x")}, -1},
		{"a symlink instead", []tar.Header{file("etc/passwd", 4), sym("etc/passwd", "x")}, -1},
		{"a hard link to it", []tar.Header{file("etc/passwd", 4), link("etc/x", "etc/passwd")}, 4},
		{"a hard link", []tar.Header{file("x", 4), link("etc/passwd", "x")}, -1},
		{"a FIFO", []tar.Header{{Typeflag: tar.TypeFifo, Name: "etc/passwd"}}, -1},
		{"a directory", []tar.Header{{Typeflag: tar.TypeDir, Name: "etc/passwd/"}}, -1},
		{"too large", []tar.Header{file("etc/passwd", maxKept+1)}, -1},
	} {
		r, _, err := rewrite(t, testenv.TarStream(t, c.entries...), "etc/passwd")
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		b, err := r.ReadFile("etc/passwd")
		got := len(b)
		if errors.Is(err, fs.ErrNotExist) {
			got = -2
		} else if err != nil {
			got = -1
		}
		if got != c.want {
			t.Errorf("%s: %d (%v), want %d", c.name, got, err, c.want)
		}
	}
}
