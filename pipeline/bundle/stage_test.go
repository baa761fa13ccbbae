package bundle

import (
	"os"
	"sync"
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

// Runs for one destination do not take each other's stages for stale ones, whatever comes between
// making one and locking it.
func TestStagesTogether(t *testing.T) {
	dir := t.TempDir()
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 200 {
				dest, err := OpenDestination(t.Context(), dir+"/b", false)
				if err != nil {
					t.Error(err)
					return
				}
				st, err := NewStage(dest)
				if err == nil {
					err = st.WriteFile("config.json", nil)
				}
				if err == nil {
					err = st.Remove()
				}
				dest.Close()
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
	if left := list(t, dir); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
