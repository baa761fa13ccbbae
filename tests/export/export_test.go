package export

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ocibundle/tests/testenv"
)

// mode is one way of owning a bundle's files.
type mode struct {
	name  string
	flags []string
	user  *testenv.User // nil: root
	dir   string
	may   mayHold
	loses func(*node) bool // what the mode cannot keep; see tree.with
}

func modes(t *testing.T) []mode {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "newuidmap", "newgidmap")
	u := testenv.TempUser(t, testenv.UserOptions{SubIDs: 65536})
	all := func(*node) bool { return true }
	return []mode{
		{"none", []string{"--remap", "none"}, nil, testenv.Dir(t), mayHold{Devices: true, Trusted: true, HugeIDs: true}, all},
		{"explicit", []string{"--uidmap", "0:300000:1000", "--uidmap", "1000:500000:64536", "--gidmap", "0:400000:65536",
			"--devices", "create"}, nil, testenv.Dir(t),
			mayHold{Devices: true, Trusted: true}, all},
		{"subid", []string{"--remap", "subid"}, u, u.Home, mayHold{}, all},
		{"self", []string{"--remap", "self"}, u, u.Home, mayHold{}, func(n *node) bool {
			if n.Type != tar.TypeReg && n.Type != tar.TypeDir {
				n.UID, n.GID = 0, 0
			}
			return true
		}},
	}
}

func (m mode) command(ctx context.Context, bin string, args ...string) *exec.Cmd {
	if m.user != nil {
		return m.user.Command(ctx, bin, args...)
	}
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Dir = m.dir
	return cmd
}

// run runs the program and returns what it printed on stdout.
func (m mode) run(t *testing.T, stdin io.Reader, args ...string) []byte {
	t.Helper()
	cmd := m.command(t.Context(), testenv.Binary(t), args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: ocibundle %q: %v\n%s", m.name, args, err, stderr.Bytes())
	}
	return stdout.Bytes()
}

// cycle extracts a stream into a bundle and returns what export makes of it. The bundle is removed.
func (m mode) cycle(t *testing.T, stream io.Reader) []byte {
	t.Helper()
	name := testenv.Name()
	m.run(t, stream, append([]string{"-q", "-o", name}, m.flags...)...)
	out := m.run(t, nil, "export", name)
	m.run(t, nil, "rm", name)
	if _, err := os.Lstat(filepath.Join(m.dir, name)); !os.IsNotExist(err) {
		t.Errorf("%s: the bundle is still there after rm (%v)", m.name, err)
	}
	if left, _ := filepath.Glob(filepath.Join(m.dir, "."+name+"*")); len(left) > 0 {
		t.Errorf("%s: left over: %q", m.name, left)
	}
	return out
}

// Extract, then export, is the identity; so is another round with any mode that keeps all there is.
func TestIdentity(t *testing.T) {
	all := modes(t)
	for seed := range uint64(4) {
		for _, m := range all {
			what := fmt.Sprintf("%s, seed %d", m.name, seed)
			stream := randomStream(t, seed, m.may)
			want := readTree(t, bytes.NewReader(stream))
			once := m.cycle(t, bytes.NewReader(stream))
			diff(t, what, readTree(t, bytes.NewReader(once)), want.with(m.loses))
			checkOrder(t, once)
			if t.Failed() {
				t.FailNow()
			}
			for _, n := range all {
				if n.name == "self" && m.name != "self" || m.may.HugeIDs && n.name != m.name || m.may.Devices && n.user != nil {
					continue
				}
				twice := n.cycle(t, bytes.NewReader(once))
				diff(t, what+", another round with "+n.name, readTree(t, bytes.NewReader(twice)), readTree(t, bytes.NewReader(once)))
			}
		}
	}
}

