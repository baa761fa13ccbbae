package extract

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/tarx"
	"ocibundle/tests/testenv"
)

func TestExtractTree(t *testing.T) {
	testenv.NeedRoot(t) // the entries are root's
	data := testenv.TarStream(t,
		tar.Header{Typeflag: tar.TypeDir, Name: "d", Mode: 0o555, ModTime: testenv.SomeTime, Format: tar.FormatPAX},
		tar.Header{Typeflag: tar.TypeReg, Name: "d/f", Mode: 0o4444, Size: 5, ModTime: testenv.SomeTime, Format: tar.FormatPAX},
		tar.Header{Typeflag: tar.TypeReg, Name: "big", Mode: 0o600, Size: 3*tarx.ChunkSize + 7, ModTime: testenv.SomeTime},
		tar.Header{Typeflag: tar.TypeLink, Name: "d/hard", Linkname: "/d/f"},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "abs", Linkname: "/d", ModTime: testenv.SomeTime, Format: tar.FormatPAX},
		tar.Header{Typeflag: tar.TypeReg, Name: "abs/through", Mode: 0o644, Size: 1, ModTime: testenv.SomeTime},
		tar.Header{Typeflag: tar.TypeFifo, Name: "a/b/c/fifo", Mode: 0o640, ModTime: testenv.SomeTime},
		tar.Header{Typeflag: tar.TypeReg, Name: "d/f2", Mode: 0o644, Size: 1, ModTime: testenv.SomeTime},
		tar.Header{Typeflag: tar.TypeDir, Name: "d/f2", Mode: 0o711, ModTime: testenv.SomeTime},
		tar.Header{Typeflag: tar.TypeLink, Name: "d/f", Linkname: "d/f"},
	)
	root := testenv.OpenRoot(t)
	rep, err := Stream(t.Context(), bytes.NewReader(data), root, tarx.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if rep.Entries != 10 || rep.Files != 4 || rep.Hardlinks != 2 {
		t.Errorf("report: %+v", rep)
	}
	at := func(name string) string { return filepath.Join(root.Name(), name) }
	for name, mode := range map[string]uint32{
		"": 0o40755, "d": 0o40555, "d/f": 0o104444, "d/hard": 0o104444, "big": 0o100600, "abs": 0o120777,
		"d/through": 0o100644, "a": 0o40755, "a/b/c": 0o40755, "a/b/c/fifo": 0o10640, "d/f2": 0o40711,
	} {
		var st unix.Stat_t
		if err := unix.Lstat(at(name), &st); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if st.Mode != mode {
			t.Errorf("%s: mode %o, want %o", name, st.Mode, mode)
		}
	}
	for _, name := range []string{"", "d", "d/f", "abs", "a/b"} {
		fi, err := os.Lstat(at(name))
		if err != nil {
			t.Fatal(err)
		}
		if !fi.ModTime().Equal(testenv.SomeTime) {
			t.Errorf("%s: mtime %v", name, fi.ModTime())
		}
	}
	if b, err := os.ReadFile(at("big")); err != nil || len(b) != 3*tarx.ChunkSize+7 || len(bytes.Trim(b, "x")) != 0 {
		t.Errorf("big: %d bytes, %v", len(b), err)
	}
}

func TestExtractIncomplete(t *testing.T) {
	testenv.NeedRoot(t) // the entries are root's
	data := testenv.TarStream(t, tar.Header{Typeflag: tar.TypeReg, Name: "f", Mode: 0o644, Size: 700})
	for n := 0; n < len(data); n += 100 {
		_, err := Stream(t.Context(), bytes.NewReader(data[:n]), testenv.OpenRoot(t), tarx.Options{})
		if !errors.Is(err, tarx.ErrMalformed) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	_, err := Stream(t.Context(), bytes.NewReader(append(data, data...)), testenv.OpenRoot(t), tarx.Options{})
	if !errors.Is(err, tarx.ErrMalformed) {
		t.Errorf("two archives: %v", err)
	}
}
