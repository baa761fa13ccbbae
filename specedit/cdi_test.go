package specedit_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"ocibundle/specedit"
)

// cdiDir is a directory with files of CDI.
func cdiDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const everything = `{"cdiVersion": "1.1.0", "kind": "vendor.com/all", "devices": [{"name": "x", "containerEdits": {
	"env": ["A=1", "PATH=/vendor"],
	"deviceNodes": [
		{"path": "/dev/mine", "hostPath": "/dev/zero"},
		{"path": "/dev/owned", "type": "c", "major": 1, "minor": 3, "uid": 7, "gid": 8, "permissions": "r"},
		{"path": "/dev/unruled", "type": "b", "major": 7, "minor": 9, "permissions": "none"}],
	"netDevices": [{"hostInterfaceName": "eth7", "name": "net0"}],
	"mounts": [{"hostPath": "/b", "containerPath": "/m/below"}, {"hostPath": "/a", "containerPath": "/m/", "options": ["bind", "ro"]}],
	"hooks": [{"hookName": "prestart", "path": "/h1"}, {"hookName": "startContainer", "path": "/h2", "args": ["h2", "x"], "env": ["E=1"], "timeout": 5}],
	"additionalGids": [0, 44],
	"intelRdt": {"closID": "c"}}}]}`

func cdiConfig(t *testing.T, host specedit.Host, edits ...specedit.Edit) (spec specs.Spec, p *specedit.Plan) {
	t.Helper()
	p = &specedit.Plan{Host: host, Edits: edits}
	text, err := p.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &spec); err != nil {
		t.Fatal(err)
	}
	return spec, p
}

// Everything that a file can ask for is in the config. Who runs the container has what belongs to
// nobody, also where that is said later.
func TestCDI(t *testing.T) {
	dir := cdiDir(t, map[string]string{"all.json": everything})
	e, err := specedit.CDI("--device vendor.com/all=x", "vendor.com/all=x", []string{dir})
	if err != nil {
		t.Fatal(err)
	}
	who, err := specedit.User("-u", "5:6")
	if err != nil {
		t.Fatal(err)
	}
	spec, _ := cdiConfig(t, specedit.Host{}, e, who, e)
	if spec.Version != "1.3.0" {
		t.Errorf("version %s", spec.Version)
	}
	if env := spec.Process.Env; !slices.Contains(env, "A=1") || !slices.Contains(env, "PATH=/vendor") || len(env) != 3 {
		t.Errorf("env %q", env)
	}
	if got := spec.Process.User.AdditionalGids; !slices.Equal(got, []uint32{6, 44}) {
		t.Errorf("groups %v", got)
	}
	var devices []string
	for _, d := range spec.Linux.Devices {
		devices = append(devices, fmt.Sprintf("%s %s %d:%d %d:%d", d.Path, d.Type, d.Major, d.Minor, *d.UID, *d.GID))
	}
	if want := []string{"/dev/mine c 1:5 5:6", "/dev/owned c 1:3 7:8", "/dev/unruled b 7:9 5:6"}; !slices.Equal(devices, want) {
		t.Errorf("devices %q", devices)
	}
	var rules []string
	for _, r := range spec.Linux.Resources.Devices {
		if r.Type == "b" || r.Major != nil && *r.Major == 1 && (*r.Minor == 5 || *r.Minor == 3) {
			rules = append(rules, fmt.Sprintf("%s %d:%d %s", r.Type, *r.Major, *r.Minor, r.Access))
		}
	}
	if n := len(rules); n < 2 || !slices.Equal(rules[n-2:], []string{"c 1:5 rwm", "c 1:3 r"}) || strings.Contains(strings.Join(rules, " "), "b ") {
		t.Errorf("rules %q", rules)
	}
	if d := spec.Linux.NetDevices["eth7"]; d.Name != "net0" || spec.Linux.IntelRdt.ClosID != "c" {
		t.Errorf("%v %v", spec.Linux.NetDevices, spec.Linux.IntelRdt)
	}
	var mounts []string
	for _, m := range spec.Mounts {
		if strings.HasPrefix(m.Destination, "/m") {
			mounts = append(mounts, m.Source+" "+m.Destination+" "+strings.Join(m.Options, ","))
		}
	}
	if want := []string{"/a /m bind,ro", "/b /m/below "}; !slices.Equal(mounts, want) {
		t.Errorf("mounts %q", mounts)
	}
	//lint:ignore SA1019 deprecated, and run by every runtime
	if h := spec.Hooks; len(h.Prestart) != 1 || h.Prestart[0].Path != "/h1" || len(h.StartContainer) != 1 || *h.StartContainer[0].Timeout != 5 ||
		h.StartContainer[0].Env[0] != "E=1" {
		t.Errorf("hooks %+v", h)
	}
	want := []string{"device /dev/zero of the host is given to the container", "device /dev/owned of the host is given to the container",
		"device /dev/unruled of the host is given to the container", "/a of the host is bound to /m/", "/b of the host is bound to /m/below",
		"the hook prestart runs on the host: /h1", "the hook startContainer runs in the container: /h2 x"}
	if !slices.Equal(e.Decisions, want) {
		t.Errorf("decisions %q", e.Decisions)
	}
}

