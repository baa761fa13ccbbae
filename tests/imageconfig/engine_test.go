// Package imageconfig tests what the program makes of the config that comes with a
// container or an image, against the engines that wrote it.
package imageconfig

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"ocibundle/specedit"
	"ocibundle/specedit/imageconfig"
	"ocibundle/tests/testenv"
)

// stateDir is where the engine's containerd keeps the bundles of running containers,
// in the engine's own mount namespace.
const stateDir = "/run/containerd-state/io.containerd.runtime.v2.task/moby"

// lab is an engine with the images that the tests need.
type lab struct {
	*testenv.Engine
	plain  string // an image without a config
	full   string // an image with all that a Dockerfile can set
	passwd string // a directory with the images' etc/passwd and etc/group
}

var theLab struct {
	once sync.Once
	lab  lab
	ok   bool
}

// start starts the engine and builds the images, once per process.
func start(t *testing.T) lab {
	t.Helper()
	engine, container := testenv.RedisContainer(t)
	theLab.once.Do(func() {
		l := lab{Engine: engine, plain: testenv.Name(), full: testenv.Name()}
		var err error
		if l.passwd, err = os.MkdirTemp("", testenv.Tag+"-passwd-"); err != nil {
			t.Fatal(err)
		}
		image := strings.TrimSpace(l.docker(t, "inspect", "-f", "{{.Image}}", container))
		l.docker(t, "tag", image, l.plain)
		build := l.Docker(t.Context(), "build", "-q", "-t", l.full, "-")
		build.Env = append(build.Env, "DOCKER_BUILDKIT=0")
		build.Stdin = strings.NewReader("FROM " + l.plain + `
ENTRYPOINT ["redis-server"]
CMD ["--port", "0", "--unixsocket", "/tmp/socket"]
ENV FOO=bar EMPTY= ODD="a b&<>\"c"
VOLUME /data
EXPOSE 6379 53/udp
LABEL org.example.name="an image" empty=""
USER redis
WORKDIR /tmp
STOPSIGNAL SIGINT
HEALTHCHECK CMD redis-cli ping
ONBUILD RUN true
`)
		testenv.Output(t, build)
		if err := os.Mkdir(filepath.Join(l.passwd, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"passwd", "group"} {
			l.docker(t, "cp", container+":/etc/"+name, filepath.Join(l.passwd, "etc", name))
		}
		theLab.lab, theLab.ok = l, true
	})
	if !theLab.ok {
		t.Fatal("an earlier test could not make the images")
	}
	return theLab.lab
}

func TestMain(m *testing.M) {
	code := m.Run()
	if dir := theLab.lab.passwd; dir != "" {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func (l lab) docker(t *testing.T, args ...string) string {
	t.Helper()
	return testenv.Output(t, l.Docker(t.Context(), args...))
}

// run runs a container and returns its name; it is removed at the end of the test.
func (l lab) run(t *testing.T, args ...string) string {
	t.Helper()
	name := testenv.Name()
	l.removeLater(t, name)
	l.docker(t, append([]string{"run", "-d", "--name", name}, args...)...)
	return name
}

// removeLater removes a container, if it is there, at the end of the test.
func (l lab) removeLater(t *testing.T, name string) {
	t.Cleanup(func() {
		// The test's own context has ended.
		if err := l.Docker(context.Background(), "rm", "-f", "-v", name).Run(); err != nil {
			t.Logf("remove container %s: %v", name, err)
		}
	})
}

// engineSpec is the config.json that the engine gave the runtime for a running
// container.
func (l lab) engineSpec(t *testing.T, name string) []byte {
	t.Helper()
	id := strings.TrimSpace(l.docker(t, "inspect", "-f", "{{.Id}}", name))
	return []byte(testenv.Output(t, l.Inside(t.Context(), "cat", filepath.Join(stateDir, id, "config.json"))))
}

// importSpec builds the docker template with what a document says.
func (l lab) importSpec(t *testing.T, document []byte, o imageconfig.Options) (imageconfig.Result, []byte) {
	t.Helper()
	im, err := imageconfig.Edits("--image-config c.json", document, o)
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(l.passwd)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	_, err = os.Stat("/sys/fs/cgroup/cgroup.controllers")
	plan := specedit.Plan{Template: specedit.TemplateDocker, Host: specedit.Host{CgroupV2: err == nil, Hostname: "bundle"}, Edits: im.Edits}
	if err := plan.Check(); err != nil {
		t.Fatal(err)
	}
	text, err := plan.Build(specedit.RootUsers{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	return im, text
}

func decode(t *testing.T, text []byte) (spec specs.Spec) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&spec); err != nil {
		t.Fatal(err)
	}
	return spec
}
