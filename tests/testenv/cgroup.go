package testenv

import (
	"os"
	"path/filepath"
	"testing"
)

// Cgroup makes a control group in which a controller, pids for one, is at work, and returns its
// directory. Its processes have to be gone at the end of the test, when it is removed.
func Cgroup(t testing.TB, controller string) string {
	t.Helper()
	NeedRoot(t)
	const top = "/sys/fs/cgroup"
	parent := filepath.Join(top, controller) // version 1 has a hierarchy for each controller
	if _, err := os.Stat(filepath.Join(parent, "cgroup.procs")); err != nil {
		parent = top
		if err := os.WriteFile(filepath.Join(top, "cgroup.subtree_control"), []byte("+"+controller), 0); err != nil {
			missing(t, "this test needs control groups with %s: run it as tests/with-cgroups.sh go test ./... does (%v)", controller, err)
		}
	}
	if err := theJanitor.register("cgroup", Tag); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(parent, Name())
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Errorf("remove a control group: %v", err)
		}
	})
	return dir
}
