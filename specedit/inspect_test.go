package specedit

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/moby/sys/user"
)

// What is found depends on the document and on who is to run it.
func TestInspect(t *testing.T) {
	const head = `{"ociVersion": "1.0.0", "root": {"path": "rootfs"}, "process": {"cwd": "/", "args": ["sh"]`
	const mapped = `"namespaces": [{"type": "user"}, {"type": "mount"}], "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}], "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}]`
	rootless := Host{Rootless: true}
	v2 := Host{Rootless: true, CgroupV2: true}
	for _, tt := range []struct {
		name, text string
		host       Host
		want       []string
		nothing    bool // no config comes out
	}{
		{name: "sound", text: head + `}}`},
		{name: "not JSON", text: `{`, want: []string{"schema "}, nothing: true},
		{name: "no object", text: `[]`, want: []string{"schema "}, nothing: true},
		{name: "wrong types", text: `{"ociVersion": 1, "process": {"args": 1, "cwd": "/"}}`, want: []string{"schema /ociVersion", "schema /process/args", "schema /root"}, nothing: true},
		{name: "unknown and missing members", text: `{"ociVersion": "1.0.0", "rot": {}, "process": {"args": ["sh"]}}`,
			want: []string{"schema /rot", "schema /process/cwd", "schema /root"}},
		{name: "a limit without members", text: head + `, "rlimits": [{}]}, "linux": {` + mapped + `}}`, host: rootless,
			want: []string{"schema /process/rlimits/0/type", "schema /process/rlimits/0/soft", "schema /process/rlimits/0/hard"}},
		{name: "what follows is still looked at", text: head + `, "user": {"uid": 4294967295}}, "rot": {}}`, want: []string{"schema /rot", "unmapped-id /process/user/uid"}},
		{name: "supplementary id", text: head + `, "user": {"additionalGids": [1, 4294967295]}}}`, want: []string{"unmapped-id /process/user/additionalGids/1"}},
		{name: "a user needs a user namespace", text: head + `}}`, host: rootless, want: []string{"user-namespace /linux/namespaces"}},
		{name: "one that is joined will do", text: head + `}, "linux": {"namespaces": [{"type": "user", "path": "/proc/1/ns/user"}]}}`, host: rootless},
		{name: "limits for a user, version 1", text: head + `}, "linux": {"resources": {"pids": {"limit": 5}}, ` + mapped + `}}`, host: rootless,
			want: []string{"cgroup /linux/resources/pids"}},
		{name: "limits for a user, version 2", text: head + `}, "linux": {"resources": {"pids": {"limit": 5}}, ` + mapped + `}}`, host: v2,
			want: []string{"cgroup /linux/resources/pids"}},
		{name: "limits for a user, delegated", text: head + `}, "linux": {"resources": {"pids": {"limit": 5}}, ` + mapped + `}}`,
			host: Host{Rootless: true, CgroupV2: true, CgroupDelegated: true}},
		{name: "delegation is no matter of version 1", text: head + `}, "linux": {"resources": {"pids": {"limit": 5}}, ` + mapped + `}}`,
			host: Host{Rootless: true, CgroupDelegated: true}, want: []string{"cgroup /linux/resources/pids"}},
		{name: "limits for root", text: head + `}, "linux": {"resources": {"pids": {"limit": 5}}, ` + mapped + `}}`},
		{name: "the host's limits", text: head + `, "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 5}]}, "linux": {` + mapped + `}}`,
			host: Host{Rootless: true, HardLimits: map[string]uint64{"RLIMIT_NOFILE": 4}}, want: []string{"rlimit /process/rlimits/0"}},
		{name: "sysfs", text: head + `}, "mounts": [{"destination": "/sys", "type": "sysfs"}], "linux": {` + mapped + `}}`, want: []string{"kernel-mount /mounts/0"}},
		{name: "sysfs, bound", text: head + `}, "mounts": [{"destination": "/sys", "type": "sysfs", "source": "/sys", "options": ["rbind"]}], "linux": {` + mapped + `}}`},
		{name: "terminals", text: head + `}, "mounts": [{"destination": "/dev/pts", "type": "devpts", "options": ["gid=5"]}], "linux": {` + mapped + `}}`, want: []string{"mount-id /mounts/0"}},
		{name: "ids of a mount, without a user namespace", text: head + `}, "mounts": [{"destination": "/m", "options": ["rbind", "idmap"]}, {"destination": "/n", "options": ["rbind"]}]}`, want: []string{"mount-idmap /mounts/0"}},
		{name: "ids of a mount, with a mapping of its own", text: head + `}, "mounts": [{"destination": "/m", "options": ["ridmap"], "uidMappings": [], "gidMappings": []}]}`},
		{name: "ids of a mount, in a user namespace", text: head + `}, "mounts": [{"destination": "/m", "options": ["idmap"]}], "linux": {` + mapped + `}}`},
		{name: "ids of a mount, for a user", text: head + `}, "mounts": [{"destination": "/m", "options": ["idmap"]}, {"destination": "/n", "uidMappings": [], "gidMappings": []}], "linux": {` + mapped + `}}`,
			host: rootless, want: []string{"mount-idmap /mounts/0", "mount-idmap /mounts/1"}},
		{name: "descriptor", text: `{"ociVersion": "1.0.0", "root": {"path": "rootfs"}, "process": {"cwd": "/proc/self/fd/7", "args": ["sh"]}}`,
			want: []string{"cwd-descriptor /process/cwd"}},
	} {
		spec, found := Inspect([]byte(tt.text), tt.host)
		var got []string
		for _, f := range found {
			got = append(got, f.Code+" "+f.Pointer)
			if f.Message == "" || f.Path != "" {
				t.Errorf("%s: %+v", tt.name, f)
			}
		}
		if !slices.Equal(got, tt.want) || (spec == nil) != tt.nothing {
			t.Errorf("%s: found %q, want %q; config %v", tt.name, got, tt.want, spec != nil)
		}
	}
}

// A config may lack anything, or have something else in its place: what is left is looked at all
// the same.
func TestInspectMutilated(t *testing.T) {
	host := Host{Rootless: true, HardLimits: map[string]uint64{"RLIMIT_NOFILE": 4}}
	host.Mapping.UIDMaps = []user.IDMap{{ID: 0, ParentID: 1000, Count: 1}}
	host.Mapping.GIDMaps = host.Mapping.UIDMaps
	text, err := (&Plan{Template: TemplateDocker, Host: host}).Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	var whole any
	if err := json.Unmarshal(text, &whole); err != nil {
		t.Fatal(err)
	}
	tried := 0
	look := func() {
		tried++
		b, err := json.Marshal(whole)
		if err != nil {
			t.Fatal(err)
		}
		Inspect(b, host)
	}
	var mutilate func(v any)
	mutilate = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, old := range v {
				if k == "seccomp" {
					continue // its hundreds of members are not looked at here
				}
				delete(v, k)
				look()
				for _, other := range []any{nil, "x", -5, []any{}, map[string]any{}, []any{map[string]any{}}} {
					v[k] = other
					look()
				}
				v[k] = old
				mutilate(old)
			}
		case []any:
			for i, old := range v {
				if i > 8 {
					break
				}
				for _, other := range []any{nil, "x", map[string]any{}} {
					v[i] = other
					look()
				}
				v[i] = old
				mutilate(old)
			}
		}
	}
	mutilate(whole)
	if tried < 500 {
		t.Errorf("only %d configs were looked at", tried)
	}
}
