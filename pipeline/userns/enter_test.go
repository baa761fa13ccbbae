package userns

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/tests/testenv"
)

func fields(s string) string { return strings.Join(strings.Fields(s), " ") }

func TestEnterSubid(t *testing.T) {
	w := newWorld(t, "NAME:B000:1000", "NAME:C000:500 UID:D000:500")
	r := w.report(Request{}, mapScript)
	wantMap := w.ids.Replace("0 UID 1 1 B000 1000 0 GID 1 1 C000 500 501 D000 500")
	if fields(r.Output) != wantMap {
		t.Errorf("maps %q (%s), want %q", fields(r.Output), r.Error, wantMap)
	}
	s := r.State
	host := w.ids.Replace("0:GID:1 1:C000:500 501:D000:500")
	if s.Mode != ModeSubid || !s.InNamespace || !s.Rootless || mapString(s.Host.GIDMaps) != host || mapString(s.Disk.UIDMaps) != "0:0:1 1:1:1000" || s.CapRootID != 0 || s.Notes != nil {
		t.Errorf("state %+v", s)
	}
	if r.CapEff != needed() {
		t.Errorf("capabilities %s, want %s", r.CapEff, needed())
	}
	if !slices.Equal(r.Args, []string{"--one", "two words"}) || r.Name != filepath.Base(w.bin) {
		t.Errorf("%s with arguments %q", r.Name, r.Args)
	}
	if slices.ContainsFunc(r.Environ, func(v string) bool { return strings.HasPrefix(v, marker) }) {
		t.Errorf("environment %q", r.Environ)
	}

	// Files get the owners that the mapping says, and can be removed again. The umask is the caller's.
	r = w.report(Request{}, `echo x > f; chown 1:501 f; chmod 4600 f; mkdir -m 0700 d; touch d/g; chown 33:33 d d/g`)
	if r.Error != "" {
		t.Fatalf("write: %s: %s", r.Error, r.Output)
	}
	for name, want := range map[string]string{"f": "B000 D000 4600", "d": "B032 C032 700", "d/g": "B032 C032 644"} {
		if got := fields(mustRun(t, "stat", "-c", "%u %g %a", filepath.Join(w.dir, name))); got != w.ids.Replace(want) {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	for _, mode := range []Mode{ModeWidest, ModeSelf} { // removable, whatever the mode
		if r = w.report(Request{Mode: mode}, `cat d/g f; rm -r d; mkdir -m 0700 d; touch d/g; chown 33:33 d d/g`); r.Error != "" || r.Output != "x\n" {
			t.Errorf("%s: %s: %s", mode, r.Error, r.Output)
		}
	}
}

// What the user gave to the process is still there for the inner one: stdin unread, files at their numbers, and nothing
// of ours beside them.
func TestEnterKeepsFiles(t *testing.T) {
	w := newWorld(t, "NAME:B000:10", "NAME:B000:10")
	f, err := os.CreateTemp(w.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	io.WriteString(f, "from 3\n")
	f.Chmod(0o644)
	run := func(wrapper ...string) string {
		cmd := w.command("report", Request{}, `cat; cat /dev/fd/3; ls /proc/self/fd`, wrapper...)
		cmd.Stdin = strings.NewReader("from stdin\n")
		cmd.ExtraFiles = []*os.File{f}
		r := w.run(cmd)
		if r.Error != "" {
			t.Errorf("%s: %s", r.Error, r.Output)
		}
		return fields(r.Output)
	}
	// Root enters no namespace. The test's own parent may have left files open: they count on both sides.
	got, want := run(), run("env")
	if got != want || !strings.HasPrefix(want, "from stdin from 3 0 1 ") {
		t.Errorf("in the namespace %q, without one %q", got, want)
	}
}

func TestEnterModes(t *testing.T) {
	w := newWorld(t, "NAME:B000:1000", "NAME:B000:1000")
	wide := w.ids.Replace("0 UID 1 1 B000 1000 0 GID 1 1 B000 1000")
	one := w.ids.Replace("0 UID 1 0 GID 1")

	t.Run("self", func(t *testing.T) {
		r := w.report(Request{Mode: ModeSelf}, mapScript)
		if fields(r.Output) != wide || mapString(r.State.Host.UIDMaps) != fmt.Sprintf("0:%d:1", w.uid) || mapString(r.State.Disk.UIDMaps) != "0:0:1" || r.State.Notes != nil {
			t.Errorf("%+v", r)
		}
	})
	t.Run("explicit", func(t *testing.T) {
		m := maps(t, w.ids.Replace("0:B100:10 10:UID:1"))
		r := w.report(Request{Mode: ModeExplicit, UIDMap: m, GIDMap: maps(t, w.ids.Replace("0:B000:5"))}, `touch e; chown 101:1 e`)
		if mapString(r.State.Disk.UIDMaps) != "0:101:10 10:0:1" || r.State.CapRootID != 101 || r.Error != "" {
			t.Errorf("%+v", r)
		}
		if got := fields(mustRun(t, "stat", "-c", "%u %g", filepath.Join(w.dir, "e"))); got != w.ids.Replace("B100 B000") {
			t.Errorf("container root's file belongs to %s", got)
		}
	})
	t.Run("no helper", func(t *testing.T) {
		cmd := w.command("report", Request{Mode: ModeSubid}, "")
		cmd.Env[0] = "PATH=/nonexistent"
		if r := w.run(cmd); r.Kind != KindNoHelper || r.Subject != "newuidmap" {
			t.Errorf("%+v", r)
		}
		cmd = w.command("report", Request{}, "/bin/"+mapScript)
		cmd.Env[0] = "PATH=/nonexistent"
		if r := w.run(cmd); r.State.Mode != ModeSelf || fields(r.Output) != one {
			t.Errorf("%+v", r)
		}
	})
	t.Run("no range", func(t *testing.T) {
		other := newWorld(t, "", "NAME:B000:5")
		if r := other.report(Request{Mode: ModeSubid}, ""); r.Kind != KindNoRange || r.Subject != "/etc/subuid" {
			t.Errorf("%+v", r)
		}
		r := other.report(Request{}, mapScript)
		if r.State.Mode != ModeSelf || fields(r.Output) != other.ids.Replace("0 UID 1 0 GID 1") || r.CapEff != needed() {
			t.Errorf("%+v", r)
		}
	})
	t.Run("root", func(t *testing.T) {
		cmd := w.command("report", Request{}, mapScript, "env")
		if r := w.run(cmd); r.State.Mode != ModeNone || r.State.InNamespace || r.State.Rootless || !r.State.Disk.Empty() {
			t.Errorf("%+v", r)
		}
	})
}

// A range holds the user's own id: the kernel refuses ids that are mapped twice.
func TestEnterOwnIDInRange(t *testing.T) {
	w := newWorld(t, "", "NAME:B000:1")
	start := w.uid - 10
	for _, line := range []string{fmt.Sprintf("%d:%d:20\n", w.uid, start), w.ids.Replace("NAME:B000:5\n")} {
		editSubIDs(t, subuidFile, func(old string) string { return old + line })
		t.Cleanup(func() {
			editSubIDs(t, subuidFile, func(old string) string { return strings.Replace(old, line, "", 1) })
		})
	}
	r := w.report(Request{Mode: ModeSubid}, mapScript)
	want := w.ids.Replace(fmt.Sprintf("0 UID 1 1 %d 10 11 %d 9 20 B000 5 ", start, w.uid+1))
	if !strings.HasPrefix(fields(r.Output), want) {
		t.Errorf("maps %q (%s), want %q", fields(r.Output), r.Error, want)
	}
}

func TestEnterForbidden(t *testing.T) {
	w := newWorld(t, "NAME:B000:10", "NAME:B000:10")
	noNewPrivs := []string{"setpriv", "--no-new-privs"}

	for _, c := range []struct {
		name    string
		role    string
		wrapper []string
		kind    Kind
		subject string
		text    string
		self    string // the note, or "one": a one-id namespace without a note
	}{
		{"sysctl", "nest:4294967295:limit", []string{"env"}, KindForbidden, "user.max_user_namespaces", "create user namespace: user.max_user_namespaces is 0", "no user namespace"},
		{"seccomp", "seccomp:clone", []string{"env"}, KindForbidden, "seccomp", "create user namespace: operation not permitted (a seccomp filter", "no user namespace"},
		{"capabilities denied", "seccomp:fchown", []string{"env"}, KindForbidden, "seccomp", "change owner in the user namespace: operation not permitted", "one"},
		{"file capabilities denied", "seccomp:fsetxattr", []string{"env"}, KindForbidden, "seccomp", "set file capability", "no user namespace"},
		{"no new privileges", "report", noNewPrivs, KindRefused, "newuidmap", "Operation not permitted (no_new_privs is set", "one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := w.run(w.command(c.role, Request{}, "", c.wrapper...))
			if r.Kind != c.kind || r.Subject != c.subject || !strings.Contains(r.Error, c.text) || strings.Contains(r.Error, "\n") {
				t.Errorf("subid: %+v", r)
			}
			r = w.run(w.command(c.role, Request{Mode: ModeSelf}, mapScript, c.wrapper...))
			if c.self == "one" {
				if want := w.ids.Replace("0 UID 1 0 GID 1"); fields(r.Output) != want || r.State.Notes != nil || r.CapEff != needed() {
					t.Errorf("self: %+v", r)
				}
				return
			}
			if r.State.InNamespace || len(r.State.Notes) != 1 || !strings.HasPrefix(r.State.Notes[0], c.self) ||
				mapString(r.State.Disk.UIDMaps) != fmt.Sprintf("0:%d:1", w.uid) || r.CapEff != "0000000000000000" {
				t.Errorf("self: %+v", r)
			}
			if r = w.run(w.command(c.role, Request{Mode: ModeWidest}, "", c.wrapper...)); r.Error != "" || r.State.InNamespace ||
				len(r.State.Notes) != 1 || !strings.HasPrefix(r.State.Notes[0], "the subordinate ids of the user are not there: ") {
				t.Errorf("widest: %+v", r)
			}
		})
	}

	t.Run("helper says no", func(t *testing.T) {
		helper := filepath.Join(w.dir, "newuidmap")
		if err := os.WriteFile(helper, []byte("#!/bin/sh\necho newuidmap: not today >&2\nexit 1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := w.command("report", Request{}, "")
		cmd.Env[0] = "PATH=" + w.dir + ":" + os.Getenv("PATH")
		if r := w.run(cmd); r.Kind != KindRefused || r.Error != "write id maps: newuidmap: exit status 1: not today" {
			t.Errorf("%+v", r)
		}
	})
}

// In a user namespace only what is mapped there can be mapped on.
func TestEnterInsideNamespace(t *testing.T) {
	w := newWorld(t, "NAME:B000:1000", "NAME:B000:1000")
	r := w.run(w.command(w.ids.Replace("nest:B010:user"), Request{}, mapScript, "env"))
	if want := w.ids.Replace("0 UID 1 1 B000 10 0 GID 1 1 B000 10"); fields(r.Output) != want || r.State.Mode != ModeSubid {
		t.Errorf("user: %+v, want %s", r, want)
	}
	r = w.run(w.command(w.ids.Replace("nest:B010:root"), Request{}, "", "env"))
	if r.State.Mode != ModeNone || mapString(r.State.Disk.UIDMaps) != w.ids.Replace("0:0:B010") || !r.State.Host.Empty() {
		t.Errorf("root of a part: %+v", r)
	}
	r = w.run(w.command(w.ids.Replace("nest:B010:root"), Request{Mode: ModeExplicit, UIDMap: maps(t, w.ids.Replace("0:B000:11"))}, "", "env"))
	if r.Kind != KindOutside {
		t.Errorf("map beyond it: %+v", r)
	}
	r = w.run(w.command("nest:1:root", Request{}, "", "env"))
	if r.State.Mode != ModeSelf || r.State.InNamespace || !r.State.Rootless || mapString(r.State.Disk.UIDMaps) != "0:0:1" {
		t.Errorf("root of one id: %+v", r)
	}
}

// A version 2 capability that a namespaced process writes is stored as version 3 with the caller's uid, which is the root
// of a one-id namespace too. Under a map that shifts the container's root, CapRootID is what has to be written.
func TestEnterFileCapabilities(t *testing.T) {
	w := newWorld(t, "NAME:B000:10", "NAME:B000:10")
	for _, c := range []struct {
		r    Request
		root string
	}{
		{Request{Mode: ModeSubid}, "UID"},
		{Request{Mode: ModeSelf}, "UID"},
		{Request{Mode: ModeExplicit, UIDMap: maps(t, w.ids.Replace("0:B003:5")), GIDMap: maps(t, w.ids.Replace("0:B000:1"))}, "B003"},
	} {
		root := ""
		if id := w.report(c.r, "").State.CapRootID; id != 0 {
			root = fmt.Sprintf("-n %d", id)
		}
		if r := w.report(c.r, "rm -f c; cp /bin/true c; setcap "+root+" cap_net_bind_service+ep c"); r.Error != "" {
			t.Errorf("%s: %s: %s", c.r.Mode, r.Error, r.Output)
		}
		got := fields(mustRun(t, "getcap", "-n", filepath.Join(w.dir, "c")))
		if want := w.ids.Replace("cap_net_bind_service=ep [rootid=" + c.root + "]"); !strings.HasSuffix(got, want) {
			t.Errorf("%s: %s, want %s", c.r.Mode, got, want)
		}
	}
}

func exitCode(err error) int {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return e.ExitCode()
	}
	return 0
}

func TestEnterExitCodes(t *testing.T) {
	w := newWorld(t, "NAME:B000:10", "NAME:B000:10")
	if code := exitCode(w.command("exit", Request{}, "").Run()); code != 7 {
		t.Errorf("status %d, want the inner process's 7", code)
	}
	if code := exitCode(w.command("killed", Request{}, "").Run()); code != 128+9 {
		t.Errorf("status %d after SIGKILL, want 137", code)
	}
}

// started is a stand-in that waits in its namespace, and what it prints from now on.
func (w *world) started(wrapper ...string) (*exec.Cmd, io.Reader) {
	w.t.Helper()
	cmd := w.command("wait", Request{}, "", wrapper...)
	r, out, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { r.Close() })
	cmd.Stdout = out
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { cmd.Process.Kill() })
	out.Close()
	line := make([]byte, len("ready\n"))
	if _, err := io.ReadFull(r, line); err != nil {
		w.t.Fatalf("inner process: %v", err)
	}
	return cmd, r
}

func TestEnterSignals(t *testing.T) {
	// The tests may have been started by nohup(1), or in the background: what is caught here is no longer ignored in the
	// processes started from here.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP, syscall.SIGINT)
	defer signal.Stop(caught)
	w := newWorld(t, "NAME:B000:10", "NAME:B000:10")
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		cmd, r := w.started()
		cmd.Process.Signal(sig) // to the outer process alone
		if out, err := io.ReadAll(r); err != nil || string(out) != "cancelled\n" {
			t.Errorf("%v: inner process said %q, %v", sig, out, err)
		}
		if code := exitCode(cmd.Wait()); code != 5 {
			t.Errorf("%v: status %d, want the inner process's 5", sig, code)
		}
	}
	// A signal that the inner process does not catch.
	cmd, r := w.started()
	cmd.Process.Signal(syscall.SIGHUP)
	io.ReadAll(r)
	if code := exitCode(cmd.Wait()); code != 128+1 {
		t.Errorf("SIGHUP: status %d, want 129", code)
	}
	// nohup: the signal stays ignored, in both.
	cmd, r = w.started("setpriv", "nohup")
	cmd.Process.Signal(syscall.SIGHUP)
	cmd.Process.Signal(syscall.SIGTERM)
	if out, err := io.ReadAll(r); err != nil || string(out) != "cancelled\n" {
		t.Errorf("nohup: inner process said %q, %v", out, err)
	}
	if code := exitCode(cmd.Wait()); code != 5 {
		t.Errorf("nohup: status %d, want 5", code)
	}
	// A signal that came before Enter.
	early := newWorld(t, "", "").command("early", Request{Mode: ModeSelf}, "")
	if code := exitCode(early.Run()); code != 128+1 {
		t.Errorf("a SIGHUP before: status %d, want 129", code)
	}
}

