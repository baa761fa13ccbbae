package rootless

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"ocibundle/tests/testenv"
)

// working is the program in the midst of a stream: the archive's first half is extracted, and no more comes until
// rest is called.
func (h *host) working(t *testing.T, args ...string) (cmd *exec.Cmd, rest func(), stderr *os.File) {
	t.Helper()
	// A file of somebody else's comes first; the programs are much more than a pipe holds.
	early := tar.Header{Typeflag: tar.TypeReg, Name: "early", Mode: 0o600, Uid: 999, Gid: 999}
	stream := archive(t, append([]tar.Header{early}, entries(t)...))
	cmd = h.command(testenv.Binary(t), args...)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	says, errw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close(); says.Close() })
	cmd.Stdin, cmd.Stderr = r, errw
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	errw.Close()
	if _, err := w.Write(stream[:len(stream)/2]); err != nil {
		t.Fatal(err)
	}
	rest = func() {
		if _, err := w.Write(stream[len(stream)/2:]); err != nil {
			t.Error(err)
		}
		w.Close()
	}
	return cmd, rest, says
}

// A signal to the process that the user started reaches the one in the namespace, which removes what it made.
func TestSignals(t *testing.T) {
	testenv.NeedTool(t, "newuidmap", "newgidmap")
	h := asUser(t, testenv.UserOptions{SubIDs: 65536})
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		before := names(t, h.dir)
		cmd, _, says := h.working(t, "-o", "b")
		if now := names(t, h.dir); len(now) != len(before)+1 {
			t.Errorf("at work: %q", now)
		}
		cmd.Process.Signal(sig)
		text, err := io.ReadAll(says) // ends with the last of the two processes
		if err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 128+int(sig) {
			t.Errorf("%v: exit %d: %s", sig, code, text)
		}
		if after := names(t, h.dir); !slices.Equal(before, after) {
			t.Errorf("%v: left %q, was %q", sig, after, before)
		}
	}
}

// SIGKILL takes the process in the namespace along, and the next run removes what they left, in any mode: files of
// subordinate ids included.
func TestKilled(t *testing.T) {
	testenv.NeedTool(t, "newuidmap", "newgidmap")
	for _, remap := range []string{"subid", "self"} {
		h := asUser(t, testenv.UserOptions{SubIDs: 65536})
		cmd, _, says := h.working(t, "-o", "b")
		cmd.Process.Kill()
		if text, err := io.ReadAll(says); err != nil || len(text) > 0 { // ends when both are gone
			t.Errorf("said %q, %v", text, err)
		}
		cmd.Wait()
		var left string
		for _, name := range names(t, h.dir) {
			if strings.HasPrefix(name, ".b.") {
				left = name
			}
		}
		if left == "" {
			t.Fatalf("the killed run left nothing to remove: %q", names(t, h.dir))
		}
		if got := owner(t, filepath.Join(h.dir, left, "rootfs/early")); strings.HasPrefix(got, fmt.Sprintf("%d:", h.user.UID)) {
			t.Fatalf("what is left is all the caller's (%s): any rm could remove it", got)
		}
		h.bundle(archive(t, entries(t)), "b", "--remap", remap, "--quiet")
		if slices.Contains(names(t, h.dir), left) {
			t.Errorf("%s: still there: %s", remap, left)
		}
	}
}
