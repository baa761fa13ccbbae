package spec

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/tests/testenv"
)

// cdiFile is a vendor's file for vendor.com/gpu=0: a node, a variable, a mount, and a hook that
// keeps what it is told.
func cdiFile(node, library, told string) string {
	hook := ""
	if told != "" {
		hook = fmt.Sprintf(`"hooks": [{"hookName": "createRuntime", "path": "/bin/sh", "args": ["sh", "-c", "cat >%s"]}],`, told)
	}
	return fmt.Sprintf(`{"cdiVersion": "0.5.0", "kind": "vendor.com/gpu",
		"containerEdits": {%s "mounts": [{"hostPath": "%s", "containerPath": "/usr/lib/vendor", "options": ["ro", "rbind", "rprivate"]}]},
		"devices": [{"name": "0", "containerEdits": {"env": ["GPU=0"], "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "%s"}]}}]}`, hook, library, node)
}

// What a CDI name stands for is in the container, and its control group lets it at the node.
func TestCDIAsRoot(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "runc", "crun", "unshare")
	dir := files(t, map[string]string{"lib/file": "the vendor's\n", "cdi/broken.yaml": "["})
	node, told := filepath.Join(dir, "node"), filepath.Join(dir, "told")
	// No driver stands behind it: who may open it learns that.
	if err := unix.Mknod(node, unix.S_IFCHR|0o600, int(unix.Mkdev(241, 7))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cdi/vendor.json"), []byte(cdiFile(node, filepath.Join(dir, "lib"), told)), 0o644); err != nil {
		t.Fatal(err)
	}
	c := container{"cdi", []string{"--verbose", "--device", "vendor.com/gpu=0", "--cdi-spec-dir", filepath.Join(dir, "cdi")}, []question{
		{"env:GPU", "0"}, {"device:/dev/gpu0", "c 241:7"}, {"open:/dev/gpu0", "no such device or address"},
		{"read:/usr/lib/vendor/file", "the vendor's"}, {"write:/usr/lib/vendor/x", "read-only file system"},
	}}
	bundle := filepath.Join(testenv.Dir(t), "b")
	out := c.make(t, exec.CommandContext(t.Context(), testenv.Binary(t), c.args(bundle)...))
	for _, want := range []string{"device " + node + " of the host is given to the container", filepath.Join(dir, "lib") + " of the host is bound to /usr/lib/vendor",
		"the hook createRuntime runs on the host: /bin/sh -c cat >" + told} {
		if !strings.Contains(out, "ocibundle: "+want+"\n") {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	for _, r := range runtimes {
		t.Run(r.name, func(t *testing.T) {
			id := testenv.Name()
			line := r.line(bundle, id, t.TempDir())
			out, err := exec.CommandContext(t.Context(), line[0], line[1:]...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			c.check(t, string(out))
			if state, err := os.ReadFile(told); err != nil || !strings.Contains(string(state), id) {
				t.Errorf("the hook was told %q, %v", state, err)
			}
		})
	}
}

func TestCDIAsUser(t *testing.T) {
	testenv.NeedRoot(t)
	runc := testenv.NeedTool(t, "runc", "crun", "unshare", "setpriv")
	u := testenv.TempUser(t, testenv.UserOptions{SubIDs: 65536})
	lib := filepath.Join(u.Home, "lib")
	for name, text := range map[string]string{"lib/file": "the vendor's\n", "cdi/vendor.json": cdiFile("/dev/zero", lib, "")} {
		name = filepath.Join(u.Home, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c := container{"cdi", []string{"--device", "vendor.com/gpu=0", "--cdi-spec-dir", "cdi"}, []question{
		{"env:GPU", "0"}, {"device:/dev/gpu0", "c 1:5"}, {"open:/dev/gpu0", "opened"}, {"read:/usr/lib/vendor/file", "the vendor's"},
	}}
	bundle := filepath.Join(u.Home, "b")
	if out := c.make(t, u.Command(t.Context(), testenv.Binary(t), c.args(bundle)...)); out != "" {
		t.Fatal(out)
	}
	id, state := testenv.Name(), filepath.Join(u.Home, "runc")
	t.Cleanup(func() { _ = u.Command(context.Background(), runc, "--root", state, "delete", "--force", id).Run() })
	out, err := u.Command(t.Context(), runc, "--root", state, "run", "--bundle", bundle, id).CombinedOutput()
	if err != nil {
		t.Fatalf("runc: %v\n%s", err, out)
	}
	c.check(t, string(out))
	if out, err = crunAs(t, u, "run", "--bundle", bundle, id).CombinedOutput(); err != nil {
		t.Fatalf("crun: %v\n%s", err, out)
	}
	c.check(t, string(out))
}

// Without the flag the files are where vendors put them; edit takes the names, too, and a container
// that docker gave a device has it in the bundle.
func TestCDIDirectories(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "unshare")
	dir := files(t, map[string]string{
		"vendor.json": cdiFile("/dev/zero", "/opt", ""),
		"b/rootfs/":   "", "b/config.json": good(t, t.TempDir(), "", "spec"),
		"inspect.json": `[{"Id":"1","Config":{"Cmd":["sh"]},"HostConfig":{"DeviceRequests":[{"Driver":"cdi","DeviceIDs":["vendor.com/gpu=0"]}]}}]`,
	})
	for _, args := range []string{"spec --device vendor.com/gpu=0", "edit b --device vendor.com/gpu=0", "spec --image-config inspect.json"} {
		sh := `mount -t tmpfs none /run && mkdir /run/cdi && cp vendor.json /run/cdi && exec "$0" ` + args
		cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-c", sh, testenv.Binary(t))
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if args[:4] == "edit" {
			config, readErr := os.ReadFile(filepath.Join(dir, "b/config.json"))
			if readErr != nil {
				t.Fatal(readErr)
			}
			out = append(out, config...)
		}
		if err != nil || !strings.Contains(string(out), `"GPU=0"`) || !strings.Contains(string(out), `"/dev/gpu0"`) || out[0] != '{' {
			t.Errorf("%s: %v\n%s", args, err, out)
		}
	}
}
