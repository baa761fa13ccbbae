package rootless

import (
	"archive/tar"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"ocibundle/tests/testenv"
)

// What a caller cannot have is exit 2 before a byte is read, each with its own message and something to try.
func TestRefusedMappings(t *testing.T) {
	testenv.NeedTool(t, "newuidmap", "newgidmap")
	stream := archive(t, entries(t))
	ranged := asUser(t, testenv.UserOptions{SubIDs: 1000})
	bare := asUser(t, testenv.UserOptions{})
	root := asRoot(t)
	sub := int(ranged.user.SubUIDs[0].Start)
	maps := func(c, h, n int) string { return fmt.Sprintf("%d:%d:%d", c, h, n) }
	for _, c := range []struct {
		h     *host
		args  []string
		texts []string
	}{
		{bare, []string{"--remap", "none"}, []string{"root", "hint: ", "--remap auto"}},
		{bare, []string{"--remap", "subid"}, []string{"/etc/subuid", bare.user.Name, "hint: ", "--remap self", "usermod --add-subuids"}},
		{bare, []string{"--uidmap", maps(0, sub, 10)}, []string{"/etc/subuid", bare.user.Name, "hint: "}},
		{root, []string{"--remap", "subid"}, []string{"/etc/subuid", "root", "hint: "}},
		{ranged, []string{"--uidmap", maps(0, sub, 1001)}, []string{strconv.Itoa(sub + 1000), "/etc/subuid", "hint: "}},
		{ranged, []string{"--uidmap", maps(0, 0, 1)}, []string{"host id 0", "hint: "}},
		{ranged, []string{"--uidmap", maps(0, sub, 10), "--uidmap", maps(9, sub+10, 5)}, []string{"container"}},
		{ranged, []string{"--uidmap", maps(0, sub, 10), "--uidmap", maps(20, sub+9, 5)}, []string{"host"}},
		{ranged, []string{"--uidmap", maps(1, sub, 10)}, []string{"container id 0"}},
		{root, []string{"--uidmap", "0:0"}, []string{"--uidmap"}},
		{root, []string{"--uidmap", "a:b:c"}, []string{"--uidmap"}},
		{root, []string{"--gidmap", "0:0:0"}, []string{"gid"}},
		{root, []string{"--uidmap", "0:4294967295:1"}, []string{"4294967295"}},
		{root, []string{"--uidmap", "0:0:10", "--remap", "self"}, []string{"--remap"}},
		{root, []string{"--remap", "sometimes"}, []string{"--remap", "sometimes"}},
	} {
		h := *c.h
		h.t = t
		h.refused(stream, 2, c.args, c.texts...)
	}

	// Helpers that are not there, and one that says no.
	for _, c := range []struct {
		file, text string
		texts      []string
	}{
		{"", "", []string{"newuidmap", "hint: ", "uidmap"}},
		{"newuidmap", "#!/bin/sh\necho newuidmap: not today >&2\nexit 1\n", []string{"newuidmap", "not today", "hint: ", "--remap self"}},
	} {
		bin := testenv.Dir(t)
		if c.file != "" {
			if err := os.WriteFile(filepath.Join(bin, c.file), []byte(c.text), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(testenv.NeedTool(t, "newgidmap"), filepath.Join(bin, "newgidmap")); err != nil {
				t.Fatal(err)
			}
		}
		cmd := ranged.command(testenv.Binary(t), "-o", "b", "--remap", "subid")
		cmd.Env = append(cmd.Env, "PATH="+bin)
		r := run(t, cmd)
		if r.code != 2 {
			t.Errorf("exit %d: %s", r.code, r.stderr)
		}
		for _, text := range c.texts {
			if !strings.Contains(r.stderr, text) {
				t.Errorf("stderr lacks %q: %s", text, r.stderr)
			}
		}
	}
}

// Where user namespaces are forbidden, subid is an error and self does without, and says so. The limit belongs to a user
// namespace, so the test has one of its own for it.
func TestForbidden(t *testing.T) {
	testenv.NeedTool(t, "setpriv", "newuidmap")
	stream := archive(t, entries(t))
	h := asUser(t, testenv.UserOptions{SubIDs: 65536})
	forbidden := func(args ...string) *exec.Cmd {
		script := fmt.Sprintf(`echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --reuid=%d --regid=%d --clear-groups -- "$@"`, h.user.UID, h.user.GID)
		cmd := h.command("sh", append([]string{"-c", script, "sh", testenv.Binary(t)}, args...)...)
		whole := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 4294967295}}
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: whole, GidMappings: whole, GidMappingsEnableSetgroups: true}
		cmd.Stdin = strings.NewReader(string(stream))
		return cmd
	}
	r := run(t, forbidden("-o", "b", "--remap", "subid"))
	if r.code != 2 || !strings.Contains(r.stderr, "user.max_user_namespaces is 0") || !strings.Contains(r.stderr, "\nocibundle: hint: ") {
		t.Errorf("subid: exit %d: %s", r.code, r.stderr)
	}
	r = run(t, forbidden("-o", "b", "--remap", "self"))
	if r.code != 0 || !strings.Contains(r.stderr, "user.max_user_namespaces is 0") || !strings.Contains(r.stderr, "1 file capabilities") {
		t.Errorf("self: exit %d: %s", r.code, r.stderr)
	}
	owners(t, filepath.Join(h.dir, "b"), func(int, int) (uint32, uint32) { return h.user.UID, h.user.GID })
	if got := capability(t, filepath.Join(h.dir, "b/rootfs/bind")); got != "" {
		t.Errorf("file capability %s", got)
	}
}

