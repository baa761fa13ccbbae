package spec

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ocibundle/tests/testenv"
)

// In a container whose export has no hosts file, as docker's has none, localhost is a name all the
// same: for root and for an ordinary user, with a root that cannot be written to, and without an
// etc.
func TestLocalhostIsAName(t *testing.T) {
	testenv.NeedRoot(t)
	runc := testenv.NeedTool(t, "runc", "ldd", "getent", "newuidmap")
	dir := testenv.Dir(t)
	rootfs := filepath.Join(dir, "rootfs")
	if err := os.MkdirAll(filepath.Join(rootfs, "usr/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, lib := range []string{"bin", "lib", "lib64"} {
		if err := os.MkdirAll(filepath.Join(rootfs, "usr", lib), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("usr/"+lib, filepath.Join(rootfs, lib)); err != nil {
			t.Fatal(err)
		}
	}
	testenv.Output(t, exec.CommandContext(t.Context(), "bash", "-c", addTools, "bash", rootfs, "getent"))
	stream, err := os.ReadFile(filepath.Join(dir, "rootfs.tar"))
	if err != nil {
		t.Fatal(err)
	}
	one, shifted := testenv.TempUser(t, testenv.UserOptions{}), testenv.TempUser(t, testenv.UserOptions{SubIDs: 65536})
	for _, c := range []struct {
		name    string
		parent  string
		command func(ctx context.Context, name string, args ...string) *exec.Cmd
	}{{"root", dir, exec.CommandContext}, {"one id", one.Home, one.Command}, {"subordinate ids", shifted.Home, shifted.Command}} {
		for _, flags := range []string{"", "--net host", "--read-only"} {
			t.Run(c.name+" "+flags, func(t *testing.T) {
				id := testenv.Name()
				bundle := filepath.Join(c.parent, id)
				args := append([]string{"-o", bundle}, strings.Fields(flags)...)
				program := c.command(t.Context(), testenv.Binary(t), append(args, "--", "getent", "hosts", "localhost")...)
				program.Stdin = bytes.NewReader(stream)
				if out, err := program.CombinedOutput(); err != nil || len(out) > 0 {
					t.Fatalf("%v\n%s", err, out)
				}
				state := filepath.Join(c.parent, "state")
				t.Cleanup(func() { _ = c.command(context.Background(), runc, "--root", state, "delete", "--force", id).Run() })
				out, err := c.command(t.Context(), runc, "--root", state, "run", "--bundle", bundle, id).CombinedOutput()
				if err != nil || !strings.Contains(string(out), "localhost") {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
	}
}
