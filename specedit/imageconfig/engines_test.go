package imageconfig

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// What engines say of one and the same container and image comes to the same, whatever
// members a version adds or leaves out. The documents of Docker 26.1 and podman 5.4 are
// theirs; that of Docker 29 is the former with what its API (1.48 to 1.52) has dropped and
// added.
func TestEngineVersions(t *testing.T) {
	for _, engine := range []struct {
		name             string
		container, image Kind
		notices          []string // of the container, beside those of all
	}{
		{"docker-26.1", DockerContainer, DockerImage, []string{"init process"}},
		{"docker-29.0", DockerContainer, DockerImage, []string{"init process"}},
		{"podman-5.4", PodmanContainer, PodmanImage, nil},
	} {
		t.Run(engine.name, func(t *testing.T) {
			im, spec := read(t, engine.name+"-container.json")
			if im.Kind != engine.container {
				t.Errorf("taken for %s", im.Kind)
			}
			var notices []string
			for _, n := range im.Notices {
				notices = append(notices, n.Setting)
			}
			slices.Sort(notices)
			want := append([]string{"anonymous volumes", "extra host", "health check"}, engine.notices...)
			if slices.Sort(want); !slices.Equal(notices, want) {
				t.Errorf("notices %q, want %q", notices, want)
			}
			p := spec.Process
			if !slices.Equal(p.Args, []string{"redis-server", "--maxmemory", "1mb"}) || !p.Terminal || p.User.UID != 0 || p.Cwd != "/tmp" ||
				!slices.Contains(p.Env, "X=1") || !slices.Contains(p.Env, "A=1") || !p.NoNewPrivileges {
				t.Errorf("process %+v", p)
			}
			if c := p.Capabilities.Bounding; !slices.Contains(c, "CAP_NET_ADMIN") || slices.Contains(c, "CAP_MKNOD") {
				t.Errorf("capabilities %q", c)
			}
			if !slices.Contains(p.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Hard: 200, Soft: 100}) {
				t.Errorf("limits %+v", p.Rlimits)
			}
			r := spec.Linux.Resources
			if *r.Memory.Limit != 64<<20 || *r.CPU.Quota != 50000 || *r.Pids.Limit != 50 || !spec.Root.Readonly {
				t.Errorf("resources %+v", r)
			}
			if slices.ContainsFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace }) {
				t.Error("a network of its own")
			}
			if !slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool { return m.Destination == "/t" && slices.Contains(m.Options, "size=1m") }) {
				t.Errorf("mounts %+v", spec.Mounts)
			}
			// podman 5 does not list what a read-only container may write to.
			tmp := slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool { return m.Destination == "/var/tmp" && m.Type == "tmpfs" })
			if tmp != (engine.container == PodmanContainer) {
				t.Errorf("mounts %+v", spec.Mounts)
			}
			a := spec.Annotations
			if a[RestartAnnotation] != "on-failure:3" || a["an"] != "o" || a["a"] != "b" ||
				!slices.Contains([]string{"12", "SIGUSR2"}, a["org.opencontainers.image.stopSignal"]) {
				t.Errorf("annotations %q", a)
			}

			im, spec = read(t, engine.name+"-image.json")
			if im.Kind != engine.image || len(im.Notices) != 1 {
				t.Errorf("taken for %s: %s", im.Kind, im.Warning())
			}
			if got := strings.Join(spec.Process.Args, " "); got != "redis-server --port 0" || spec.Process.Cwd != "/tmp" ||
				spec.Annotations["org.opencontainers.image.stopSignal"] != "SIGINT" || spec.Annotations["org.opencontainers.image.os"] != "linux" {
				t.Errorf("%q %+v", got, spec.Annotations)
			}
		})
	}
}

// read imports a document of testdata.
func read(t *testing.T, name string) (Result, specs.Spec) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return imported(t, string(text), Options{})
}
