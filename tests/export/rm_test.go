package export

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ocibundle/tests/testenv"
)

// fails runs the program, which has to end with the exit status code, and returns what it said.
func (m mode) fails(t *testing.T, code int, args ...string) string {
	t.Helper()
	cmd := m.command(t.Context(), testenv.Binary(t), args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != code {
		t.Errorf("%s: ocibundle %q: %v, want exit status %d\n%s", m.name, args, err, code, stderr.Bytes())
	}
	return stderr.String()
}

func (m mode) bundle(t *testing.T, name string, flags ...string) string {
	t.Helper()
	f, err := os.Open(testenv.RedisExport(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m.run(t, f, append(append([]string{"-q", "-o", name}, m.flags...), flags...)...)
	return filepath.Join(m.dir, name)
}

func gone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there (%v)", path, err)
	}
	dir, base := filepath.Split(path)
	if left, _ := filepath.Glob(filepath.Join(dir, "."+base+"*")); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

// rm removes files of subordinate ids, which the user's own rm -rf cannot, and directories without
// any permission.
func TestRemove(t *testing.T) {
	for _, m := range modes(t) {
		a, b := m.bundle(t, "a"), m.bundle(t, "b")
		closed := filepath.Join(a, "rootfs/closed")
		if err := os.MkdirAll(filepath.Join(closed, "below"), 0o700); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(filepath.Join(a, "rootfs/bin"))
		if err != nil {
			t.Fatal(err)
		}
		owner := st.Sys().(*syscall.Stat_t)
		uid, gid := int(owner.Uid), int(owner.Gid)
		if m.name == "subid" {
			uid, gid = int(m.user.SubUIDs[0].Start)+100, int(m.user.SubGIDs[0].Start)+100
		}
		for _, d := range []string{filepath.Join(closed, "below"), closed} {
			if err := os.Chown(d, uid, gid); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(d, 0); err != nil {
				t.Fatal(err)
			}
		}
		if m.user != nil {
			plain := m.command(t.Context(), "rm", "-rf", filepath.Join(a, "rootfs/closed"))
			if plain.Run() == nil {
				t.Errorf("%s: rm -rf can remove this too: the test shows nothing", m.name)
			}
		}
		m.run(t, nil, "rm", "a", "b")
		gone(t, a)
		gone(t, b)
		m.run(t, nil, "rm", "-f", "a")
		m.run(t, nil, "rm", "a", "--force", "b")
		if says := m.fails(t, 2, "rm", "a"); !strings.Contains(says, `"a" does not exist`) {
			t.Errorf("%s: of an absent bundle it says %q", m.name, says)
		}
	}
}

func TestRemoveRefuses(t *testing.T) {
	for _, m := range modes(t) {
		a := m.bundle(t, "a")
		testenv.Output(t, m.command(t.Context(), "mkdir", "-p", "other/rootfs"))
		testenv.Output(t, m.command(t.Context(), "ln", "-sfn", "a", "link"))
		for _, bad := range []string{"other", "link", ".", "..", "a/rootfs", "a/config.json", "a/.."} {
			m.fails(t, 2, "rm", "a", bad)
		}
		m.fails(t, 2, "rm")
		m.fails(t, 2, "rm", "-x", "a")
		m.fails(t, 2, "export")
		m.fails(t, 2, "export", "a", "a")
		m.fails(t, 2, "export", "other")
		m.fails(t, 2, "export", "absent")

		point := filepath.Join(a, "rootfs/etc")
		if err := unix.Mount(m.dir, point, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		if says := m.fails(t, 5, "rm", "a"); !strings.Contains(says, point) {
			t.Errorf("%s: of a mount it says %q", m.name, says)
		}
		m.fails(t, 5, "export", "a")
		if says := m.fails(t, 5, "-f", "-o", "a", "-i", "/dev/null"); !strings.Contains(says, point) {
			t.Errorf("%s: of a mount in what is to be replaced it says %q", m.name, says)
		}
		if err := unix.Unmount(point, 0); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"a/rootfs/etc/passwd", "other/rootfs", "link"} {
			if _, err := os.Lstat(filepath.Join(m.dir, name)); err != nil {
				t.Errorf("%s: %v", m.name, err)
			}
		}
		m.run(t, nil, "rm", "--", "a")
		gone(t, a)
	}
}

// A bundle whose container runs is not removed, whoever runs it: the container's processes are in a
// user namespace of their own, which not everybody may look into.
func TestRemoveRunning(t *testing.T) {
	runc := testenv.NeedTool(t, "runc")
	for _, m := range modes(t) {
		t.Run(m.name, func(t *testing.T) {
			port := testenv.FreePort(t)
			dir := m.bundle(t, "a", "--set", "/process/terminal=false", "--net", "host", "--", "redis-server", "--bind", "127.0.0.1",
				"--port", strconv.Itoa(port))
			if m.name == "explicit" {
				// Only to let the container's root pass: its own directory is somebody else's.
				if err := os.Chmod(m.dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			id, state := testenv.Name(), filepath.Join(m.dir, "state")
			null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer null.Close()
			log, err := os.Create(filepath.Join(t.TempDir(), "log"))
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			run := m.command(t.Context(), runc, "--root", state, "run", "--detach", "--bundle", dir, id)
			run.Stdin, run.Stdout, run.Stderr = null, log, log
			remove := func() {
				if out, err := m.command(context.Background(), runc, "--root", state, "delete", "--force", id).CombinedOutput(); err != nil {
					t.Errorf("delete the container: %v\n%s", err, out)
				}
			}
			if err := run.Run(); err != nil {
				says, _ := os.ReadFile(log.Name())
				t.Fatalf("start the container: %v\n%s", err, says)
			}
			running := true
			defer func() {
				if running {
					remove()
				}
			}()
			ctx, stop := context.WithTimeout(t.Context(), time.Minute) // so that one that does not answer ends this test alone
			defer stop()
			if err := testenv.PingRedis(ctx, port); err != nil {
				says, _ := os.ReadFile(log.Name())
				t.Fatalf("%v\n%s", err, says)
			}
			var is struct {
				PID    int    `json:"pid"`
				Status string `json:"status"`
			}
			says := testenv.Output(t, m.command(t.Context(), runc, "--root", state, "state", id))
			if err := json.Unmarshal([]byte(says), &is); err != nil || is.Status != "running" {
				t.Fatalf("the container is not running: %v\n%s", err, says)
			}

			want := fmt.Sprintf("process %d", is.PID)
			if says := m.fails(t, 5, "rm", "a"); !strings.Contains(says, want) {
				t.Errorf("rm says %q, want %q in it", says, want)
			}
			again := append([]string{"-f", "-o", "a", "-i", testenv.RedisExport(t)}, m.flags...)
			if says := m.fails(t, 5, again...); !strings.Contains(says, want) {
				t.Errorf("--force says %q, want %q in it", says, want)
			}
			// Reading does no harm.
			checkOrder(t, m.run(t, nil, "export", "-q", "a"))

			running = false
			remove()
			m.run(t, nil, "rm", "a")
			gone(t, dir)
		})
	}
}

// In a user namespace the files of users outside of it look like nobody's. They are not exported as
// such.
func TestForeignOwner(t *testing.T) {
	m := modes(t)[2]
	dir := m.bundle(t, "a")
	for _, id := range []uint32{m.user.SubUIDs[0].Start + 65533, 4321} {
		// Container id 65534 is the user's 65534th subordinate id, for 0 is the user.
		foreign := filepath.Join(dir, "rootfs/file")
		if err := os.WriteFile(foreign, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(foreign, int(id), int(m.user.SubGIDs[0].Start)); err != nil {
			t.Fatal(err)
		}
		if id != 4321 {
			if n := readTree(t, bytes.NewReader(m.run(t, nil, "export", "a")))["file"]; n.UID != 65534 {
				t.Errorf("nobody's file is %v", n)
			}
			continue
		}
		cmd := m.command(t.Context(), testenv.Binary(t), "export", "a")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		err := cmd.Run()
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 4 || !strings.Contains(stderr.String(), `"file"`) {
			t.Errorf("export of a foreign file: %v\n%s", err, stderr.Bytes())
		}
	}
	m.run(t, nil, "rm", "a")
	gone(t, dir)
}

// A reader that leaves early ends the export, as it ends any filter.
func TestExportIntoClosedPipe(t *testing.T) {
	for _, m := range modes(t) {
		m.bundle(t, m.name)
		out := testenv.Output(t, m.command(t.Context(), "bash", "-c", testenv.Binary(t)+` export `+m.name+` | head -c 1; echo "${PIPESTATUS[0]}"`))
		if out != ".141\n" {
			t.Errorf("%s: %q, want the end by SIGPIPE", m.name, out)
		}
	}
}
