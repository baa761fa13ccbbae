package check

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ocibundle/tests/testenv"
)

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
