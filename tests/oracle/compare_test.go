package oracle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/go-archive"
	"golang.org/x/sys/unix"

	"ocibundle/tarx"
	"ocibundle/tarx/extract"
	"ocibundle/tests/hostile/observe"
	"ocibundle/tests/testenv"
)

// view is what is compared of a tree: by path, by property.
type view map[string]map[string]string

func look(t testing.TB, dir string) view {
	t.Helper()
	tree, err := observe.Record(dir, observe.Options{})
	if err != nil {
		t.Fatal(err)
	}
	groups := map[uint64][]string{}
	for _, path := range tree.Paths() {
		if n := tree[path]; n.Stat.Nlink > 1 && n.Verb() != "dir" {
			groups[n.Stat.Ino] = append(groups[n.Stat.Ino], path)
		}
	}
	v := view{}
	for path, n := range tree {
		st := &n.Stat
		p := map[string]string{
			"type": n.Verb(), "mode": fmt.Sprintf("%04o", st.Mode&0o7777), "owner": fmt.Sprintf("%d:%d", st.Uid, st.Gid),
			"mtime": observe.MtimeString(n), "target": n.Target, "links": strings.Join(groups[st.Ino], " "),
		}
		if n.Verb() == "file" {
			p["size"], p["content"] = fmt.Sprint(st.Size), fmt.Sprintf("%x", n.Sum[:8])
		}
		if n.Verb() == "char" || n.Verb() == "block" {
			p["device"] = fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		for name, value := range n.Xattrs {
			p["xattr "+name] = fmt.Sprintf("%q", value)
		}
		v[path] = p
	}
	return v
}

// difference is one property of one path.
type difference struct{ path, property, ours, theirs string }

func (d difference) String() string {
	return fmt.Sprintf("%q: %s is %q, theirs %q", d.path, d.property, d.ours, d.theirs)
}

func differences(ours, theirs view) []difference {
	var all []difference
	paths := map[string]bool{}
	for p := range ours {
		paths[p] = true
	}
	for p := range theirs {
		paths[p] = true
	}
	for _, p := range slices.Sorted(maps.Keys(paths)) {
		a, b := ours[p], theirs[p]
		if a == nil || b == nil {
			all = append(all, difference{p, "existence", fmt.Sprint(a != nil), fmt.Sprint(b != nil)})
			continue
		}
		properties := map[string]bool{}
		for k := range a {
			properties[k] = true
		}
		for k := range b {
			properties[k] = true
		}
		for _, k := range slices.Sorted(maps.Keys(properties)) {
			if a[k] != b[k] {
				all = append(all, difference{p, k, a[k], b[k]})
			}
		}
	}
	return all
}

// check reports the differences that no rule names, and counts those that one does.
func check(t testing.TB, whose string, ours, theirs view, meant func(difference) string) {
	t.Helper()
	reasons := map[string]int{}
	unnamed := 0
	for _, d := range differences(ours, theirs) {
		if reason := meant(d); reason != "" {
			reasons[reason]++
			continue
		}
		if unnamed++; unnamed <= 20 {
			t.Errorf("%s: %s", whose, d)
		}
	}
	if unnamed > 20 {
		t.Errorf("%s: and %d more", whose, unnamed-20)
	}
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		t.Logf("%s: %d names differ as meant: %s", whose, reasons[reason], reason)
	}
}

func newDir(t testing.TB, name string) string {
	t.Helper()
	dir := filepath.Join(testenv.Dir(t), name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// program extracts with ocibundle itself.
func program(t testing.TB, stream io.Reader) (string, error) {
	t.Helper()
	bundle := filepath.Join(testenv.Dir(t), "b")
	cmd := exec.CommandContext(t.Context(), testenv.Binary(t), "-q", "-o", bundle)
	cmd.Stdin = stream
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return filepath.Join(bundle, "rootfs"), nil
}

// engine extracts with the engine in this process.
func engine(t testing.TB, stream io.Reader, workers int, feed tarx.Feed) (string, error) {
	t.Helper()
	dir := newDir(t, "rootfs")
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	old := syscall.Umask(0o022)
	defer syscall.Umask(old)
	_, err = extract.Stream(context.Background(), stream, root, tarx.Options{Workers: workers, Feed: feed})
	return dir, err
}

// goArchive extracts with what Docker extracts with.
func goArchive(t testing.TB, stream io.Reader) (string, error) {
	t.Helper()
	dir := newDir(t, "rootfs")
	return dir, archive.Unpack(stream, dir, &archive.TarOptions{})
}

// gnuTar extracts with GNU tar, told to keep what it can.
func gnuTar(t testing.TB, stream io.Reader) (string, error) {
	t.Helper()
	dir := newDir(t, "rootfs")
	cmd := exec.CommandContext(t.Context(), "tar", "-x", "-p", "--numeric-owner", "--same-owner", "--delay-directory-restore", "--xattrs", "--xattrs-include=*", "-f", "-", "-C", dir)
	cmd.Stdin = stream
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("%w: %s", err, out)
	}
	return dir, nil
}

func must(t testing.TB, dir string, err error) view {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return look(t, dir)
}

// everyone extracts a stream three times and compares.
func everyone(t testing.TB, stream []byte) {
	t.Helper()
	dir, err := program(t, bytes.NewReader(stream))
	ours := must(t, dir, err)
	named := namesIn(t, stream)
	dir, err = goArchive(t, bytes.NewReader(stream))
	check(t, "go-archive", ours, must(t, dir, err), meantOfGoArchive(named))
	dir, err = gnuTar(t, bytes.NewReader(stream))
	if err != nil {
		// What it did up to there is no oracle.
		if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 2 {
			t.Fatal(err)
		}
		t.Logf("GNU tar: %v", err)
		return
	}
	check(t, "GNU tar", ours, look(t, dir), meantOfGNUTar(named, ours))
}
