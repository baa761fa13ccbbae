package handle

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/tests/testenv"
)

// Somebody moves the directory that is being emptied to a place outside: ".." leads there, and nothing there may go.
func TestReopenParentChecksIdentity(t *testing.T) {
	dir := t.TempDir()
	testenv.Must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
	testenv.Must(t, os.MkdirAll(filepath.Join(dir, "c"), 0o755))
	b := testenv.OpenDir(t, filepath.Join(dir, "a/b"))
	var st unix.Stat_t
	testenv.Must(t, unix.Stat(filepath.Join(dir, "a"), &st))
	fd, err := ReopenParent(b, st.Dev, st.Ino)
	testenv.Must(t, err)
	unix.Close(fd)
	testenv.Must(t, os.Rename(filepath.Join(dir, "a/b"), filepath.Join(dir, "c/b")))
	if _, err := ReopenParent(b, st.Dev, st.Ino); err == nil {
		t.Error(`".." of a moved directory was taken for its old parent`)
	}
}
