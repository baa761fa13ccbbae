package extract

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/tarx"
	"ocibundle/tests/testenv"
)

// ext4 says ENOSPC of an attribute that is too large for it and of a full disk. The first is a loss, the second an error.
func TestAttributeNoSpace(t *testing.T) {
	testenv.NeedRoot(t) // mounts
	testenv.NeedTool(t, "mkfs.ext4", "mount")
	dir := testenv.Dir(t)
	image, disk := filepath.Join(dir, "image"), filepath.Join(dir, "disk")
	if err := errors.Join(os.Mkdir(disk, 0o755), os.WriteFile(image, nil, 0o600), os.Truncate(image, 8<<20)); err != nil {
		t.Fatal(err)
	}
	testenv.Output(t, exec.Command("mkfs.ext4", "-q", "-m", "0", "-b", "1024", "-O", "^has_journal,^ea_inode", image))
	testenv.Output(t, exec.Command("mount", "-o", "loop", image, disk))
	root := func(name string) *os.File {
		path := filepath.Join(disk, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	stream := func(size int) *bytes.Reader {
		return bytes.NewReader(testenv.TarStream(t, tar.Header{Typeflag: tar.TypeReg, Name: "f", Mode: 0o644,
			PAXRecords: map[string]string{"SCHILY.xattr.user.large": strings.Repeat("v", size)}}))
	}
	large, full := root("large"), root("full")
	report, err := Stream(t.Context(), stream(3000), large, tarx.Options{})
	if err != nil || len(report.Losses) != 1 || report.Losses[0].Kind != tarx.LossXattr {
		t.Fatalf("a value larger than a block: %v, %+v", err, report)
	}
	fill, err := os.Create(filepath.Join(disk, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	defer fill.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for {
			if _, err := fill.Write(make([]byte, size)); err != nil {
				break
			}
		}
	}
	if err := fill.Sync(); err != nil {
		t.Fatal(err)
	}
	if report, err := Stream(t.Context(), stream(600), full, tarx.Options{}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a full disk: %v, %+v", err, report)
	}
}
