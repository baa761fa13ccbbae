package faults

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/tests/faults/inject"
	"ocibundle/tests/testenv"
)

// The judge lets pass what is right, and nothing else.
func TestJudge(t *testing.T) {
	const stage = ".b.ocibundle-0123456789abcdef"
	write := func(name string) func(string) {
		return func(dir string) {
			os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)
			os.WriteFile(filepath.Join(dir, name), []byte("{}"), 0o644)
		}
	}
	nothing := func(string) {}
	said := func(s string) inject.Result { return inject.Result{Code: 1, Stderr: []byte(s)} }
	io := expectation{codes: []int{1}, says: "input/output error"}
	for _, tt := range []struct {
		name string
		res  inject.Result
		did  func(dir string)
		e    expectation
		want string // what is wrong; empty: nothing
	}{
		{"success", inject.Result{}, write("b/config.json"), io, ""},
		{"success without the bundle", inject.Result{}, nothing, io, "exit 0, but b gone"},
		{"success with something beside", inject.Result{}, func(dir string) { write("b/config.json")(dir); write(stage + "/x")(dir) }, io, "exit 0, but .b.ocibundle-X appeared"},
		{"an old bundle that is told of", inject.Result{Stderr: []byte("ocibundle: warning: " + stage + " is left\n")},
			func(dir string) { write("b/config.json")(dir); write(stage + "/x")(dir) }, io, ""},
		{"success with another stdout", inject.Result{Stdout: []byte("x")}, write("b/config.json"), io, "stdout differs"},
		{"failure", said("ocibundle: read \"x\": input/output error\n"), nothing, io, ""},
		{"failure with hints", said("ocibundle: input/output error\nocibundle: hint: try\n"), nothing, io, ""},
		{"failure with the bundle", said("ocibundle: input/output error\n"), write("b/config.json"), io, "leaves b appeared"},
		{"failure with a stage", said("ocibundle: input/output error\n"), write(stage + "/x"), io, "leaves .b.ocibundle-X appeared"},
		{"another status", inject.Result{Code: 2, Stderr: []byte("ocibundle: input/output error\n")}, nothing, io, "exit 2: ocibundle: input/output error"},
		{"another message", said("ocibundle: \"b\" is not a bundle\n"), nothing, io, `does not say "input/output error" but: ocibundle: "b" is not a bundle`},
		{"no message", said(""), nothing, io, "0 lines"},
		{"two messages", said("ocibundle: input/output error\nocibundle: other\n"), nothing, io, "2 lines"},
		{"a message of somebody else's", said("mkdir: input/output error\n"), nothing, io, "says mkdir"},
		{"a stack", inject.Result{Code: 2, Stderr: []byte("fatal error: x\n\ngoroutine 1 [running]:\n")}, nothing, io, "shows a Go stack, exit 2: fatal error: x"},
		{"the runtime cannot start", inject.Result{Code: 2, Stderr: []byte("fatal error: x\n")}, nothing, expectation{early: true}, ""},
		{"no memory before the run", inject.Result{Code: 2, Stderr: []byte("fatal error: out of memory\nocibundle/cli.Run({0x8})\n")}, nothing,
			expectation{narrow: true}, ""},
		{"no memory before the run, and a stage", inject.Result{Code: 2, Stderr: []byte("fatal error: out of memory\n")}, write(stage + "/x"),
			expectation{narrow: true}, "leaves .b.ocibundle-X appeared"},
		{"no memory in the run", inject.Result{Code: 2, Stderr: []byte("fatal error: out of memory\nocibundle/pipeline.Run({0x8})\n")}, nothing,
			expectation{narrow: true}, "shows a Go stack"},
		{"it hangs", inject.Result{Hung: true, Code: 137, Signal: unix.SIGKILL}, nothing, io, "hangs"},
		{"it leaves processes", inject.Result{Left: true}, write("b/config.json"), io, "leaves processes"},
		{"a signal", inject.Result{Code: 143, Signal: unix.SIGTERM}, nothing, expectation{codes: []int{143}}, ""},
		{"a signal that was not sent", inject.Result{Code: 137, Signal: unix.SIGKILL}, nothing, io, "exit 137"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &scene{c: &command{name: "main"}, dir: testenv.Dir(t)}
			good := &scene{dir: testenv.Dir(t)}
			write("b/config.json")(good.dir)
			tree, err := good.record()
			if err != nil {
				t.Fatal(err)
			}
			if s.before, err = s.record(); err != nil {
				t.Fatal(err)
			}
			tt.did(s.dir)
			wrong, err := s.judge(&tt.res, &reference{tree: tree}, tt.e)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(wrong, "; "); tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// TestJudgeUndone judges a -f that failed after the exchange and took it back: the old bundle's status has changed then,
// and nothing else may have.
func TestJudgeUndone(t *testing.T) {
	for _, tt := range []struct {
		bundles string
		mode    os.FileMode
		want    string
	}{
		{"b", 0o755, ""},
		{"", 0o755, "leaves b ctime"},
		{"b", 0o700, "leaves b mode, ctime"},
	} {
		s := &scene{c: &command{name: "force", bundles: tt.bundles}, dir: testenv.Dir(t)}
		dir := filepath.Join(s.dir, "b")
		err := os.Mkdir(dir, 0o755)
		if err == nil {
			s.before, err = s.record()
		}
		if err == nil {
			err = os.Chmod(dir, tt.mode)
		}
		after, rerr := s.record()
		if err := errors.Join(err, rerr); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(s.failure(after, nil, expectation{}), "; "); got != tt.want {
			t.Errorf("bundles %q, mode %o: %q, want %q", tt.bundles, tt.mode, got, tt.want)
		}
	}
}
