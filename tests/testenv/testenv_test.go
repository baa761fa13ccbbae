package testenv

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestBinary(t *testing.T) {
	path := Binary(t)
	if again := Binary(t); again != path {
		t.Errorf("built twice: %s and %s", path, again)
	}
	out, err := exec.Command("go", "version", "-m", path).CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "CGO_ENABLED=0") {
		t.Errorf("not built with CGO_ENABLED=0:\n%s", out)
	}
}

func TestTempUser(t *testing.T) {
	NeedRoot(t)
	for _, tt := range []struct {
		name string
		o    UserOptions
		ids  uint32
	}{
		{"without subordinate ids", UserOptions{}, 0},
		{"allotted", UserOptions{SubIDs: 65536}, 65536},
		{"given", UserOptions{SubUIDs: []Range{{700_000_000, 10}, {710_000_000, 20}}, SubGIDs: []Range{{700_000_000, 30}}}, 30},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var u *User
			var sleeper *exec.Cmd
			t.Run("in use", func(t *testing.T) {
				u = TempUser(t, tt.o)
				count := func(ranges []Range) (n uint32) {
					for _, r := range ranges {
						n += r.Count
					}
					return n
				}
				if uids, gids := count(u.SubUIDs), count(u.SubGIDs); uids != tt.ids || gids != tt.ids {
					t.Errorf("%d and %d subordinate ids, want %d each", uids, gids, tt.ids)
				}
				if name := strings.TrimSpace(RunAs(t, u, "id", "-un")); name != u.Name {
					t.Errorf("RunAs runs as %s, not as %s", name, u.Name)
				}
				RunAs(t, u, "sh", "-c", "mkdir d && touch d/f && chmod 0 d")
				sleeper = u.Command(t.Context(), "sleep", "1000")
				// The user's clean-up has to end it, not the end of the context.
				sleeper.Cancel = func() error { return nil }
				if err := sleeper.Start(); err != nil {
					t.Fatal(err)
				}
			})
			if u == nil || sleeper == nil {
				t.FailNow()
			}
			if err := sleeper.Wait(); err == nil {
				t.Error("a process of the user ended by itself")
			}
			if _, err := user.Lookup(u.Name); err == nil {
				t.Errorf("user %s is still there", u.Name)
			}
			if _, err := os.Stat(u.Home); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the home %s is still there: %v", u.Home, err)
			}
			for _, file := range []string{"/etc/passwd", "/etc/group", "/etc/subuid", "/etc/subgid"} {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(string(text), u.Name+":") {
					t.Errorf("%s still names the user", file)
				}
			}
		})
	}
}

func TestRedisExport(t *testing.T) {
	names := entries(t, RedisExport(t))
	for _, want := range []string{"usr/bin/redis-server", "etc/passwd", "var/lib/redis/", "lib", ".dockerenv"} {
		if !slices.Contains(names, want) {
			t.Errorf("no %s in the export of the redis container", want)
		}
	}
}

func TestDebianExport(t *testing.T) {
	names := entries(t, DebianExport(t))
	if len(names) < 5000 {
		t.Errorf("the export of a Debian container has only %d entries", len(names))
	}
	for _, want := range []string{"usr/bin/perl", "etc/debian_version"} {
		if !slices.Contains(names, want) {
			t.Errorf("no %s in it", want)
		}
	}
}

func entries(t *testing.T, path string) []string {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var names []string
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

// A process that is killed in the midst of everything leaves nothing, either.
func TestKilled(t *testing.T) {
	NeedRoot(t)
	if os.Getenv("OCIBUNDLE_TESTENV_VICTIM") != "" {
		u := TempUser(t, UserOptions{SubIDs: 65536})
		if err := u.Command(t.Context(), "sleep", "1000").Start(); err != nil {
			t.Fatal(err)
		}
		e := StartDocker(t)
		if _, err := os.Stdout.WriteString("ready " + u.Name + " " + u.Home + " " + e.Dir + " " + Tag + "\n"); err != nil {
			t.Fatal(err)
		}
		select {}
	}
	victim := exec.Command("/proc/self/exe", "-test.run=^TestKilled$")
	victim.Env = append(os.Environ(), "OCIBUNDLE_TESTENV_VICTIM=1")
	victim.Stderr = os.Stderr
	stdout, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	// Reading ends when the last holder of the pipe has ended; the helper process holds stderr
	// only.
	buf := make([]byte, 4096)
	n, err := stdout.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	said := strings.Fields(string(buf[:n]))
	if len(said) != 5 || said[0] != "ready" {
		t.Fatalf("the process to be killed says %q", buf[:n])
	}
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = victim.Wait() // it was killed
	name, home, dir, tag := said[1], said[2], said[3], said[4]
	err = waitGone(func() (bool, error) {
		_, unknown := user.Lookup(name)
		left, err := filepath.Glob(filepath.Join(os.TempDir(), tag+"-*"))
		return unknown != nil && left == nil, err
	})
	if err != nil {
		t.Errorf("user %s, %s or %s: %v", name, home, dir, err)
	}
	if left := processes(t, tag); left != nil {
		t.Errorf("processes left: %q", left)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), tag) {
		t.Errorf("mounts left:\n%s", mounts)
	}
}

func processes(t *testing.T, tag string) []string {
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, line := range lines {
		text, err := os.ReadFile(line)
		if err == nil && strings.Contains(string(text), tag) {
			left = append(left, string(text))
		}
	}
	return left
}
