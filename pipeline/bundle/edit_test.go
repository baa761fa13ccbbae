package bundle

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/specedit"
	"ocibundle/tests/testenv"
)

// runnable is a bundle whose config is a valid one.
func runnable(t *testing.T, dir string) string {
	t.Helper()
	makeBundle(t, dir)
	config, err := (&specedit.Plan{}).Build(nil)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "config.json"), config, 0o644))
	must(t, os.Chmod(filepath.Join(dir, "config.json"), 0o640))
	return dir
}

func hostname(t *testing.T, name string) []specedit.Edit {
	t.Helper()
	e, err := specedit.Hostname("--hostname "+name, name)
	must(t, err)
	return []specedit.Edit{e}
}

func TestEditLeavesNothing(t *testing.T) {
	x := runnable(t, filepath.Join(t.TempDir(), "x"))
	must(t, os.WriteFile(filepath.Join(x, ".config.json.0123456789abcdef"), nil, 0o600)) // of an edit that was killed
	must(t, os.WriteFile(filepath.Join(x, ".config.json.swp"), nil, 0o600))              // an editor's
	want := []string{".config.json.swp", "config.json", "rootfs"}
	_, err := Edit(t.Context(), x, hostname(t, "one"))
	must(t, err)
	if got := list(t, x); !slices.Equal(got, want) {
		t.Errorf("left: %q", got)
	}
	text, err := os.ReadFile(filepath.Join(x, "config.json"))
	must(t, err)
	if !strings.Contains(string(text), `"one"`) {
		t.Errorf("not edited: %s", text)
	}
	if fi, err := os.Stat(filepath.Join(x, "config.json")); err != nil || fi.Mode() != 0o640 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}

	// The signal comes while the new config is being written.
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("ended")
	f, err := os.Open(x)
	must(t, err)
	defer f.Close()
	cancel(why)
	if err := replaceConfig(ctx, f, []byte("{}")); err != why {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := Edit(ctx, x, hostname(t, "two")); err != why {
		t.Errorf("cancelled: %v", err)
	}
	if got := list(t, x); !slices.Equal(got, want) {
		t.Errorf("left: %q", got)
	}
}

func TestEditBusy(t *testing.T) {
	x := runnable(t, filepath.Join(t.TempDir(), "x"))
	f, err := os.Open(x)
	must(t, err)
	defer f.Close()
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	impatient(t)
	_, err = Edit(t.Context(), x, hostname(t, "one"))
	wantKind(t, "locked", err, Busy)
}

// Whose bundle it is puts a FIFO in the place of its config.json, and takes it away, all the while:
// nobody waits for its other end.
func TestConfigIsLookedAt(t *testing.T) {
	x := runnable(t, filepath.Join(t.TempDir(), "x"))
	fifo := filepath.Join(x, "fifo")
	must(t, unix.Mkfifo(fifo, 0o600))
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, fifo, unix.AT_FDCWD, filepath.Join(x, "config.json"), unix.RENAME_EXCHANGE)
				// Only where somebody has it open to read it does this succeed.
				if fd, err := unix.Open(fifo, unix.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
					var st unix.Stat_t
					if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO {
						t.Error("a FIFO was opened")
					}
					unix.Close(fd)
				}
			}
		}
	}()
	dir, err := os.Open(x)
	must(t, err)
	defer dir.Close()
	for range 2000 {
		ReadConfig(dir)
	}
	close(stop)
	<-done
}

// What the system does not let us see is not told as something that it is not.
func TestInspectErrors(t *testing.T) {
	testenv.NeedRoot(t)
	x := runnable(t, filepath.Join(t.TempDir(), "x"))
	dir, err := os.Open(x)
	must(t, err)
	defer dir.Close()
	must(t, os.Chmod(filepath.Join(x, "config.json"), 0))
	testenv.AsFSUser(t, 54321, func() {
		if _, err := inspect(dir, x); !errors.Is(err, unix.EACCES) {
			t.Errorf("an unreadable config: %v", err)
		} else if _, ok := errors.AsType[*Error](err); ok {
			t.Errorf("told as not a bundle: %v", err)
		}
	})
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	failed := 0
	for n := uint64(4); ; n++ {
		must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: old.Max}))
		c, err := inspect(dir, x)
		must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old))
		if err == nil {
			c.Close()
			break
		}
		failed++
		if _, ok := errors.AsType[*Error](err); ok || !errors.Is(err, unix.EMFILE) {
			t.Fatalf("with %d files: %v", n, err)
		}
	}
	if failed == 0 {
		t.Error("the test shows nothing")
	}
}

// A config.json of any size takes little memory.
func TestConfigIsBounded(t *testing.T) {
	x := makeBundle(t, filepath.Join(t.TempDir(), "x"))
	must(t, os.Truncate(filepath.Join(x, "config.json"), 1<<40))
	_, err := Edit(t.Context(), x, nil)
	wantKind(t, "edit", err, None)
	_, err = Export(t.Context(), ExportConfig{Dir: x, Out: io.Discard})
	wantKind(t, "export", err, None)
	wantKind(t, "remove", Remove(t.Context(), []string{x}, RemoveOptions{}), None)
	_, err = OpenDestination(t.Context(), x, true)
	wantDest(t, err, DestNotBundle)
}
