package truncate

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"ocibundle/pipeline"
	"ocibundle/pipeline/userns"
	"ocibundle/tarx"
	"ocibundle/tests/testenv"
)

const (
	seedVar      = "OCIBUNDLE_TEST_SEED"
	entries      = 520
	randomCuts   = 1000
	programCuts  = 40
	trailerBytes = 64 // of a compressed stream: checksums, indexes, footers
)

var formats = map[string]tar.Format{"ustar": tar.FormatUSTAR, "pax": tar.FormatPAX, "gnu": tar.FormatGNU}

// stream is an honest archive with every type in it. Most files are small: the shorter the stream, the more of its cuts fall
// on something.
func stream(t testing.TB, format tar.Format) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range entries {
		h := &tar.Header{Format: format, Name: fmt.Sprintf("d%d/e%d", i/50, i), Mode: 0o644, ModTime: time.Unix(int64(i), 0), Uid: i, Gid: i}
		var body []byte
		switch {
		case i%50 == 0:
			h.Typeflag, h.Name, h.Mode = tar.TypeDir, fmt.Sprintf("d%d/", i/50), 0o755
		case i%7 == 0:
			h.Typeflag, h.Linkname = tar.TypeSymlink, "target"
		case i%11 == 0 && i%50 > 1:
			h.Typeflag, h.Linkname = tar.TypeLink, fmt.Sprintf("d%d/e%d", i/50, i/50*50+1)
		case i%13 == 0 && i%50 > 1:
			h.Typeflag = tar.TypeFifo
		default:
			h.Typeflag = tar.TypeReg
			body = make([]byte, []int{0, 0, 1, 511, 512, 513, 1500}[i%7])
			for j := range body {
				body[j] = byte(r.Uint32())
			}
			h.Size = int64(len(body))
			if i%17 == 0 && i%50 != 1 && format != tar.FormatUSTAR { // e1, e51... are what hard links lead to
				h.Name += strings.Repeat("long", 30)
			}
			if i%19 == 0 && format == tar.FormatPAX {
				h.PAXRecords = map[string]string{"SCHILY.xattr.user.k": "v"}
				h.ModTime = h.ModTime.Add(time.Millisecond)
			}
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// compressors make what ocibundle decodes.
var compressors = map[string]func(t testing.TB, b []byte) []byte{
	"gzip": func(t testing.TB, b []byte) []byte {
		return through(t, b, func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil })
	},
	"zstd": func(t testing.TB, b []byte) []byte {
		return through(t, b, func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) })
	},
	"xz": func(t testing.TB, b []byte) []byte {
		return through(t, b, func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) })
	},
	"bzip2": func(t testing.TB, b []byte) []byte {
		testenv.NeedTool(t, "bzip2")
		cmd := exec.CommandContext(t.Context(), "bzip2", "-c")
		cmd.Stdin = bytes.NewReader(b)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return out
	},
}

