package image

import (
	"bytes"
	"os"
	"os/exec"
	"testing"

	"ocibundle/tests/testenv"
)

// Whoever makes the bundle, and however owners get to the disk: the container's own ids
// are those of the image. Export tells them.
func TestUsers(t *testing.T) {
	archive := dockerSave(t)
	testenv.NeedTool(t, "newuidmap", "newgidmap")
	u := testenv.TempUser(t, testenv.UserOptions{SubIDs: 65536})
	exportOf := func(t *testing.T, dir string, command func(args ...string) *exec.Cmd, flags ...string) tree {
		t.Helper()
		in, err := os.Open(archive)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		bundle := dir + "/" + testenv.Name()
		cmd := command(append([]string{"--image", "-q", "-o", bundle}, flags...)...)
		cmd.Stdin = in
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", cmd.Args, err, out)
		}
		var stream, stderr bytes.Buffer
		cmd = command("export", bundle)
		cmd.Stdout, cmd.Stderr = &stream, &stderr
		if err := cmd.Run(); err != nil {
			t.Fatalf("%q: %v\n%s", cmd.Args, err, stderr.Bytes())
		}
		testenv.Output(t, command("rm", bundle))
		return streamTree(t, &stream)
	}
	asRoot := func(args ...string) *exec.Cmd { return exec.CommandContext(t.Context(), testenv.Binary(t), args...) }
	asUser := func(args ...string) *exec.Cmd { return u.Command(t.Context(), testenv.Binary(t), args...) }
	want := exportOf(t, testenv.Dir(t), asRoot)
	device := func(got, want *node) bool { return got == nil && want != nil }

	t.Run("shifted by root", func(t *testing.T) {
		compare(t, exportOf(t, testenv.Dir(t), asRoot, "--uidmap", "0:300000:65536", "--devices", "create"), want, nil)
	})
	t.Run("subid", func(t *testing.T) {
		compare(t, exportOf(t, u.Home, asUser, "--remap", "subid"), want, map[string]func(got, want *node) bool{"srv/null": device})
	})
	t.Run("self, as the image's user", func(t *testing.T) {
		in, err := os.Open(archive)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		dir := testenv.Name()
		cmd := asUser("--image", "-o", dir, "--remap", "self")
		cmd.Stdin = in
		out, err := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != 4 || !bytes.Contains(out, []byte("(config.User)")) || !bytes.Contains(out, []byte("hint: --user 0")) {
			t.Errorf("%v: %s", err, out)
		}
		if _, err := os.Lstat(u.Home + "/" + dir); err == nil {
			t.Error("there is a bundle")
		}
	})
	// The mapping has root alone, and the image wants another user.
	t.Run("self", func(t *testing.T) {
		compare(t, exportOf(t, u.Home, asUser, "--remap", "self", "--user", "0"), want, map[string]func(got, want *node) bool{
			"srv/null": device,
			"srv/fifo": func(got, want *node) bool { // it takes no attribute
				g := *got
				g.UID, g.GID = want.UID, want.GID
				return g == *want && got.UID == 0
			},
		})
	})
}
