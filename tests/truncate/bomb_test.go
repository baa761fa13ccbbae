package truncate

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"ocibundle/tests/testenv"
)

// bombSize is what some ten megabytes of gzip, or a few hundred bytes of zstd,
// become.
const bombSize = 10 << 30

// writeBomb writes a stream with one file of zeros.
func writeBomb(w io.Writer) error {
	tw := tar.NewWriter(w)
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "zeros", Mode: 0o644, Size: bombSize, Format: tar.FormatGNU}); err != nil {
		return err
	}
	zeros := make([]byte, 1<<20)
	for range bombSize / len(zeros) {
		if _, err := tw.Write(zeros); err != nil {
			return err
		}
	}
	return tw.Close()
}

// A bomb ends at the limit; without one it becomes a hole, in little memory.
func TestBomb(t *testing.T) {
	testenv.Long(t)
	program := testenv.Binary(t)
	for codec, open := range map[string]func(io.Writer) (io.WriteCloser, error){
		"gzip": func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriterLevel(w, gzip.BestSpeed) },
		"zstd": func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1)) },
	} {
		t.Run(codec, func(t *testing.T) {
			dir := testenv.Dir(t)
			bomb := filepath.Join(dir, "bomb")
			f, err := os.Create(bomb)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			z, err := open(f)
			if err == nil {
				err = writeBomb(z)
			}
			if err == nil {
				err = z.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			run := func(args ...string) (code int, memory int64, said string) {
				cmd := exec.CommandContext(t.Context(), program, append(args, "-o", filepath.Join(dir, "b"), "-i", bomb)...)
				var out bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &out
				if err := cmd.Run(); cmd.ProcessState == nil {
					t.Fatal(err)
				}
				// ru_maxrss is in KiB (getrusage(2)).
				return cmd.ProcessState.ExitCode(), cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10, out.String()
			}
			const limit = 64 << 20
			check := func(what string, memory int64) {
				t.Helper()
				if memory > limit {
					t.Errorf("%s took %d MiB of memory, want less than %d", what, memory>>20, limit>>20)
				}
				fmt.Printf("bomb: %s, %s: %d MiB of memory\n", codec, what, memory>>20)
			}
			code, memory, said := run("--max-bytes", "1g")
			if code != 4 || !strings.Contains(said, "the stream has more than 1073741824 bytes") {
				t.Errorf("with a limit: exit code %d, %s", code, said)
			}
			check("stopped at its limit", memory)
			if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
				t.Errorf("it leaves %v, %v", left, err)
			}
			code, memory, said = run()
			if code != 0 {
				t.Fatalf("without a limit: exit code %d, %s", code, said)
			}
			check("written as a hole", memory)
			var st unix.Stat_t
			if err := unix.Stat(filepath.Join(dir, "b/rootfs/zeros"), &st); err != nil {
				t.Fatal(err)
			}
			if st.Size != bombSize || st.Blocks*512 > 1<<20 {
				t.Errorf("the file has %d bytes, %d of them on disk", st.Size, st.Blocks*512)
			}
		})
	}
}
