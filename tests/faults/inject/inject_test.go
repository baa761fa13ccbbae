package inject_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ocibundle/tests/faults/inject"
	"ocibundle/tests/testenv"
)

// shell is a script that opens the files a, b, c and d: two of them itself, c in a copy of its process, and d in another
// process that executes the same program.
const shell = `: <a; : <b; (: <c); "$0" -c ': <d'; true`

func scripted(t *testing.T, script string) inject.Command {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "bash")
	dir := testenv.Dir(t)
	for _, name := range []string{"a", "b", "c", "d"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	bash, err := filepath.EvalSymlinks(testenv.NeedTool(t, "bash"))
	if err != nil {
		t.Fatal(err)
	}
	return inject.Command{Path: bash, Args: []string{"-c", script, bash}, Dir: dir, Env: []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}, Patience: time.Minute, Grace: time.Minute}
}

func mustRun(t *testing.T, c inject.Command) *inject.Result {
	t.Helper()
	res, err := inject.Run(c)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func kind(t *testing.T, name string) inject.Kind {
	t.Helper()
	k, ok := inject.KindOf(name)
	if !ok {
		t.Fatalf("no call is named %s", name)
	}
	return k
}

// Calls are counted over processes, and the one that is meant fails, or it and all after it.
func TestCount(t *testing.T) {
	c := scripted(t, shell)
	c.Record = true
	res := mustRun(t, c)
	var opened []string
	nth := map[string]int{}
	for _, call := range res.Calls {
		if call.Kind.Name == "openat" {
			opened = append(opened, filepath.Base(call.Args))
			nth[filepath.Base(call.Args)] = len(opened)
		}
	}
	if nth["a"] == 0 || nth["a"] >= nth["b"] || nth["b"] >= nth["c"] || nth["c"] >= nth["d"] || res.Code != 0 || len(res.Stderr) > 0 {
		t.Fatalf("opened %q, exit %d: %s", opened, res.Code, res.Stderr)
	}
	c.Record = false
	for _, name := range []string{"a", "b", "c", "d"} {
		for _, on := range []bool{false, true} {
			c.Fault = &inject.Fault{Kind: kind(t, "openat"), Nth: nth[name], Errno: unix.EIO, On: on}
			res := mustRun(t, c)
			var failed []string
			for line := range strings.Lines(string(res.Stderr)) {
				if words := strings.Split(line, ": "); strings.HasSuffix(line, ": Input/output error\n") {
					failed = append(failed, words[len(words)-2])
				}
			}
			if !slices.Contains(failed, name) || !on && len(failed) != 1 || on && name == "a" && !slices.Contains(failed, "b") {
				t.Errorf("%s, on %v: of %q fail %q: %s", name, on, opened, failed, res.Stderr)
			}
			if res.Hit == nil || filepath.Base(res.Hit.Args) != name {
				t.Errorf("%s: hit %v", name, res.Hit)
			}
		}
	}
}

// The run of another program is none of the program's.
func TestOtherPrograms(t *testing.T) {
	c := scripted(t, `cat a`)
	c.Fault = &inject.Fault{Kind: kind(t, "read"), Nth: 1, Errno: unix.EIO, On: true}
	c.Path, c.Args = testenv.NeedTool(t, "gzip"), []string{"--version"}
	if res := mustRun(t, c); res.Hit == nil {
		t.Errorf("the program's own read did not fail: exit %d", res.Code)
	}
	c = scripted(t, `exec cat a`)
	c.Fault = &inject.Fault{Kind: kind(t, "write"), Nth: 1, Errno: unix.EIO, On: true}
	if res := mustRun(t, c); res.Code != 0 || string(res.Stdout) != "a" || res.Hit != nil {
		t.Errorf("exit %d, %q, hit %v", res.Code, res.Stdout, res.Hit)
	}
}

func TestSignals(t *testing.T) {
	for _, tt := range []struct {
		name   string
		script string
		change func(*inject.Command)
		code   int
		signal bool
		stdout string
	}{
		{"at a call", shell + `; echo end`, func(c *inject.Command) {
			c.Fault = &inject.Fault{Kind: kind(t, "openat"), Nth: 1, Signal: unix.SIGTERM}
		}, 143, true, ""},
		{"ignored", `: <a; echo end`, func(c *inject.Command) {
			c.Fault = &inject.Fault{Kind: kind(t, "openat"), Nth: 1, Signal: unix.SIGHUP}
			c.Ignored = append(c.Ignored, unix.SIGHUP)
		}, 0, false, "end\n"},
		{"after a time", `exec sleep 1000`, func(c *inject.Command) { c.After, c.Signal = time.Millisecond, unix.SIGINT }, 130, true, ""},
		{"to the group", `sleep 1000; echo end`, func(c *inject.Command) { c.After, c.Signal, c.Group = 300*time.Millisecond, unix.SIGKILL, true }, 137, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := scripted(t, tt.script)
			tt.change(&c)
			res := mustRun(t, c)
			if res.Code != tt.code || (res.Signal != 0) != tt.signal || string(res.Stdout) != tt.stdout || res.Hung || res.Left {
				t.Errorf("exit %d, signal %v, %q, hung %v, left %v", res.Code, res.Signal, res.Stdout, res.Hung, res.Left)
			}
		})
	}
}

// What does not end is ended, and what is left behind is found and ended.
func TestNeverEnds(t *testing.T) {
	c := scripted(t, `sleep 1000`)
	c.Patience = 100 * time.Millisecond
	if res := mustRun(t, c); !res.Hung || res.Left {
		t.Errorf("hung %v, left %v", res.Hung, res.Left)
	}
	c = scripted(t, `sleep 1000 & echo $!`)
	c.Grace = 100 * time.Millisecond
	res := mustRun(t, c)
	if !res.Left || res.Hung || res.Code != 0 || len(res.Stdout) == 0 {
		t.Fatalf("hung %v, left %v, exit %d", res.Hung, res.Left, res.Code)
	}
	// It has been sent SIGKILL, and dies when it is its turn.
	stat := "/proc/" + string(bytes.TrimSpace(res.Stdout)) + "/stat"
	for range 600 {
		if text, err := os.ReadFile(stat); err != nil || bytes.Contains(text, []byte(") Z ")) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("what was left behind is still there")
}

func TestLimits(t *testing.T) {
	c := scripted(t, `ulimit -n; id -u; id -g; cat`)
	c.Limits, c.UID, c.GID, c.Stdin = map[int]uint64{unix.RLIMIT_NOFILE: 17}, 64123, 64124, []byte("in")
	if res := mustRun(t, c); string(res.Stdout) != "17\n64123\n64124\nin" {
		t.Errorf("%q, %s", res.Stdout, res.Stderr)
	}
	c = scripted(t, `echo x`)
	c.Close = []int{1}
	if res := mustRun(t, c); res.Code == 0 {
		t.Error("stdout is open")
	}
}
