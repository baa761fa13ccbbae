package export

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"ocibundle/tests/testenv"
)

// atOnce runs the program n times at once and counts the exit statuses.
func (m mode) atOnce(t *testing.T, n int, args ...string) map[int]int {
	t.Helper()
	type end struct {
		code int
		says string
	}
	ends := make(chan end, n)
	for range n {
		cmd := m.command(t.Context(), testenv.Binary(t), args...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		go func() {
			err := cmd.Run()
			code := 0
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				code = exit.ExitCode()
			} else if err != nil {
				code = -1
			}
			ends <- end{code, stderr.String()}
		}()
	}
	codes := map[int]int{}
	for range n {
		e := <-ends
		if codes[e.code]++; e.code != 0 && e.code != 5 {
			t.Errorf("%s: ocibundle %q: exit status %d: %s", m.name, args, e.code, e.says)
		}
	}
	return codes
}

// Several runs on one bundle: one does it, the others find it done or say that it is in use.
func TestAtOnce(t *testing.T) {
	for _, m := range modes(t) {
		dir := m.bundle(t, "a")
		replace := append([]string{"-q", "-f", "-o", "a", "-i", testenv.RedisExport(t)}, m.flags...)
		if codes := m.atOnce(t, 4, replace...); codes[0] == 0 {
			t.Errorf("%s: none of several -f replaced it: %v", m.name, codes)
		}
		checkOrder(t, m.run(t, nil, "export", "-q", "a"))
		if codes := m.atOnce(t, 8, "rm", "-f", "a"); codes[0] == 0 {
			t.Errorf("%s: none of several rm -f removed it: %v", m.name, codes)
		}
		gone(t, dir)
	}
}

// A signal during an edit leaves the old config or the new one, and nothing else.
func TestEditSignals(t *testing.T) {
	m := modes(t)[0]
	dir := m.bundle(t, "a")
	ended := 0
	for i := range 30 {
		cmd := m.command(t.Context(), testenv.Binary(t), "edit", "a", "--annotation", "i="+string(rune('a'+i%26)))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * 2 * time.Millisecond)
		cmd.Process.Signal(syscall.SIGTERM)
		err := cmd.Wait()
		if err != nil {
			ended++
		}
		names, lerr := os.ReadDir(dir)
		if lerr != nil {
			t.Fatal(lerr)
		}
		got := []string{}
		for _, n := range names {
			got = append(got, n.Name())
		}
		if !slices.Equal(got, []string{"config.json", "rootfs"}) {
			t.Fatalf("edit, ended after %d ms (%v), left %q", 2*i, err, got)
		}
		if _, err := os.ReadFile(filepath.Join(dir, "config.json")); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d of 30 edits were ended", ended)
	m.run(t, nil, "edit", "a", "--annotation", "i=end")
	m.run(t, nil, "rm", "a")
	gone(t, dir)
}
