package rootless

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"ocibundle/tests/testenv"
)

// plain are the edits that make of what runc spec writes what a plain container has: a network of
// its own, no terminal, a writable root, the right
// to change users, and programs that may gain privileges.
var plain = []string{
	"--template", "runc", "--net", "private", "--set", "/process/terminal=false", "--set", "/root/readonly=false", "--set", "/process/noNewPrivileges=false", "--set", "/process/capabilities/ambient=[]",
	"--set", "/process/capabilities/bounding=" + someCaps, "--set", "/process/capabilities/permitted=" + someCaps, "--set", "/process/capabilities/effective=" + someCaps,
}

const someCaps = `["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_NET_BIND_SERVICE"]`

// A runtime runs a bundle as a host.
type runtime struct {
	name string
	path func(*testing.T) string
}

var runtimes = []runtime{
	{"runc of the distribution", func(t *testing.T) string { return testenv.NeedTool(t, "runc") }},
	{"current runc", currentRunc},
	{"crun", func(t *testing.T) string { return testenv.NeedTool(t, "crun") }},
}

// runcVersion is the newest release at the time of writing.
const runcVersion = "v1.5.2"

var built struct {
	once sync.Once
	dir  string
	err  error
}

func currentRunc(t *testing.T) string {
	t.Helper()
	testenv.NeedTool(t, "gcc")
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", testenv.Tag+"-runc-"); built.err != nil {
			return
		}
		cmd := exec.Command("go", "install", "github.com/opencontainers/runc@"+runcVersion)
		cmd.Dir = built.dir
		cmd.Env = append(os.Environ(), "GOBIN="+built.dir, "GOFLAGS=")
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build runc: %w: %s", err, out)
			return
		}
		built.err = os.Chmod(built.dir, 0o755)
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "runc")
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// command runs the bundle b as h. crun refuses a host that has both versions of control groups mounted, so there the
// second one is unmounted, for it alone.
func (r runtime) command(h *host, ctx context.Context, b, id string) *exec.Cmd {
	h.t.Helper()
	state := filepath.Join(h.dir, "run")
	args := []string{r.path(h.t), "--root", state, "run", "--bundle", b, id}
	script := `! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified || exit 1; exec "$@"`
	if h.user != nil {
		script = strings.Replace(script, "exec", fmt.Sprintf("exec setpriv --reuid=%d --regid=%d --clear-groups --", h.user.UID, h.user.GID), 1)
	}
	if !strings.HasPrefix(r.name, "crun") {
		return h.commandContext(ctx, args[0], args[1:]...)
	}
	testenv.NeedTool(h.t, "unshare", "setpriv")
	cmd := h.commandContext(ctx, "unshare", append([]string{"--mount", "--propagation", "private", "sh", "-c", script, "sh"}, args...)...)
	cmd.SysProcAttr = nil
	return cmd
}

func (h *host) commandContext(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := h.command(name, args...)
	with := exec.CommandContext(ctx, cmd.Path, args...)
	with.Dir, with.Env, with.SysProcAttr = cmd.Dir, cmd.Env, cmd.SysProcAttr
	return with
}

