package slurm

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ocibundle/tests/testenv"
)

// secret is a file of a container's user that nobody else may read.
const secret = "a file of the user 999\n"

// makeArchive writes a container's filesystem as app.tar into the user's home: busybox, and a file of another owner than root.
func makeArchive(t *testing.T, user *testenv.User) {
	t.Helper()
	busybox, err := os.ReadFile(testenv.NeedTool(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, text []byte) {
		h.Size = int64(len(text))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin/", "dev/", "etc/", "proc/", "sys/", "tmp/"} {
		add(tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}, nil)
	}
	add(tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, busybox)
	for _, name := range []string{"cat", "env", "sh", "sha256sum", "sleep"} {
		add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox", Mode: 0o777}, nil)
	}
	add(tar.Header{Typeflag: tar.TypeDir, Name: "data/", Mode: 0o700, Uid: 999, Gid: 999}, nil)
	add(tar.Header{Typeflag: tar.TypeReg, Name: "data/f", Mode: 0o600, Uid: 999, Gid: 999}, []byte(secret))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(user.Home, "app.tar"), b.String(), 0o644)
}

// TestSlurm starts one cluster for all that is tried on it.
func TestSlurm(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "runc", "crun", "newuidmap", "newgidmap")
	user := testenv.TempUser(t, testenv.UserOptions{SubIDs: 65536})
	makeArchive(t, user)
	c := startCluster(t, user)
	for _, runtime := range []string{"runc", "crun"} {
		c.configure(t, runtime)
		t.Run(runtime, func(t *testing.T) { testRanks(t, c) })
		t.Run(runtime+" cancelled", func(t *testing.T) { testCancel(t, c) })
	}
	c.configure(t, "runc")
	t.Run("sum", func(t *testing.T) { testSum(t, c) })
	t.Run("array in containers", func(t *testing.T) { testArray(t, c) })
	t.Run("fan-out", func(t *testing.T) { testFanOut(t, c) })
	t.Run("a node without the bundle", func(t *testing.T) { testMissing(t, c) })
	t.Run("two hundred bundles", func(t *testing.T) { testSideBySide(t, c) })
}

// bundle makes a bundle of app.tar in the user's home and returns its path.
func (c *cluster) bundle(t *testing.T, args ...string) string {
	t.Helper()
	path := filepath.Join(c.user.Home, testenv.Name())
	c.output(t, "ocibundle", append([]string{"--quiet", "-i", "app.tar", "-o", path, "--net", "host"}, args...)...)
	return path
}

// Every rank of a job on two nodes finds the same files in the bundle, whatever mapping it was made with and with whatever
// template, and has the environment of the container and of its job.
func testRanks(t *testing.T, c *cluster) {
	for _, template := range []string{"docker", "runc"} {
		for _, remap := range []string{"subid", "self"} {
			t.Run(template+" "+remap, func(t *testing.T) {
				b := c.bundle(t, "--template", template, "--remap", remap, "-u", "0", "--cap-add", "DAC_OVERRIDE", "-e", "PATH=/bin")
				r := c.batch(t, strings.Replace(ranksScript, "$1", b, 1), "--nodes=2", "--ntasks-per-node=3")
				if r.code != 0 {
					t.Fatalf("exit %d\n%s%s", r.code, r.stdout, r.stderr)
				}
				sum := fmt.Sprintf("%x", sha256.Sum256([]byte(secret)))
				var want []string
				for rank := range 6 {
					want = append(want, fmt.Sprintf("rank %d on n%d: PATH=/bin %s  /data/f", rank, rank%2+1, sum))
				}
				got := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
			})
		}
	}
}

const ranksScript = `#!/bin/bash
pids=()
for ((rank = 0; rank < SLURM_NTASKS; rank++)); do
    srun --exact --nodes=1 --ntasks=1 --nodelist=n$((rank % 2 + 1)) --export=RANK=$rank --container "$1" \
        sh -c 'echo "rank $RANK on $SLURM_STEP_NODELIST: PATH=$PATH $(sha256sum /data/f)"' &
    pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || exit; done
`

// The ranks of a job add up a sum in a directory of the host.
func testSum(t *testing.T, c *cluster) {
	c.scratch(t)
	c.output(t, "ocibundle", "--quiet", "-f", "-i", "app.tar", "-o", "app", "--template", "docker", "--net", "host", "--remap", "self",
		"--tmpfs", "/tmp", "-v", "./scratch:/scratch")
	if r := c.batch(t, page(t, "sum.sh")); r.code != 0 || r.stdout != "500500\n" {
		t.Errorf("exit %d, %q, want 500500\n%s", r.code, r.stdout, r.stderr)
	}
}

// scratch makes an empty directory scratch in the user's home.
func (c *cluster) scratch(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(c.user.Home, "scratch")
	c.output(t, "sh", "-c", `rm -rf "$1" && mkdir "$1"`, "sh", dir)
	return dir
}