func through(t testing.TB, b []byte, open func(io.Writer) (io.WriteCloser, error)) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := open(&out)
	if err == nil {
		_, err = w.Write(b)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func newRand(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv(seedVar); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("repeat with %s=%d", seedVar, seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// run makes a bundle of a stream as the program does, in this process: a process for each of some ten thousand cuts would take
// an hour. It says what is wrong with the outcome.
func run(dir string, b []byte) (accepted bool, wrong string, err error) {
	_, err = pipeline.Run(context.Background(), pipeline.Config{
		Output: filepath.Join(dir, "b"),
		Source: pipeline.Source{
			Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil },
			IDs:  userns.State{Mode: userns.ModeNone},
		},
	})
	left, rerr := os.ReadDir(dir)
	switch {
	case rerr != nil:
		return false, rerr.Error(), err
	case err == nil:
		return true, "", nil
	case !errors.Is(err, tarx.ErrMalformed):
		return false, fmt.Sprintf("not malformed, but: %v", err), err
	case len(left) != 0:
		return false, fmt.Sprintf("leaves %v behind", left), err
	}
	return false, "", err
}

// tempDir is in memory where there is such a place: thousands of trees are made and removed.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", testenv.Tag+"-cut-")
	if err != nil {
		return testenv.Dir(t)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// cuts tries all cuts, each of which must be refused, on two goroutines.
func cuts(t *testing.T, b []byte, at []int) {
	t.Helper()
	slices.Sort(at)
	at = slices.Compact(at)
	next := make(chan int, len(at))
	for _, n := range at {
		next <- n
	}
	close(next)
	done := make(chan string, 2)
	var failed atomic.Int64
	for range 2 {
		go func() {
			dir := tempDir(t)
			var first string
			for n := range next {
				accepted, wrong, _ := run(dir, b[:n])
				if accepted {
					wrong = "accepted"
					os.RemoveAll(filepath.Join(dir, "b"))
				}
				if wrong != "" && failed.Add(1) == 1 {
					first = fmt.Sprintf("cut at %d of %d: %s", n, len(b), wrong)
				}
			}
			done <- first
		}()
	}
	for range 2 {
		if first := <-done; first != "" {
			t.Error(first)
		}
	}
	if n := failed.Load(); n > 0 {
		t.Errorf("%d of %d cuts went wrong", n, len(at))
	}
	tried.Add(int64(len(at)))
	if accepted, _, err := run(tempDir(t), b); !accepted {
		t.Errorf("the whole stream is refused: %v", err)
	}
}

var tried atomic.Int64

func TestEveryCut(t *testing.T) {
	testenv.NeedRoot(t)
	r := newRand(t)
	for name, format := range formats {
		b := stream(t, format)
		t.Run(name+"/plain", func(t *testing.T) {
			var at []int
			for n := 0; n < len(b); n += 512 {
				at = append(at, n)
			}
			for range randomCuts {
				at = append(at, r.IntN(len(b)))
			}
			cuts(t, b, at)
		})
		for codec, compress := range compressors {
			t.Run(name+"/"+codec, func(t *testing.T) {
				z := compress(t, b)
				var at []int
				for n := max(0, len(z)-trailerBytes); n < len(z); n++ {
					at = append(at, n)
				}
				for range randomCuts / len(compressors) {
					at = append(at, r.IntN(len(z)))
				}
				cuts(t, z, at)
			})
		}
	}
	fmt.Printf("truncate: %d cuts of streams of %d entries in %d formats, plain and in %d compressions: none accepted\n",
		tried.Load(), entries, len(formats), len(compressors))
}

// Two streams glued together are no whole one either, compressed as one or as two, nor is one with something behind it.
func TestGlued(t *testing.T) {
	testenv.NeedRoot(t)
	b := stream(t, tar.FormatPAX)
	for codec, compress := range compressors {
		z := compress(t, b)
		for name, glued := range map[string][]byte{
			"two archives":             compress(t, slices.Concat(b, b)),
			"two compressed archives":  slices.Concat(z, z),
			"text behind the archive":  compress(t, append(slices.Clone(b), "text"...)),
			"text behind the codec":    append(slices.Clone(z), "text"...),
			"a codec cut, then whole":  slices.Concat(z[:len(z)/2], z),
			"half, then the other one": slices.Concat(compress(t, b[:1024]), b[1024:]),
		} {
			dir := tempDir(t)
			if accepted, wrong, _ := run(dir, glued); accepted || wrong != "" {
				t.Errorf("%s, %s: accepted %v, %s", codec, name, accepted, wrong)
			}
		}
		// Streams in pieces, as pigz and zstd make them, are whole.
		if accepted, _, err := run(tempDir(t), slices.Concat(compress(t, b[:5000]), compress(t, b[5000:]))); !accepted {
			t.Errorf("%s in two pieces: %v", codec, err)
		}
	}
}

// A sample of the cuts through the program itself: exit code 3 and one line that says so.
func TestProgram(t *testing.T) {
	testenv.NeedRoot(t)
	r := newRand(t)
	program := testenv.Binary(t)
	for name, format := range formats {
		b := stream(t, format)
		for i := range programCuts {
			n := r.IntN(len(b))
			if i%2 == 0 {
				n -= n % 512
			}
			z := b
			if i%4 == 3 {
				z = compressors["gzip"](t, b)
				n = n * len(z) / len(b)
			}
			dir := testenv.Dir(t)
			cmd := exec.CommandContext(t.Context(), program, "-o", filepath.Join(dir, "b"))
			cmd.Stdin = bytes.NewReader(z[:n])
			out, _ := cmd.CombinedOutput()
			left, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			if code := cmd.ProcessState.ExitCode(); code != 3 || len(left) != 0 || !bytes.HasPrefix(out, []byte("ocibundle: ")) {
				t.Errorf("%s cut at %d of %d: exit code %d, leaves %v, says %q", name, n, len(z), code, left, out)
			}
		}
	}
}