// setProcess writes process.args and process.user into a bundle's config.json, as its owner could.
func setProcess(t *testing.T, bundle string, id int, args ...string) {
	t.Helper()
	path := filepath.Join(bundle, "config.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]json.RawMessage
	var process map[string]any
	if err := errors.Join(json.Unmarshal(text, &config), json.Unmarshal(config["process"], &process)); err != nil {
		t.Fatal(err)
	}
	process["args"] = args
	process["user"] = map[string]int{"uid": id, "gid": id}
	if config["process"], err = json.Marshal(process); err != nil {
		t.Fatal(err)
	}
	if text, err = json.Marshal(config); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// What is in a bundle works in a container, whoever made it: setuid and setgid programs, file capabilities of a user who
// has none of its own, files of a server that gives up root, and chown by the container's root.
func TestRun(t *testing.T) {
	testenv.NeedTool(t, "newuidmap", "newgidmap")
	stream := archive(t, entries(t))
	shifted := asUser(t, testenv.UserOptions{SubIDs: 65536})
	for _, c := range []struct {
		name   string
		h      *host
		args   []string
		mapped bool // all of the archive's ids
	}{
		{"user, shifted", shifted, []string{"--quiet", "--uidmap", fmt.Sprintf("0:%d:1000", shifted.user.SubUIDs[0].Start), "--gidmap", fmt.Sprintf("0:%d:1000", shifted.user.SubGIDs[0].Start)}, true},
		{"user", asUser(t, testenv.UserOptions{SubIDs: 65536}), nil, true},
		{"user without ranges", asUser(t, testenv.UserOptions{}), []string{"--quiet"}, false},
		{"self with ranges", asUser(t, testenv.UserOptions{SubIDs: 65536}), []string{"--quiet", "--remap", "self"}, false},
		{"root", asRoot(t), nil, true},
		{"root, shifted", asRoot(t), []string{"--uidmap", "0:1900000000:65536"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := *c.h
			h.t = t
			b := h.bundle(stream, "b", append(append(c.args, plain...), "--device", "/dev/full:/dev/there", "--", "/probe", "ids")...)
			for _, r := range runtimes {
				t.Run(r.name, func(t *testing.T) {
					h.t = t
					if c.name == "user, shifted" && r.name != "crun" { // as the program warns
						setProcess(t, b, 0, "/probe", "ids")
						if got := run(t, r.command(&h, t.Context(), b, testenv.Name())); got.code == 0 {
							t.Errorf("it starts: %s", got.stdout)
						}
						return
					}
					in := func(id, code int, want string, args ...string) {
						t.Helper()
						setProcess(t, b, id, args...)
						got := run(t, r.command(&h, t.Context(), b, testenv.Name()))
						if got.code != code || strings.TrimSpace(got.stdout) != want {
							t.Errorf("%q as %d: exit %d: %s%s, want %s", args, id, got.code, got.stdout, got.stderr, want)
						}
					}
					in(0, 0, "uid 0 euid 0 gid 0 egid 0", "/probe", "ids")
					in(0, 1, "error: write /dev/there: no space left on device", "/probe", "write", "/dev/there")
					if !c.mapped {
						in(0, 0, "/data 0:0 700\n/data/file 0:0 600\n/suid 0:0 4755", "/probe", "owner", "/data", "/data/file", "/suid")
						return
					}
					in(0, 0, "/data 999:999 700\n/data/link 999:999 777\n/data/group 0:33 440\n/suid 0:0 4755\n/sgid 0:42 2755",
						"/probe", "owner", "/data", "/data/link", "/data/group", "/suid", "/sgid")
					in(999, 0, "uid 999 euid 0 gid 999 egid 999", "/suid", "ids")
					in(999, 0, "uid 999 euid 999 gid 999 egid 42", "/sgid", "ids")
					in(999, 0, "bound", "/bind", "bind")
					in(999, 1, "error: listen tcp4 0.0.0.0:80: bind: permission denied", "/probe", "bind")
					in(999, 1, "error: lstat /private/x: permission denied", "/probe", "owner", "/private/x")
					in(0, 0, "/data/new 999:999 600", "/probe", "drop", "999", "999", "write", "/data/new")
					in(0, 0, "/data/new 33:34 600", "/probe", "chown", "/data/new", "33", "34")
					uids, gids := mappings(t, b)
					path := filepath.Join(b, "rootfs/data/new")
					if want := fmt.Sprintf("%d:%d 600", hostID(uids, 33), hostID(gids, 34)); owner(t, path) != want {
						t.Errorf("new file is %s on the host, want %s", owner(t, path), want)
					}
					if err := os.Remove(path); err != nil {
						t.Error(err)
					}
				})
			}
		})
	}
}

// A terminal, whose group a mapping of one id lacks and whose device file belongs to whoever may have it.
func TestTerminal(t *testing.T) {
	testenv.NeedTool(t, "newuidmap", "newgidmap", "script")
	stream := archive(t, entries(t))
	for _, c := range []struct {
		h    *host
		args []string
	}{
		{asUser(t, testenv.UserOptions{SubIDs: 65536}), []string{"--template", "runc"}},
		{asUser(t, testenv.UserOptions{}), []string{"--template", "runc", "--quiet"}},
		{asUser(t, testenv.UserOptions{}), []string{"--quiet", "--tty", "--security-opt", "seccomp=unconfined"}},
		{asUser(t, testenv.UserOptions{SubIDs: 65536}), []string{"--tty", "--security-opt", "seccomp=unconfined"}},
		{asRoot(t), []string{"--template", "runc", "--uidmap", "0:1900000000:65536"}},
	} {
		b := c.h.bundle(stream, "b", append(c.args, "--", "/probe", "ids")...)
		for _, r := range runtimes {
			cmd := r.command(c.h, t.Context(), b, testenv.Name())
			line := "'" + strings.Join(cmd.Args, "' '") + "'"
			cmd.Path, cmd.Args = testenv.NeedTool(t, "script"), []string{"script", "--quiet", "--flush", "--return", "--command", line, "/dev/null"}
			if got := run(t, cmd); got.code != 0 || !strings.Contains(got.stdout, "uid 0 euid 0 gid 0 egid 0") {
				t.Errorf("%s, %q: exit %d: %s%s", r.name, c.args, got.code, got.stdout, got.stderr)
			}
		}
	}
}

// hostID is in, with no maps meaning no user namespace.
func hostID(maps []idMap, id int) uint32 {
	if len(maps) == 0 {
		return uint32(id)
	}
	return in(maps, id)
}

// A bundle with a container running in it stays, also where its processes are in a user namespace that the program, in
// another one, cannot look into.
func TestInUse(t *testing.T) {
	testenv.NeedTool(t, "newuidmap", "newgidmap")
	stream := archive(t, entries(t))
	for _, c := range []struct {
		name string
		h    *host
		args []string
	}{
		{"subid", asUser(t, testenv.UserOptions{SubIDs: 65536}), nil},
		{"self", asUser(t, testenv.UserOptions{}), []string{"--quiet"}},
		{"root", asRoot(t), []string{"--uidmap", "0:1900000000:65536"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := *c.h
			h.t = t
			b := h.bundle(stream, "b", append(append(c.args, plain...), "--", "/probe", "wait")...)
			if c.name == "subid" { // the process is somebody whom the caller is not, even outside
				setProcess(t, b, 999, "/probe", "wait")
			}
			cmd := runtimes[0].command(&h, t.Context(), b, testenv.Name())
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stderr = os.Stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "waiting\n" {
				t.Fatalf("%q, %v", line, err)
			}
			before, err := os.ReadFile(filepath.Join(b, "config.json"))
			if err != nil {
				t.Fatal(err)
			}
			for _, args := range [][]string{append([]string{"-o", "b", "--force"}, c.args...), {"rm", "b"}} {
				if r := h.ocibundle(stream, args...); r.code != 5 || !strings.Contains(r.stderr, "process ") {
					t.Errorf("%q: exit %d: %s", args, r.code, r.stderr)
				}
			}
			if after, err := os.ReadFile(filepath.Join(b, "config.json")); err != nil || string(after) != string(before) {
				t.Errorf("config.json was replaced: %v", err)
			}
			stdin.Close()
			if err := cmd.Wait(); err != nil {
				t.Errorf("container: %v", err)
			}
			for _, args := range [][]string{append([]string{"-o", "b", "--force"}, c.args...), {"rm", "b"}} {
				if r := h.ocibundle(stream, args...); r.code != 0 {
					t.Errorf("%q when it has ended: exit %d: %s", args, r.code, r.stderr)
				}
			}
		})
	}
}

// A container that is started from the old bundle while the new one is made keeps the old one, too.
func TestInUseMeanwhile(t *testing.T) {
	testenv.NeedTool(t, "newuidmap", "newgidmap")
	stream := archive(t, entries(t))
	for _, c := range []struct {
		name string
		h    *host
		args []string
	}{
		{"subid", asUser(t, testenv.UserOptions{SubIDs: 65536}), nil},
		{"self", asUser(t, testenv.UserOptions{}), []string{"--quiet"}},
		{"root", asRoot(t), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := *c.h
			h.t = t
			b := h.bundle(stream, "b", append(append(c.args, plain...), "--", "/probe", "wait")...)
			replacing, rest, says := h.working(t, append([]string{"-o", "b", "--force"}, c.args...)...)

			cmd := runtimes[0].command(&h, t.Context(), b, testenv.Name())
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "waiting\n" {
				t.Fatalf("%q, %v", line, err)
			}
			rest()
			text, err := io.ReadAll(says)
			if err != nil {
				t.Fatal(err)
			}
			replacing.Wait()
			if code := replacing.ProcessState.ExitCode(); code != 5 || !strings.Contains(string(text), "process ") {
				t.Errorf("exit %d: %s", code, text)
			}
			stdin.Close()
			if err := cmd.Wait(); err != nil {
				t.Errorf("container: %v", err)
			}
		})
	}
}

// The real redis, started unprivileged: as its own user, with its data in a directory that belongs to it.
func TestRedis(t *testing.T) {
	testenv.NeedTool(t, "newuidmap", "newgidmap", "redis-cli")
	stream, err := os.ReadFile(testenv.RedisExport(t))
	if err != nil {
		t.Fatal(err)
	}
	h := asUser(t, testenv.UserOptions{SubIDs: 65536})
	for _, r := range runtimes {
		t.Run(r.name, func(t *testing.T) {
			h := *h
			h.t = t
			port := fmt.Sprint(testenv.FreePort(t))
			name := testenv.Name()
			b := h.bundle(stream, name, "--template", "runc", "--set", "/process/terminal=false", "--set", "/root/readonly=false", "--user", "redis", "--net", "host", "--",
				"redis-server", "--bind", "127.0.0.1", "--port", port, "--dir", "/var/lib/redis", "--save", "3600 1")
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			cmd := r.command(&h, ctx, b, name)
			out := new(strings.Builder)
			cmd.Stdout, cmd.Stderr = out, out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait(); stop() }()
			var number int
			fmt.Sscan(port, &number)
			if err := testenv.PingRedis(ctx, number); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			for _, args := range [][]string{{"set", "k", "v"}, {"shutdown", "save"}} {
				// Not with ctx: the server, and with it the container, may be gone before the client is.
				run(t, exec.CommandContext(t.Context(), testenv.NeedTool(t, "redis-cli"), append([]string{"-p", port}, args...)...))
			}
			if err := <-ended; err != nil {
				t.Errorf("redis: %v: %s", err, out)
			}
			id := fmt.Sprintf("%d:%d", h.user.SubUIDs[0].Start+testenv.RedisUID-1, h.user.SubGIDs[0].Start+testenv.RedisGID-1)
			if got := owner(t, filepath.Join(b, "rootfs/var/lib/redis/dump.rdb")); !strings.HasPrefix(got, id+" ") {
				t.Errorf("the data is %s, want %s", got, id)
			}
		})
	}
}

