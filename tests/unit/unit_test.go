//go:build vm

package unit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ocibundle/tests/testenv"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := testenv.Cleanup(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// Whatever is wrong, the scripts say; the last line comes where all has been tried.
func TestServices(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "bash", "mmdebstrap", "systemd-nspawn", "unshare", "systemctl", "tar")
	dir := testenv.Dir(t)
	rootfs := filepath.Join(dir, "redis")
	if err := os.Mkdir(rootfs, 0o755); err != nil {
		t.Fatal(err)
	}
	testenv.RedisRootfs(t, rootfs)
	redis := filepath.Join(dir, "redis.tar")
	testenv.Output(t, exec.CommandContext(t.Context(), "tar", "-C", rootfs, "-cf", redis, "."))
	says := testenv.Output(t, exec.CommandContext(t.Context(), "unshare", "--mount", "bash", "machine.sh", dir, testenv.Binary(t), redis))
	t.Log(says)
	if strings.Contains(says, "WRONG: ") || !strings.HasSuffix(says, "\ndone\n") {
		t.Error("see above")
	}
}
