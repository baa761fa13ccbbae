// Package readme runs what README.md, the pages in docs/ and the manual tell their readers to
// run.
package readme

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ocibundle/tests/testenv"
)

// startEngine returns an engine with the image that the pages take for granted, which every
// user may talk to.
func startEngine(t *testing.T) *testenv.Engine {
	t.Helper()
	engine := testenv.StartDocker(t)
	if err := os.Chmod(strings.TrimPrefix(engine.DockerHost(), "unix://"), 0o666); err != nil {
		t.Fatal(err)
	}
	dir := testenv.Dir(t)
	rootfs := filepath.Join(dir, "rootfs")
	if err := os.Mkdir(rootfs, 0o755); err != nil {
		t.Fatal(err)
	}
	testenv.RedisRootfs(t, rootfs)
	for file, line := range map[string]string{
		"etc/passwd": "redis:x:999:999::/data:/usr/sbin/nologin\n",
		"etc/group":  "redis:x:999:\n",
	} {
		f, err := os.OpenFile(filepath.Join(rootfs, file), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(line); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(rootfs, "data"), 0o777); err != nil {
		t.Fatal(err)
	}
	tar := filepath.Join(dir, "image.tar")
	testenv.Output(t, exec.CommandContext(t.Context(), "tar", "-C", rootfs, "-cf", tar, "."))
	testenv.Output(t, engine.Docker(t.Context(), "import", "-c", `CMD ["redis-server"]`, tar, "redis"))
	return engine
}

// A reader types a block's lines at a terminal, in a directory of its own.
type reader struct {
	engine *testenv.Engine
	bin    string // what comes first in PATH
	user   *testenv.User
}

func (r reader) command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	var cmd *exec.Cmd
	if r.user != nil {
		cmd = r.user.Command(ctx, args[0], args[1:]...)
	} else {
		cmd = exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir, "HOME="+dir)
	}
	cmd.Dir = dir
	var path string
	for _, v := range cmd.Env {
		if p, ok := strings.CutPrefix(v, "PATH="); ok {
			path = p
		}
	}
	cmd.Env = append(cmd.Env, "PATH="+r.bin+":"+path, "DOCKER_HOST="+r.engine.DockerHost(),
		"DOCKER_CONFIG="+filepath.Join(r.engine.Dir, "client"))
	return cmd
}

// script runs lines as bash does, and returns what they print.
func (r reader) script(t *testing.T, dir, lines string) string {
	t.Helper()
	file := filepath.Join(dir, ".lines")
	if err := os.WriteFile(file, []byte(lines), 0o644); err != nil {
		t.Fatal(err)
	}
	return testenv.Output(t, r.command(t.Context(), dir, "script", "--quiet", "--flush", "--return", "--command",
		"bash -euo pipefail .lines", "/dev/null"))
}

func (r reader) subdirectory(t *testing.T, dir string) string {
	t.Helper()
	dir, err := os.MkdirTemp(dir, "make")
	if err != nil {
		t.Fatal(err)
	}
	if r.user != nil {
		if err := os.Chown(dir, int(r.user.UID), int(r.user.GID)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// redis runs a block that ends with a redis in the foreground, until it is ready for
// clients, and has the runtime stop it. Where its network is the host's it gets a
// port of its own, for another redis may have the usual one.
func (r reader) redis(t *testing.T, dir, lines string) {
	port := testenv.FreePort(t)
	const args = "redis-server --bind 0.0.0.0"
	onHost := strings.Contains(lines, "--net host")
	if onHost {
		if strings.Count(lines, args) != 1 {
			t.Fatalf("no %q in\n%s", args, lines)
		}
		lines = strings.Replace(lines, args, args+" --port "+strconv.Itoa(port), 1)
	}
	// The name of the container is fixed, and its control group is the machine's.
	name := testenv.Name()
	start := strings.LastIndex(lines, " ")
	lines = lines[:start] + " " + name + "\n"
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	file := filepath.Join(dir, ".lines")
	if err := os.WriteFile(file, []byte(lines), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := r.command(ctx, dir, "script", "--quiet", "--flush", "--return", "--command", "bash -euo pipefail .lines", "/dev/null")
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var says strings.Builder
	ready := false
	for text := bufio.NewScanner(out); text.Scan(); {
		says.WriteString(text.Text() + "\n")
		if !ready && strings.Contains(text.Text(), "Ready to accept connections") {
			ready = true
			if onHost {
				if err := testenv.PingRedis(ctx, port); err != nil {
					t.Error(err)
				}
			}
			testenv.Output(t, r.command(ctx, dir, "sh", "-c", "runc kill "+name+" TERM"))
		}
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !ready || err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 128+15) {
		t.Errorf("%v\n%s\nsays\n%s", err, lines, says.String())
	}
}

// makefile builds the bundle, finds it up to date, and builds it again when the
// Makefile is newer.
func (r reader) makefile(t *testing.T, dir, text string) {
	t.Helper()
	testenv.NeedTool(t, "make")
	path := filepath.Join(dir, "Makefile")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	const target = "redis/config.json"
	run := func(makes bool) {
		t.Helper()
		says := testenv.Output(t, r.command(t.Context(), dir, "make", target))
		if strings.Contains(says, "ocibundle") != makes {
			t.Errorf("make says %q", says)
		}
	}
	run(true)
	if _, err := os.Stat(filepath.Join(dir, target)); err != nil {
		t.Error(err)
	}
	run(false)
	if strings.Contains(text, "FORCE") {
		return // it looks at something else than its own time
	}
	now := time.Now().Add(time.Second)
	if err := os.Chtimes(path, now, now); err != nil {
		t.Fatal(err)
	}
	run(true)
}
