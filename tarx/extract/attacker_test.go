package extract

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ocibundle/tarx"
	"ocibundle/tarx/remove"
	"ocibundle/tests/testenv"
)

// attackRounds is how often the attacker exchanges something: fewer times on a laptop.
var attackRounds = map[bool]int{false: 10_000, true: 1_000}[testenv.Unit()]

// TestAttacker is the attacker's process: it exchanges the directories "a" and
// "a/b" of the tree for symlinks that lead outside, and back, as fast as it
// can. TestLiveAttacker starts it.
func TestAttacker(t *testing.T) {
	root, outside := os.Getenv("OCIBUNDLE_ATTACK_ROOT"), os.Getenv("OCIBUNDLE_ATTACK_OUTSIDE")
	if root == "" {
		return
	}
	dir, err := unix.Open(root, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for rounds := 0; rounds < attackRounds; {
		// The tree comes and goes: what is not there now is there later.
		unix.Symlinkat(outside, dir, "one")
		unix.Symlinkat(outside, dir, "two")
		if unix.Renameat2(dir, "a", dir, "one", unix.RENAME_EXCHANGE) == nil {
			rounds++
		}
		for _, name := range []string{"a", "one"} {
			// Through a symlink this would move what is outside into the tree.
			fd, err := unix.Openat(dir, name, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err != nil {
				continue
			}
			if unix.Renameat2(fd, "b", dir, "two", unix.RENAME_EXCHANGE) == nil {
				rounds++
			}
			unix.Close(fd)
		}
		// Under a constant attack hardly an extraction gets beyond its first
		// entries; pauses let it hit the later ones.
		if rounds%1000 >= 500 {
			time.Sleep(time.Duration(rounds%8) * 500 * time.Microsecond)
		}
	}
}

// attacked calls work on root again and again while the attacker is at it. It
// reports whether what lies outside has changed, which ends it early.
func attacked(t *testing.T, root, outside string, work func()) (changed string) {
	t.Helper()
	before := snapshot(t, outside)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestAttacker$")
	cmd.Env = append(os.Environ(), "OCIBUNDLE_ATTACK_ROOT="+root, "OCIBUNDLE_ATTACK_OUTSIDE="+outside)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer cmd.Process.Kill()
	for n := 0; ; n++ {
		select {
		case err := <-ended:
			if err != nil {
				t.Fatalf("the attacker: %v\n%s", err, out.String())
			}
			t.Logf("%d rounds of the attacker, %d of ours", attackRounds, n)
			return ""
		default:
		}
		work()
		if after := snapshot(t, outside); after != before {
			return fmt.Sprintf("outside:\n%s\nbefore:\n%s", after, before)
		}
	}
}

// snapshot describes a tree, contents and metadata.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		text := []byte{}
		if d.Type().IsRegular() {
			if text, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		st.Atim = unix.Timespec{} // reading it is our own doing
		fmt.Fprintf(&b, "%s %+v %q\n", path, st, text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// attackTree makes an outside that has the same names as the stream, so that
// whatever is led astray hits something, and a stream with every kind of entry
// below the directories that the attacker exchanges.
func attackTree(t *testing.T) (root, outside string, data []byte) {
	t.Helper()
	dir := t.TempDir()
	root, outside = filepath.Join(dir, "root"), filepath.Join(dir, "outside")
	for _, d := range []string{root, outside, filepath.Join(outside, "b"), filepath.Join(outside, "dir")} {
		if err := os.Mkdir(d, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"f", "g", "b/f", "b/g", "dir/keep"} {
		if err := os.WriteFile(filepath.Join(outside, f), []byte("canary"), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	var headers []tar.Header
	for range 6 {
		for _, d := range []string{"a", "a/b"} {
			headers = append(headers,
				tar.Header{Typeflag: tar.TypeDir, Name: d + "/", Mode: 0o777, ModTime: testenv.SomeTime},
				tar.Header{Typeflag: tar.TypeReg, Name: d + "/f", Mode: 0o4777, Size: 3, ModTime: testenv.SomeTime},
				tar.Header{Typeflag: tar.TypeLink, Name: d + "/hard", Linkname: d + "/f"},
				tar.Header{Typeflag: tar.TypeSymlink, Name: d + "/g", Linkname: "/f", ModTime: testenv.SomeTime},
				tar.Header{Typeflag: tar.TypeReg, Name: d + "/g", Mode: 0o666, Size: 5, ModTime: testenv.SomeTime},
				tar.Header{Typeflag: tar.TypeFifo, Name: d + "/fifo", Mode: 0o4666, ModTime: testenv.SomeTime},
				tar.Header{Typeflag: tar.TypeDir, Name: d + "/dir/", Mode: 0o500, ModTime: testenv.SomeTime},
				tar.Header{Typeflag: tar.TypeReg, Name: d + "/dir/x", Mode: 0o644, Size: 1, ModTime: testenv.SomeTime},
				tar.Header{Typeflag: tar.TypeReg, Name: d + "/dir", Mode: 0o644, Size: 1, ModTime: testenv.SomeTime},
				tar.Header{Typeflag: tar.TypeReg, Name: d + "/new/deep/x", Mode: 0o644, Size: 1, ModTime: testenv.SomeTime},
			)
		}
	}
	return root, outside, testenv.TarStream(t, headers...)
}

func empty(t *testing.T, root string) {
	t.Helper()
	f, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		// The attacker may win a race against the removal, which the next round
		// finishes.
		remove.All(int(f.Fd()), n)
	}
}

// TestLiveAttacker extracts, and removes what was extracted, while another
// process exchanges directories for symlinks below the root.
func TestLiveAttacker(t *testing.T) {
	allWhole, allFailed := 0, 0
	for _, o := range []tarx.Options{{Workers: 1}, {Workers: 2}, {Workers: 8}, {Workers: 2, Feed: tarx.FeedProcess}, {Workers: 8, Feed: tarx.FeedProcess}} {
		t.Run(fmt.Sprintf("%d workers, feed %d", o.Workers, o.Feed), func(t *testing.T) {
			if os.Geteuid() != 0 {
				o.Owner = tarx.OwnerRootless // an ordinary user gives no file away
			}
			root, outside, data := attackTree(t)
			whole, failed := 0, 0
			changed := attacked(t, root, outside, func() {
				f, err := os.Open(root)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if _, err := Stream(t.Context(), bytes.NewReader(data), f, o); err != nil {
					failed++
				} else {
					whole++
				}
				empty(t, root)
			})
			if changed != "" {
				t.Fatal(changed)
			}
			t.Logf("%d extractions ended well, %d with an error", whole, failed)
			allWhole, allFailed = allWhole+whole, allFailed+failed
		})
	}
	// On a busy machine one kind alone may meet none of the two.
	if allWhole == 0 || allFailed == 0 {
		t.Error("the attack is too hard or too soft to show anything")
	}
}

// TestLiveAttackerBites shows the same attacker against an extractor that
// checks a path and then uses it.
func TestLiveAttackerBites(t *testing.T) {
	root, outside, data := attackTree(t)
	deadline := time.Now().Add(2 * time.Minute)
	changed := attacked(t, root, outside, func() {
		if time.Now().After(deadline) {
			t.Fatal("the attacker never won")
		}
		checkThenUse(root, data)
		empty(t, root)
	})
	if changed == "" {
		t.Error("the attacker did not get through to a naive extractor")
	}
}

// checkThenUse looks for symlinks in a path first and opens the path then.
func checkThenUse(root string, data []byte) {
	r := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := r.Next()
		if err != nil {
			return
		}
		path := filepath.Join(root, h.Name)
		if real, err := filepath.EvalSymlinks(filepath.Dir(path)); err != nil || !strings.HasPrefix(real+"/", root+"/") {
			continue
		}
		switch h.Typeflag {
		case tar.TypeDir:
			os.Mkdir(path, 0o755)
		case tar.TypeReg:
			os.Remove(path)
			os.WriteFile(path, []byte("pwned"), 0o644)
		}
	}
}
