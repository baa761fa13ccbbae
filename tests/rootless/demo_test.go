package rootless

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ocibundle/tests/testenv"
)

// The demo of an ordinary user leaves nothing: files of its subordinate ids, too, are removed.
func TestDemo(t *testing.T) {
	testenv.NeedTool(t, "newuidmap", "newgidmap", "runc", "redis-cli", "redis-check-rdb")
	u := testenv.TempUser(t, testenv.UserOptions{SubIDs: 65536})
	// The repository may be where that user cannot look.
	tests := filepath.Join(testenv.ModuleRoot(t), "tests")
	dir := testenv.Dir(t)
	for _, name := range []string{"demo.sh", "testenv/redis-rootfs.sh"} {
		script, err := os.ReadFile(filepath.Join(tests, name))
		testenv.Must(t, err)
		testenv.Must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		testenv.Must(t, os.WriteFile(filepath.Join(dir, name), script, 0o755))
	}
	cmd := u.Command(t.Context(), "bash", filepath.Join(dir, "demo.sh"), testenv.Binary(t))
	cmd.Env = append(cmd.Env, "TMPDIR="+u.Home)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "\nPONG\n") || strings.Contains(string(out), "rm:") {
		t.Errorf("%v: %s", err, out)
	}
	left, err := filepath.Glob(filepath.Join(u.Home, "tmp.*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}
