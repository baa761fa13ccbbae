package extract

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/tarx"
	"ocibundle/tarx/remove"
	"ocibundle/tests/testenv"
)

// FuzzExtract extracts arbitrary bytes. Nothing beside the root may change.
func FuzzExtract(f *testing.F) {
	testenv.TarSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		data = testenv.SealTar(data)
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "canary"), []byte("alive"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(dir, "root"), 0o700); err != nil {
			t.Fatal(err)
		}
		before := outside(t, dir)
		root, err := os.Open(filepath.Join(dir, "root"))
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		_, err = Stream(t.Context(), bytes.NewReader(data), root, tarx.Options{Devices: tarx.DevicesSkip, MaxEntries: 1000})
		var file *FileError
		if err != nil && !errors.Is(err, tarx.ErrMalformed) && !errors.Is(err, tarx.ErrRefused) && !errors.As(err, &file) {
			t.Fatalf("an error of no kind: %v", err)
		}
		if after := outside(t, dir); after != before {
			t.Fatalf("outside the root:\n%s\nbefore:\n%s", after, before)
		}
		parent, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer parent.Close()
		if err := remove.All(int(parent.Fd()), "root"); err != nil {
			t.Fatal(err)
		}
	})
}

// outside describes what lies beside the root in dir, contents and metadata.
func outside(t *testing.T, dir string) string {
	t.Helper()
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, n := range names {
		path := filepath.Join(dir, n.Name())
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			t.Fatal(err)
		}
		if n.Name() == "root" {
			fmt.Fprintf(&b, "root %d\n", st.Ino)
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		st.Atim = unix.Timespec{}
		fmt.Fprintf(&b, "%s %+v %q\n", n.Name(), st, text)
	}
	return b.String()
}