// A signal that comes while the ids are mapped ends it all. A terminal's reaches the helper too.
func TestEnterSignalWhileMapping(t *testing.T) {
	w := newWorld(t, "NAME:B000:10", "NAME:B000:10")
	helper := filepath.Join(w.dir, "newuidmap")
	if err := os.WriteFile(helper, []byte("#!/bin/sh\nkill -INT $PPID $$\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := w.command("report", Request{}, "")
	cmd.Env[0] = "PATH=" + w.dir + ":" + os.Getenv("PATH")
	out, err := cmd.Output()
	if code := exitCode(err); code != 128+2 || len(out) > 0 {
		t.Errorf("status %d, want 130: %s", code, out)
	}
}

// The inner process holds the write end of the pipe: it reads as ended only when that process is gone.
func TestEnterDiesWithParent(t *testing.T) {
	w := newWorld(t, "NAME:B000:10", "NAME:B000:10")
	cmd, r := w.started()
	cmd.Process.Kill()
	if out, err := io.ReadAll(r); err != nil || len(out) > 0 {
		t.Errorf("inner process said %q, %v", out, err)
	}
	cmd.Wait()
}

// The variable that marks the inner process is nobody's way in: from another process, with no pipes behind it, it is
// dropped and ignored.
func TestStrayMarker(t *testing.T) {
	w := newWorld(t, "", "")
	cmd := w.command("report", Request{}, "")
	cmd.Env = append(cmd.Env, marker+"=1:0:1")
	cmd.Stdin = nil // /dev/null
	if r := w.run(cmd); r.State.Mode != ModeSelf || r.Error != "" {
		t.Errorf("%+v", r)
	}
}

// An inner process that cannot read what it is told does nothing, and above all not what the outer one would.
func TestBrokenMarker(t *testing.T) {
	w := newWorld(t, "", "")
	cmd := w.command("report", Request{}, "")
	cmd.Env = append(cmd.Env, marker+"="+strconv.Itoa(os.Getpid())+":0:1")
	cmd.Stdin = nil // /dev/null
	out, err := cmd.Output()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL || len(out) > 0 {
		t.Errorf("ended with %v, said %q", err, out)
	}
}

// A helper in a directory that PATH names relative to the current one may be anybody's, and is not run.
func TestHelperBesideTheUser(t *testing.T) {
	w := newWorld(t, "NAME:B000:10", "NAME:B000:10")
	mark := filepath.Join(w.dir, "helper-was-run")
	for _, name := range []string{"newuidmap", "newgidmap"} {
		if err := os.MkdirAll(filepath.Join(w.dir, "bin"), 0o755); err != nil {
			t.Fatal(err)
		}
		script := "#!/bin/sh\n: >" + mark + "\nexec " + testenv.NeedTool(t, name) + " \"$@\"\n"
		if err := os.WriteFile(filepath.Join(w.dir, "bin", name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(w.dir, w.uid, w.gid); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"bin:", ":", ".:bin:"} {
		cmd := w.command("report", Request{}, "")
		cmd.Env[0] = "PATH=" + path + os.Getenv("PATH")
		if r := w.run(cmd); r.State.Mode != ModeSelf && r.State.Mode != ModeSubid || r.Error != "" {
			t.Errorf("PATH=%s: %+v", path, r)
		}
		if _, err := os.Stat(mark); err == nil {
			t.Errorf("PATH=%s: the helper beside the user was run", path)
		}
	}
}

// A limit that this process has run into is not told as a refusal of the helper's.
func TestHelperCannotBeStarted(t *testing.T) {
	missing := &exec.Error{Name: "newuidmap", Err: unix.EMFILE}
	if ranOrMayNotRun(missing) || ranOrMayNotRun(os.NewSyscallError("pipe2", unix.EMFILE)) || ranOrMayNotRun(unix.EIO) {
		t.Error("EMFILE and EIO are taken for the helper's")
	}
	if !ranOrMayNotRun(&os.PathError{Op: "fork/exec", Path: "/x", Err: unix.EACCES}) || !ranOrMayNotRun(&exec.ExitError{}) {
		t.Error("what the helper says is not taken for the helper's")
	}
}

// Most files in /proc of a program that its user may run but not read are root's.
func TestUnreadableProgram(t *testing.T) {
	for _, ranges := range []string{"", "NAME:B000:10"} {
		w := newWorld(t, ranges, ranges)
		if err := os.Chmod(w.bin, 0o711); err != nil {
			t.Fatal(err)
		}
		if r := w.report(Request{}, ""); r.Error != "" || !r.State.InNamespace {
			t.Errorf("ranges %q: %+v", ranges, r)
		}
	}
}
