package bundle

import (
	"os"
	"testing"
)

// A file of the stage's that is in use leaves no name in it, on any filesystem.
func TestTempFile(t *testing.T) {
	dir := t.TempDir()
	dest, err := OpenDestination(t.Context(), dir+"/b", false)
	must(t, err)
	defer dest.Close()
	st, err := NewStage(dest)
	must(t, err)
	defer st.Remove()
	f, err := st.TempFile()
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("text")
	must(t, err)
	if names, err := os.ReadDir(dir + "/" + st.Name); err != nil || len(names) > 0 {
		t.Errorf("in the stage: %v, %v", names, err)
	}
}