// An id that the mapping lacks is refused with the entry, the id and the mapping, wherever it stands.
func TestIDOutside(t *testing.T) {
	testenv.NeedTool(t, "newuidmap", "newgidmap")
	h := asUser(t, testenv.UserOptions{SubIDs: 1000}) // ids 0 to 1000
	root := asRoot(t)
	stream := func(uid, gid int) []byte {
		return archive(t, append(entries(t), tar.Header{Typeflag: tar.TypeReg, Name: "odd", Mode: 0o600, Uid: uid, Gid: gid}))
	}
	h.refused(stream(1001, 0), 4, nil, `"odd"`, "uid 1001 is outside the mapping, which has 0-1000\n", "hint: the mapping is 1 ids short", "--remap self")
	h.refused(stream(0, 65534), 4, nil, `"odd"`, "65534", "hint: ", "--remap self")
	h.bundle(stream(1000, 1000), "last")
	h.refused(archive(t, entries(t)), 4, []string{"--set", "/process/user/uid=1001"}, "1001", "--set /process/user/uid=1001")
	root.refused(stream(0, 0), 4, []string{"--uidmap", "0:1900000000:100"}, "999", "hint: ")
}

// Inside a user namespace that holds one id, auto is self; with more, only those can be written.
func TestInsideNamespace(t *testing.T) {
	stream := archive(t, entries(t))
	h := asUser(t, testenv.UserOptions{})
	inside := func(args ...string) result {
		cmd := h.command(testenv.Binary(t), args...)
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.Credential = nil
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(h.user.UID), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(h.user.GID), Size: 1}}
		cmd.SysProcAttr.Credential = &syscall.Credential{NoSetGroups: true}
		cmd.Stdin = strings.NewReader(string(stream))
		return run(t, cmd)
	}
	if r := inside("-o", "b"); r.code != 0 {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	owners(t, filepath.Join(h.dir, "b"), func(int, int) (uint32, uint32) { return h.user.UID, h.user.GID })
	uids, _ := mappings(t, filepath.Join(h.dir, "b"))
	if len(uids) != 1 || uids[0] != (idMap{0, 0, 1}) { // as seen from there
		t.Errorf("config.json maps %v", uids)
	}
	if r := inside("-o", "n", "--remap", "none"); r.code != 4 || !strings.Contains(r.stderr, "999") {
		t.Errorf("none: exit %d: %s", r.code, r.stderr)
	}
	if r := inside("-o", "e", "--uidmap", "0:0:1", "--uidmap", "1:100000:10"); r.code != 2 || !strings.Contains(r.stderr, "100000") {
		t.Errorf("explicit: exit %d: %s", r.code, r.stderr)
	}
}

