package check

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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

const (
	machineX86   = 62
	machineS390  = 22
	machineARM64 = 183
)

func TestBroken(t *testing.T) {
	h := asRoot(t)
	in := stream(t)
	outside := testenv.Dir(t)
	must(t, os.WriteFile(filepath.Join(outside, "file"), []byte("x"), 0o644))
	program, err := os.ReadFile(filepath.Join(h.bundle(t, in), "rootfs/bin/true"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(outside, "true"), program, 0o755))
	must(t, os.MkdirAll(filepath.Join(outside, "empty"), 0o755))

	write := func(t *testing.T, rootfs, name, text string, mode os.FileMode) {
		t.Helper()
		must(t, os.WriteFile(filepath.Join(rootfs, name), []byte(text), mode))
		must(t, os.Chmod(filepath.Join(rootfs, name), mode))
	}
	args := func(a ...any) func(document) { return func(d document) { d.process()["args"] = a } }
	must(t, os.WriteFile(filepath.Join(outside, "hosts"), []byte("127.0.0.1 localhost\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(outside, "resolv.conf"), []byte("nameserver 192.0.2.1\n"), 0o644))
	hostNetwork := func(d document) {
		d.object("linux")["namespaces"] = without(d.object("linux")["namespaces"], func(m map[string]any) bool { return m["type"] == "network" })
	}
	dropMount := func(d document, at string) {
		d["mounts"] = without(d["mounts"], func(m map[string]any) bool { return m["destination"] == at })
	}
	native := uint16(machineX86)
	if strings.HasPrefix(testenv.Output(t, exec.CommandContext(t.Context(), "uname", "-m")), "aarch64") {
		native = machineARM64
	}
	mapping := func(d document, maps ...any) {
		d.namespace("user")
		d.object("linux")["uidMappings"] = maps
		d.object("linux")["gidMappings"] = maps
	}
	idmap := func(c, h, n int) map[string]any { return map[string]any{"containerID": c, "hostID": h, "size": n} }

	type runc int
	const (
		refuses runc = iota // runc does not run it either
		takes               // runc runs it: there is nothing to find, or what is found is a danger rather than an obstacle
		unasked             // it depends on the runtime, or on what this host lacks
	)
	for _, tt := range []struct {
		name   string
		config func(document)
		rootfs func(t *testing.T, rootfs string)
		want   []string // code and place of every finding
		runc   runc
	}{
		{name: "sound", runc: takes},
		{name: "unknown member", config: func(d document) { d.process()["arg"] = []any{"x"} }, want: []string{"schema /process/arg"}, runc: unasked},
		{name: "two mistakes", config: func(d document) { d.process()["cwd"] = 1; d["hostnam"] = "x" },
			want: []string{"schema /hostnam", "schema /process/cwd"}},
		{name: "no process", config: func(d document) { delete(d, "process") }, want: []string{"schema /process"}},
		{name: "no root", config: func(d document) { delete(d, "root") }, want: []string{"schema /root"}},
		{name: "no version", config: func(d document) { delete(d, "ociVersion") }, want: []string{"schema /ociVersion"}, runc: unasked},
		{name: "root elsewhere", config: func(d document) { d.object("root")["path"] = outside }, want: []string{"rootfs /root/path"}},
		{name: "root missing", config: func(d document) { d.object("root")["path"] = "nothing" }, want: []string{"rootfs /root/path"}},

		{name: "no name server in the host's network", config: hostNetwork, rootfs: func(t *testing.T, rootfs string) {
			write(t, rootfs, "etc/resolv.conf", "# nameserver 192.0.2.1\nsearch example.org\n", 0o644)
			write(t, rootfs, "etc/hosts", "", 0o644)
		}, want: []string{"hosts /etc/hosts", "resolv /etc/resolv.conf"}, runc: takes},
		{name: "a link to no name server", config: hostNetwork, rootfs: func(t *testing.T, rootfs string) {
			for name, to := range map[string]string{"etc/resolv.conf": "../run/stub-resolv.conf", "etc/hosts": "/etc/gone"} {
				must(t, os.Remove(filepath.Join(rootfs, name)))
				must(t, os.Symlink(to, filepath.Join(rootfs, name)))
			}
		}, want: []string{"hosts /etc/hosts", "resolv /etc/resolv.conf"}, runc: takes},
		{name: "names by mounts", config: func(d document) {
			hostNetwork(d)
			d.mount(bind(filepath.Join(outside, "hosts"), "/etc/hosts", "ro"), bind(filepath.Join(outside, "resolv.conf"), "/etc/resolv.conf", "ro"))
		}, rootfs: func(t *testing.T, rootfs string) {
			write(t, rootfs, "etc/resolv.conf", "", 0o644)
			write(t, rootfs, "etc/hosts", "", 0o644)
		}, runc: takes},
		{name: "no names in a network of its own", rootfs: func(t *testing.T, rootfs string) {
			write(t, rootfs, "etc/resolv.conf", "", 0o644)
			write(t, rootfs, "etc/hosts", "", 0o644)
		}, runc: takes},

		{name: "no such command", config: args("nothing"), want: []string{"command-not-found /process/args/0"}},
		{name: "no such path", config: args("/bin/nothing"), want: []string{"command-not-found /process/args/0"}},
		{name: "absolute", config: args("/bin/true"), runc: takes},
		{name: "through a link", config: args("link"), runc: takes},
		{name: "relative", config: func(d document) { d.process()["cwd"] = "/bin"; d.process()["args"] = []any{"./true"} }, runc: takes},
		{name: "relative to nothing", config: args("./true"), want: []string{"command-not-found /process/args/0"}},
		{name: "a file for a directory", config: args("/etc/file/true"), want: []string{"command-not-found /process/args/0"}},
		{name: "a directory", config: args("/bin"), want: []string{"command-not-found /process/args/0"}},
		{name: "no PATH", config: func(d document) { d.process()["env"] = []any{"TERM=xterm"} }, want: []string{"path-unset /process/args/0"}},
		{name: "relative PATH", config: func(d document) { d.process()["env"] = []any{"PATH=bin"} }, want: []string{"command-not-found /process/args/0"}},
		{name: "the last PATH counts", config: func(d document) { d.process()["env"] = []any{"PATH=/nothing", "PATH=/bin"} }, runc: takes},
		{name: "not executable", config: args("/etc/file"), want: []string{"command-permission /process/args/0"}},
		{name: "not executable in PATH", rootfs: func(t *testing.T, r string) { must(t, os.Chmod(r+"/bin/true", 0o644)) },
			want: []string{"command-permission /process/args/0"}},
		{name: "another's", config: func(d document) { d.object("process", "user")["uid"] = 1000; d.object("process", "user")["gid"] = 1000 },
			rootfs: func(t *testing.T, r string) { must(t, os.Chmod(r+"/bin/true", 0o700)) },
			want:   []string{"command-permission /process/args/0"}},
		{name: "the group's", config: func(d document) { d.object("process", "user")["uid"] = 1000; d.object("process", "user")["gid"] = 0 },
			rootfs: func(t *testing.T, r string) { must(t, os.Chmod(r+"/bin/true", 0o710)) }, runc: takes},
		{name: "another group's", config: func(d document) {
			d.object("process", "user")["uid"] = 1000
			d.object("process", "user")["gid"] = 1000
			d.object("process", "user")["additionalGids"] = []any{0}
		}, rootfs: func(t *testing.T, r string) { must(t, os.Chmod(r+"/bin/true", 0o710)) }, runc: takes},
		{name: "behind a closed directory", config: func(d document) { d.object("process", "user")["uid"] = 1000; d.object("process", "user")["gid"] = 1000 },
			rootfs: func(t *testing.T, r string) { must(t, os.Chmod(r+"/bin", 0o700)) },
			want:   []string{"command-permission /process/args/0"}},
		{name: "no format", rootfs: func(t *testing.T, r string) { write(t, r, "bin/true", "true\n", 0o755) }, want: []string{"command-format /bin/true"}},
		{name: "empty", rootfs: func(t *testing.T, r string) { write(t, r, "bin/true", "", 0o755) }, want: []string{"command-format /bin/true"}},
		{name: "half an ELF file", rootfs: func(t *testing.T, r string) { write(t, r, "bin/true", elfFile(native, "")[:60], 0o755) },
			want: []string{"command-format /bin/true"}},
		{name: "another machine", rootfs: func(t *testing.T, r string) { write(t, r, "bin/true", elfFile(machineS390, "/lib/ld"), 0o755) },
			want: []string{"architecture /bin/true"}},
		{name: "no loader", rootfs: func(t *testing.T, r string) { write(t, r, "bin/true", elfFile(native, "/lib/ld"), 0o755) },
			want: []string{"interpreter /bin/true"}},
		{name: "another machine's loader", rootfs: func(t *testing.T, r string) {
			write(t, r, "bin/true", elfFile(native, "/bin/ld"), 0o755)
			write(t, r, "bin/ld", elfFile(machineS390, "/x"), 0o755)
		}, want: []string{"architecture /bin/true"}},
		{name: "script", rootfs: func(t *testing.T, r string) {
			write(t, r, "bin/true", "#! /bin/run -x\n", 0o755)
			write(t, r, "bin/run", string(program), 0o755)
		},
			runc: takes},
		{name: "script without interpreter", rootfs: func(t *testing.T, r string) { write(t, r, "bin/true", "#!/bin/sh\n", 0o755) },
			want: []string{"interpreter /bin/true"}},
		{name: "interpreter not executable", rootfs: func(t *testing.T, r string) { write(t, r, "bin/true", "#!/etc/file\n", 0o755) },
			want: []string{"interpreter /bin/true"}},
		{name: "script that is its own interpreter", rootfs: func(t *testing.T, r string) { write(t, r, "bin/true", "#!/bin/true\n", 0o755) },
			want: []string{"interpreter /bin/true"}},
		{name: "carriage return", rootfs: func(t *testing.T, r string) {
			write(t, r, "bin/true", "#!/bin/run\r\n", 0o755)
			write(t, r, "bin/run", string(program), 0o755)
		}, want: []string{"interpreter /bin/true"}},

		{name: "covered by a tmpfs", config: func(d document) { d.mount(tmpfs("/bin")) }, want: []string{"command-not-found /process/args/0"}},
		{name: "covered by a directory", config: func(d document) { d.mount(bind(outside+"/empty", "/bin")) }, want: []string{"command-not-found /process/args/0"}},
		{name: "given by a mount", config: func(d document) { d.mount(bind(outside, "/srv/app")); d.process()["args"] = []any{"/srv/app/true"} }, runc: takes},
		{name: "given by a mounted file", config: func(d document) {
			d.mount(bind(outside+"/true", "/srv/prog"))
			d.process()["args"] = []any{"/srv/prog"}
		}, runc: takes},
		{name: "given by a mount in a mount", config: func(d document) {
			d.mount(tmpfs("/srv"), bind(outside, "/srv/app"))
			d.process()["args"] = []any{"/srv/app/true"}
		}, runc: takes},
		{name: "a mount over that one", config: func(d document) {
			d.mount(bind(outside, "/srv/app"), tmpfs("/srv"))
			d.process()["args"] = []any{"/srv/app/true"}
		}, want: []string{"command-not-found /process/args/0"}},
		{name: "a tmpfs that keeps what was there", config: func(d document) { d.mount(tmpfs("/bin", "tmpcopyup")) }, runc: unasked},
		{name: "noexec", config: func(d document) { d.mount(bind(outside, "/srv", "noexec")); d.process()["args"] = []any{"/srv/true"} },
			want: []string{"command-noexec /process/args/0"}},

		{name: "no source", config: func(d document) { d.mount(bind(outside+"/nothing", "/mnt")) }, want: []string{"bind-source /mounts/7/source"}},
		{name: "file on a directory", config: func(d document) { d.mount(bind(outside+"/file", "/opt")) }, want: []string{"mount-target /mounts/7/destination"}},
		{name: "directory on a file", config: func(d document) { d.mount(bind(outside, "/etc/file")) }, want: []string{"mount-target /mounts/7/destination"}},
		{name: "below a file", config: func(d document) { d.mount(tmpfs("/etc/file/below")) }, want: []string{"mount-target /mounts/7/destination"}},
		{name: "target is a link", config: func(d document) { d.mount(tmpfs("/data")) },
			rootfs: func(t *testing.T, r string) { must(t, os.Symlink("/opt", r+"/data")) },
			want:   []string{"mount-symlink /mounts/7/destination"}, runc: unasked},
		{name: "proc is a link", rootfs: func(t *testing.T, r string) { must(t, os.Remove(r+"/proc")); must(t, os.Symlink("opt", r+"/proc")) },
			want: []string{"mount-symlink /mounts/0/destination"}, runc: unasked},
		{name: "below a link", config: func(d document) { d.mount(tmpfs("/run2/data")) },
			rootfs: func(t *testing.T, r string) { must(t, os.Symlink("/opt", r+"/run2")) }, runc: takes},
		{name: "leads above the rootfs", config: func(d document) { d.mount(tmpfs("/up/etc")) },
			rootfs: func(t *testing.T, r string) { must(t, os.Symlink("../../../..", r+"/up")) },
			want:   []string{"mount-escape /mounts/7/destination"}, runc: unasked},
		{name: "target loops", config: func(d document) { d.mount(tmpfs("/loop/x")) },
			rootfs: func(t *testing.T, r string) { must(t, os.Symlink("loop", r+"/loop")) },
			want:   []string{"mount-symlink /mounts/7/destination"}},
		{name: "missing in a read-only mount", config: func(d document) { d.mount(bind(outside+"/empty", "/opt", "ro"), tmpfs("/opt/below")) },
			want: []string{"mount-target /mounts/8/destination"}},
		{name: "null is a link", config: func(d document) { dropMount(d, "/dev") },
			rootfs: func(t *testing.T, r string) { must(t, os.Symlink("/etc/file", r+"/dev/null")) },
			want:   []string{"device-symlink /dev/null"}, runc: unasked},

		{name: "cwd is a file", config: func(d document) { d.process()["cwd"] = "/etc/file" }, want: []string{"cwd /process/cwd"}},
		{name: "cwd is made", config: func(d document) { d.process()["cwd"] = "/not/there" }, runc: takes},
		{name: "cwd is a descriptor", config: func(d document) { d.process()["cwd"] = "/proc/self/fd/7" }, want: []string{"cwd-descriptor /process/cwd"}},
		{name: "cwd leads to a descriptor", config: func(d document) { d.process()["cwd"] = "/work" },
			rootfs: func(t *testing.T, r string) { must(t, os.Symlink("/proc/self/fd/7", r+"/work")) },
			want:   []string{"cwd-descriptor /process/cwd"}},

		{name: "huge uid", config: func(d document) { d.object("process", "user")["uid"] = 1<<32 - 1 }, want: []string{"unmapped-id /process/user/uid"}},
		{name: "unmapped user", config: func(d document) { mapping(d, idmap(0, 0, 100)); d.object("process", "user")["uid"] = 100 },
			want: []string{"unmapped-id /process/user/uid", "owner /opt/other"}},
		{name: "no mapping", config: func(d document) { d.namespace("user") }, want: []string{"mapping /linux/uidMappings", "mapping /linux/gidMappings"}},
		{name: "no root in the mapping", config: func(d document) { mapping(d, idmap(1, 0, 65536)) },
			want: []string{"unmapped-id /process/user/uid", "unmapped-id /process/user/gid", "mapping /linux/uidMappings", "mapping /linux/gidMappings"}},
		{name: "another mapping than on disk", config: func(d document) { mapping(d, idmap(0, 300000, 65536)) }, rootfs: func(t *testing.T, r string) {
			must(t, os.Chmod(filepath.Dir(r), 0o755))
		}, want: []string{"owner rootfs", "owner *"}, runc: unasked},
		{name: "no namespace for the ids on disk", rootfs: func(t *testing.T, r string) { must(t, os.Chown(r, 300000, 300000)) },
			want: []string{"owner rootfs"}, runc: unasked},
		{name: "terminals of a group that is not mapped", config: func(d document) { mapping(d, idmap(0, 0, 1)) },
			rootfs: func(t *testing.T, r string) { must(t, os.Chown(r+"/opt/other", 0, 0)) },
			want:   []string{"mount-id /mounts/2"}},
		{name: "sysfs of the host's network", config: func(d document) {
			mapping(d, idmap(0, 0, 65536))
			d.object("linux")["namespaces"] = without(d.object("linux")["namespaces"], func(n map[string]any) bool { return n["type"] == "network" })
		}, want: []string{"kernel-mount /mounts/5"}, runc: unasked},
		{name: "ids of a mount without a mapping", config: func(d document) { d.mount(bind(outside, "/opt", "idmap")) },
			want: []string{"mount-idmap /mounts/7"}, runc: unasked}, // runc 1.1 mounts it as it is
		{name: "lowered OOM score", config: func(d document) { mapping(d, idmap(0, 0, 65536)); d.process()["oomScoreAdj"] = -5 },
			want: []string{"oom-score /process/oomScoreAdj"}, runc: unasked},

		{name: "no such namespace", config: func(d document) {
			d.object("linux")["namespaces"] = without(d.object("linux")["namespaces"], func(n map[string]any) bool { return n["type"] == "network" })
			d.namespace("network", "/run/netns/nothing")
		}, want: []string{"namespace-path /linux/namespaces/4/path"}},
		{name: "no such hook", config: func(d document) {
			d["hooks"] = map[string]any{"createRuntime": []any{map[string]any{"path": "/nothing"}}}
		},
			want: []string{"hook /hooks/createRuntime/0/path"}},
		{name: "SELinux", config: func(d document) { d.process()["selinuxLabel"] = "a:b:c:d" }, want: []string{"security-module /process/selinuxLabel"}, runc: unasked},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := h.bundle(t, in, "--template", "runc")
			if tt.config != nil {
				change(t, dir, tt.config)
			}
			if tt.rootfs != nil {
				tt.rootfs(t, filepath.Join(dir, "rootfs"))
			}
			if tt.name == "SELinux" {
				if _, err := os.Stat("/sys/fs/selinux/enforce"); err == nil {
					tt.want = nil
				}
			}
			var got []string
			all := h.check(t, dir)
			for _, f := range all {
				got = append(got, f.Code+" "+f.where())
			}
			if !slices.EqualFunc(got, tt.want, func(got, want string) bool {
				code, any := strings.CutSuffix(want, "*") // which file is the first is the filesystem's choice
				return got == want || any && strings.HasPrefix(got, code)
			}) {
				t.Errorf("found %q\nwant  %q\n%+v", got, tt.want, all)
			}
			if tt.runc == unasked {
				return
			}
			if ok, says := h.runs(t, dir); ok != (tt.runc == takes) {
				t.Errorf("runc runs it: %v\n%s", ok, says)
			}
		})
	}
}

// A directory above the bundle that the container's root may not search.
func TestParent(t *testing.T) {
	h := asRoot(t)
	h.dir = filepath.Join(h.dir, "closed")
	must(t, os.Mkdir(h.dir, 0o700))
	dir := h.bundle(t, stream(t), "--uidmap", "0:300000:65536")
	got := h.check(t, dir)
	if len(got) != 1 || got[0].Code != "parent" || got[0].Path != h.dir {
		t.Errorf("found %+v", got)
	}
	if ok, _ := h.runs(t, dir); ok {
		t.Error("runc runs it")
	}
	must(t, os.Chmod(h.dir, 0o711))
	if got := h.check(t, dir); len(got) > 0 {
		t.Errorf("found %+v", got)
	}
	if ok, says := h.runs(t, dir); !ok {
		t.Errorf("runc does not run it: %s", says)
	}
}

// What the main job makes of a real container has no findings, whoever makes it.
func TestNothingToFind(t *testing.T) {
	export, err := os.ReadFile(testenv.RedisExport(t))
	must(t, err)
	user := testenv.UserOptions{SubIDs: 65536}
	for _, tt := range []struct {
		name string
		host func(*testing.T) *host
		args []string
	}{
		{"root", asRoot, nil},
		{"root, docker", asRoot, []string{"--template", "docker", "--user", "redis"}},
		{"root, explicit", asRoot, []string{"--uidmap", "0:300000:65536"}},
		{"root, self", asRoot, []string{"--remap", "self"}},
		{"root, absolute", asRoot, []string{"--absolute-root", "--net", "host", "--resolv", "auto"}},
		{"user, subid", func(t *testing.T) *host { return asUser(t, user) }, []string{"--remap", "subid"}},
		{"user, subid, host", func(t *testing.T) *host { return asUser(t, user) }, []string{"--remap", "subid", "--net", "host", "--template", "docker", "--resolv", "auto"}},
		{"user, self", func(t *testing.T) *host { return asUser(t, user) }, []string{"--remap", "self"}},
		{"user without ranges", func(t *testing.T) *host { return asUser(t, testenv.UserOptions{}) }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := tt.host(t)
			dir := h.bundle(t, export, append(tt.args, "--", "redis-server", "--version")...)
			if got := h.check(t, dir); len(got) > 0 {
				t.Errorf("found %+v", got)
			}
		})
	}
}

