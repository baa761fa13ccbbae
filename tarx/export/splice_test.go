package export

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/tests/testenv"
)

// pipe is a Splicer that refuses when it has taken most bytes so.
type pipe struct {
	*os.File
	most, taken int
	empty       bool // it says then that there is nothing
}

func (p *pipe) Splice(fd int, off int64, n int) (int, error) {
	n = min(n, p.most-p.taken)
	if n == 0 && p.empty {
		return 0, nil
	}
	if n == 0 {
		return 0, errors.New("no more")
	}
	m, err := unix.Splice(fd, &off, int(p.Fd()), nil, n, 0)
	p.taken += int(m)
	return int(m), err
}

// ends opens a tree, and a pipe for it to go through.
func ends(t *testing.T, dir string) (root, r, w *os.File) {
	t.Helper()
	root, err := os.Open(dir)
	testenv.Must(t, err)
	r, w, err = os.Pipe()
	testenv.Must(t, err)
	t.Cleanup(func() {
		for _, f := range []*os.File{root, r, w} {
			f.Close()
		}
	})
	return root, r, w
}

// throughPipe exports into a pipe that takes most bytes of content without a copy.
func throughPipe(t *testing.T, dir string, most int, empty bool) (stream []byte, taken int, err error) {
	t.Helper()
	root, r, w := ends(t, dir)
	p := &pipe{File: w, most: most, empty: empty}
	exported := make(chan error, 1)
	go func() {
		_, err := Tree(t.Context(), p, root, Options{})
		w.Close()
		exported <- err
	}()
	stream, err = io.ReadAll(r)
	testenv.Must(t, err)
	err = <-exported
	return stream, p.taken, err
}

// What goes into a pipe without a copy stands where a copy would.
func TestExportSplice(t *testing.T) {
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(1, 2))
	large := 0
	for i, size := range []int{0, 1, 511, spliceMin - 1, spliceMin, spliceMin + 1, 3, 2*partSize + 7, 700, 700, 1<<20 + 5, partSize, 9} {
		body := make([]byte, size)
		for j := range body {
			body[j] = byte(rng.Uint32())
		}
		testenv.Must(t, os.WriteFile(filepath.Join(dir, strconv.Itoa(100+i)), body, 0o644))
		if size >= spliceMin {
			large += size
		}
	}
	// With a hole between two parts of which one is large.
	f, err := os.Create(filepath.Join(dir, "200"))
	testenv.Must(t, err)
	defer f.Close()
	_, err = f.WriteAt(bytes.Repeat([]byte("large"), 100000), 1<<20)
	testenv.Must(t, err)
	_, err = f.WriteAt([]byte("small"), 0)
	testenv.Must(t, err)
	want, _ := exportT(t, dir, Options{})

	stream, taken, err := throughPipe(t, dir, 1<<40, false)
	if err != nil || !bytes.Equal(stream, want) || taken < large {
		t.Errorf("%d of %d bytes were not copied: %v, and the stream is right: %t", taken, large, err, bytes.Equal(stream, want))
	}
	for _, most := range []int{0, 1, spliceMin - 1, spliceMin, spliceMin + 100, 2*spliceMin + 1, 1 << 20, large - 1} {
		for _, empty := range []bool{false, true} {
			stream, taken, err := throughPipe(t, dir, most, empty)
			if err != nil || !bytes.Equal(stream, want) || taken != most {
				t.Errorf("%d of %d bytes were not copied: %v, and the stream is right: %t", taken, most, err, bytes.Equal(stream, want))
			}
		}
	}
}

// A reader that goes away is a write that fails, also where what is written is not copied.
func TestExportSpliceUnread(t *testing.T) {
	dir := t.TempDir()
	testenv.Must(t, os.WriteFile(filepath.Join(dir, "large"), make([]byte, 4<<20), 0o644))
	root, r, w := ends(t, dir)
	go func() {
		io.CopyN(io.Discard, r, 100<<10)
		r.Close()
	}()
	if _, err := Tree(t.Context(), &pipe{File: w, most: 1 << 40}, root, Options{}); !errors.Is(err, unix.EPIPE) || !strings.HasPrefix(err.Error(), `write "large"`) {
		t.Errorf("%v, want EPIPE for the large file", err)
	}
}

// shrinking cuts a file off when half of it has been taken.
type shrinking struct {
	pipe
	file string
}

func (s *shrinking) Splice(fd int, off int64, n int) (int, error) {
	if off > 0 {
		os.Truncate(s.file, off)
	}
	return s.pipe.Splice(fd, off, min(n, 1<<20))
}

func TestExportSpliceShrunk(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "large")
	testenv.Must(t, os.WriteFile(file, make([]byte, 4<<20), 0o644))
	testenv.Must(t, os.WriteFile(filepath.Join(dir, "more"), make([]byte, 4<<20), 0o644))
	root, r, w := ends(t, dir)
	before := openFDs(t)
	go io.Copy(io.Discard, r)
	_, err := Tree(t.Context(), &shrinking{pipe{File: w, most: 1 << 40}, file}, root, Options{})
	if err == nil || err.Error() != `read "large": it shrank while being exported` {
		t.Errorf("got %v", err)
	}
	if after := openFDs(t); after != before {
		t.Errorf("%d descriptors were open before, %d after", before, after)
	}
}