// Nobody else can look into a bundle, or run what is setuid in it.
func TestOthersStayOut(t *testing.T) {
	testenv.NeedTool(t, "newuidmap", "newgidmap")
	stream := archive(t, entries(t))
	second := asUser(t, testenv.UserOptions{})
	for _, c := range []struct {
		h    *host
		args []string
	}{
		{asUser(t, testenv.UserOptions{SubIDs: 65536}), nil},
		{asUser(t, testenv.UserOptions{}), []string{"--quiet"}},
		{asRoot(t), nil},
		{asRoot(t), []string{"--uidmap", "0:1900000000:65536"}},
	} {
		args := append([]string{"-o", "b"}, c.args...)
		if r := c.h.ocibundle(stream, args...); r.code != 0 {
			t.Fatalf("%q: exit %d: %s", args, r.code, r.stderr)
		}
		b := filepath.Join(c.h.dir, "b")
		for _, try := range [][]string{{"ls", b}, {"ls", b + "/rootfs"}, {"cat", b + "/config.json"}, {b + "/rootfs/suid", "ids"}} {
			r := run(t, second.command("sh", append([]string{"-c", `exec "$@"`, "sh"}, try...)...))
			if r.code == 0 || !strings.Contains(r.stderr, "ermission denied") {
				t.Errorf("%q as another user: exit %d: %s%s", try, r.code, r.stdout, r.stderr)
			}
		}
		// The same would work, were the directory open: that is what keeps them out.
		if err := os.Chmod(b, 0o755); err != nil {
			t.Fatal(err)
		}
		if r := run(t, second.command(b+"/rootfs/suid", "ids")); r.code != 0 || strings.Contains(r.stdout, fmt.Sprintf("euid %d ", second.user.UID)) {
			t.Errorf("setuid in an open bundle: exit %d: %s%s", r.code, r.stdout, r.stderr)
		}
	}
}

// Warnings of bundles that will not start where they are, or not under every runtime.
func TestWarnings(t *testing.T) {
	testenv.NeedTool(t, "newuidmap", "newgidmap")
	stream := archive(t, entries(t))
	u, root := asUser(t, testenv.UserOptions{SubIDs: 65536}), asRoot(t)
	if err := os.MkdirAll(filepath.Join(root.dir, "closed"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root.dir, "closed", "open"), 0o755); err != nil {
		t.Fatal(err)
	}
	sub := fmt.Sprintf("0:%d:1000", u.user.SubUIDs[0].Start)
	for _, c := range []struct {
		h    *host
		dir  string
		args []string
		text string // "": silence
	}{
		{u, "b", []string{"--uidmap", sub}, "runc"},
		{u, "c", []string{"--uidmap", fmt.Sprintf("0:%d:1", u.user.UID), "--uidmap", fmt.Sprintf("1:%d:1000", u.user.SubUIDs[0].Start)}, ""},
		{root, "closed/open/b", []string{"--uidmap", "0:1900000000:1000"}, fmt.Sprintf("uid 1900000000 on the host) may not search %q", filepath.Join(root.dir, "closed"))},
		{root, "closed/open/c", nil, ""},
		{root, "d", []string{"--uidmap", "0:1900000000:1000"}, ""},
	} {
		r := c.h.ocibundle(stream, append([]string{"-o", c.dir}, c.args...)...)
		if r.code != 0 || c.text == "" && r.stderr != "" || !strings.Contains(r.stderr, c.text) {
			t.Errorf("-o %s %q: exit %d: %s; want %q", c.dir, c.args, r.code, r.stderr, c.text)
		}
	}
}

