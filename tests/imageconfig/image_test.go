package imageconfig

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ocibundle/specedit/imageconfig"
	"ocibundle/tests/testenv"
)

// The process made from an image's own config, in each form there is, is the one that
// the engine runs for the image without any flag.
func TestImageEqualsEngine(t *testing.T) {
	l := start(t)
	p := startPodman(t, l)
	engine := decode(t, l.engineSpec(t, l.run(t, l.full)))
	engine.Process.Env = slices.DeleteFunc(engine.Process.Env, func(e string) bool { return strings.HasPrefix(e, "HOSTNAME=") })

	saved := testenv.Output(t, l.Docker(t.Context(), "save", l.full))
	p.load(t, saved)
	archive := p.output(t, "save", "--format", "oci-archive", l.full)
	for _, test := range []struct {
		want     imageconfig.Kind
		document []byte
	}{
		{imageconfig.DockerImage, []byte(l.docker(t, "inspect", l.full))},
		{imageconfig.DockerImage, []byte(l.docker(t, "image", "inspect", "-f", "{{json .}}", l.full))},
		{imageconfig.DockerImageConfig, savedConfig(t, []byte(saved))},
		{imageconfig.PodmanImage, []byte(p.output(t, "image", "inspect", l.full))},
		{imageconfig.OCIImageConfig, ociConfig(t, []byte(archive))},
	} {
		t.Run(string(test.want), func(t *testing.T) {
			im, text := l.importSpec(t, test.document, imageconfig.Options{FromImage: true})
			// podman keeps the health check and ONBUILD in its OCI archives, too.
			if im.Kind != test.want && (test.want != imageconfig.OCIImageConfig || im.Kind != imageconfig.DockerImageConfig) {
				t.Errorf("taken for %s", im.Kind)
			}
			ours := decode(t, text)
			ours.Process.Env = slices.DeleteFunc(ours.Process.Env, func(e string) bool { return strings.HasPrefix(e, "HOSTNAME=") })
			for _, c := range []struct{ name, engine, ours string }{
				{"args", strings.Join(engine.Process.Args, " "), strings.Join(ours.Process.Args, " ")},
				{"env", strings.Join(engine.Process.Env, "\n"), strings.Join(ours.Process.Env, "\n")},
				{"cwd", engine.Process.Cwd, ours.Process.Cwd},
				{"user", jsonOf(t, engine.Process.User), jsonOf(t, ours.Process.User)},
				{"name label", "an image", ours.Annotations["org.example.name"]},
				{"stop signal", "SIGINT", ours.Annotations["org.opencontainers.image.stopSignal"]},
				{"ports", "53/udp,6379/tcp", ours.Annotations["org.opencontainers.image.exposedPorts"]},
				{"os", "linux", ours.Annotations["org.opencontainers.image.os"]},
			} {
				if c.engine != c.ours {
					t.Errorf("%s: engine %q, ours %q", c.name, c.engine, c.ours)
				}
			}
			if len(ours.Process.Env) < 3 || ours.Process.User.UID == 0 {
				t.Errorf("process %v: the image's config is not in it", ours.Process)
			}
			for _, m := range ours.Mounts {
				if m.Type == "bind" || m.Destination == "/data" {
					t.Errorf("an image's config mounts %v", m)
				}
			}
			var got []string
			for _, n := range im.Notices {
				got = append(got, n.Setting+" "+n.Value)
			}
			if !slices.Contains(got, "volumes /data") {
				t.Errorf("notices %q", got)
			}
		})
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// entry returns the content of an entry of a tar archive.
func entry(t *testing.T, archive []byte, name string) []byte {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if err != nil {
			t.Fatalf("find %s in the archive: %v", name, err)
		}
		if strings.TrimPrefix(h.Name, "./") == name {
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			return data
		}
	}
}

func member[T any](t *testing.T, document []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(document, &v); err != nil {
		t.Fatalf("%v in %s", err, document)
	}
	return v
}

// savedConfig is the image config in an archive of docker save.
func savedConfig(t *testing.T, archive []byte) []byte {
	t.Helper()
	return entry(t, archive, member[[]struct{ Config string }](t, entry(t, archive, "manifest.json"))[0].Config)
}

// ociConfig is the image config in an OCI archive.
func ociConfig(t *testing.T, archive []byte) []byte {
	t.Helper()
	blob := func(digest string) []byte { return entry(t, archive, "blobs/"+strings.Replace(digest, ":", "/", 1)) }
	type descriptor struct{ Digest string }
	index := member[struct{ Manifests []descriptor }](t, entry(t, archive, "index.json"))
	manifest := member[struct{ Config descriptor }](t, blob(index.Manifests[0].Digest))
	return blob(manifest.Config.Digest)
}

// podman runs inside the engine's namespaces, which have control groups and a /run of
// their own. What else it keeps in fixed places is below dir for it.
type podman struct {
	l   lab
	dir string
}

func startPodman(t *testing.T, l lab) podman {
	t.Helper()
	testenv.NeedTool(t, "podman", "unshare", "pgrep")
	p := podman{l, testenv.Dir(t)}
	t.Cleanup(func() { // what cleans up behind a container, in the background, still writes there
		for range 600 {
			if exec.Command("pgrep", "-f", p.dir).Run() != nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
	for _, name := range []string{"lib", "shm"} {
		if err := os.Mkdir(filepath.Join(p.dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p podman) command(ctx context.Context, args ...string) *exec.Cmd {
	const script = `mount --bind "$0/lib" /var/lib && mount --bind "$0/shm" /dev/shm && exec podman "$@"`
	return p.l.Inside(ctx, "unshare", append([]string{"--mount", "sh", "-c", script, p.dir,
		"--root", filepath.Join(p.dir, "root"), "--runroot", filepath.Join(p.dir, "run"), "--tmpdir", filepath.Join(p.dir, "tmp"),
		"--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none",
		"--runtime", filepath.Join(p.l.Dir, "recorder")}, args...)...)
}

func (p podman) output(t *testing.T, args ...string) string {
	t.Helper()
	return testenv.Output(t, p.command(t.Context(), args...))
}

// load loads an archive of docker save.
func (p podman) load(t *testing.T, archive string) {
	t.Helper()
	cmd := p.command(t.Context(), "load")
	cmd.Stdin = strings.NewReader(archive)
	testenv.Output(t, cmd)
}

// removeLater removes a container and its volumes at the end of the test.
func (p podman) removeLater(t *testing.T, name string) {
	t.Cleanup(func() {
		// The test's own context has ended.
		if out, err := p.command(context.Background(), "rm", "-f", "-v", name).CombinedOutput(); err != nil {
			t.Errorf("remove container %s: %v: %s", name, err, out)
		}
	})
}