// A whole Debian: apt gives its directory to a user of its own and drops to it, passwd reads the shadow file for an
// ordinary user because it is setuid, su changes the user.
func TestDebian(t *testing.T) {
	testenv.NeedTool(t, "newuidmap", "newgidmap")
	stream, err := os.ReadFile(testenv.DebianExport(t))
	if err != nil {
		t.Fatal(err)
	}
	const script = `
set -eu
mkdir /repo
: >/repo/Packages
rm -f /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/repo ./' >/etc/apt/sources.list
apt-get -qq update
stat -c %U /var/lib/apt/lists/partial
su -s /bin/sh nobody -c 'id -un; passwd -S | cut -d" " -f1; cat /etc/shadow 2>&1 || true'
`
	want := "_apt\nnobody\nnobody\ncat: /etc/shadow: Permission denied"
	h := asUser(t, testenv.UserOptions{SubIDs: 65536})
	for _, r := range runtimes {
		t.Run(r.name, func(t *testing.T) {
			h := *h
			h.t = t
			name := testenv.Name()
			args := []string{"--quiet"}
			if r.name == "current runc" { // built without libseccomp
				args = append(args, "--security-opt", "seccomp=unconfined")
			}
			b := h.bundle(stream, name, append(args, "--", "sh", "-c", script)...)
			got := run(t, r.command(&h, t.Context(), b, name))
			if got.code != 0 || strings.TrimSpace(got.stdout) != want || got.stderr != "" {
				t.Errorf("exit %d: %s%s", got.code, got.stdout, got.stderr)
			}
		})
	}
}