// Holes come back as holes, whatever the size of the file. (Where exactly they are may differ:
// extraction looks for them in what it has in hand.)
func TestHoles(t *testing.T) {
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
	for _, at := range []int64{0, 1 << 30, 3<<30 + 12345, size - 7} {
		if _, err := f.WriteAt([]byte("seven!!"), at); err != nil {
			t.Fatal(err)
		}
	}
	stream := testenv.Output(t, exec.CommandContext(t.Context(), "tar", "-c", "--sparse", "--format=pax", "-C", dir, "sparse"))
	for _, m := range modes(t) {
		out := m.cycle(t, strings.NewReader(stream))
		if len(out) > 1<<20 {
			t.Errorf("%s: the export has %d bytes", m.name, len(out))
		}
		tr := tar.NewReader(bytes.NewReader(out))
		for {
			hdr, err := tr.Next()
			if err != nil {
				t.Fatalf("%s: find the file: %v", m.name, err)
			}
			if hdr.Name == "sparse" {
				if hdr.Size != size {
					t.Errorf("%s: %d bytes", m.name, hdr.Size)
				}
				break
			}
		}
		x := testenv.Dir(t)
		cmd := exec.CommandContext(t.Context(), "tar", "-x", "--no-same-owner", "-C", x)
		cmd.Stdin = bytes.NewReader(out)
		testenv.Output(t, cmd)
		got, err := os.Open(filepath.Join(x, "sparse"))
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int64{0, 1 << 30, 3<<30 + 12345, size - 7} {
			b := make([]byte, 7)
			if _, err := got.ReadAt(b, at); err != nil || string(b) != "seven!!" {
				t.Errorf("%s: %q at %d (%v)", m.name, b, at, err)
			}
		}
		got.Close()
	}
}

// What `docker export` writes comes back, and Docker makes the same container of what export
// writes.
func TestDocker(t *testing.T) {
	engine, _ := testenv.RedisContainer(t)
	path := testenv.RedisExport(t)
	read := func() io.Reader {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	original := readTree(t, read())
	if len(original) < 50 {
		t.Fatalf("docker export wrote %d entries", len(original))
	}
	for _, m := range modes(t) {
		out := m.cycle(t, read())
		checkOrder(t, out)
		got := readTree(t, bytes.NewReader(out))
		root, ok := got["./"]
		if !ok || root.Mode != 0o755 || root.UID != 0 || root.GID != 0 {
			t.Errorf("%s: the root is %v", m.name, root)
		}
		delete(got, "./") // docker export has none
		diff(t, m.name, got, original.with(m.loses))

		image := testenv.Name()
		in := engine.Docker(t.Context(), "import", "-", image)
		in.Stdin = bytes.NewReader(out)
		testenv.Output(t, in)
		testenv.Output(t, engine.Docker(t.Context(), "create", "--name", image, image, "/bin/true"))
		again := testenv.Output(t, engine.Docker(t.Context(), "export", image))
		testenv.Output(t, engine.Docker(t.Context(), "rm", image))
		testenv.Output(t, engine.Docker(t.Context(), "rmi", image))
		diff(t, m.name+" through docker import", readTree(t, strings.NewReader(again)).with(seconds), original.with(m.loses).with(seconds))
	}
}

// seconds cuts what `docker export` does not tell, and what Docker makes anew with every container.
func seconds(n *node) bool {
	n.MTime, _, _ = strings.Cut(n.MTime, ".")
	switch n.Name {
	case ".dockerenv", "dev", "dev/console", "dev/pts", "dev/shm", "etc", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf", "proc", "sys":
		n.MTime = ""
	}
	return true
}

// A larger filesystem, with everything that a distribution has.
func TestDebian(t *testing.T) {
	path := testenv.DebianExport(t)
	for _, m := range modes(t) {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		got := readTree(t, bytes.NewReader(m.cycle(t, f)))
		delete(got, "./")
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		diff(t, m.name, got, readTree(t, f).with(func(n *node) bool {
			return m.loses(n) && (m.may.Devices || n.Type != tar.TypeChar && n.Type != tar.TypeBlock)
		}))
	}
}

// What GNU tar extracts from an export is the bundle's rootfs, as GNU tar itself archives it.
func TestTar(t *testing.T) {
	m := modes(t)[0]
	m.run(t, bytes.NewReader(randomStream(t, 99, m.may)), append([]string{"-q", "-o", "b"}, m.flags...)...)
	out := m.run(t, nil, "export", "b")
	dir := filepath.Join(m.dir, "x")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	tarCommand := func(args ...string) *exec.Cmd {
		return exec.CommandContext(t.Context(), "tar", append([]string{"--xattrs", "--xattrs-include=*", "--numeric-owner", "--format=pax"}, args...)...)
	}
	x := tarCommand("-xp", "-C", dir)
	x.Stdin = bytes.NewReader(out)
	testenv.Output(t, x)
	archive := func(dir string) tree {
		return readTree(t, strings.NewReader(testenv.Output(t, tarCommand("-c", "-C", dir, "--sort=name", ".")))).with(func(n *node) bool { return true })
	}
	diff(t, "tar", archive(dir), archive(filepath.Join(m.dir, "b", "rootfs")))
}