// A batch script runs in the container itself, as every task of an array, and nothing of it stays in the bundle.
func testArray(t *testing.T, c *cluster) {
	scratch := c.scratch(t)
	b := c.bundle(t, "--template", "docker", "--remap", "self", "--tmpfs", "/tmp", "-v", "./scratch:/scratch")
	if r := c.batch(t, page(t, "array.sh"), "--container", b); r.code != 0 {
		t.Fatalf("exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	for i := range 4 {
		text, err := os.ReadFile(filepath.Join(scratch, fmt.Sprint(i)))
		if err != nil || string(text) != fmt.Sprintf("task %d\n", i) {
			t.Errorf("task %d wrote %q: %v", i, text, err)
		}
	}
	if left, err := os.ReadDir(filepath.Join(b, "rootfs", "tmp")); err != nil || len(left) > 0 {
		t.Errorf("left in the bundle: %v, %v", left, err)
	}
}

// An archive goes to the nodes' own disks and becomes a bundle on each of them.
func testFanOut(t *testing.T, c *cluster) {
	r := c.batch(t, c.here(page(t, "fanout.sh")))
	want := fmt.Sprintf("%x  /data/f\n", sha256.Sum256([]byte(secret)))
	if r.code != 0 || r.stdout != want+want {
		t.Errorf("exit %d, %q, want twice %q\n%s", r.code, r.stdout, want, r.stderr)
	}
	if left := c.output(t, "srun", "--nodes=2", "--ntasks-per-node=1", "ls", "-A", c.path("local")); left != "" {
		t.Errorf("left on the nodes: %q", left)
	}
}

// Slurm names the node that has no bundle, and check says what is not there.
func testMissing(t *testing.T, c *cluster) {
	b := c.path("local/only")
	c.output(t, "srun", "--nodelist=n1", "ocibundle", "--quiet", "-i", filepath.Join(c.user.Home, "app.tar"), "-o", b,
		"--template", "docker", "--net", "host", "--remap", "self", "--", "/bin/sh")
	r := c.run(t, "srun", "--nodes=2", "--ntasks-per-node=1", "--container", b, "/bin/cat", "/data/f")
	if r.code == 0 || !strings.Contains(r.stderr, "failed on node n2: No such file or directory") || strings.Contains(r.stderr, "failed on node n1") {
		t.Errorf("srun --container: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	r = c.run(t, "srun", "--label", "--nodes=2", "--ntasks-per-node=1", "ocibundle", "check", b)
	if r.code == 0 || !strings.Contains(r.stderr, fmt.Sprintf("1: ocibundle: %q does not exist\n", b)) || strings.Contains(r.stderr, "0: ocibundle:") {
		t.Errorf("ocibundle check: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}

// Two hundred tasks of an array make a bundle each, with two runs for each place: one of them has it, the other says
// that it is there, and whoever sees a bundle sees the whole of it.
func testSideBySide(t *testing.T, c *cluster) {
	out := filepath.Join(c.user.Home, "out")
	c.output(t, "mkdir", out)
	whole := tree(t, c.bundle(t, "--template", "docker", "--remap", "subid"))
	done := make(chan struct{})
	watched := make(chan error, 1)
	go func() { watched <- watch(out, whole, done) }()
	r := c.batch(t, `#!/bin/bash
make() {
    ocibundle --quiet -i app.tar -o "out/$SLURM_ARRAY_TASK_ID" --template docker --net host --remap subid
    echo $?
}
(make & make & wait) | sort | xargs
`, "--array=0-199")
	close(done)
	if err := <-watched; err != nil {
		t.Error(err)
	}
	if want := strings.Repeat("0 5\n", 200); r.code != 0 || r.stdout != want {
		t.Errorf("exit %d, %q\n%s", r.code, r.stdout, r.stderr)
	}
	entries, err := os.ReadDir(out)
	if err != nil || len(entries) != 200 {
		t.Errorf("%d bundles: %v", len(entries), err)
	}
	for _, e := range entries {
		if got := tree(t, filepath.Join(out, e.Name())); !slices.Equal(got, whole) {
			t.Errorf("%s is %q, want %q", e.Name(), got, whole)
		}
	}
}

// watch looks at every bundle below dir as soon as it is there, until done is closed.
func watch(dir string, whole []string, done <-chan struct{}) error {
	seen := map[string]bool{}
	for {
		names, err := filepath.Glob(filepath.Join(dir, "[0-9]*"))
		if err != nil {
			return err
		}
		for _, name := range names {
			if seen[name] {
				continue
			}
			seen[name] = true
			got, err := list(name)
			if err != nil || !slices.Equal(got, whole) {
				return fmt.Errorf("%s was seen as %q: %v", name, got, err)
			}
		}
		select {
		case <-done:
			if len(seen) == 0 {
				return errors.New("no bundle was seen")
			}
			return nil
		case <-time.After(time.Millisecond):
		}
	}
}

// A container ends with its job, also where it takes no notice of SIGTERM, as the first process of a container does.
func testCancel(t *testing.T, c *cluster) {
	b := c.bundle(t, "--template", "docker", "--remap", "self")
	id := strings.TrimSpace(c.output(t, "sbatch", "--parsable", "--no-requeue", "--output=/dev/null", "--wrap",
		"srun --container "+b+" /bin/sleep 1000000"))
	waitFor(t, "the container runs", func() bool { return c.run(t, "pgrep", "-f", "^/bin/sleep 1000000").code == 0 })
	c.output(t, "scancel", id)
	c.idle(t)
	waitFor(t, "the runtime has forgotten the container", func() bool {
		states, err := filepath.Glob(c.path("oci/*/*"))
		return err == nil && len(states) == 0
	})
	if r := c.run(t, "pgrep", "-f", "^/bin/sleep 1000000"); r.code != 1 {
		t.Errorf("the container still runs: %s", r.stdout)
	}
}

// tree lists what is in a directory: mode, owner, size and name.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	lines, err := list(dir)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func list(dir string) ([]string, error) {
	var lines []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		size := fi.Size()
		// The host name in it is the bundle's.
		if d.IsDir() || d.Name() == "config.json" {
			size = 0
		}
		lines = append(lines, fmt.Sprintf("%v %d %s", fi.Mode(), size, strings.TrimPrefix(path, dir)))
		return nil
	})
	return lines, err
}
