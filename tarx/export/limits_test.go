package export

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/tarx"
	"ocibundle/tarx/remove"
	"ocibundle/tests/testenv"
)

func TestExportDeep(t *testing.T) {
	dir := t.TempDir()
	const depth = 2000
	fd := testenv.OpenDir(t, dir)
	cur, err := unix.Dup(fd)
	testenv.Must(t, err)
	for range depth {
		for _, name := range []string{"a", "z"} { // one to read before, one after the directory
			f, err := unix.Openat(cur, name, unix.O_CREAT|unix.O_WRONLY, 0o644)
			testenv.Must(t, err)
			unix.Close(f)
		}
		testenv.Must(t, unix.Mkdirat(cur, "ddd", 0o755))
		next, err := unix.Openat(cur, "ddd", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		testenv.Must(t, err)
		unix.Close(cur)
		cur = next
	}
	unix.Close(cur)
	t.Cleanup(func() { remove.All(fd, "ddd") }) // os.RemoveAll meets PATH_MAX
	before := openFDs(t)
	stream, rep := exportT(t, dir, Options{})
	if rep.Files != 2*depth || rep.Directories != depth+1 {
		t.Errorf("report %+v", rep)
	}
	names := namesT(readT(t, stream))
	if !slices.IsSorted(names[1:]) || names[len(names)-1] != "z" {
		t.Error("not in order")
	}
	if after := openFDs(t); after != before {
		t.Errorf("%d descriptors were open before, %d after", before, after)
	}
}

func openFDs(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	testenv.Must(t, err)
	return len(list)
}

func TestExportStops(t *testing.T) {
	dir := t.TempDir()
	testenv.Must(t, os.WriteFile(filepath.Join(dir, "f"), make([]byte, 1<<20), 0o644))
	root, err := os.Open(dir)
	testenv.Must(t, err)
	defer root.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if _, err := Tree(ctx, io.Discard, root, Options{}); err != why {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := Tree(t.Context(), fullWriter{}, root, Options{}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a full disk: %v", err)
	}
}

type fullWriter struct{}

func (fullWriter) Write([]byte) (int, error) { return 0, unix.ENOSPC }

func TestExportUnreadable(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	testenv.Must(t, os.WriteFile(filepath.Join(dir, "secret"), nil, 0o600))
	root, err := os.Open(dir)
	testenv.Must(t, err)
	defer root.Close()
	testenv.AsFSUser(t, 54321, func() {
		_, err := Tree(t.Context(), io.Discard, root, Options{})
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), `open "secret"`) {
			t.Errorf("an unreadable file: %v", err)
		}
	})
}

// Listings that do not fit are read in parts, and those further up are given up for the time being:
// the stream is the same.
func TestExportLargeDirectories(t *testing.T) {
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		name := fmt.Sprintf("%x", rnd.Uint64()>>(4*rnd.IntN(12)))
		at := filepath.Join(dir, []string{"", "0", "0/0", "8"}[rnd.IntN(4)])
		testenv.Must(t, os.MkdirAll(at, 0o755))
		if rnd.IntN(4) == 0 {
			os.Mkdir(filepath.Join(at, name), 0o755)
		} else {
			os.WriteFile(filepath.Join(at, name), nil, 0o644)
		}
	}
	want, _ := exportT(t, dir, Options{})
	one, all := listingMax, listedMax
	defer func() { listingMax, listedMax = one, all }()
	for _, n := range []int{200, 1000, 5000} {
		listingMax, listedMax = n, 2*n
		if got, _ := exportT(t, dir, Options{}); !bytes.Equal(got, want) {
			t.Errorf("with parts of %d bytes the stream is another: %d bytes, not %d", n, len(got), len(want))
		}
	}
}

// There may be any number of files whose other names are elsewhere, and memory for some of them.
func TestExportLinkMemory(t *testing.T) {
	dir := t.TempDir()
	testenv.Must(t, os.MkdirAll(filepath.Join(dir, "root"), 0o755))
	for i := range 100 {
		f := filepath.Join(dir, fmt.Sprint(i))
		testenv.Must(t, os.WriteFile(f, nil, 0o644))
		testenv.Must(t, os.Link(f, filepath.Join(dir, "root", fmt.Sprint(i))))
	}
	root, err := os.Open(filepath.Join(dir, "root"))
	testenv.Must(t, err)
	defer root.Close()
	before := linkMemory
	defer func() { linkMemory = before }()
	linkMemory = 5000
	if _, err := Tree(t.Context(), io.Discard, root, Options{}); !errors.Is(err, tarx.ErrRefused) {
		t.Errorf("the groups left open took any memory: %v", err)
	}
	// Complete ones are given back.
	both, err := os.Open(dir)
	testenv.Must(t, err)
	defer both.Close()
	linkMemory = 20000
	_, err = Tree(t.Context(), io.Discard, both, Options{})
	testenv.Must(t, err)
}

// Of a deep tree memory holds each name once, not once for each level.
func TestExportDeepMemory(t *testing.T) {
	testenv.Long(t)
	const depth, length = 4000, 250 // as full paths: 2 GB
	dir := t.TempDir()
	fd := testenv.OpenDir(t, dir)
	name := strings.Repeat("d", length)
	cur, err := unix.Dup(fd)
	testenv.Must(t, err)
	for range depth {
		testenv.Must(t, unix.Mkdirat(cur, name, 0o755))
		next, err := unix.Openat(cur, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		testenv.Must(t, err)
		unix.Close(cur)
		cur = next
	}
	unix.Close(cur)
	t.Cleanup(func() { remove.All(fd, name) })
	root, err := os.Open(dir)
	testenv.Must(t, err)
	defer root.Close()
	w := &peakWriter{}
	if _, err := Tree(t.Context(), w, root, Options{}); err != nil {
		t.Fatal(err)
	}
	if w.peak > 64<<20 {
		t.Errorf("%d MiB were in use", w.peak>>20)
	}
}

// peakWriter looks at the memory in use now and then.
type peakWriter struct {
	n    int
	peak uint64
}

func (w *peakWriter) Write(b []byte) (int, error) {
	if w.n++; w.n%200 == 0 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		w.peak = max(w.peak, m.HeapAlloc)
	}
	return len(b), nil
}

// A name that no header has room for is refused.
func TestExportTooDeep(t *testing.T) {
	e := exporter{out: newOutput(io.Discard)}
	err := e.write(&tarx.OutHeader{Type: tarx.TypeReg, Name: strings.Repeat("d/", 1<<19)})
	if !errors.Is(err, tarx.ErrRefused) {
		t.Errorf("a name of 1 MiB: %v", err)
	}
}
