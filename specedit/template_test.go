package specedit_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/moby/sys/user"

	"ocibundle/specedit"
	"ocibundle/tests/testenv"
)

// build makes a config and decodes it.
func build(t *testing.T, p specedit.Plan) map[string]any {
	t.Helper()
	if err := p.Check(); err != nil {
		t.Fatalf("check: %v", err)
	}
	text, err := p.Build(nil)
	if err != nil {
		t.Fatalf("build: %v", err)
	}
	return decode(t, text)
}

func decode(t *testing.T, text []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatalf("the config is not a JSON: %v\n%s", err, text)
	}
	return m
}

// differences lists the pointers at which two documents differ, with both values.
func differences(path string, a, b any) []string {
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok {
			break
		}
		var out []string
		for k := range x {
			out = append(out, differences(path+"/"+k, x[k], y[k])...)
		}
		for k := range y {
			if _, both := x[k]; !both {
				out = append(out, differences(path+"/"+k, nil, y[k])...)
			}
		}
		slices.Sort(out)
		return out
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			break
		}
		var out []string
		for i := range x {
			out = append(out, differences(fmt.Sprintf("%s/%d", path, i), x[i], y[i])...)
		}
		return out
	}
	if fmt.Sprintf("%#v", a) == fmt.Sprintf("%#v", b) {
		return nil
	}
	return []string{fmt.Sprintf("%s: %v | %v", path, a, b)}
}

func runcSpec(t *testing.T, before string, args ...string) (map[string]any, []byte) {
	t.Helper()
	testenv.NeedTool(t, "runc")
	dir := t.TempDir()
	// A mount namespace of its own lets the test choose the cgroup layout.
	script := before + `cd "$1" && shift && runc spec "$@"`
	cmd := exec.CommandContext(t.Context(), "sh", append([]string{"-ec", script, "sh", dir}, args...)...)
	if before != "" {
		testenv.NeedRoot(t)
		testenv.NeedTool(t, "unshare")
		cmd = exec.CommandContext(t.Context(), "unshare", append([]string{"--mount", "sh", "-ec", script, "sh", dir}, args...)...)
	}
	testenv.Output(t, cmd)
	text, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	return m, text
}

const (
	cgroupV1 = "umount -l /sys/fs/cgroup 2>/dev/null || true\nmount -t tmpfs tmpfs /sys/fs/cgroup\n"
	cgroupV2 = "umount -l /sys/fs/cgroup 2>/dev/null || true\nmount -t cgroup2 cgroup2 /sys/fs/cgroup\n"
)

