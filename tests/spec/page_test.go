package spec

import (
	"encoding/json"
	"reflect"
	"testing"
)

// The config at the end of containerd's page "Creating OCI bundles", with today's shapes where
// runtime-spec has changed them since: the version, the capabilities in sets, no platform. The page
// edits it by hand; here it comes from flags alone.
const redisPage = `{
	"ociVersion": "1.0.0",
	"process": {
		"terminal": true,
		"user": {"uid": 0, "gid": 0},
		"args": ["redis-server", "--bind", "0.0.0.0"],
		"env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
		"cwd": "/",
		"capabilities": {
			"bounding": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
			"effective": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
			"permitted": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
			"ambient": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
		},
		"rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
		"noNewPrivileges": true
	},
	"root": {"path": "rootfs", "readonly": true},
	"hostname": "runc",
	"mounts": [
		{"destination": "/proc", "type": "proc", "source": "proc"},
		{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
		{"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
		{"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
		{"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
		{"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
		{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
	],
	"hooks": {},
	"linux": {
		"resources": {"devices": [{"allow": false, "access": "rwm"}]},
		"namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
		"maskedPaths": ["/proc/kcore", "/proc/latency_stats", "/proc/timer_stats", "/proc/sched_debug"],
		"readonlyPaths": ["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
	}
}`

func sameJSON(t *testing.T, got, want string) {
	t.Helper()
	var a, b any
	if err := json.Unmarshal([]byte(got), &a); err != nil {
		t.Fatalf("%v\n%s", err, got)
	}
	if err := json.Unmarshal([]byte(want), &b); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("differs by:\n%s", changes(t, want, got))
	}
}

func TestContainerdPage(t *testing.T) {
	dir := t.TempDir()
	sameJSON(t, good(t, dir, "", "spec", "--template", "runc",
		"--net", "host", "--cgroupns", "host",
		// What newer runtimes mask beyond those of the page.
		"--set", `/linux/maskedPaths=["/proc/kcore","/proc/latency_stats","/proc/timer_stats","/proc/sched_debug"]`,
		"--add", "/linux/readonlyPaths/0=/proc/asound",
		"--set", "/hooks={}",
		"--", "redis-server", "--bind", "0.0.0.0"), redisPage)

	// The same by other words, from nothing but an empty process: every edit flag of the page's own
	// subjects.
	sameJSON(t, good(t, dir, "", "spec",
		"--remove", "/linux", "--set", "/linux/resources/devices/-/allow=false", "--set", "/linux/resources/devices/0/access=rwm",
		"--pid", "private", "--ipc", "private", "--uts", "private", "--set", "/linux/namespaces/-/type=mount",
		"--set", `/linux/maskedPaths=["/proc/kcore","/proc/latency_stats","/proc/timer_stats","/proc/sched_debug"]`,
		"--set", `/linux/readonlyPaths=["/proc/asound","/proc/bus","/proc/fs","/proc/irq","/proc/sys","/proc/sysrq-trigger"]`,
		"--cap-drop", "ALL", "--set", "/process/capabilities/ambient=[]",
		"--cap-add", "AUDIT_WRITE", "--cap-add", "KILL", "--cap-add", "NET_BIND_SERVICE",
		"--ulimit", "nofile=1024", "--security-opt", "no-new-privileges", "--tty", "--read-only",
		"--unsetenv", "HOSTNAME", "--user", "0:0", "--remove", "/process/user/additionalGids", "--remove", "/process/oomScoreAdj",
		"--hostname", "runc",
		"--remove", "/mounts/[destination=/proc]/options",
		"--move", "/mounts/[destination=/dev/shm]=/mounts/3",
		"--move", "/mounts/[destination=/dev/mqueue]=/mounts/4",
		"--set", "/mounts/[destination=/dev/shm]/options/4=size=65536k",
		"--set", `/mounts/[destination=/sys/fs/cgroup]/options=["nosuid","noexec","nodev","relatime","ro"]`,
		"--set", "/hooks={}",
		"--", "redis-server", "--bind", "0.0.0.0"), redisPage)
}
