package imageconfig

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ocibundle/tests/testenv"
)

// recipe is how a bundle of a container is kept up to date with make.
const recipe = `SHELL = /bin/bash -o pipefail
bundle/config.json: inspect.json ; docker export $(CONTAINER) | ocibundle -f -o bundle --image-config inspect.json
inspect.json: ; docker inspect $(CONTAINER) > $@
`

// The recipe makes a bundle that runs as the container does, with no flag for what the
// container already is.
func TestRecipe(t *testing.T) {
	l := start(t)
	testenv.NeedTool(t, "make", "runc")
	port := testenv.FreePort(t)
	dir := testenv.Dir(t)
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(data, 0o777); err != nil {
		t.Fatal(err)
	}
	container := l.create(t, "--net", "host", "-e", "GREETING=a b&c", "--memory", "100m", "--pids-limit", "50", "--ulimit", "nofile=300:400", "--read-only",
		"--tmpfs", "/run", "-v", data+":/tmp", "--cap-drop", "ALL", l.full, "--bind", "127.0.0.1", "--port", strconv.Itoa(port))

	if err := os.WriteFile(filepath.Join(dir, "Makefile"), []byte(recipe), 0o644); err != nil {
		t.Fatal(err)
	}
	make := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), "make", append([]string{"CONTAINER=" + container}, args...)...)
		cmd.Dir = dir
		// The client's settings, and the program under its own name.
		cmd.Env = append(l.Docker(t.Context()).Env, "PATH="+filepath.Dir(testenv.Binary(t))+":"+os.Getenv("PATH"))
		return testenv.Output(t, cmd)
	}
	make()
	if again := make(); !strings.Contains(again, "is up to date") {
		t.Errorf("make does it again: %s", again)
	}

	id := testenv.Name()
	bundle := filepath.Join(dir, "bundle")
	config, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	// Redis writes over its environment, so that the kernel cannot be asked.
	for _, want := range []string{"FOO=bar", "EMPTY=", `ODD=a b&<>"c`, "GREETING=a b&c"} {
		if env := decode(t, config).Process.Env; !slices.Contains(env, want) {
			t.Errorf("no %q in %q", want, env)
		}
	}
	testenv.ServeRedis(t, port, exec.CommandContext(t.Context(), "runc", "run", "--bundle", bundle, id), exec.Command("runc", "delete", "--force", id), func() {
		state := testenv.Output(t, exec.CommandContext(t.Context(), "runc", "state", id))
		pid := member[struct{ Pid int }](t, []byte(state)).Pid
		proc := func(name string) string {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
			if err != nil {
				t.Error(err)
			}
			return string(text)
		}
		status := strings.Join(strings.Fields(proc("status")), " ")
		for _, want := range []string{"Uid: 999 999 999 999", "Gid: 999 999 999 999", "CapBnd: 0000000000000000", "Seccomp: 2"} {
			if !strings.Contains(status, want) {
				t.Errorf("no %q in %s", want, status)
			}
		}
		// redis raises the soft limit to the hard one.
		if limits := strings.Join(strings.Fields(proc("limits")), " "); !strings.Contains(limits, "Max open files 400 400") {
			t.Errorf("limits %s", limits)
		}
		if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err != nil || cwd != "/tmp" {
			t.Errorf("cwd %q, %v", cwd, err)
		}
		if answer, err := testenv.Redis(t.Context(), port, "SAVE"); err != nil || answer != "+OK" {
			t.Errorf("save into the bind mount: %q, %v", answer, err)
		}
		if _, err := os.Stat(filepath.Join(data, "dump.rdb")); err != nil {
			t.Error(err)
		}
	})
}

// An ordinary user's runtime cannot do all that the container's config asks for. What
// it cannot is named, and the rest runs.
func TestRecipeAsUser(t *testing.T) {
	l := start(t)
	runc := testenv.NeedTool(t, "runc", "newuidmap", "newgidmap")
	u := testenv.TempUser(t, testenv.UserOptions{SubIDs: 65536})
	port := testenv.FreePort(t)
	container := l.create(t, "--net", "host", "--memory", "100m", "--pids-limit", "50", "--group-add", "7", "--device", "/dev/full", "-t=false", "-p", "9:9",
		"--restart", "always", l.full, "--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--save", "")

	inspect := filepath.Join(u.Home, "inspect.json")
	if err := os.WriteFile(inspect, []byte(l.docker(t, "inspect", container)), 0o644); err != nil {
		t.Fatal(err)
	}
	bundle := filepath.Join(u.Home, "bundle")
	export := l.Docker(t.Context(), "export", container)
	ocibundle := u.Command(t.Context(), testenv.Binary(t), "-o", bundle, "--image-config", inspect, "--json")
	stream, err := export.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	ocibundle.Stdin = stream
	if err := export.Start(); err != nil {
		t.Fatal(err)
	}
	said := testenv.Output(t, ocibundle)
	if _, err := io.Copy(io.Discard, stream); err != nil {
		t.Error(err)
	}
	if err := export.Wait(); err != nil {
		t.Error(err)
	}
	var summary struct {
		ImageConfig struct {
			Kind     string
			NotTaken []string
		}
		Warnings []string
	}
	if err := json.Unmarshal([]byte(said), &summary); err != nil {
		t.Fatal(err)
	}
	// Whether swap is limited unasked depends on the engine.
	got := slices.DeleteFunc(slices.Sorted(slices.Values(summary.ImageConfig.NotTaken)), func(s string) bool { return strings.HasPrefix(s, "swap limit") })
	want := []string{"anonymous volumes /data", "group 7", "health check", "memory limit 104857600", "pids limit 50", "published ports 9/tcp"}
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("not taken over: %q, want %q", got, want)
	}
	if !slices.ContainsFunc(summary.Warnings, func(w string) bool {
		return strings.HasPrefix(w, "not taken over from docker inspect of a container: ")
	}) {
		t.Errorf("warnings %q", summary.Warnings)
	}
	id := testenv.Name()
	state := filepath.Join(u.Home, "runc")
	testenv.ServeRedis(t, port, u.Command(t.Context(), runc, "--root", state, "run", "--bundle", bundle, id),
		u.Command(context.Background(), runc, "--root", state, "delete", "--force", id), func() {})
}

// create creates a container and returns its name; it is removed at the end of the test.
func (l lab) create(t *testing.T, args ...string) string {
	t.Helper()
	name := testenv.Name()
	l.removeLater(t, name)
	l.docker(t, append([]string{"create", "--name", name}, args...)...)
	return name
}
