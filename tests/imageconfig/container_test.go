package imageconfig

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ocibundle/specedit"
	"ocibundle/tests/testenv"
)

func withoutCancel(t *testing.T) context.Context { return context.WithoutCancel(t.Context()) }

// The config made from docker inspect of a container is the one that the engine made
// for it.
func TestContainerEqualsEngine(t *testing.T) {
	l := start(t)
	host := testenv.Dir(t)
	for _, name := range []string{"b1", "b2", "b1/inner"} {
		if err := os.Mkdir(filepath.Join(host, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	server := []string{"redis-server", "--port", "0", "--unixsocket", "/tmp/socket", "--save", ""}
	anonymous := explanation{"/mounts/[/data]/**", "an anonymous volume: the bundle keeps the rootfs's directory", theyAlone, false}
	for _, test := range []struct {
		name    string
		args    []string
		differ  []explanation
		notices []string // the start of each notice that there must be, sorted
	}{
		{"plain", append([]string{l.plain}, server...), nil, []string{}},
		{"image config", []string{l.full}, []explanation{anonymous},
			[]string{"anonymous volumes /data", "health check"}},
		{"command", append([]string{l.full, "--maxmemory", "1mb"}, server[1:]...), []explanation{anonymous}, nil},
		{"entrypoint", append([]string{"--entrypoint", "/usr/bin/redis-server", l.full}, server[1:]...), []explanation{anonymous}, nil},
		{"process", append([]string{"-e", "A=1", "-e", "PATH=/usr/bin:/bin", "-e", "ODD=a=b c", "-w", "/usr/bin", "-t",
			"--hostname", "myhost", "--domainname", "example.org", "--label", "l=m", "--stop-signal", "12", l.plain}, server...), nil, nil},
		{"user", append([]string{"-u", "redis", "--group-add", "7", "--group-add", "tty", l.plain}, server...), nil, nil},
		{"user and group", append([]string{"-u", "redis:44", l.plain}, server...), nil, nil},
		{"ids", append([]string{"-u", "4711:4712", l.plain}, server...), nil, nil},
		{"capabilities", append([]string{"--cap-add", "NET_ADMIN", "--cap-add", "CAP_SYS_PTRACE", "--cap-drop", "MKNOD", "--cap-drop", "setfcap", l.plain}, server...), nil, nil},
		{"few capabilities", append([]string{"--cap-drop", "ALL", "--cap-add", "NET_BIND_SERVICE", l.plain}, server...), nil, nil},
		{"security options", append([]string{"--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined", l.plain}, server...), nil, nil},
		{"read-only", append([]string{"--read-only", "--tmpfs", "/tmp", "--tmpfs", "/run:size=1m,mode=1777,exec", l.plain}, server...), nil, nil},
		{"limits", append([]string{"--memory", "64m", "--memory-reservation", "32m", "--memory-swap", "128m", "--memory-swappiness", "5", "--oom-score-adj", "100",
			"--cpus", "0.5", "--cpu-shares", "512", "--cpuset-cpus", "0", "--cpuset-mems", "0", "--pids-limit", "50",
			"--ulimit", "nofile=100:200", "--ulimit", "core=-1", "--ulimit", "nproc=5000", l.plain}, server...), nil, nil},
		{"cfs", append([]string{"--cpu-period", "50000", "--cpu-quota", "25000", "--memory", "100m", l.plain}, server...), nil, nil},
		{"sysctls", append([]string{"--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.shmmax=1000000", l.plain}, server...), nil, nil},
		{"mounts", append([]string{"-v", host + "/b1:/m/b1", "-v", host + "/b2:/m", "-v", host + "/b1:/p:private", "-v", "named:/named", "-v", "named:/ro:ro", "-v", "/anon",
			"--mount", "type=bind,src=" + host + "/b1,dst=/one,readonly,bind-nonrecursive", "--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700",
			"--shm-size", "16m", l.plain}, server...), []explanation{{"/mounts/[/anon]/**", "an anonymous volume: the bundle keeps the rootfs's directory", theyAlone, false}},
			[]string{"anonymous volumes /anon"}},
		{"devices", append([]string{"--device", "/dev/null:/dev/mynull:r", "--device", "/dev/fuse", "--device-cgroup-rule", "c 42:* rwm", "--device-cgroup-rule", "b 7:0 r", l.plain}, server...), nil, nil},
		{"host namespaces", append([]string{"--net", "host", "--pid", "host", "--uts", "host", "--ipc", "host", "--cgroupns", "host", l.plain}, server...),
			[]explanation{{"/linux/namespaces/[network]/**", "the host's own namespace by another name", theyAlone, true}}, []string{}},
		{"no network", append([]string{"--net", "none", "--ipc", "none", "--cgroupns", "private", l.plain}, server...), nil, []string{}},
		{"engine's own", append([]string{"--net", "none", "--restart", "always", "--log-opt", "max-size=1m", "--dns", "1.1.1.1", "--add-host", "a:1.2.3.4", "-p", "8080:80", "--expose", "81", l.plain}, server...), nil,
			[]string{"DNS servers 1.1.1.1", "extra hosts a:1.2.3.4", "log driver json-file", "published ports 80/tcp", "restart policy always"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			name := l.run(t, test.args...)
			im, ours := l.importSpec(t, []byte(l.docker(t, "inspect", name)), specedit.ImageConfigOptions{})
			if im.Kind != specedit.DockerContainer {
				t.Errorf("taken for %s", im.Kind)
			}
			compare(t, l.engineSpec(t, name), ours, test.differ)
			if test.notices == nil {
				return
			}
			var got []string
			for _, n := range im.Notices {
				got = append(got, n.String())
			}
			slices.Sort(got)
			if !slices.EqualFunc(got, test.notices, strings.HasPrefix) {
				t.Errorf("notices %q, want %q", got, test.notices)
			}
		})
	}
}
