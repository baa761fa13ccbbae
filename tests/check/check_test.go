package check

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

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

// stream is a container's filesystem with a static program, /bin/true, in it.
func stream(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "true.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", filepath.Join(dir, "true"), source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	testenv.Output(t, build)
	program, err := os.ReadFile(filepath.Join(dir, "true"))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h *tar.Header, text string) {
		h.Size = int64(len(text))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"bin", "dev", "etc", "opt", "proc", "sys", "tmp"} {
		add(&tar.Header{Typeflag: tar.TypeDir, Name: d + "/", Mode: 0o755}, "")
	}
	add(&tar.Header{Name: "bin/true", Mode: 0o755}, string(program))
	add(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/link", Linkname: "/bin/true"}, "")
	add(&tar.Header{Name: "etc/file", Mode: 0o644}, "text\n")
	add(&tar.Header{Name: "etc/hosts", Mode: 0o644}, "127.0.0.1\tlocalhost\n")
	add(&tar.Header{Name: "etc/resolv.conf", Mode: 0o644}, "nameserver 192.0.2.1\n")
	add(&tar.Header{Name: "opt/other", Mode: 0o644, Uid: 999, Gid: 999}, "")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// host is who makes, checks and runs bundles.
type host struct {
	user *testenv.User // nil: root
	dir  string
}

func asRoot(t *testing.T) *host {
	t.Helper()
	testenv.NeedRoot(t)
	return &host{dir: testenv.Dir(t)}
}

func asUser(t *testing.T, o testenv.UserOptions) *host {
	t.Helper()
	u := testenv.TempUser(t, o)
	return &host{u, u.Home}
}

func (h *host) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if h.user != nil {
		return h.user.Command(ctx, name, args...)
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = h.dir
	return cmd
}

// bundle makes a bundle whose command is true.
func (h *host) bundle(t *testing.T, in []byte, args ...string) string {
	t.Helper()
	dir := filepath.Join(h.dir, testenv.Name())
	if !slices.Contains(args, "--") {
		args = append(args, "--", "true")
	}
	cmd := h.command(t.Context(), testenv.Binary(t), append([]string{"-q", "-o", dir, "--resolv", "none", "--tty=false"}, args...)...)
	cmd.Stdin = bytes.NewReader(in)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ocibundle %q: %v\n%s", args, err, out)
	}
	return dir
}

type finding struct {
	Code    string  `json:"code"`
	Pointer *string `json:"pointer"`
	Path    string  `json:"path"`
	Message string  `json:"message"`
	Hint    string  `json:"hint"`
}

func (f finding) where() string {
	if f.Pointer != nil {
		return *f.Pointer
	}
	return f.Path
}

// check runs the command, as text and as JSON, and wants the two to agree with each other and with the exit status. What
// blocks for ever fails.
func (h *host) check(t *testing.T, dir string) []finding {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	run := func(args ...string) (string, string, int) {
		var stdout, stderr bytes.Buffer
		cmd := h.command(ctx, testenv.Binary(t), args...)
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
			t.Fatal(err)
		}
		return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
	}
	text, says, code := run("check", dir)
	out, _, jsonCode := run("check", "--json", dir)
	var report struct {
		Bundle   string
		Findings []finding
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("check --json: %v\n%s\n%s", err, out, says)
	}
	want := 0
	if len(report.Findings) > 0 {
		want = 3
	}
	if code != want || jsonCode != want || report.Bundle != dir {
		t.Errorf("check: exit %d, --json: exit %d, want %d, of %q\n%s%s", code, jsonCode, want, report.Bundle, text, says)
	}
	if lines := strings.Count(text, "\n"); lines != len(report.Findings) || (says == "") != (want == 0) {
		t.Errorf("check: %d lines for %d findings\n%s%s", lines, len(report.Findings), text, says)
	}
	return report.Findings
}