// A user's runtime makes no nodes, has no device rules and sets no groups.
func TestCDIRootless(t *testing.T) {
	dir := cdiDir(t, map[string]string{"all.json": everything})
	e, err := specedit.CDI("--device vendor.com/all=x", "vendor.com/all=x", []string{dir})
	if err != nil {
		t.Fatal(err)
	}
	ids := []user.IDMap{{ParentID: 1000, Count: 1}}
	spec, p := cdiConfig(t, specedit.Host{Rootless: true, Mapping: user.IdentityMapping{UIDMaps: ids, GIDMaps: ids}}, e)
	bound := false
	for _, m := range spec.Mounts {
		bound = bound || m.Destination == "/dev/mine" && m.Source == "/dev/zero" && m.Type == "bind"
		if slices.Contains(m.Options, "idmap") {
			t.Errorf("a mount that no user can make: %v", m)
		}
	}
	if !bound || len(spec.Linux.Devices) > 0 || spec.Linux.Resources != nil || spec.Process.User.AdditionalGids != nil {
		t.Errorf("%v %+v %v", spec.Mounts, spec.Linux, spec.Process.User)
	}
	want := "`--device vendor.com/all=x`: the device's 1 supplementary group left out: a rootless container cannot set groups"
	if !slices.Contains(p.Warnings(), want) {
		t.Errorf("warnings %q", p.Warnings())
	}
}

// What others have broken is no matter of a name that is found, and is said where none is.
func TestCDILookup(t *testing.T) {
	device := func(vendor, name string) string {
		return fmt.Sprintf(`{"cdiVersion": "0.5.0", "kind": "%s/gpu", "devices": [{"name": "%s", "containerEdits": {"env": ["FROM=%s"]}}]}`, vendor, name, name)
	}
	first := cdiDir(t, map[string]string{"a.json": device("a.com", "1"), "b.yaml": "a: [", "c.json": `{"cdiVersion": "0.5.0", "kind": "b.com/gpu", "devices": []}`,
		"d.json": device("twice.com", "1"), "e.json": device("twice.com", "1"), "f.txt": "no CDI"})
	second := cdiDir(t, map[string]string{"a.json": strings.Replace(device("a.com", "1"), "FROM=1", "FROM=second", 1)})
	many := map[string]string{}
	for i := range 20 {
		many[fmt.Sprint(i, ".json")] = device("m.com", fmt.Sprintf("%02d", i))
	}
	crowd := cdiDir(t, many)
	for _, tt := range []struct {
		name          string
		dirs          []string
		env           string
		problem, hint string
	}{
		{name: "a.com/gpu=1", dirs: []string{first}, env: "FROM=1"},
		{name: "a.com/gpu=1", dirs: []string{first, second}, env: "FROM=second"}, // the later directory wins
		{name: "a.com/gpu=2", dirs: []string{first}, problem: fmt.Sprintf(`there is no CDI device "a.com/gpu=2" in %s, and "%s/b.yaml" cannot be used: `, first, first), hint: "there are a.com/gpu=1"},
		{name: "a.com/gpu=2", dirs: []string{first}, problem: " (nor can 3 files more)", hint: "there are a.com/gpu=1"},
		{name: "twice.com/gpu=1", dirs: []string{first}, problem: "there is no CDI device", hint: "there are a.com/gpu=1"},
		{name: "m.com/gpu=x", dirs: []string{crowd, second + "/no"}, problem: " in " + crowd + " and " + second + "/no",
			hint: "there are m.com/gpu=00, m.com/gpu=01, m.com/gpu=02, m.com/gpu=03, m.com/gpu=04, m.com/gpu=05, m.com/gpu=06, m.com/gpu=07 and 12 more"},
		{name: "a.com/gpu=1", dirs: []string{second + "/a.json"}, problem: "not a directory"},
	} {
		e, err := specedit.CDI("l", tt.name, tt.dirs)
		if tt.problem == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
			} else if spec, _ := cdiConfig(t, specedit.Host{}, e); !slices.Contains(spec.Process.Env, tt.env) {
				t.Errorf("%s: env %q", tt.name, spec.Process.Env)
			}
			continue
		}
		edit, ok := err.(*specedit.EditError)
		if !ok || edit.Label != "l" || !strings.Contains(edit.Error(), tt.problem) || edit.Hint != tt.hint || strings.Contains(edit.Error(), "\n") {
			t.Errorf("%s: %+v", tt.name, err)
		}
	}
	for name, want := range map[string]bool{"vendor.com/gpu=all": true, "vendor/a.b=0:1": true, "/dev/a=b": false, "./a/b=c": false, "/dev/null": false, "a/b": false, "a=b": false} {
		if specedit.IsCDI(name) != want {
			t.Errorf("IsCDI(%q) is %v", name, !want)
		}
	}
}

// What would keep the library waiting, or reading without an end, is refused.
func TestCDIFiles(t *testing.T) {
	for _, tt := range []struct {
		put  func(file string) error
		want string
	}{
		{func(file string) error { return unix.Mkfifo(file, 0o644) }, "it is not a regular file"},
		{func(file string) error { return os.Symlink("/dev/zero", file) }, "it is not a regular file"},
		{func(file string) error {
			return errors.Join(os.WriteFile(file, nil, 0o644), os.Truncate(file, 16<<20+1))
		}, "larger than 16 MiB"},
	} {
		dir := cdiDir(t, map[string]string{"all.json": everything})
		file := filepath.Join(dir, "z.yaml")
		if err := tt.put(file); err != nil {
			t.Fatal(err)
		}
		_, err := specedit.CDI("--device x", "vendor.com/all=x", []string{dir})
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
	if _, err := specedit.CDI("--device x", "vendor.com/all=x", []string{""}); err == nil || !strings.Contains(err.Error(), "is empty") {
		t.Errorf("the directory without a name: %v", err)
	}
	dir := cdiDir(t, map[string]string{"broken.yaml": "a: [\n"})
	if err := os.Mkdir(filepath.Join(dir, "directory.json"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := specedit.CDI("--device x", "vendor.com/all=x", []string{dir}); err == nil || !strings.Contains(err.Error(), "did not find expected") {
		t.Errorf("a broken file: %v", err)
	}
}
