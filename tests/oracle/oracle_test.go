package oracle

import (
	"archive/tar"
	"bytes"
	"compress/bzip2"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ocibundle/tests/testenv"
)

func read(t testing.TB, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// The export of a real container.
func TestRedisExport(t *testing.T) {
	testenv.NeedRoot(t)
	everyone(t, read(t, testenv.RedisExport(t)))
}

// A minimal Debian as mmdebstrap writes it, with its device nodes, setuid programs, hard links, and a file capability.
func TestDebian(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "mmdebstrap", "setcap")
	image := filepath.Join(testenv.Dir(t), "debian.tar")
	// The machine's own release: its archive key is sure to be here.
	suite := strings.TrimSpace(testenv.Output(t, exec.CommandContext(t.Context(), "sh", "-c", `. /etc/os-release && echo "$VERSION_CODENAME"`)))
	cmd := exec.CommandContext(t.Context(), "mmdebstrap", "--quiet", "--variant=minbase", "--mode=root",
		`--customize-hook=cp "$1/bin/true" "$1/bin/capable"`, `--customize-hook=setcap cap_net_raw+ep "$1/bin/capable"`,
		`--customize-hook=ln "$1/bin/true" "$1/bin/linked"`, `--customize-hook=mkdir -p "$1/dev" && [ -e "$1/dev/full" ] || mknod "$1/dev/full" c 1 7`,
		suite, image)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("bootstrap a Debian: %v\n%s", err, out)
	}
	stream := read(t, image)
	seen := map[string]int{}
	for r := tar.NewReader(bytes.NewReader(stream)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		seen[string(h.Typeflag)]++
		if h.Mode&0o4000 != 0 {
			seen["setuid"]++
		}
		if h.PAXRecords["SCHILY.xattr.security.capability"] != "" {
			seen["capability"]++
		}
	}
	for _, what := range []string{"0", "1", "2", "3", "5", "setuid", "capability"} {
		if seen[what] == 0 {
			t.Errorf("the Debian has no %s: %v", what, seen)
		}
	}
	t.Logf("entries by type: %v", seen)
	everyone(t, stream)
}

// The archives that the Go tree tests its reader with. Where archive/tar reads one to the end, ours has to, unless a rule below
// names why not; where it does not, ours must refuse.
func TestGoTestdata(t *testing.T) {
	testenv.NeedRoot(t)
	goroot := strings.TrimSpace(testenv.Output(t, exec.CommandContext(t.Context(), "go", "env", "GOROOT")))
	files, err := filepath.Glob(filepath.Join(goroot, "src/archive/tar/testdata/*.tar*"))
	if err != nil || len(files) < 30 {
		t.Fatalf("find the Go tree's archives: %d, %v", len(files), err)
	}
	refused := map[string]string{
		"hdr-only.tar":        "header-only types with a size",
		"gnu-incremental.tar": "directories of GNU tar's incremental backups",
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			stream := read(t, file)
			var err error
			switch filepath.Ext(name) {
			case ".bz2":
				stream, err = io.ReadAll(bzip2.NewReader(bytes.NewReader(stream)))
			case ".base64":
				stream, err = io.ReadAll(base64.NewDecoder(base64.StdEncoding, bytes.NewReader(stream)))
			}
			if err != nil {
				t.Fatal(err)
			}
			largest, entries, goErr := walk(stream)
			dir, err := program(t, bytes.NewReader(stream))
			e, _ := errors.AsType[*exec.ExitError](err)
			switch why, ok := refused[name]; {
			case err != nil && e == nil:
				t.Fatal(err)
			case goErr != nil:
				if err == nil {
					t.Errorf("ours takes what archive/tar does not: %v", goErr)
				}
				return
			case err != nil && ok:
				t.Logf("refused: %s (%v)", why, err)
				return
			case err != nil && (entries == 0 || !ended(stream)):
				t.Logf("refused: no entries, or no end marker (%v)", err)
				return
			case err != nil:
				t.Fatalf("ours refuses what archive/tar reads: %v", err)
			case ok:
				t.Fatalf("ours takes it, although: %s", why)
			}
			if largest.Size > 1<<30 {
				var st unix.Stat_t
				if err := unix.Stat(filepath.Join(dir, largest.Name), &st); err != nil || st.Size != largest.Size || st.Blocks*512 > 1<<20 {
					t.Errorf("%d bytes, %d on disk, %v; want %d, nearly all hole", st.Size, st.Blocks*512, err, largest.Size)
				}
				return
			}
			ours := look(t, dir)
			dir, err = goArchive(t, bytes.NewReader(stream))
			if err != nil {
				t.Logf("go-archive: %v", err)
				return
			}
			check(t, "go-archive", ours, look(t, dir), meantOfGoArchive(namesIn(t, stream)))
		})
	}
}

// walk reads the headers of a stream and skips the bodies, of which some are 60 GB of hole.
func walk(stream []byte) (largest *tar.Header, entries int, err error) {
	largest = &tar.Header{}
	for r := tar.NewReader(bytes.NewReader(stream)); ; entries++ {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return largest, entries, nil
		}
		if err != nil {
			return largest, entries, err
		}
		if h.Size > largest.Size {
			largest = h
		}
	}
}

// ended reports whether a stream has the marker that ours insists on.
func ended(stream []byte) bool {
	n := len(stream) - len(bytes.TrimRight(stream, "\x00"))
	return n >= 1024
}

// Holes stay holes: a file of 128 MiB with three pages in it.
func TestHoles(t *testing.T) {
	testenv.NeedRoot(t)
	for _, format := range [][]string{{"--format=gnu"}, {"--format=posix", "--sparse-version=0.0"}, {"--format=posix", "--sparse-version=0.1"}, {"--format=posix", "--sparse-version=1.0"}} {
		t.Run(strings.Join(format, " "), func(t *testing.T) {
			dir := newDir(t, "source")
			f, err := os.Create(filepath.Join(dir, "sparse"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for _, offset := range []int64{0, 50 << 20, 128<<20 - 4096} {
				if _, err := f.WriteAt(bytes.Repeat([]byte("x"), 4096), offset); err != nil {
					t.Fatal(err)
				}
			}
			for _, name := range []string{"sparse", "."} { // the GNU format has whole seconds
				if err := os.Chtimes(filepath.Join(dir, name), time.Unix(1e9, 0), time.Unix(1e9, 0)); err != nil {
					t.Fatal(err)
				}
			}
			stream := pack(t, dir, append(format, "--sparse")...)
			if len(stream) > 1<<20 {
				t.Fatalf("tar wrote %d bytes: nothing sparse in it", len(stream))
			}
			out, err := program(t, bytes.NewReader(stream))
			check(t, "the source", must(t, out, err), look(t, dir), func(difference) string { return "" })
			var st unix.Stat_t
			if err := unix.Stat(filepath.Join(out, "sparse"), &st); err != nil || st.Blocks*512 > 1<<20 {
				t.Errorf("%d bytes on disk, %v", st.Blocks*512, err)
			}
		})
	}
}

// pack is what GNU tar writes of a directory.
func pack(t testing.TB, dir string, args ...string) []byte {
	t.Helper()
	args = append([]string{"-c", "-f", "-", "--numeric-owner", "-C", dir}, args...)
	cmd := exec.CommandContext(t.Context(), "tar", append(args, ".")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tar %q: %v: %s", args, err, stderr.String())
	}
	return out
}
