package spec

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/tests/testenv"
)

// What root owns on the host is root's inside, though root is another there, and the other way
// round. runc 1.1 passes over the option.
func TestIDMap(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "crun", "unshare")
	src := testenv.Dir(t)
	if err := os.WriteFile(filepath.Join(src, "secret"), []byte("root's\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := container{"idmap", []string{"--uidmap", "0:300000:65536", "-v", src + ":/data:idmap", "-v", src + ":/plain"}, []question{
		{"read:/proc/self/uid_map", "0 300000 65536"}, {"read:/data/secret", "root's"}, {"read:/plain/secret", "permission denied"},
		{"write:/data/new", "written"}, {"write:/plain/other", "permission denied"},
	}}
	bundle := filepath.Join(testenv.Dir(t), "b")
	if out := c.make(t, exec.CommandContext(t.Context(), testenv.Binary(t), c.args(bundle)...)); out != "" {
		t.Fatal(out)
	}
	line := runtimes[1].line(bundle, testenv.Name(), t.TempDir())
	out, err := exec.CommandContext(t.Context(), line[0], line[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c.check(t, string(out))
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(src, "new"), &st); err != nil || st.Uid != 0 || st.Gid != 0 {
		t.Errorf("written by %d:%d, %v", st.Uid, st.Gid, err)
	}
}
