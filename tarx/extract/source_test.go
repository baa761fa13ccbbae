package extract

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"

	"ocibundle/tarx"
	"ocibundle/tests/testenv"
)

// slowHash falls behind whatever feeds it.
type slowHash struct{ hash.Hash }

func (s slowHash) Write(p []byte) (int, error) {
	time.Sleep(100 * time.Microsecond)
	return s.Hash.Write(p)
}

var feeds = []tarx.Feed{tarx.FeedNothing, tarx.FeedProcess, tarx.FeedReader}

// A hash has had every byte of the stream when Extract returns, however it is
// cut into reads, and the zeros behind the end too.
func TestHash(t *testing.T) {
	testenv.NeedRoot(t) // the entries are root's
	for _, size := range []int64{0, 1, tarx.ChunkSize - 2*tarx.BlockSize, tarx.ChunkSize, 3*tarx.ChunkSize + 7, (tarx.ChunkCount + tarx.HashCount + 3) * tarx.ChunkSize} {
		data := testenv.TarStream(t, tar.Header{Typeflag: tar.TypeReg, Name: "f", Mode: 0o644, Size: size})
		data = append(data, make([]byte, 3*tarx.BlockSize)...)
		want := sha256.Sum256(data)
		for _, feed := range feeds {
			for name, r := range map[string]io.Reader{
				"whole":  bytes.NewReader(data),
				"halves": iotest.HalfReader(bytes.NewReader(data)),
				"end":    iotest.DataErrReader(bytes.NewReader(data)),
			} {
				h := slowHash{sha256.New()}
				if _, err := Stream(t.Context(), r, testenv.OpenRoot(t), tarx.Options{Hash: h, Feed: feed}); err != nil {
					t.Fatal(err)
				}
				if got := h.Sum(nil); !bytes.Equal(got, want[:]) {
					t.Errorf("%d bytes, feed %d, %s: %x, not %x", size, feed, name, got, want)
				}
			}
		}
	}
}

// atRest waits until the process has as many goroutines and open files as it
// had, or fewer.
func atRest(t *testing.T, goroutines, files int) {
	t.Helper()
	end := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > goroutines || openFiles(t) > files {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines and %d files, not %d and %d", runtime.NumGoroutine(), openFiles(t), goroutines, files)
		}
		time.Sleep(time.Millisecond)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// A stream that fails leaves nobody behind, a hash that is far behind included.
func TestFailureLeavesNothing(t *testing.T) {
	testenv.NeedRoot(t) // the entries are root's
	data := testenv.TarStream(t, tar.Header{Typeflag: tar.TypeReg, Name: "f", Mode: 0o644, Size: 8 * tarx.ChunkSize})
	bad := errors.New("bad disk")
	for _, feed := range feeds {
		for _, n := range []int{tarx.BlockSize, 4 * tarx.ChunkSize, 4*tarx.ChunkSize + 100, len(data) - tarx.BlockSize} {
			for _, end := range []error{io.EOF, bad} {
				root := testenv.OpenRoot(t)
				goroutines, files := runtime.NumGoroutine(), openFiles(t)
				r := io.MultiReader(bytes.NewReader(data[:n]), iotest.ErrReader(end))
				_, err := Stream(t.Context(), r, root, tarx.Options{Hash: slowHash{sha256.New()}, Feed: feed})
				if end == io.EOF && !errors.Is(err, tarx.ErrTruncated) || end == bad && !errors.Is(err, bad) {
					t.Errorf("feed %d, %d bytes, then %v: %v", feed, n, end, err)
				}
				atRest(t, goroutines, files)
			}
		}
	}
}

// What is called off while its reader waits returns at once. When the reader
// gives more after all, nothing is done with it and nobody is left behind.
func TestCalledOff(t *testing.T) {
	testenv.NeedRoot(t) // the entries are root's
	data := testenv.TarStream(t,
		tar.Header{Typeflag: tar.TypeReg, Name: "first", Mode: 0o644, Size: 100},
		tar.Header{Typeflag: tar.TypeReg, Name: "f", Mode: 0o644, Size: 8 * tarx.ChunkSize},
		tar.Header{Typeflag: tar.TypeReg, Name: "never", Mode: 0o644, Size: 100})
	for _, feed := range feeds {
		for _, n := range []int{0, 100, 2*tarx.BlockSize + 100, 4*tarx.ChunkSize + 100, len(data) - 1024} {
			root := testenv.OpenRoot(t)
			goroutines, files := runtime.NumGoroutine(), openFiles(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			off := errors.New("called off")
			pr, pw := io.Pipe()
			go func() {
				pw.Write(data[:n])
				cancel(off)
			}()
			if _, err := Stream(ctx, pr, root, tarx.Options{Hash: slowHash{sha256.New()}, Feed: feed}); err != off {
				t.Errorf("feed %d, after %d bytes: %v", feed, n, err)
			}
			before := tell(t, root.Name())
			go func() {
				pw.Write(data[n:])
				pw.Close()
			}()
			io.Copy(io.Discard, pr) // what nobody reads
			atRest(t, goroutines, files)
			if after := tell(t, root.Name()); after != before {
				t.Errorf("feed %d, after %d bytes: the tree has changed:\n%s\n%s", feed, n, before, after)
			}
		}
	}
}

// A worker that fails while the reader waits ends the extraction.
func TestWorkerFailsMeanwhile(t *testing.T) {
	testenv.NeedRoot(t) // the entries are root's
	data := testenv.TarStream(t,
		tar.Header{Typeflag: tar.TypeReg, Name: strings.Repeat("n", 256), Mode: 0o644, Size: 100},
		tar.Header{Typeflag: tar.TypeReg, Name: "f", Mode: 0o644, Size: 8 * tarx.ChunkSize})
	for _, feed := range feeds {
		for _, workers := range []int{1, 2, 8} {
			root := testenv.OpenRoot(t)
			goroutines, files := runtime.NumGoroutine(), openFiles(t)
			pr, pw := io.Pipe()
			go pw.Write(data[:tarx.ChunkSize+100]) // and never more
			_, err := Stream(t.Context(), pr, root, tarx.Options{Workers: workers, Feed: feed})
			if e, ok := errors.AsType[*tarx.EntryError](err); !ok || e.Index != 1 || !errors.Is(err, unix.ENAMETOOLONG) {
				t.Errorf("feed %d, %d workers: %v", feed, workers, err)
			}
			pr.Close()
			atRest(t, goroutines, files)
		}
	}
}