// What runtimes refuse in a user namespace, or from an ordinary user, is said when the edit is made.
func TestPitfalls(t *testing.T) {
	testenv.NeedTool(t, "newuidmap", "newgidmap")
	stream := archive(t, entries(t))
	u, root := asUser(t, testenv.UserOptions{SubIDs: 65536}), asRoot(t)
	u.bundle(stream, "edited", "--net", "private")
	root.bundle(stream, "edited")
	shifted := []string{"--uidmap", "0:1900000000:65536"}
	for i, c := range []struct {
		h     *host
		args  []string
		texts []string // nil: silence
	}{
		{u, []string{"--group-add", "42"}, []string{"`--group-add 42`", "runc"}},
		{u, []string{"--user", "redis"}, nil}, // whose own group is left out
		{u, []string{"--memory", "100m"}, []string{"`--memory 100m`", "/linux/resources/memory"}},
		{u, []string{"--pids-limit", "100"}, []string{"`--pids-limit 100`"}},
		{u, []string{"--set", "/linux/cgroupsPath=/x"}, []string{"/linux/cgroupsPath"}},
		{u, []string{"--oom-score-adj", "-100"}, []string{"`--oom-score-adj -100`"}},
		{u, []string{"--oom-score-adj", "100"}, nil},
		{u, []string{"--tmpfs", "/x:uid=70000"}, []string{"`--tmpfs /x:uid=70000`", "uid=70000"}},
		{u, []string{"--tmpfs", "/x:uid=999"}, nil},
		{u, []string{"--ulimit", "nofile=4000000000"}, []string{"`--ulimit nofile=4000000000`", "RLIMIT_NOFILE"}},
		{u, []string{"--ulimit", "nofile=10"}, nil},
		{u, []string{"--device", "/dev/full"}, nil},
		{u, []string{"--net", "host"}, nil}, // /sys becomes a bind
		{u, []string{"--net", "private"}, nil},
		{u, []string{"--template", "docker"}, nil},
		{root, append([]string{"--group-add", "42", "--memory", "100m"}, shifted...), nil},
		{root, append([]string{"--oom-score-adj", "-100"}, shifted...), []string{"`--oom-score-adj -100`"}},
		{root, []string{"--oom-score-adj", "-100"}, nil},

		{u, []string{"edit", "edited", "--group-add", "42"}, []string{"`--group-add 42`"}},
		{u, []string{"edit", "edited", "--user", "redis"}, nil},
		{u, []string{"edit", "edited", "--net", "host"}, nil}, // as above
		{u, []string{"edit", "edited", "--add", `/mounts/-={"destination":"/sys","type":"sysfs","source":"sysfs"}`},
			[]string{"/mounts/", "sysfs", "the mount type=bind,src=/sys,dst=/sys,ro can take its place"}},
		{u, []string{"edit", "edited", "--mount", "type=bind,src=/sys,dst=/sys,ro"}, nil},
		{root, []string{"edit", "edited", "--group-add", "42", "--memory", "100m", "--oom-score-adj", "-100", "--net", "host"}, nil},
	} {
		args := c.args
		if args[0] != "edit" {
			args = append([]string{"-o", fmt.Sprint("b", i)}, args...)
		}
		r := c.h.ocibundle(stream, args...)
		if r.code != 0 || c.texts == nil && r.stderr != "" {
			t.Errorf("%q: exit %d: %s", c.args, r.code, r.stderr)
		}
		for _, text := range c.texts {
			if !strings.Contains(r.stderr, "ocibundle: warning: ") || !strings.Contains(r.stderr, text) {
				t.Errorf("%q: no warning with %q: %s", c.args, text, r.stderr)
			}
		}
	}
}
