package extract

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ocibundle/tarx"
	"ocibundle/tests/testenv"
)

// crowd is a stream in which few names are used for everything, over and over.
func crowd(rng *rand.Rand) (headers []tar.Header) {
	pick := func(of ...string) string { return of[rng.IntN(len(of))] }
	// Mostly directories have upper-case names and all else lower-case ones, or
	// next to no stream could be extracted.
	name := func(dir bool) string {
		if dir == (rng.IntN(40) > 0) {
			return pick("A", "B", "C", "N"+pick("1", "2", "3", "4"))
		}
		return pick("a", "b", "c", "d")
	}
	path := func(dir bool) string {
		var b strings.Builder
		for i := range rng.IntN(3) {
			if i > 0 && rng.IntN(10) == 0 {
				b.WriteString("../")
			}
			b.WriteString(name(true) + "/")
		}
		return b.String() + name(dir)
	}
	var files []string
	for i := range 5 + rng.IntN(60) {
		kind := rng.IntN(12)
		h := tar.Header{Name: path(kind < 3), Mode: 0o644, ModTime: time.Unix(1_700_000_000+int64(i), 0)}
		switch kind {
		case 0, 1, 2:
			h.Typeflag, h.Mode = tar.TypeDir, []int64{0o755, 0o500, 0o2775}[rng.IntN(3)]
		case 3:
			h.Typeflag, h.Linkname = tar.TypeSymlink, pick("", "/", "../")+path(rng.IntN(2) == 0)
		case 4:
			h.Typeflag, h.Linkname = tar.TypeLink, path(false)
			if len(files) > 0 && rng.IntN(20) > 0 {
				h.Linkname = files[rng.IntN(len(files))]
			}
		case 5:
			h.Typeflag = tar.TypeFifo
		default:
			h.Typeflag, h.Size = tar.TypeReg, []int64{0, 5, 700, 3000}[rng.IntN(4)]
			h.Mode = []int64{0o644, 0o4755, 0o400}[rng.IntN(3)]
			switch rng.IntN(300) {
			case 0:
				h.Size = tarx.ChunkSize + 1
			case 1, 2:
				h.Name = strings.Repeat("n", 256)
			case 3:
				h.Uid = 1
			}
			files = append(files, h.Name)
		}
		headers = append(headers, h)
	}
	return headers
}

// tell describes the tree below dir.
func tell(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	first := map[uint64]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		if first[st.Ino] == "" {
			first[st.Ino] = rel
		}
		fmt.Fprintf(&b, "%s = %s: %o %d:%d %d", rel, first[st.Ino], st.Mode, st.Uid, st.Gid, st.Mtim.Sec)
		switch {
		case d.Type().IsRegular():
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %d %.20q", len(text), text)
		case d.Type() == fs.ModeSymlink:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			b.WriteString(" -> " + to)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// extractAs extracts with what change makes of the extractor, and gives the
// tree or the error.
func extractAs(t *testing.T, data []byte, change func(*Extractor)) (string, error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	x, err := New(root, tarx.Options{Workers: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	change(x)
	if err := x.Extract(t.Context(), bytes.NewReader(data)); err != nil {
		return "", err
	}
	if _, err := x.Finish(t.Context()); err != nil {
		return "", err
	}
	return tell(t, dir), nil
}

// What the workers do in parallel cannot be told from doing one entry after the
// other, errors included.
func TestOrder(t *testing.T) {
	testenv.NeedRoot(t) // the entries are root's
	good, bad := 0, 0
	for seed := range uint64(300) {
		headers := crowd(rand.New(rand.NewPCG(seed, 0)))
		data := testenv.TarStream(t, headers...)
		want, wantErr := extractAs(t, data, func(x *Extractor) { x.serial = true })
		if wantErr == nil {
			good++
		} else {
			bad++
		}
		for name, change := range map[string]func(*Extractor){
			"parallel":        func(*Extractor) {},
			"a process":       func(x *Extractor) { x.Options.Feed = tarx.FeedProcess },
			"a decoder":       func(x *Extractor) { x.Options.Feed = tarx.FeedReader },
			"small batches":   func(x *Extractor) { x.room.jobs = 1 },
			"both":            func(x *Extractor) { x.room.jobs, x.Options.Feed = 1, tarx.FeedProcess },
			"a slow maker":    func(x *Extractor) { x.slow = func(*tarx.Source) bool { return true } },
			"a changing one":  func(x *Extractor) { x.room.jobs, x.slow = 2, every(2) },
			"one directory":   func(x *Extractor) { x.dirs.room = 1 },
			"several":         func(x *Extractor) { x.room.jobs, x.dirs.room = 3, 3 },
			"a full filter":   func(x *Extractor) { fill(x.used.small) },
			"the next filter": func(x *Extractor) { x.used.count = usedFull },
		} {
			got, err := extractAs(t, data, change)
			if fmt.Sprint(err) != fmt.Sprint(wantErr) || got != want {
				for i, h := range headers {
					t.Logf("%d %c %q %q %d", i+1, h.Typeflag, h.Name, h.Linkname, h.Size)
				}
				t.Fatalf("seed %d, %s: %v\n%s\none after the other: %v\n%s", seed, name, err, got, wantErr, want)
			}
		}
	}
	if good < 50 || bad < 50 {
		t.Errorf("%d streams are extracted and %d fail: they do not say much", good, bad)
	}
}

// every says of every nth batch that the stream comes slowly.
func every(n int) func(*tarx.Source) bool {
	i := 0
	return func(*tarx.Source) bool { i++; return i%n == 0 }
}

func fill(f usedFilter) {
	for i := range f {
		for j := range f[i] {
			f[i][j] = ^uint64(0)
		}
	}
}

// A name that the filter has seen is never new to it.
func TestUsedNames(t *testing.T) {
	u := newUsedNames()
	fresh := 0
	for i := range usedFull * 2 {
		if u.note(u.key(i%7, fmt.Append(nil, "n", i))) {
			fresh++
		}
	}
	if fresh < usedFull*2*97/100 {
		t.Errorf("only %d of %d names are new", fresh, usedFull*2)
	}
	for i := range usedFull * 2 {
		if u.note(u.key(i%7, fmt.Append(nil, "n", i))) {
			t.Fatalf("name %d is new again", i)
		}
	}
}

// Where a filesystem takes two names for one, nothing is lost without a word.
func TestFoldedName(t *testing.T) {
	testenv.NeedRoot(t)
	data := testenv.TarStream(t,
		tar.Header{Typeflag: tar.TypeReg, Name: "f", Mode: 0o644, Size: 1, ModTime: testenv.SomeTime},
		tar.Header{Typeflag: tar.TypeReg, Name: "big", Mode: 0o644, Size: tarx.ChunkSize, ModTime: testenv.SomeTime},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "f", ModTime: testenv.SomeTime},
		tar.Header{Typeflag: tar.TypeLink, Name: "h", Linkname: "f"},
		tar.Header{Typeflag: tar.TypeFifo, Name: "p", Mode: 0o644, ModTime: testenv.SomeTime},
		tar.Header{Typeflag: tar.TypeDir, Name: "d", Mode: 0o755, ModTime: testenv.SomeTime},
	)
	for _, taken := range []string{"f", "big", "l", "h", "p", "d"} {
		_, err := extractAs(t, data, func(x *Extractor) {
			if err := os.WriteFile(filepath.Join(x.root.Name(), taken), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		})
		var entry *tarx.EntryError
		if !errors.As(err, &entry) || entry.Name != taken || !errors.Is(err, errFolded) {
			t.Errorf("%s: %v", taken, err)
		}
	}
}
