// Package readme runs what README.md tells its readers to run.
package readme

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"ocibundle/tests/testenv"
)

type block struct {
	kind string // what stands behind the opening fence
	line int
	text string
}

func blocks(t *testing.T) []block {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(testenv.ModuleRoot(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var found []block
	var b *block
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		fence, ok := strings.CutPrefix(line, "```")
		switch {
		case ok && b == nil:
			b = &block{kind: strings.TrimSpace(fence), line: n + 1}
		case ok:
			found = append(found, *b)
			b = nil
		case b != nil:
			b.text += line
		}
	}
	if b != nil {
		t.Fatalf("the code block at line %d of README.md has no end", b.line)
	}
	return found
}

// web is the program of the tour's container.
const web = `package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Println("web runs:", os.Args)
}
`

// startEngine returns an engine with the two containers of README.md, which every
// user may talk to.
func startEngine(t *testing.T) *testenv.Engine {
	t.Helper()
	engine := testenv.StartDocker(t)
	if err := os.Chmod(strings.TrimPrefix(engine.DockerHost(), "unix://"), 0o666); err != nil {
		t.Fatal(err)
	}
	dir := testenv.Dir(t)
	source := filepath.Join(dir, "web.go")
	rootfs := filepath.Join(dir, "rootfs")
	if err := os.Mkdir(rootfs, 0o755); err != nil {
		t.Fatal(err)
	}
	testenv.RedisRootfs(t, rootfs)
	if err := os.WriteFile(source, []byte(web), 0o644); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(rootfs, "usr/bin/web"), source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	testenv.Output(t, build)
	for file, line := range map[string]string{
		"etc/passwd": "www-data:x:33:33:www-data:/srv:/usr/sbin/nologin\n",
		"etc/group":  "www-data:x:33:\n",
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
	if err := os.Mkdir(filepath.Join(rootfs, "srv"), 0o755); err != nil {
		t.Fatal(err)
	}
	tar := filepath.Join(dir, "image.tar")
	testenv.Output(t, exec.CommandContext(t.Context(), "tar", "-C", rootfs, "-cf", tar, "."))
	testenv.Output(t, engine.Docker(t.Context(), "import", tar, "image"))
	for _, name := range []string{"tempredis", "web"} {
		testenv.Output(t, engine.Docker(t.Context(), "create", "--name", name, "image", "/usr/bin/web"))
	}
	return engine
}

// A reader types a block's lines at a terminal, in a directory of its own.
type reader struct {
	engine *testenv.Engine
	bin    string // the directory of the program
	user   *testenv.User
}

func (r reader) command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	var cmd *exec.Cmd
	if r.user != nil {
		cmd = r.user.Command(ctx, args[0], args[1:]...)
	} else {
		cmd = exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir)
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

var makesWeb = regexp.MustCompile(`ocibundle .*-o web`)

func TestReadme(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "runc", "script", "newuidmap", "newgidmap")
	engine := startEngine(t)
	bin := filepath.Dir(testenv.Binary(t))
	for _, who := range []string{"root", "user"} {
		t.Run(who, func(t *testing.T) {
			r := reader{engine: engine, bin: bin}
			home := testenv.Dir(t)
			if who == "user" {
				r.user = testenv.TempUser(t, testenv.UserOptions{SubIDs: 65536})
				home = r.user.Home
			}
			ran := 0
			for _, b := range blocks(t) {
				// .ci/run does that by itself.
				if b.text == "make demo\n" {
					continue
				}
				ran++
				t.Run(fmt.Sprintf("line%d", b.line), func(t *testing.T) {
					dir := filepath.Join(home, fmt.Sprintf("line%d", b.line))
					for _, d := range []string{dir, filepath.Join(dir, "data")} {
						if err := os.Mkdir(d, 0o755); err != nil {
							t.Fatal(err)
						}
						if r.user != nil {
							if err := os.Chown(d, int(r.user.UID), int(r.user.GID)); err != nil {
								t.Fatal(err)
							}
						}
					}
					switch {
					case b.kind == "make":
						r.makefile(t, dir, b.text)
					case b.kind != "":
						t.Errorf("nobody runs the %s block at line %d of README.md", b.kind, b.line)
					case strings.Contains(b.text, "runc run --bundle redis"):
						r.redis(t, dir, b.text)
					default:
						// The tour speaks of one bundle throughout.
						if !makesWeb.MatchString(b.text) {
							r.script(t, dir, "docker export web | ocibundle -o web -- /usr/bin/web")
						}
						says := r.script(t, dir, b.text)
						if strings.Contains(b.text, "runc") != strings.Contains(says, "web runs:") {
							t.Errorf("%s\nsays\n%s", b.text, says)
						}
					}
				})
			}
			if ran < 5 {
				t.Errorf("README.md has only %d blocks to run: is it still written that way?", ran)
			}
		})
	}
}

// redis runs a block that ends with a redis in the foreground. It gets a port of its
// own, for another redis may have the usual one.
func (r reader) redis(t *testing.T, dir, lines string) {
	port := testenv.FreePort(t)
	const args = "redis-server --bind 0.0.0.0"
	if strings.Count(lines, args) != 1 {
		t.Fatalf("no %q in\n%s", args, lines)
	}
	lines = strings.Replace(lines, args, args+" --port "+strconv.Itoa(port), 1)
	// The name of the container is fixed, and runc knows it all over the machine.
	lines = strings.Replace(lines, "run --bundle redis redis", "run --bundle redis "+testenv.Name(), 1)
	// Its protected mode lets only the loopback address in, over which the test comes.
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Minute, fmt.Errorf("redis did not answer"))
	defer cancel()
	file := filepath.Join(dir, ".lines")
	if err := os.WriteFile(file, []byte(lines), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := r.command(ctx, dir, "script", "--quiet", "--flush", "--return", "--command", "bash -euo pipefail .lines", "/dev/null")
	var says bytes.Buffer
	cmd.Stdout, cmd.Stderr = &says, &says
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pinging, stop := context.WithCancelCause(ctx)
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		stop(fmt.Errorf("it ended: %v", err))
		ended <- err
	}()
	if err := testenv.PingRedis(pinging, port); err != nil {
		cancel()
		<-ended
		t.Fatalf("%v\n%s\nsays\n%s", err, lines, says.Bytes())
	}
	if _, err := testenv.Redis(ctx, port, "SHUTDOWN", "NOSAVE"); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("%v\n%s\nsays\n%s", err, lines, says.Bytes())
	}
}

// makefile builds the bundle, finds it up to date, and builds it again when the
// Makefile is newer.
func (r reader) makefile(t *testing.T, dir, text string) {
	testenv.NeedTool(t, "make")
	path := filepath.Join(dir, "Makefile")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	const target = "redis/config.json"
	run := func(want string) {
		t.Helper()
		says := testenv.Output(t, r.command(t.Context(), dir, "make", target))
		if !strings.Contains(says, want) {
			t.Errorf("make says %q, not %q", says, want)
		}
	}
	run("ocibundle")
	if _, err := os.Stat(filepath.Join(dir, target)); err != nil {
		t.Error(err)
	}
	run("up to date")
	now := time.Now().Add(time.Second)
	if err := os.Chtimes(path, now, now); err != nil {
		t.Fatal(err)
	}
	run("ocibundle")
}
