package imageconfig

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"ocibundle/specedit/imageconfig"
	"ocibundle/tests/testenv"
)

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
	const readOnly = "an engine since 25.0 makes what is mounted below read-only, too (rro), which not every runtime knows"
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
			"--shm-size", "16m", l.plain}, server...), []explanation{{"/mounts/[/anon]/**", "an anonymous volume: the bundle keeps the rootfs's directory", theyAlone, false},
			{"/mounts/[/one]/options", readOnly, "", true}, {"/mounts/[/ro]/options", readOnly, "", true}},
			[]string{"anonymous volumes /anon"}},
		{"devices", append([]string{"--device", "/dev/full:/dev/mynull:r", "--device", "/dev/fuse", "--device-cgroup-rule", "c 42:* rwm", "--device-cgroup-rule", "b 7:0 r", l.plain}, server...), nil, nil},
		{"host namespaces", append([]string{"--net", "host", "--pid", "host", "--uts", "host", "--ipc", "host", "--cgroupns", "host", l.plain}, server...),
			[]explanation{{"/linux/namespaces/[network]/**", "the host's own namespace by another name", theyAlone, true}}, []string{}},
		{"no network", append([]string{"--net", "none", "--ipc", "none", "--cgroupns", "private", l.plain}, server...), nil, []string{}},
		{"engine's own", append([]string{"--net", "none", "--restart", "always", "--log-opt", "max-size=1m", "--dns", "1.1.1.1", "--add-host", "a:1.2.3.4", "-p", "8080:80", "--expose", "81", l.plain}, server...), nil,
			[]string{"log driver json-file", "published ports 80/tcp"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			name := l.run(t, test.args...)
			im, ours := l.importSpec(t, []byte(l.docker(t, "inspect", name)), imageconfig.Options{})
			if im.Kind != imageconfig.DockerContainer {
				t.Errorf("taken for %s", im.Kind)
			}
			compare(t, l.engineSpec(t, name), ours, ofDocker, test.differ)
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

// A container that cannot run on every machine has a config.json all the same.
func TestUnstartableEqualsEngine(t *testing.T) {
	l := start(t)
	disk := blockDevice(t)
	other := l.run(t, l.plain, "redis-server", "--port", "0", "--unixsocket", "/tmp/socket")
	ofOther := "path of another container's namespace: the bundle has one of its own"
	hostNetwork := explanation{"/linux/namespaces/[network]/**", "the host's own namespace by another name", theyAlone, true}
	var newer []explanation
	for _, set := range []string{"bounding", "effective", "permitted"} {
		for _, name := range []string{"PERFMON", "BPF", "CHECKPOINT_RESTORE"} {
			newer = append(newer, explanation{"/process/capabilities/" + set + "/[CAP_" + name + "]", "an older engine does not know it", weAlone, true})
		}
		for _, name := range missingCapabilities(t) {
			newer = append(newer, explanation{"/process/capabilities/" + set + "/[" + name + "]", "a newer engine gives none that this machine's root lacks", weAlone, true})
		}
	}
	newer = slices.Clip(newer)
	allDevices := explanation{"/linux/resources/devices/**", "a newer engine has other rules before the one that allows all", theyAlone, true}
	devices := testenv.Dir(t)
	for name, number := range map[string]uint64{"null": unix.Mkdev(1, 3), "below/zero": unix.Mkdev(1, 5)} {
		file := filepath.Join(devices, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mknod(file, unix.S_IFCHR|0o640, int(number)); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name   string
		args   []string
		differ []explanation
	}{
		{"privileged", []string{"--privileged"}, append(newer, allDevices)},
		{"privileged with all", []string{"--privileged", "--net", "host", "--pid", "host", "--ipc", "host", "--uts", "host", "--cap-drop", "ALL",
			"--security-opt", "seccomp=unconfined", "--device", "/dev/full:/dev/other:r", "--read-only"}, append(newer, hostNetwork, allDevices)},
		{"all capabilities", []string{"--cap-add", "ALL", "--cap-drop", "SYS_ADMIN"}, newer},
		{"block I/O", []string{"--blkio-weight", "300", "--blkio-weight-device", disk + ":200", "--device-read-bps", disk + ":1mb", "--device-write-bps", disk + ":2mb",
			"--device-read-iops", disk + ":100", "--device-write-iops", disk + ":200"}, nil},
		{"real-time and OOM", []string{"--memory", "64m", "--oom-kill-disable", "--kernel-memory", "50m"},
			[]explanation{{"/linux/resources/memory/kernel", "runtimes ignore it", theyAlone, true}}},
		{"no limits", []string{"--memory", "64m", "--memory-swap", "-1", "--pids-limit", "-1", "--ulimit", "memlock=-1:-1"}, nil},
		{"profiles", []string{"--security-opt", "apparmor=unconfined", "--security-opt", "label=disable", "--security-opt", "no-new-privileges=false"},
			[]explanation{{"/process/apparmorProfile", "no profile and the name unconfined are the same", theyAlone, true}}},
		{"shared IPC", []string{"--ipc", "shareable", "--shm-size", "1g", "--cgroup-parent", "/" + testenv.Tag},
			[]explanation{{"/mounts/[/dev/shm]/**", "the engine's own /dev/shm, for others to share: the bundle's is as large", "", false}}},
		{"another's namespaces", []string{"--net", "container:" + other, "--pid", "container:" + other, "--volumes-from", other}, []explanation{
			{"/linux/namespaces/[network]/path", ofOther, theyAlone, false}, {"/linux/namespaces/[pid]/path", ofOther, theyAlone, false},
			{"/linux/sysctl/**", "the engine leaves another container's network alone", weAlone, false}}},
		{"init", []string{"--init"}, []explanation{
			{"/process/args", "the engine's init process stands before the command", "", false},
			{"/mounts/[/sbin/docker-init]/**", "the engine's init process", theyAlone, false}}},
		{"profile", []string{"--security-opt", "seccomp=" + profile(t)}, nil},
		{"a directory of devices", []string{"--device", devices + ":/dev/m:rw"}, nil},
		{"a /dev of its own", []string{"-v", "/dev:/dev"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			name := testenv.Name()
			l.docker(t, slices.Concat([]string{"create", "--name", name, "--runtime", "recorder"}, test.args, []string{l.plain, "redis-server", "--port", "0"})...)
			l.removeLater(t, name)
			failed := l.Docker(t.Context(), "start", name).Run()
			id := strings.TrimSpace(l.docker(t, "inspect", "-f", "{{.Id}}", name))
			t.Logf("docker start: %v", failed)
			_, ours := l.importSpec(t, []byte(l.docker(t, "inspect", name)), imageconfig.Options{})
			compare(t, l.RecordedConfig(t, id), ours, ofDocker, test.differ)
		})
	}
}

// missingCapabilities are those that root may lack in a container, and lacks here.
func missingCapabilities(t *testing.T) (names []string) {
	t.Helper()
	for name, number := range map[string]uintptr{"CAP_NET_ADMIN": unix.CAP_NET_ADMIN, "CAP_SYS_ADMIN": unix.CAP_SYS_ADMIN, "CAP_SYS_BOOT": unix.CAP_SYS_BOOT,
		"CAP_SYS_MODULE": unix.CAP_SYS_MODULE, "CAP_SYS_PTRACE": unix.CAP_SYS_PTRACE, "CAP_SYS_RAWIO": unix.CAP_SYS_RAWIO,
		"CAP_SYS_RESOURCE": unix.CAP_SYS_RESOURCE, "CAP_SYS_TIME": unix.CAP_SYS_TIME, "CAP_SYSLOG": unix.CAP_SYSLOG} {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, number, 0, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		if has == 0 {
			names = append(names, name)
		}
	}
	return names
}

// blockDevice is any block device of this machine.
func blockDevice(t *testing.T) string {
	t.Helper()
	list, err := os.ReadFile("/proc/partitions")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(list)) {
		if f := strings.Fields(line); len(f) == 4 && f[0] != "major" {
			if _, err := os.Stat("/dev/" + f[3]); err == nil {
				return "/dev/" + f[3]
			}
		}
	}
	t.Fatal("this machine has no block device")
	return ""
}

// profile writes a seccomp profile with a rule that depends on a capability.
func profile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(testenv.Dir(t), "profile.json")
	text := `{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]},
		{"architecture":"SCMP_ARCH_AARCH64","subArchitectures":["SCMP_ARCH_ARM"]}],
		"syscalls":[{"names":["read","write"],"action":"SCMP_ACT_ALLOW"},
		{"names":["chroot"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_CHROOT"]}},
		{"names":["reboot"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_BOOT"]}}]}`
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// What the default profile allows depends on the capabilities, in the engine's version
// of it and in ours.
func TestSeccomp(t *testing.T) {
	l := start(t)
	gated := map[string]string{"settimeofday": "SYS_TIME", "reboot": "SYS_BOOT", "init_module": "SYS_MODULE", "mount": "SYS_ADMIN", "acct": "SYS_PACCT"}
	for _, capability := range []string{"", "SYS_TIME", "SYS_BOOT", "SYS_MODULE", "SYS_ADMIN"} {
		name := testenv.Name()
		l.docker(t, "create", "--name", name, "--runtime", "recorder", "--cap-add", cmp.Or(capability, "CHOWN"), l.plain, "redis-server", "--port", "0")
		l.removeLater(t, name)
		started := l.Docker(t.Context(), "start", name).Run()
		t.Logf("docker start with %q: %v", capability, started)
		_, ours := l.importSpec(t, []byte(l.docker(t, "inspect", name)), imageconfig.Options{})
		engine := decode(t, l.RecordedConfig(t, strings.TrimSpace(l.docker(t, "inspect", "-f", "{{.Id}}", name))))
		mine := decode(t, ours)
		allowed := func(c *specs.LinuxSeccomp, call string) bool {
			return slices.ContainsFunc(c.Syscalls, func(s specs.LinuxSyscall) bool { return slices.Contains(s.Names, call) })
		}
		for call, needs := range gated {
			if want := needs == capability; allowed(engine.Linux.Seccomp, call) != want || allowed(mine.Linux.Seccomp, call) != want {
				t.Errorf("with %q, %s: the engine allows it: %v, we: %v, want %v", capability, call,
					allowed(engine.Linux.Seccomp, call), allowed(mine.Linux.Seccomp, call), want)
			}
		}
	}
}
