package memory

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"hash"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ocibundle/tarx"
	"ocibundle/tests/testenv"
)

// stream writes a stream, of which no more is held than one entry: the kernel counts this process's memory as the child's, up to
// the exec.
type stream struct {
	out *bufio.Writer
	buf []byte
	err error
}

func (s *stream) write(b []byte) {
	if s.err == nil {
		_, s.err = s.out.Write(b)
	}
}

// entry writes an entry without a body.
func (s *stream) entry(h tarx.OutHeader) {
	if h.Mode == 0 {
		h.Mode = 0o755
	}
	h.Sec = 1
	b, _, err := tarx.AppendHeader(s.buf[:0], &h)
	if err != nil {
		panic(err)
	}
	s.buf = b
	s.write(b)
}

func (s *stream) dir(name string)  { s.entry(tarx.OutHeader{Type: tarx.TypeDir, Name: name}) }
func (s *stream) file(name string) { s.entry(tarx.OutHeader{Type: tarx.TypeReg, Name: name}) }
func (s *stream) device(name string) {
	s.entry(tarx.OutHeader{Type: tarx.TypeChar, Name: name, Major: 1, Minor: 3})
}
func (s *stream) symlink(name, to string) {
	s.entry(tarx.OutHeader{Type: tarx.TypeSymlink, Name: name, Link: to})
}

// extension writes an extension header.
func (s *stream) extension(kind byte, body []byte) {
	s.write(tarx.UstarBlock("x", tarx.UstarFields{Kind: kind, Size: int64(len(body))}))
	s.write(body)
	s.write(tarx.ZeroBlock[:tarx.Padding(int64(len(body)))])
}

// body writes a file with what is in it.
func (s *stream) body(name, text string) {
	s.entry(tarx.OutHeader{Type: tarx.TypeReg, Name: name, Size: int64(len(text))})
	s.write([]byte(text))
	s.write(tarx.ZeroBlock[:tarx.Padding(int64(len(text)))])
}

// end writes the end marker, and what is left.
func (s *stream) end() {
	s.write(tarx.ZeroBlock[:])
	s.write(tarx.ZeroBlock[:])
	if s.err == nil {
		s.err = s.out.Flush()
	}
}

// counter counts what it digests.
type counter struct {
	hash.Hash
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return c.Hash.Write(b)
}

// bare writes a header that an extension header may have gone before.
func (s *stream) bare(kind byte, name string) {
	s.write(tarx.UstarBlock(name, tarx.UstarFields{Kind: kind, Mode: 0o755}))
}

// result is what became of a run.
type result struct {
	code   int
	stderr string
	peak   int64 // bytes
}

// run has the program read what make writes.
func run(t *testing.T, make func(*stream), args ...string) result {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), testenv.Binary(t), args...)
	cmd.Stdin = r
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	s := &stream{out: bufio.NewWriterSize(w, 128<<10)}
	make(s)
	s.end()
	w.Close()
	err = cmd.Wait()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	}
	if s.err != nil && !errors.Is(s.err, syscall.EPIPE) {
		t.Fatal(s.err)
	}
	// ru_maxrss is in KiB (getrusage(2)).
	return result{cmd.ProcessState.ExitCode(), stderr.String(), cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10}
}

// place is a directory in memory for a bundle of many files, or of none.
func place(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(testenv.Dir(t), "tmpfs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=6g,nr_inodes=0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "b")
}

// peaks are the rows of the table.
var peaks []string

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if *table != "" {
		text := "# Peaks of memory\n\n`make memory` writes this page: the kernel's figure (ru_maxrss, getrusage(2)), and what is promised.\n\n" +
			"| what | limit, MiB | peak, MiB |\n|---|---|---|\n" + strings.Join(peaks, "")
		if err := os.WriteFile(*table, []byte(text), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// held checks a run against a limit in MiB.
func held(t *testing.T, what string, r result, limit int64, codes ...int) {
	t.Helper()
	t.Logf("%s: exit %d, %d MiB", what, r.code, r.peak>>20)
	peaks = append(peaks, fmt.Sprintf("| %s | %d | %d |\n", what, limit, r.peak>>20))
	if r.peak > limit<<20 {
		t.Errorf("%s: %d MiB of memory, want at most %d", what, r.peak>>20, limit)
	}
	for _, c := range codes {
		if r.code == c {
			return
		}
	}
	t.Errorf("%s: exit %d, want one of %v: %.300s", what, r.code, codes, r.stderr)
}