// runs reports whether runc runs the bundle to its end with status 0.
func (h *host) runs(t *testing.T, dir string) (bool, string) {
	t.Helper()
	testenv.NeedTool(t, "runc")
	id := testenv.Name()
	state := filepath.Join(h.dir, ".state")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	out, err := h.command(ctx, "runc", "--root", state, "run", "--bundle", dir, id).CombinedOutput()
	h.command(t.Context(), "runc", "--root", state, "delete", "--force", id).Run()
	return err == nil, string(out)
}

// document is a config.json being changed.
type document map[string]any

func (d document) object(names ...string) map[string]any {
	m := map[string]any(d)
	for _, n := range names {
		next, ok := m[n].(map[string]any)
		if !ok {
			next = map[string]any{}
			m[n] = next
		}
		m = next
	}
	return m
}

func (d document) process() map[string]any { return d.object("process") }

func (d document) mount(m ...any) {
	list, _ := d["mounts"].([]any)
	d["mounts"] = append(list, m...)
}

func (d document) namespace(kind string, more ...string) {
	n := map[string]any{"type": kind}
	if len(more) > 0 {
		n["path"] = more[0]
	}
	list, _ := d.object("linux")["namespaces"].([]any)
	d.object("linux")["namespaces"] = append(list, n)
}

// without removes the mounts and namespaces for which drop is true.
func without(list any, drop func(map[string]any) bool) []any {
	return slices.DeleteFunc(slices.Clone(list.([]any)), func(e any) bool { return drop(e.(map[string]any)) })
}

func tmpfs(at string, options ...any) map[string]any {
	return map[string]any{"destination": at, "type": "tmpfs", "source": "tmpfs", "options": append([]any{"nosuid"}, options...)}
}

func bind(from, to string, options ...any) map[string]any {
	return map[string]any{"destination": to, "type": "none", "source": from, "options": append([]any{"rbind"}, options...)}
}

func change(t *testing.T, dir string, f func(document)) {
	t.Helper()
	name := filepath.Join(dir, "config.json")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var d document
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&d); err != nil {
		t.Fatal(err)
	}
	f(d)
	if text, err = json.Marshal(d); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// elfFile is a program of 64 bits with one program header, PT_INTERP.
