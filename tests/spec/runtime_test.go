package spec

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/tests/testenv"
)

func TestMain(m *testing.M) {
	status := m.Run()
	if err := testenv.Cleanup(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

// probeStream is a container filesystem with the probe, passwd and group.
func probeStream(t testing.TB) []byte {
	t.Helper()
	probe := filepath.Join(t.TempDir(), "probe")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", probe, "./tests/spec/probe")
	build.Dir = testenv.ModuleRoot(t)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	testenv.Output(t, build)
	program, err := os.ReadFile(probe)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, dir := range []string{"etc", "proc", "sys", "dev", "data", "tmp"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"probe":      string(program),
		"etc/passwd": "root:x:0:0::/root:/bin/sh\nredis:x:999:998::/data:/bin/sh\n",
		"etc/group":  "root:x:0:\nredis:x:998:\nextra:x:5:redis\n",
	} {
		h := &tar.Header{Name: name, Mode: 0o755, Size: int64(len(text))}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A runtime starts a bundle in the foreground; with a user, as that user.
type runtimeCommand struct {
	name string
	line func(bundle, id, state string) []string
}

// crun refuses hosts where both versions of control groups are mounted.
const withoutUnified = `if grep -q " /sys/fs/cgroup/unified " /proc/self/mountinfo; then umount /sys/fs/cgroup/unified; fi; exec "$@"`

var runtimes = []runtimeCommand{
	{"runc", func(bundle, id, state string) []string {
		return []string{"runc", "--root", state, "run", "--bundle", bundle, id}
	}},
	{"crun", func(bundle, id, state string) []string {
		return []string{"unshare", "--mount", "sh", "-c", withoutUnified, "sh", "crun", "--root", state, "run", "--bundle", bundle, id}
	}},
}

// question is asked of the probe and must be answered so; a want that starts with "!" must not be
// the answer, one that starts with "~" must be part of it.
type question struct{ ask, want string }

type container struct {
	name      string
	flags     []string
	questions []question
}

func hostNamespace(t testing.TB, kind string) string {
	t.Helper()
	target, err := os.Readlink("/proc/self/ns/" + kind)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func (c container) args(bundle string) []string {
	args := append([]string{"-o", bundle}, c.flags...)
	args = append(args, "--", "/probe")
	for _, q := range c.questions {
		args = append(args, q.ask)
	}
	return args
}

// make has cmd, the program with c's arguments, make the bundle, and returns what it says.
func (c container) make(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	cmd.Stdin = bytes.NewReader(probeStream(t))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

func (c container) check(t *testing.T, output string) {
	t.Helper()
	answers := map[string]string{}
	for line := range strings.Lines(output) {
		if k, v, ok := strings.Cut(strings.TrimRight(line, "\r\n"), " = "); ok {
			answers[k] = v
		}
	}
	for _, q := range c.questions {
		got, ok := answers[q.ask]
		switch {
		case !ok:
			t.Errorf("no answer to %s in:\n%s", q.ask, output)
		case strings.HasPrefix(q.want, "!"):
			if got == q.want[1:] {
				t.Errorf("%s is %s", q.ask, got)
			}
		case strings.HasPrefix(q.want, "~"):
			if !strings.Contains(got, q.want[1:]) {
				t.Errorf("%s is %q, which lacks %q", q.ask, got, q.want[1:])
			}
		case got != q.want:
			t.Errorf("%s is %q, want %q", q.ask, got, q.want)
		}
	}
}

// Real runtimes start what the flags make, and in the container there is what the flags say.
func TestRuntimesAsRoot(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "runc", "crun", "unshare")
	stream := probeStream(t)
	src := files(t, map[string]string{"file": "from the host\n", "vars": "FROM_FILE=1\n"})
	if err := os.Chmod(src, 0o755); err != nil {
		t.Fatal(err)
	}
	// Two nodes that no driver stands behind: who may open one learns that.
	node, other := filepath.Join(src, "node"), filepath.Join(src, "other")
	for name, minor := range map[string]uint32{node: 7, other: 8} {
		if err := unix.Mknod(name, unix.S_IFCHR|0o600, int(unix.Mkdev(241, minor))); err != nil {
			t.Fatal(err)
		}
	}
	containers := []container{
		{"everything private", []string{"--template", "runc",
			"-e", "A=1, 2", "--env-file", filepath.Join(src, "vars"), "--unsetenv", "TERM", "-w", "/data", "-u", "redis", "--group-add", "77", "-t=false",
			"--hostname", "told", "--oom-score-adj", "100", "--annotation", "a=b",
			"-v", src + ":/data", "--mount", "type=bind,src=" + src + ",dst=/mnt/ro,ro", "--tmpfs", "/t:size=1m,mode=1777",
			"--mount", "type=tmpfs,dst=/t2,tmpfs-size=2m,tmpfs-mode=1777", "--shm-size", "3m", "--device", "/dev/zero:/dev/nil:r", "--read-only",
			"--net", "private", "--pid", "private", "--ipc", "private", "--uts", "private",
			"--ulimit", "nofile=100:200", "--ulimit", "core=5:10",
			"--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.msgmax=65000",
			"--cap-drop", "ALL", "--cap-add", "CHOWN", "--security-opt", "no-new-privileges", "--security-opt", "seccomp=default",
		}, []question{
			{"env:A", "1, 2"}, {"env:FROM_FILE", "1"}, {"env:TERM", "(unset)"}, {"cwd", "/data"}, {"ids", "999:998 [5 77 998]"}, {"tty", "false"},
			{"hostname", "told"}, {"read:/proc/self/oom_score_adj", "100"},
			{"read:/data/file", "from the host"}, {"read:/mnt/ro/file", "from the host"}, {"write:/mnt/ro/x", "read-only file system"}, {"mount:/mnt/ro", "~ro"},
			{"mount:/t", "tmpfs rw,nosuid,nodev,noexec"}, {"size:/t", "1048576"}, {"size:/t2", "2097152"}, {"size:/dev/shm", "3145728"}, {"write:/t/x", "written"},
			{"device:/dev/nil", "c 1:5"}, {"write:/x", "read-only file system"},
			{"ns:net", "!" + hostNamespace(t, "net")}, {"ns:pid", "!" + hostNamespace(t, "pid")}, {"ns:ipc", "!" + hostNamespace(t, "ipc")}, {"ns:uts", "!" + hostNamespace(t, "uts")},
			{"limit:nofile", "~:200"}, {"limit:core", "5:10"}, {"read:/proc/sys/net/ipv4/ip_forward", "1"}, {"read:/proc/sys/kernel/msgmax", "65000"},
			{"status:CapBnd", "0000000000000001"}, {"status:NoNewPrivs", "1"}, {"status:Seccomp", "2"},
		}},
		{"everything of the host", []string{"--template", "runc",
			"--net", "host", "--pid", "host", "--ipc", "host", "--uts", "host", "-t=false", "--read-only=false",
			"--security-opt", "seccomp=unconfined", "--security-opt", "no-new-privileges=false",
		}, []question{
			{"ns:net", hostNamespace(t, "net")}, {"ns:pid", hostNamespace(t, "pid")}, {"ns:ipc", hostNamespace(t, "ipc")}, {"ns:uts", hostNamespace(t, "uts")},
			{"write:/x", "written"}, {"status:Seccomp", "0"}, {"status:NoNewPrivs", "0"}, {"status:CapBnd", "0000000020000420"}, {"ids", "0:0 []"},
		}},
		{"a namespace by path, and the device cgroup", []string{"--template", "runc",
			"--net", "/proc/self/ns/net", "-t=false", "--cap-add", "DAC_OVERRIDE", "--device", node + ":/dev/refused:r", "--device", other + ":/dev/allowed",
			"--set", "/process/noNewPrivileges=false", "--remove", "/mounts/[destination=/dev/mqueue]", "--patch", `[{"op":"add","path":"/process/env/0","value":"P=1"}]`,
		}, []question{
			{"ns:net", hostNamespace(t, "net")}, {"device:/dev/refused", "c 241:7"}, {"open:/dev/refused", "operation not permitted"}, {"open:/dev/allowed", "no such device or address"}, {"mount:/dev/mqueue", "(none)"}, {"env:P", "1"},
		}},
		{"the docker template", []string{"--tmpfs", "/t"}, []question{
			{"tty", "false"}, {"write:/x", "written"}, {"status:CapBnd", "00000000a80425fb"}, {"status:Seccomp", "2"}, {"status:NoNewPrivs", "0"}, {"hostname", "b"}, {"env:HOSTNAME", "b"},
			{"read:/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"}, {"size:/dev/shm", "67108864"}, {"ids", "0:0 [0]"}, {"mount:/proc", "~nosuid"}, {"mount:/proc/sys", "~ro"},
		}},
		{"the docker template, of the host", []string{"--net", "host", "--uts", "host", "--ipc", "host"}, []question{
			{"ns:net", hostNamespace(t, "net")}, {"env:HOSTNAME", "(unset)"}, {"ids", "0:0 [0]"},
		}},
	}
	for _, c := range containers {
		bundle := filepath.Join(testenv.Dir(t), "b")
		cmd := exec.CommandContext(t.Context(), testenv.Binary(t), c.args(bundle)...)
		cmd.Stdin = bytes.NewReader(stream)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("%s: %v\n%s", c.name, err, out)
		}
		for _, r := range runtimes {
			t.Run(c.name+"/"+r.name, func(t *testing.T) {
				id := testenv.Name()
				line := r.line(bundle, id, t.TempDir())
				out, err := exec.CommandContext(t.Context(), line[0], line[1:]...).CombinedOutput()
				if err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				c.check(t, string(out))
			})
		}
	}
}

// The limits reach the container's own control groups.
func TestLimits(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "runc")
	unified := false
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		unified = true
	}
	questions := []question{
		{"read:/sys/fs/cgroup/memory/memory.limit_in_bytes", "67108864"}, {"read:/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "150000"}, {"read:/sys/fs/cgroup/cpu/cpu.shares", "512"},
		{"read:/sys/fs/cgroup/cpuset/cpuset.cpus", "0"}, {"read:/sys/fs/cgroup/pids/pids.max", "50"},
	}
	if unified {
		questions = []question{
			{"read:/sys/fs/cgroup/memory.max", "67108864"}, {"read:/sys/fs/cgroup/memory.swap.max", "67108864"}, {"read:/sys/fs/cgroup/cpu.max", "150000 100000"},
			{"read:/sys/fs/cgroup/cpu.weight", "20"}, {"read:/sys/fs/cgroup/cpuset.cpus", "0"}, {"read:/sys/fs/cgroup/pids.max", "50"},
		}
	}
	c := container{"limits", []string{"--memory", "64m", "--cpus", "1.5", "--cpu-shares", "512", "--cpuset-cpus", "0", "--pids-limit", "50"}, questions}
	bundle := filepath.Join(testenv.Dir(t), "b")
	cmd := exec.CommandContext(t.Context(), testenv.Binary(t), c.args(bundle)...)
	cmd.Stdin = bytes.NewReader(probeStream(t))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), "runc", "--root", t.TempDir(), "run", "--bundle", bundle, testenv.Name()).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c.check(t, string(out))
}

// crunAs is crun run by a user, where the host's control groups let it.
func crunAs(t *testing.T, u *testenv.User, args ...string) *exec.Cmd {
	t.Helper()
	line := []string{"--mount", "sh", "-c", withoutUnified, "sh",
		"setpriv", fmt.Sprintf("--reuid=%d", u.UID), fmt.Sprintf("--regid=%d", u.GID), "--clear-groups", "--inh-caps=-all",
		"env", "--chdir=" + u.Home, "HOME=" + u.Home, "XDG_RUNTIME_DIR=" + filepath.Join(u.Home, "run"), "crun"}
	return exec.CommandContext(t.Context(), "unshare", append(line, args...)...)
}

// The same for an ordinary user, as far as a user's runtime can do it.
func TestRuntimesAsUser(t *testing.T) {
	testenv.NeedRoot(t)
	runc := testenv.NeedTool(t, "runc", "crun", "unshare", "setpriv")
	stream := probeStream(t)
	for _, ids := range []struct {
		name    string
		options testenv.UserOptions
		flags   []string
	}{
		{"one id", testenv.UserOptions{}, nil},
		{"subordinate ids", testenv.UserOptions{SubIDs: 65536}, nil},
	} {
		u := testenv.TempUser(t, ids.options)
		for _, c := range []container{
			{"private", []string{"--template", "runc",
				"-e", "A=1", "--unsetenv", "TERM", "-w", "/data", "-t=false", "--hostname", "told", "--oom-score-adj", "100", "-v", "./data:/data", "--tmpfs", "/t:size=1m",
				"--shm-size", "3m", "--device", "/dev/zero:/dev/nil", "--net", "private", "--ulimit", "nofile=100:200", "--ulimit", "core=0:0", "--sysctl", "net.ipv4.ip_forward=1",
				"--cap-drop", "ALL", "--cap-add", "CHOWN", "--security-opt", "seccomp=default", "-u", "root",
			}, []question{
				{"env:A", "1"}, {"env:TERM", "(unset)"}, {"cwd", "/data"}, {"tty", "false"}, {"hostname", "told"}, {"read:/proc/self/oom_score_adj", "100"}, {"read:/data/file", "the user's"},
				{"size:/t", "1048576"}, {"size:/dev/shm", "3145728"}, {"device:/dev/nil", "c 1:5"}, {"open:/dev/nil", "opened"}, {"ns:net", "!" + hostNamespace(t, "net")}, {"mount:/sys", "~sysfs"},
				{"limit:nofile", "~:200"}, {"limit:core", "0:0"}, {"read:/proc/sys/net/ipv4/ip_forward", "1"}, {"status:CapBnd", "0000000000000001"}, {"status:Seccomp", "2"},
			}},
			{"host", []string{"--template", "runc", "-t=false", "--net", "host", "--ipc", "host", "--uts", "host", "--pid", "host"}, []question{
				{"ns:net", hostNamespace(t, "net")}, {"ns:ipc", hostNamespace(t, "ipc")}, {"ns:uts", hostNamespace(t, "uts")}, {"ns:pid", hostNamespace(t, "pid")}, {"mount:/sys", "~sysfs"},
			}},
			{"docker", nil, []question{
				{"tty", "false"}, {"write:/x", "written"}, {"status:CapBnd", "00000000a80425fb"}, {"status:Seccomp", "2"}, {"ns:net", "!" + hostNamespace(t, "net")}, {"hostname", "docker"},
				{"read:/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"},
			}},
			{"docker-host", []string{"--net", "host"}, []question{{"ns:net", hostNamespace(t, "net")}, {"mount:/sys", "~sysfs"}}},
		} {
			t.Run(ids.name+"/"+c.name, func(t *testing.T) {
				if err := os.MkdirAll(filepath.Join(u.Home, "data"), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(u.Home, "data/file"), []byte("the user's\n"), 0o644); err != nil {
					t.Fatal(err)
				}
				bundle := filepath.Join(u.Home, c.name)
				cmd := u.Command(t.Context(), testenv.Binary(t), c.args(bundle)...)
				cmd.Stdin = bytes.NewReader(stream)
				if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
					t.Fatalf("%v\n%s", err, out)
				}
				id := testenv.Name()
				state := filepath.Join(u.Home, "runc")
				t.Cleanup(func() { _ = u.Command(context.Background(), runc, "--root", state, "delete", "--force", id).Run() })
				out, err := u.Command(t.Context(), runc, "--root", state, "run", "--bundle", bundle, id).CombinedOutput()
				if err != nil {
					t.Fatalf("runc: %v\n%s", err, out)
				}
				c.check(t, string(out))
				if out, err = crunAs(t, u, "run", "--bundle", bundle, id).CombinedOutput(); err != nil {
					t.Fatalf("crun: %v\n%s", err, out)
				}
				c.check(t, string(out))
			})
		}
	}
}
