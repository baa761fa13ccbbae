package imageconfig

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"ocibundle/specedit/imageconfig"
	"ocibundle/tests/testenv"
)

// The config made from podman inspect of a container is the one that podman made for
// it, where inspect says enough.
func TestPodmanContainerEqualsPodman(t *testing.T) {
	l := start(t)
	p := startPodman(t, l)
	p.load(t, testenv.Output(t, l.Docker(t.Context(), "save", l.full)))
	host := testenv.Dir(t)
	for _, name := range []string{"b1", "b2/b1"} { // the latter for what is mounted below
		if err := os.MkdirAll(filepath.Join(host, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	volume := explanation{"/mounts/[/data]/**", "an anonymous volume: the bundle keeps the rootfs's directory", theyAlone, false}
	ipc := explanation{"/linux/namespaces/[ipc]/**", "inspect of podman 4 says shareable where it is the host's", weAlone, true}
	for _, test := range []struct {
		name   string
		args   []string
		differ []explanation
	}{
		{"plain", []string{"--network", "none"}, nil},
		{"process", []string{"--network", "none", "-u", "0", "-w", "/usr", "-e", "A=1", "--hostname", "myhost", "-t", "--label", "l=m", "--annotation", "an=o",
			"--stop-signal", "12", "--umask", "0077", "--group-add", "7"}, nil},
		{"user's capabilities", []string{"--network", "none", "-u", "redis", "--cap-add", "NET_ADMIN", "--cap-drop", "MKNOD,CHOWN", "--security-opt", "no-new-privileges"}, nil},
		{"limits", []string{"--network", "none", "--memory", "64m", "--memory-reservation", "32m", "--memory-swap", "128m", "--cpus", "0.5", "--cpuset-cpus", "0", "--cpuset-mems", "0",
			"--pids-limit", "50", "--oom-score-adj", "100", "--ulimit", "nofile=100:200", "--ulimit", "core=-1", "--sysctl", "kernel.shm_rmid_forced=1"},
			[]explanation{{"/linux/sysctl/kernel.shm_rmid_forced", "inspect of podman 4 does not list it", theyAlone, true}}},
		{"mounts", []string{"--network", "none", "-v", host + "/b1:/m/b1", "-v", host + "/b2:/m:ro,private", "-v", "named:/named",
			"--mount", "type=bind,src=" + host + "/b1,dst=/one,readonly,bind-nonrecursive", "--tmpfs", "/t:size=1m,mode=1777", "--tmpfs", "/u"}, nil},
		{"read-only", []string{"--network", "none", "--read-only"}, nil},
		{"devices", []string{"--network", "none", "--device", "/dev/full:/dev/mynull:rw", "--security-opt", "seccomp=unconfined"}, []explanation{
			{"/linux/devices/[/dev/mynull]/fileMode", "podman leaves the type's bits in it", "", true},
			{"/linux/resources/devices/[allow c 1:7 rw]", "inspect does not list the permissions", theyAlone, true}}},
		{"host namespaces", []string{"--network", "host", "--pid", "host", "--uts", "host", "--ipc", "host", "--cgroupns", "private"}, []explanation{ipc}},
	} {
		t.Run(test.name, func(t *testing.T) {
			name := testenv.Name()
			p.output(t, slices.Concat([]string{"create", "--name", name, "--cgroup-parent", "/" + testenv.Tag}, test.args, []string{l.full})...)
			p.removeLater(t, name)
			// podman calls every bundle the same.
			if err := os.RemoveAll(filepath.Join(l.Dir, "bundles", "userdata.json")); err != nil {
				t.Fatal(err)
			}
			// podman raises limits as far as the host's root may, which not every
			// machine's may: what the runtime was given counts.
			t.Logf("podman init: %v", p.command(t.Context(), "init", name).Run())
			im, ours := l.importSpec(t, []byte(p.output(t, "inspect", name)), imageconfig.Options{})
			if im.Kind != imageconfig.PodmanContainer {
				t.Errorf("taken for %s", im.Kind)
			}
			compare(t, sortOptions(t, l.RecordedConfig(t, "userdata")), sortOptions(t, ours), ofPodman, append(test.differ, volume))
		})
	}
}

// sortOptions puts the options of each mount in order, for podman's have none, and
// leaves out rw, which says nothing.
func sortOptions(t *testing.T, config []byte) []byte {
	t.Helper()
	spec := decode(t, config)
	for i := range spec.Mounts {
		m := &spec.Mounts[i]
		m.Options = slices.DeleteFunc(m.Options, func(o string) bool { return o == "rw" })
		slices.Sort(m.Options)
	}
	return []byte(jsonOf(t, spec))
}
