package image

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ocibundle/tests/testenv"
)

var exported, saved struct {
	sync.Once
	tree tree
	path string
}

// engineTree is what the engine makes of the image for a container.
func engineTree(t *testing.T) tree {
	t.Helper()
	e, name := image(t)
	exported.Do(func() {
		container := testenv.Name()
		testenv.Output(t, e.Docker(t.Context(), "create", "--name", container, name))
		export, err := os.Open(save(t, e.Docker(t.Context(), "export", container)))
		if err != nil {
			t.Fatal(err)
		}
		defer export.Close()
		exported.tree = streamTree(t, export)
	})
	return exported.tree
}

// dockerSave is the path of what docker save writes.
func dockerSave(t *testing.T) string {
	t.Helper()
	e, name := image(t)
	saved.Do(func() {
		// It goes with the engine.
		path := filepath.Join(e.Dir, "image.tar")
		if err := os.Rename(save(t, e.Docker(t.Context(), "save", name)), path); err != nil {
			t.Fatal(err)
		}
		saved.path = path
	})
	if saved.path == "" {
		t.Fatal("there is no saved image")
	}
	return saved.path
}

// The tree is that of a container on the engine, whoever wrote the archive, in
// whatever form.
func TestEngines(t *testing.T) {
	want := engineTree(t)
	archive := dockerSave(t)
	e, name := image(t)
	testenv.NeedTool(t, "skopeo", "podman", "ctr", "xz", "zstd")

	copied := func(t *testing.T, format string, flags ...string) string {
		path := filepath.Join(testenv.Dir(t), "copied.tar")
		skopeo(t, append(append([]string{"copy", "-q"}, flags...), "docker-archive:"+archive, format+":"+path+":x:latest")...)
		return path
	}
	piped := func(t *testing.T, program ...string) string {
		in, err := os.Open(archive)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		cmd := exec.CommandContext(t.Context(), program[0], program[1:]...)
		cmd.Stdin = in
		return save(t, cmd)
	}
	podman := func(t *testing.T, format string) string {
		dir := testenv.Dir(t)
		run := func(args ...string) {
			private(t, append([]string{"podman", "--root", dir + "/root", "--runroot", dir + "/run",
				"--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none"}, args...)...)
		}
		path := filepath.Join(dir, "podman.tar")
		run("load", "-q", "-i", archive)
		run("save", "-q", "--format", format, "-o", path, name)
		run("rmi", "-f", name)
		return path
	}
	for _, form := range []struct {
		name string
		make func(t *testing.T) string
	}{
		{"docker save", func(*testing.T) string { return archive }},
		{"docker save, gzip", func(t *testing.T) string { return piped(t, "gzip", "-1") }},
		{"docker save, zstd", func(t *testing.T) string { return piped(t, "zstd", "-1") }},
		{"docker save, xz", func(t *testing.T) string { return piped(t, "xz", "-0") }},
		{"podman save", func(t *testing.T) string { return podman(t, "docker-archive") }},
		{"podman save, oci-archive", func(t *testing.T) string { return podman(t, "oci-archive") }},
		{"skopeo, docker-archive", func(t *testing.T) string { return copied(t, "docker-archive") }},
		{"skopeo, oci-archive with gzip", func(t *testing.T) string { return copied(t, "oci-archive") }},
		{"skopeo, oci-archive with zstd", func(t *testing.T) string {
			path := copied(t, "oci-archive", "--dest-compress-format", "zstd")
			if list := testenv.Output(t, exec.CommandContext(t.Context(), "sh", "-c", "tar -xOf "+path+" | grep -ac 'tar+zstd'")); list == "0\n" {
				t.Fatal("no layer of the archive is compressed with zstd")
			}
			return path
		}},
		{"ctr image export", func(t *testing.T) string {
			in, err := os.Open(archive)
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			namespace := testenv.Name()
			load := e.Ctr(t.Context(), "--namespace", namespace, "image", "import", "--no-unpack", "-")
			load.Stdin = in
			testenv.Output(t, load)
			ref := strings.TrimSpace(testenv.Output(t, e.Ctr(t.Context(), "--namespace", namespace, "image", "list", "-q")))
			return save(t, e.Ctr(t.Context(), "--namespace", namespace, "image", "export", "-", ref))
		}},
	} {
		t.Run(form.name, func(t *testing.T) {
			compare(t, diskTree(t, bundle(t, form.make(t))+"/rootfs"), want, added())
		})
	}
}

// skopeo runs skopeo, which needs neither a registry nor a policy here.
func skopeo(t *testing.T, args ...string) {
	t.Helper()
	testenv.NeedTool(t, "skopeo")
	private(t, append([]string{"skopeo", "--insecure-policy", "--tmpdir", testenv.Dir(t)}, args...)...)
}

// private runs a program that keeps a cache in /var/lib, without its traces.
func private(t *testing.T, command ...string) {
	t.Helper()
	testenv.NeedTool(t, "unshare")
	testenv.Output(t, exec.CommandContext(t.Context(), "unshare", append([]string{"--mount", "sh", "-ec", `mount -t tmpfs tmpfs /var/lib; exec "$@"`, "sh"}, command...)...))
}

// The tree is what umoci unpacks.
func TestUmoci(t *testing.T) {
	testenv.NeedTool(t, "umoci")
	dir := testenv.Dir(t)
	skopeo(t, "copy", "-q", "docker-archive:"+dockerSave(t), "oci:"+dir+"/layout:x")
	testenv.Output(t, exec.CommandContext(t.Context(), "umoci", "unpack", "--image", dir+"/layout:x", dir+"/umoci"))
	got := diskTree(t, bundle(t, dockerSave(t))+"/rootfs")
	compare(t, got, diskTree(t, dir+"/umoci/rootfs"), map[string]func(got, want *node) bool{
		// No layer of Docker's names the root. Umoci leaves it at 1970 then, and we give
		// it the newest time in the image.
		".": func(got, want *node) bool { return want.MTime == 0 && got.MTime > want.MTime },
	})
}

