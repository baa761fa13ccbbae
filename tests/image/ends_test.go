package image

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
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
