// Package rootless runs the program as ordinary users, with and without subordinate ids, and what it made under real
// runtimes.
package rootless

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"ocibundle/tests/testenv"
)

// A result is how a run of a program ended.
type result struct {
	code           int
	stdout, stderr string
}

func run(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	if cmd.Stdin == nil {
		// A runtime gives its standard input to the container's user, and may not
		// stop at /dev/null: this machine's, for good.
		cmd.Stdin = strings.NewReader("")
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatalf("run %q: %v", cmd.Args, err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), withoutCommand(stderr.String())}
}

// host is who runs the program: an ordinary user, or root.
type host struct {
	t    *testing.T
	user *testenv.User // nil: root
	dir  string        // where its bundles go
}

func asUser(t *testing.T, o testenv.UserOptions) *host {
	t.Helper()
	u := testenv.TempUser(t, o)
	return &host{t: t, user: u, dir: u.Home}
}

func asRoot(t *testing.T) *host {
	t.Helper()
	testenv.NeedRoot(t)
	return &host{t: t, dir: testenv.Dir(t)}
}

func (h *host) command(name string, args ...string) *exec.Cmd {
	if h.user != nil {
		return h.user.Command(h.t.Context(), name, args...)
	}
	cmd := exec.CommandContext(h.t.Context(), name, args...)
	cmd.Dir = h.dir
	return cmd
}

// ocibundle runs the program in the host's directory, with the archive as its input.
func (h *host) ocibundle(archive []byte, args ...string) result {
	h.t.Helper()
	cmd := h.command(testenv.Binary(h.t), args...)
	cmd.Stdin = bytes.NewReader(archive)
	return run(h.t, cmd)
}

// bundle makes a bundle and returns its path.
func (h *host) bundle(archive []byte, name string, args ...string) string {
	h.t.Helper()
	r := h.ocibundle(archive, append([]string{"-o", name}, args...)...)
	if r.code != 0 || r.stderr != "" {
		h.t.Fatalf("ocibundle -o %s %q: exit %d: %s", name, args, r.code, r.stderr)
	}
	return filepath.Join(h.dir, name)
}

// refused demands that the program ends with code, says all of texts, and leaves nothing in its directory.
func (h *host) refused(archive []byte, code int, args []string, texts ...string) {
	h.t.Helper()
	before := names(h.t, h.dir)
	r := h.ocibundle(archive, append([]string{"-o", "refused"}, args...)...)
	if r.code != code {
		h.t.Errorf("%q: exit %d, want %d: %s", args, r.code, code, r.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(r.stderr, text) {
			h.t.Errorf("%q: stderr lacks %q: %s", args, text, r.stderr)
		}
	}
	for i, line := range strings.Split(strings.TrimSuffix(r.stderr, "\n"), "\n") {
		if !strings.HasPrefix(line, "ocibundle: ") || i > 0 && !strings.HasPrefix(line, "ocibundle: hint: ") {
			h.t.Errorf("%q: line %d of stderr is %q", args, i+1, line)
		}
	}
	if after := names(h.t, h.dir); !slices.Equal(before, after) {
		h.t.Errorf("%q: left %q, was %q", args, after, before)
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// owner is what the host's root sees: "UID:GID MODE".
func owner(t *testing.T, path string) string {
	t.Helper()
	fi, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	st := fi.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%d:%d %o", st.Uid, st.Gid, st.Mode&0o7777)
}

type idMap struct {
	ContainerID uint32 `json:"containerID"`
	HostID      uint32 `json:"hostID"`
	Size        uint32 `json:"size"`
}

// mappings reads the maps of a config.json.
func mappings(t *testing.T, bundle string) (uids, gids []idMap) {
	t.Helper()
	var config struct {
		Linux struct{ UIDMappings, GIDMappings []idMap }
	}
	text, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	return config.Linux.UIDMappings, config.Linux.GIDMappings
}

// fit is the mapping that a user's first ranges give.
func fit(own uint32, ranges []testenv.Range) []idMap {
	out := []idMap{{0, own, 1}}
	next := uint32(1)
	for _, r := range ranges {
		out = append(out, idMap{next, r.Start, r.Count})
		next += r.Count
	}
	return out
}

// netBind is security.capability, version 2, for cap_net_bind_service=ep (struct vfs_cap_data in linux/capability.h).
var netBind = "\x01\x00\x00\x02" + "\x00\x04\x00\x00" + strings.Repeat("\x00", 12)

// entries is a small container's filesystem: programs with special bits, a server's data, and an owner on every kind
// of file.
func entries(t *testing.T) []tar.Header {
	dir := func(name string, mode int64, id int) tar.Header {
		return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode, Uid: id, Gid: id}
	}
	return []tar.Header{
		dir("dev/", 0o755, 0), dir("etc/", 0o755, 0), dir("proc/", 0o555, 0), dir("sys/", 0o555, 0), dir("tmp/", 0o1777, 0),
		dir("data/", 0o700, 999), dir("private/", 0o700, 0),
		{Typeflag: tar.TypeReg, Name: "probe", Mode: 0o755},
		{Typeflag: tar.TypeReg, Name: "suid", Mode: 0o4755},
		{Typeflag: tar.TypeReg, Name: "sgid", Mode: 0o2755, Gid: 42},
		{Typeflag: tar.TypeReg, Name: "bind", Mode: 0o755, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": netBind}},
		{Typeflag: tar.TypeReg, Name: "data/file", Mode: 0o600, Uid: 999, Gid: 999},
		{Typeflag: tar.TypeReg, Name: "data/group", Mode: 0o440, Uid: 0, Gid: 33},
		{Typeflag: tar.TypeLink, Name: "data/hard", Linkname: "data/file", Mode: 0o600, Uid: 999, Gid: 999},
		{Typeflag: tar.TypeSymlink, Name: "data/link", Linkname: "file", Mode: 0o777, Uid: 999, Gid: 999},
		{Typeflag: tar.TypeFifo, Name: "data/fifo", Mode: 0o600, Uid: 999, Gid: 999},
		{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644},
		{Typeflag: tar.TypeReg, Name: "etc/group", Mode: 0o644},
	}
}

var probe struct {
	once sync.Once
	text []byte
	err  error
}

// archive packs headers, with the probe as the content of the programs.
func archive(t *testing.T, headers []tar.Header) []byte {
	t.Helper()
	probe.once.Do(func() {
		dir, err := os.MkdirTemp("", testenv.Tag+"-probe-")
		if err != nil {
			probe.err = err
			return
		}
		defer os.RemoveAll(dir)
		cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", filepath.Join(dir, "probe"), "./testdata/probe")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			probe.err = fmt.Errorf("build probe: %w: %s", err, out)
			return
		}
		probe.text, probe.err = os.ReadFile(filepath.Join(dir, "probe"))
	})
	if probe.err != nil {
		t.Fatal(probe.err)
	}
	content := map[string][]byte{
		"probe": probe.text, "suid": probe.text, "sgid": probe.text, "bind": probe.text,
		"etc/passwd": []byte("root:x:0:0::/:/probe\nredis:x:999:999::/data:/probe\n"), "etc/group": []byte("root:x:0:\nredis:x:999:\n"),
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(content[h.Name]))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write(content[h.Name]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// withoutCommand takes out the warning that the streams of these tests have no command in
// them, which is true and not what they are about.
func withoutCommand(stderr string) string {
	var kept strings.Builder
	for line := range strings.Lines(stderr) {
		if !strings.Contains(line, "/process/args/0 is \"sh\", which is in no directory of PATH") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}