// The default config is that of the real runc but for what is named here.
func TestTemplateIsRuncs(t *testing.T) {
	mapping := func(maps ...user.IDMap) user.IdentityMapping {
		return user.IdentityMapping{UIDMaps: maps, GIDMaps: maps}
	}
	self := mapping(user.IDMap{ID: 0, ParentID: int64(os.Geteuid()), Count: 1})
	for _, c := range []struct {
		name   string
		layout string
		args   []string
		host   specedit.Host
		want   []string // prefixes of the differences, all of them
	}{
		{"root, cgroup v1", cgroupV1, nil, specedit.Host{}, []string{"/ociVersion: "}},
		{"root, cgroup v2", cgroupV2, nil, specedit.Host{CgroupV2: true}, []string{"/ociVersion: "}},
		{"rootless, cgroup v1", cgroupV1, []string{"--rootless"}, specedit.Host{Rootless: true, Mapping: self}, []string{"/ociVersion: "}},
		{"rootless, cgroup v2", cgroupV2, []string{"--rootless"}, specedit.Host{Rootless: true, CgroupV2: true, Mapping: self}, []string{"/ociVersion: "}},
		// runc spec writes one id; the ranges are ours.
		{"subordinate ids", cgroupV2, []string{"--rootless"}, specedit.Host{Rootless: true, CgroupV2: true,
			Mapping: mapping(user.IDMap{ID: 0, ParentID: 1000, Count: 1}, user.IDMap{ID: 1, ParentID: 100000, Count: 65536})},
			[]string{"/linux/gidMappings: ", "/linux/uidMappings: ", "/ociVersion: "}},
		{"root with an explicit mapping", cgroupV2, []string{"--rootless"}, specedit.Host{CgroupV2: true,
			Mapping: mapping(user.IDMap{ID: 0, ParentID: 100000, Count: 65536})},
			[]string{"/linux/gidMappings/0/hostID: ", "/linux/gidMappings/0/size: ", "/linux/uidMappings/0/hostID: ", "/linux/uidMappings/0/size: ", "/ociVersion: "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			theirs, text := runcSpec(t, c.layout, c.args...)
			ours := build(t, specedit.Plan{Template: specedit.TemplateRunc, Host: c.host})
			got := differences("", theirs, ours)
			if len(got) != len(c.want) || !slices.EqualFunc(got, c.want, strings.HasPrefix) {
				t.Errorf("differences:\n%s\nwant those of:\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			if ours["ociVersion"] != "1.0.0" {
				t.Errorf("ociVersion is %v", ours["ociVersion"])
			}
			// The text is runc's too, to the byte: order of keys, tabs, newline.
			same, err := (&specedit.Plan{Template: specedit.TemplateRunc, Host: c.host}).Build(nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(c.want) == 1 {
				version := fmt.Sprintf("%q", theirs["ociVersion"])
				if want := strings.TrimRight(strings.Replace(string(text), version, `"1.0.0"`, 1), "\n"); want != strings.TrimRight(string(same), "\n") {
					t.Errorf("the text differs:\n%s\nruncs:\n%s", same, want)
				}
			}
		})
	}
}

func TestRootlessNeedsMapping(t *testing.T) {
	if _, err := (&specedit.Plan{Template: specedit.TemplateRunc, Host: specedit.Host{Rootless: true}}).Build(nil); err == nil {
		t.Error("a rootless config without a mapping was made")
	}
}

// A bundle's config that an edit takes the network namespace from runs: what the template had set
// in it is gone, and a user namespace gets the host's /sys, for the kernel gives it none. What
// somebody else has set is theirs to take away.
func TestBaseLosesNetwork(t *testing.T) {
	text, err := (&specedit.Plan{}).Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	base := string(text)
	const start, ping = "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range"
	other := strings.Replace(base, `"`+start+`": "0"`, `"`+start+`": "80"`, 1)
	mapping := []user.IDMap{{ID: 0, ParentID: 1000, Count: 1}}
	text, err = (&specedit.Plan{Host: specedit.Host{Mapping: user.IdentityMapping{UIDMaps: mapping, GIDMaps: mapping}}}).Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	host := []specedit.Edit{must(specedit.Namespace("--net host", "network", "host", "/"))}
	for _, c := range []struct {
		base   string
		edits  []specedit.Edit
		sysctl any
		sys    string
	}{
		{base, nil, map[string]any{start: "0", ping: "0 2147483647"}, "sysfs"},
		{base, host, nil, "sysfs"},
		{other, host, map[string]any{start: "80"}, "sysfs"},
		{string(text), nil, map[string]any{start: "0"}, "sysfs"},
		{string(text), host, nil, "none"},
	} {
		config := build(t, specedit.Plan{Base: []byte(c.base), BaseLabel: "config.json", Edits: c.edits})
		if got := config["linux"].(map[string]any)["sysctl"]; !reflect.DeepEqual(got, c.sysctl) {
			t.Errorf("after %d edits %v, want %v", len(c.edits), got, c.sysctl)
		}
		for _, m := range config["mounts"].([]any) {
			if m := m.(map[string]any); m["destination"] == "/sys" && m["type"] != c.sys {
				t.Errorf("after %d edits /sys is of type %v, want %s", len(c.edits), m["type"], c.sys)
			}
		}
	}
}

// A user's service manager gives its services a score that the user may not lower.
func TestOOMScoreOfUsers(t *testing.T) {
	mapping := user.IdentityMapping{UIDMaps: []user.IDMap{{ParentID: 1000, Count: 1}}, GIDMaps: []user.IDMap{{ParentID: 1000, Count: 1}}}
	for rootless, want := range map[bool]any{false: 0.0, true: nil} {
		p := specedit.Plan{Host: specedit.Host{Rootless: rootless, Mapping: mapping}}
		if got := build(t, p)["process"].(map[string]any)["oomScoreAdj"]; got != want {
			t.Errorf("rootless %v: %v", rootless, got)
		}
	}
}