// The image's own config is the bundle's: who, where, what and with what.
func TestConfig(t *testing.T) {
	testenv.NeedTool(t, "runc")
	dir := bundle(t, dockerSave(t))
	out := testenv.Output(t, exec.CommandContext(t.Context(), "runc", "--root", testenv.Dir(t), "run", "--bundle", dir, testenv.Name()))
	if want := "uid=2(daemon) gid=4(adm) groups=4(adm)\n/srv/work\nbar\n"; out != want {
		t.Errorf("the container says %q, want %q", out, want)
	}
	// Flags come after the image's config, whatever they change.
	dir = bundle(t, dockerSave(t), "--unsetenv", "FOO", "--set", "/process/cwd=/srv", "--user", "0", "--", "/bin/sh", "-c", "id -u; pwd; echo [$FOO]")
	out = testenv.Output(t, exec.CommandContext(t.Context(), "runc", "--root", testenv.Dir(t), "run", "--bundle", dir, testenv.Name()))
	if want := "0\n/srv\n[]\n"; out != want {
		t.Errorf("the container says %q, want %q", out, want)
	}
	// And a container's config, from --image-config, comes between the two.
	e, name := image(t)
	container := testenv.Name()
	testenv.Output(t, e.Docker(t.Context(), "create", "--name", container, "--env", "FOO=container", "--workdir", "/etc", name, "echo $FOO; pwd; id -u"))
	inspected := save(t, e.Docker(t.Context(), "inspect", container))
	both := bundle(t, dockerSave(t), "--image-config", inspected, "--net", "private", "--workdir", "/srv")
	out = testenv.Output(t, exec.CommandContext(t.Context(), "runc", "--root", testenv.Dir(t), "run", "--bundle", both, testenv.Name()))
	if want := "container\n/srv\n2\n"; out != want {
		t.Errorf("the container says %q, want %q", out, want)
	}
	var config struct{ Annotations map[string]string }
	text, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err == nil {
		err = json.Unmarshal(text, &config)
	}
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"a.label": "x", "org.opencontainers.image.exposedPorts": "6379/tcp", "org.opencontainers.image.stopSignal": "SIGUSR1"} {
		if got := config.Annotations[key]; got != want {
			t.Errorf("annotation %s is %q, want %q", key, got, want)
		}
	}
}

// docker save redis | ocibundle --image -o redis && runc run -b redis r: no other flag,
// and it serves.
func TestRedis(t *testing.T) {
	e := testenv.StartDocker(t)
	testenv.NeedTool(t, "runc")
	dir := testenv.Dir(t)
	if err := os.Mkdir(dir+"/rootfs", 0o755); err != nil {
		t.Fatal(err)
	}
	testenv.RedisRootfs(t, dir+"/rootfs")
	testenv.Output(t, exec.CommandContext(t.Context(), "tar", "-C", dir+"/rootfs", "-cf", dir+"/rootfs.tar", "."))
	if err := os.RemoveAll(dir + "/rootfs"); err != nil {
		t.Fatal(err)
	}
	dockerfile := "FROM scratch\nADD rootfs.tar /\nENV PATH=/usr/bin\nUSER redis\nWORKDIR /var/lib/redis\nEXPOSE 6379\n" +
		"ENTRYPOINT [\"redis-server\"]\nCMD [\"--save\", \"\"]\n"
	if err := os.WriteFile(dir+"/Dockerfile", []byte(dockerfile), 0o644); err != nil {
		t.Fatal(err)
	}
	name := testenv.Name()
	build := e.Docker(t.Context(), "build", "-q", "-t", name, dir)
	build.Env = append(build.Env, "DOCKER_BUILDKIT=0")
	testenv.Output(t, build)

	pipe := exec.CommandContext(t.Context(), "sh", "-ec", `docker save "$1" | "$2" --image -o redis`, "sh", name, testenv.Binary(t))
	pipe.Env = e.Docker(t.Context()).Env
	pipe.Dir = dir
	if out, err := pipe.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("docker save | ocibundle: %v\n%s", err, out)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	root := testenv.Dir(t)
	log, err := os.Create(dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	run := exec.CommandContext(ctx, "runc", "--root", root, "run", "-b", "redis", name)
	run.Dir, run.Stdout, run.Stderr = dir, log, log
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- run.Wait() }()
	t.Cleanup(func() {
		exec.Command("runc", "--root", root, "delete", "--force", name).Run()
	})
	redis := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), "runc", append([]string{"--root", root, "exec", name, "redis-cli"}, args...)...).CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	for {
		answer, err := redis("PING")
		if err == nil && answer == "PONG" {
			break
		}
		select {
		case err := <-ended:
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("redis ended: %v\n%s", err, text)
		case <-time.After(100 * time.Millisecond):
		}
	}
	for _, step := range [][2]string{{"SET k v", "OK"}, {"GET k", "v"}} {
		if answer, err := redis(strings.Fields(step[0])...); err != nil || answer != step[1] {
			t.Errorf("%s: %q, %v", step[0], answer, err)
		}
	}
	testenv.Output(t, exec.CommandContext(t.Context(), "runc", "--root", root, "kill", name, "TERM"))
	if err := <-ended; err != nil {
		text, _ := os.ReadFile(log.Name())
		t.Errorf("runc run: %v\n%s", err, text)
	}
}