func elfFile(machine uint16, interp string) string {
	b := make([]byte, 64+56)
	copy(b, "\x7fELF\x02\x01\x01")
	put := func(at int, v uint64, n int) {
		for i := range n {
			b[at+i] = byte(v >> (8 * i))
		}
	}
	put(16, 2, 2) // ET_EXEC
	put(18, uint64(machine), 2)
	put(20, 1, 4)
	put(32, 64, 8) // e_phoff
	put(52, 64, 2)
	put(54, 56, 2)
	put(56, 1, 2)
	put(64, 3, 4) // PT_INTERP
	put(64+8, uint64(len(b)), 8)
	put(64+32, uint64(len(interp)+1), 8)
	return string(b) + interp + "\x00"
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

// A hostile bundle costs no more than a sound one: nothing blocks, nothing outside is looked at, nothing is changed.
func TestHostile(t *testing.T) {
	h := asRoot(t)
	in := stream(t)
	for _, tt := range []struct {
		name string
		make func(t *testing.T, dir string)
		want string // in the findings; empty: none
	}{
		{"FIFO for a config", func(t *testing.T, dir string) {
			must(t, os.Remove(dir+"/config.json"))
			must(t, syscall.Mkfifo(dir+"/config.json", 0o666))
		}, "config config.json"},
		{"link for a config", func(t *testing.T, dir string) {
			must(t, os.Rename(dir+"/config.json", dir+"/c"))
			must(t, os.Symlink("c", dir+"/config.json"))
		}, "config config.json"},
		{"gigabytes of config", func(t *testing.T, dir string) { must(t, os.Truncate(dir+"/config.json", 8<<30)) }, "config config.json"},
		{"deep config", func(t *testing.T, dir string) {
			must(t, os.WriteFile(dir+"/config.json", bytes.Repeat([]byte("["), 1<<20), 0o644))
		}, "schema "},
		{"config of mistakes", func(t *testing.T, dir string) {
			change(t, dir, func(d document) {
				for i := range 50_000 {
					d[fmt.Sprintf("x%d", i)] = 1
				}
			})
		}, "schema /x0"},
		{"a config of empty strings", func(t *testing.T, dir string) {
			change(t, dir, func(d document) { d.process()["env"] = slices.Repeat([]any{""}, 200_000) })
		}, "schema "},
		{"a config of mounts", func(t *testing.T, dir string) {
			change(t, dir, func(d document) {
				for range 5_000 {
					d.mount(bind("/nothing", "/mnt"))
				}
			})
		}, "bind-source /mounts/7/source"},
		{"rootfs is a link", func(t *testing.T, dir string) {
			must(t, os.Rename(dir+"/rootfs", dir+"/r"))
			must(t, os.Symlink("r", dir+"/rootfs"))
		}, "rootfs rootfs"},
		{"FIFO for a command", func(t *testing.T, dir string) {
			must(t, os.Remove(dir+"/rootfs/bin/true"))
			must(t, syscall.Mkfifo(dir+"/rootfs/bin/true", 0o777))
		}, "command-not-found /process/args/0"},
		{"FIFO for an interpreter", func(t *testing.T, dir string) {
			must(t, os.WriteFile(dir+"/rootfs/bin/true", []byte("#!/bin/fifo\n"), 0o755))
			must(t, syscall.Mkfifo(dir+"/rootfs/bin/fifo", 0o777))
			must(t, os.Chmod(dir+"/rootfs/bin/fifo", 0o777))
		}, "interpreter /bin/true"},
		{"device for a command", func(t *testing.T, dir string) {
			must(t, os.Remove(dir+"/rootfs/bin/true"))
			must(t, unix.Mknod(dir+"/rootfs/bin/true", unix.S_IFCHR|0o777, int(unix.Mkdev(1, 5))))
		}, "command-not-found /process/args/0"},
		{"command loops", func(t *testing.T, dir string) {
			must(t, os.Remove(dir+"/rootfs/bin/true"))
			must(t, os.Symlink("true", dir+"/rootfs/bin/true"))
		}, "command-not-found /process/args/0"},
		{"the host's program by an absolute link", func(t *testing.T, dir string) {
			must(t, os.Remove(dir+"/rootfs/bin/true"))
			must(t, os.Symlink("/usr/bin/env", dir+"/rootfs/bin/true"))
		}, "command-not-found /process/args/0"},
		{"the host's program by dots", func(t *testing.T, dir string) {
			must(t, os.Remove(dir+"/rootfs/bin/true"))
			must(t, os.Symlink(strings.Repeat("../", 30)+"usr/bin/env", dir+"/rootfs/bin/true"))
		}, "command-not-found /process/args/0"},
		{"the host's directory by a link", func(t *testing.T, dir string) {
			must(t, os.RemoveAll(dir+"/rootfs/bin"))
			must(t, os.Symlink("/usr/bin", dir+"/rootfs/bin"))
			change(t, dir, func(d document) { d.process()["args"] = []any{"env"} })
		}, "command-not-found /process/args/0"},
		{"the checker's own files", func(t *testing.T, dir string) {
			must(t, os.Remove(dir+"/rootfs/bin/true"))
			must(t, os.Symlink("/proc/self/root/usr/bin/env", dir+"/rootfs/bin/true"))
			change(t, dir, func(d document) {
				d["mounts"] = without(d["mounts"], func(m map[string]any) bool { return m["destination"] == "/proc" })
			})
		}, "command-not-found /process/args/0"},
		{"mounts that link to each other", func(t *testing.T, dir string) {
			for i := range 60 {
				must(t, os.Symlink(fmt.Sprintf("/l%d", i+1), fmt.Sprintf("%s/rootfs/l%d", dir, i)))
			}
			change(t, dir, func(d document) { d.mount(tmpfs("/l0")) })
		}, "mount-symlink /mounts/7/destination"},
		{"a very long path", func(t *testing.T, dir string) {
			change(t, dir, func(d document) { d.mount(tmpfs("/" + strings.Repeat("x/", 100_000))) })
		}, "mount-target /mounts/7/destination"},
		{"a PATH of links that lead on and on", func(t *testing.T, dir string) {
			for i := range 39 {
				must(t, os.Symlink(strings.Repeat("./", 1000)+fmt.Sprintf("l%d", i+1), fmt.Sprintf("%s/rootfs/l%d", dir, i)))
			}
			change(t, dir, func(d document) {
				d.process()["env"] = []any{"PATH=" + strings.Repeat("/l0:", 200_000)}
			})
		}, "more config.json"},
		{"mounts below links that lead on and on", func(t *testing.T, dir string) {
			must(t, os.Symlink(strings.Repeat("./", 1000)+"etc", dir+"/rootfs/l"))
			change(t, dir, func(d document) {
				for i := range 5_000 {
					d.mount(tmpfs(fmt.Sprintf("/l/%d", i)))
				}
			})
		}, "more config.json"},
		{"the host's /etc", func(t *testing.T, dir string) {
			must(t, os.RemoveAll(dir+"/rootfs/etc"))
			must(t, os.Symlink("/etc", dir+"/rootfs/etc"))
			change(t, dir, func(d document) { d.process()["args"] = []any{"/etc/passwd"} })
		}, "command-not-found /process/args/0"},
		{"FIFO for a source", func(t *testing.T, dir string) {
			must(t, syscall.Mkfifo(dir+"/fifo", 0o777))
			change(t, dir, func(d document) {
				d.mount(bind(dir+"/fifo", "/fifo"))
				d.process()["args"] = []any{"/fifo"}
			})
		}, "command-not-found /process/args/0"},
		{"the kernel's files for a source", func(t *testing.T, dir string) {
			change(t, dir, func(d document) { d.mount(bind("/proc", "/host")); d.process()["args"] = []any{"/host/kmsg"} })
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := h.bundle(t, in)
			tt.make(t, dir)
			before := tree(t, dir)
			found := h.check(t, dir)
			if after := tree(t, dir); after != before {
				t.Errorf("the bundle was changed:\n%s\nwas\n%s", after, before)
			}
			if len(found) > 600 {
				t.Errorf("%d findings", len(found))
			}
			switch {
			case tt.want == "" && len(found) > 0, tt.want != "" && len(found) == 0:
				t.Errorf("found %+v, want %q", found, tt.want)
			case len(found) > 0 && found[0].Code+" "+found[0].where() != tt.want:
				t.Errorf("found %+v, want %q", found, tt.want)
			}
		})
	}
}

// tree lists a directory with what a look at it must not change.
func tree(t *testing.T, dir string) string {
	t.Helper()
	return testenv.Output(t, exec.CommandContext(t.Context(), "find", dir, "-printf", "%P %y %m %U:%G %s %T@ %C@ %l\n"))
}

// A tree deeper than the number of open files, with the one file of a stranger at its end.
func TestDeepTree(t *testing.T) {
	h := asRoot(t)
	dir := h.bundle(t, stream(t), "--uidmap", "0:300000:65536")
	fd, err := unix.Open(dir+"/rootfs", unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	const deep = 3000
	for i := range deep {
		must(t, unix.Mkdirat(fd, "d", 0o755))
		must(t, unix.Fchownat(fd, "d", 300000, 300000, 0))
		for j := range 3 { // what is left to be read on the way back
			name := fmt.Sprintf("s%d", j)
			must(t, unix.Mkdirat(fd, name, 0o755))
			must(t, unix.Fchownat(fd, name, 300000, 300000, 0))
		}
		next, err := unix.Openat(fd, "d", unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, err)
		unix.Close(fd)
		fd = next
		if i == deep-1 {
			must(t, unix.Mkdirat(fd, "stranger", 0o755))
		}
	}
	unix.Close(fd)
	got := h.check(t, dir)
	if len(got) != 1 || got[0].Code != "owner" || !strings.HasSuffix(got[0].Path, "/d/stranger") || !strings.HasPrefix(got[0].Message, "1 file ") {
		t.Errorf("found %+v", got)
	}
	remove := h.command(t.Context(), testenv.Binary(t), "rm", dir)
	if out, err := remove.CombinedOutput(); err != nil {
		t.Fatalf("rm: %v\n%s", err, out)
	}
}