// What an ordinary user's runtime refuses.
func TestRootless(t *testing.T) {
	testenv.NeedTool(t, "newuidmap")
	h := asUser(t, testenv.UserOptions{SubIDs: 65536})
	in := stream(t)
	as := func(dir string) {
		testenv.Output(t, exec.CommandContext(t.Context(), "chown", "-R", h.user.Name+":", filepath.Join(dir, "config.json")))
	}
	for _, tt := range []struct {
		name   string
		config func(document)
		want   []string
	}{
		{"sound", func(document) {}, nil},
		{"groups", func(d document) { d.object("process", "user")["additionalGids"] = []any{5} }, []string{"additional-groups /process/user/additionalGids"}},
		{"limit", func(d document) { d.object("linux", "resources", "memory")["limit"] = 1 << 30 }, []string{"cgroup /linux/resources/memory"}},
		{"no user namespace", func(d document) {
			d.object("linux")["namespaces"] = without(d.object("linux")["namespaces"], func(n map[string]any) bool { return n["type"] == "user" })
		}, []string{"user-namespace /linux/namespaces"}},
		{"another's mapping", func(d document) {
			d.object("linux")["uidMappings"] = []any{map[string]any{"containerID": 0, "hostID": 0, "size": 65536}}
		}, []string{"mapping /linux/uidMappings"}},
		{"hard limit", func(d document) {
			d.process()["rlimits"] = []any{map[string]any{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": uint64(1<<64 - 1)}}
		}, []string{"rlimit /process/rlimits/0"}},
		{"unmapped files", func(d document) {
			for _, kind := range []string{"uid", "gid"} {
				maps := d.object("linux")[kind+"Mappings"].([]any)
				for i, m := range maps {
					if i > 0 {
						m.(map[string]any)["size"] = 10
					}
				}
			}
		}, []string{"owner /opt/other"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := h.bundle(t, in, "--remap", "subid")
			change(t, dir, tt.config)
			as(dir)
			var got []string
			all := h.check(t, dir)
			for _, f := range all {
				got = append(got, f.Code+" "+f.where())
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("found %q\nwant  %q\n%+v", got, tt.want, all)
			}
			if tt.name == "unmapped files" {
				return // they are nobody's, and the container starts
			}
			if ok, says := h.runs(t, dir); ok != (tt.want == nil) {
				t.Errorf("runc runs it: %v\n%s", ok, says)
			}
		})
	}
}

// Without the helpers a user's bundle cannot be read whole, and that is what is said, not that its ids are wrong.
func TestWithoutHelpers(t *testing.T) {
	testenv.NeedTool(t, "newuidmap")
	h := asUser(t, testenv.UserOptions{SubIDs: 65536})
	dir := h.bundle(t, stream(t), "--remap", "subid")
	for command, code := range map[string]int{"check": 3, "export": 2} {
		cmd := h.command(t.Context(), testenv.Binary(t), command, dir)
		cmd.Env = append(cmd.Env, "PATH=/nowhere")
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(string(out), "find newuidmap in PATH: not found") {
			t.Errorf("%s: exit code %d, want %d: %s", command, got, code, out)
		}
	}
}
