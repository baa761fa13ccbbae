package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ocibundle/tests/testenv"
)

func bigImage(t *testing.T) []byte {
	a := &archiver{t: t}
	l := a.layer("file x body=zeros:3000000")
	a.layout(a.manifest(a.config("", l), l))
	return a.bytes()
}

// A disk that is too small for the image: an error, and nothing of it is left.
func TestFullDisk(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "unshare")
	dir := testenv.Dir(t)
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-c",
		`mount -t tmpfs -o size=1m tmpfs "$1" && cd "$1" && { "$2" --image -o b; code=$?; ls -A; exit $code; }`, "sh", dir, testenv.Binary(t))
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(bigImage(t)), &stdout, &stderr
	cmd.Run()
	want := "ocibundle: write the image to disk: no space left on device\nocibundle: hint: the disk is full; "
	if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.HasPrefix(stderr.String(), want) {
		t.Errorf("exit code %d, stderr %q", code, stderr.String())
	}
	if stdout.Len() > 0 {
		t.Errorf("left on the disk: %s", stdout.String())
	}
}

// A disk with room for the tree, and not for what makes it faster: copies of the layers to come, and of a spooled archive what
// has been extracted.
func TestTightDisk(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "unshare")
	rng := rand.New(rand.NewPCG(1, 1))
	noise := make([]byte, 1<<20) // which takes time to decode
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	for _, tt := range []struct {
		name                 string
		lower, upper, common int    // files of 1 MiB
		body                 []byte // of the upper layer's
		size                 int    // of the disk, in MiB
		command              string
	}{
		{"copies", 24, 10, 10, bytes.Repeat([]byte("x"), 1<<20), 28, `"$2" -q --image -o b -i "$4"`},
		{"a spooled archive", 12, 12, 0, noise, 42, `cat "$4" | "$2" -q --image -o b`},
	} {
		a := &archiver{t: t}
		layers := [][]byte{files(t, 0, tt.lower, noise), files(t, tt.lower-tt.common, tt.upper, tt.body)}
		image := a.docker(a.config("", layers...), gzipped(layers[0]), gzipped(layers[1]))
		a.add("manifest.json", a.json([]object{image}))
		file := filepath.Join(testenv.Dir(t), "image.tar")
		if err := os.WriteFile(file, a.bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-c",
			`mount -t tmpfs -o size="$3"m tmpfs "$1" && cd "$1" && `+tt.command+` && cat b/rootfs/* | wc -c && ls -A`,
			"sh", testenv.Dir(t), testenv.Binary(t), strconv.Itoa(tt.size), file)
		out, err := cmd.CombinedOutput()
		if want := fmt.Sprintf("%d\nb\n", 24<<20); err != nil || string(out) != want {
			t.Errorf("%s: %v: %q, want %q", tt.name, err, out, want)
		}
	}
}

// files is a layer of n files with the same body, whose names are numbers.
func files(t *testing.T, from, n int, body []byte) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range n {
		if err := w.WriteHeader(&tar.Header{Name: strconv.Itoa(from + i), Size: int64(len(body)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		w.Write(body)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A signal while the stream is being read.
func TestSignal(t *testing.T) {
	dir := testenv.Dir(t)
	cmd := exec.CommandContext(t.Context(), testenv.Binary(t), "--image", "-o", filepath.Join(dir, "b"))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdin.Write(bigImage(t)[:2<<20]); err != nil {
		t.Fatal(err)
	}
	// There is a stage while it reads.
	for {
		list, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) > 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 128+int(syscall.SIGTERM) {
		t.Errorf("%v", cmd.ProcessState)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) > 0 {
		t.Errorf("left: %v, %v", list, err)
	}
}
