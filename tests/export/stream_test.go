package export

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ocibundle/tests/testenv"
)

func tarCommand(t *testing.T, args ...string) *exec.Cmd {
	return exec.CommandContext(t.Context(), "tar", append([]string{"--xattrs", "--xattrs-include=*", "--numeric-owner", "--format=pax"}, args...)...)
}

// bundleTree is a bundle's directory as root sees it. The directory itself, and when the config was
// written, are not the stream's.
func bundleTree(t *testing.T, dir string) tree {
	t.Helper()
	all := readTree(t, strings.NewReader(testenv.Output(t, tarCommand(t, "-c", "-C", dir, "--sort=name", "."))))
	return all.with(func(n *node) bool {
		if n.Name == "config.json" {
			n.MTime = ""
		}
		return n.Name != "./"
	})
}

// unpack has GNU tar, as root, make a directory of a stream. It needs --delay-directory-restore for
// the times of directories where not all that is in one stands together, as in the random streams.
func unpack(t *testing.T, stream []byte, flags ...string) string {
	t.Helper()
	dir := testenv.Dir(t)
	cmd := tarCommand(t, append([]string{"-x", "-C", dir}, flags...)...)
	cmd.Stdin = bytes.NewReader(stream)
	testenv.Output(t, cmd)
	return dir
}

// What root's tar makes of `ocibundle -o -` is what `ocibundle -o DIR` makes, whoever runs it and
// whatever the mapping.
func TestStream(t *testing.T) {
	all := modes(t)
	check := func(what string, m mode, stream func() io.Reader, unpackFlags ...string) {
		t.Helper()
		name := testenv.Name()
		flags := append([]string{"-q"}, m.flags...)
		m.run(t, stream(), append([]string{"-o", name, "--hostname", "c"}, flags...)...)
		out := m.run(t, stream(), append([]string{"-o", "-", "--hostname", "c"}, flags...)...)
		want := bundleTree(t, filepath.Join(m.dir, name))
		if len(want) < 10 {
			t.Errorf("%s: the bundle has %d files", what, len(want))
		}
		diff(t, what, bundleTree(t, unpack(t, out, unpackFlags...)), want)
		m.run(t, nil, "rm", name)
		if t.Failed() {
			t.FailNow()
		}
	}
	for _, m := range all {
		for seed := range uint64(3) {
			stream := randomStream(t, 1000+seed, m.may)
			check(fmt.Sprintf("%s, seed %d", m.name, seed), m, func() io.Reader { return bytes.NewReader(stream) },
				"--delay-directory-restore")
		}
		redis, err := os.ReadFile(testenv.RedisExport(t))
		if err != nil {
			t.Fatal(err)
		}
		check(m.name+", redis", m, func() io.Reader { return bytes.NewReader(redis) })
	}
}

// Names that lead through symlinks, parents that nobody names, several names for one file, entries
// that come twice.
func TestStreamNames(t *testing.T) {
	var in bytes.Buffer
	tw := tar.NewWriter(&in)
	for _, h := range []tar.Header{
		{Name: "usr/lib/a", Typeflag: tar.TypeReg, Size: 1, Mode: 0o644},
		{Name: "lib", Typeflag: tar.TypeSymlink, Linkname: "/usr/lib"},
		{Name: "lib/b", Typeflag: tar.TypeReg, Size: 1, Mode: 0o4755, Uid: 7, Gid: 8},
		{Name: "up", Typeflag: tar.TypeSymlink, Linkname: "../../../usr"},
		{Name: "up/lib/../c/", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 7},
		{Name: "hard", Typeflag: tar.TypeLink, Linkname: "/lib/b"},
		{Name: "lib/b", Typeflag: tar.TypeReg, Size: 1, Mode: 0o600},
		{Name: "soft", Typeflag: tar.TypeLink, Linkname: "lib"},
		{Name: "soft/d", Typeflag: tar.TypeFifo, Mode: 0o644},
		{Name: "d", Typeflag: tar.TypeDir, Mode: 0o700},
		{Name: "d", Typeflag: tar.TypeSymlink, Linkname: "lib"},
		{Name: "e", Typeflag: tar.TypeReg, Size: 1, Mode: 0o644},
		{Name: "e/", Typeflag: tar.TypeDir, Mode: 0o755},
	} {
		h.Format = tar.FormatGNU
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(make([]byte, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	m := modes(t)[1]
	flags := append([]string{"-q"}, m.flags...)
	m.run(t, bytes.NewReader(in.Bytes()), append([]string{"-o", "b", "--hostname", "c"}, flags...)...)
	out := m.run(t, bytes.NewReader(in.Bytes()), append([]string{"-o", "-", "--hostname", "c"}, flags...)...)
	want := bundleTree(t, filepath.Join(m.dir, "b"))
	if n := want["rootfs/usr/lib/b"]; n.Mode != 0o600 || n.UID != 300000 {
		t.Errorf("the bundle has %v", n)
	}
	diff(t, "names", bundleTree(t, unpack(t, out)), want)
}

// Holes are passed on as holes, in whatever form they come.
func TestStreamHoles(t *testing.T) {
	const size = 5 << 30
	dir := testenv.Dir(t)
	f, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{1 << 30, 3<<30 + 12345} {
		if _, err := f.WriteAt([]byte("seven!!"), at); err != nil {
			t.Fatal(err)
		}
	}
	m := modes(t)[0]
	for _, format := range [][]string{
		{"--format=gnu"}, {"--format=pax", "--sparse-version=0.0"}, {"--format=pax", "--sparse-version=0.1"}, {"--format=pax", "--sparse-version=1.0"},
	} {
		in := testenv.Output(t, exec.CommandContext(t.Context(), "tar", append(format, "-c", "--sparse", "-C", dir, "sparse")...))
		out := m.run(t, strings.NewReader(in), "-q", "-o", "-")
		if len(out) > 1<<20 {
			t.Errorf("%q: %d bytes", format, len(out))
		}
		got, err := os.Open(filepath.Join(unpack(t, out), "rootfs/sparse"))
		if err != nil {
			t.Fatal(err)
		}
		if fi, err := got.Stat(); err != nil || fi.Size() != size {
			t.Errorf("%q: %v, %v", format, fi, err)
		}
		for _, at := range []int64{1 << 30, 3<<30 + 12345} {
			b := make([]byte, 8)
			if _, err := got.ReadAt(b, at); err != nil || string(b) != "seven!!\x00" {
				t.Errorf("%q: %q at %d (%v)", format, b, at, err)
			}
		}
		got.Close()
	}
}
