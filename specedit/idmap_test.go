package specedit_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"

	"ocibundle/specedit"
)

// The mount gets the mapping that the container has in the end.
func TestIDMap(t *testing.T) {
	ids := []user.IDMap{{ParentID: 300000, Count: 65536}}
	host := specedit.Host{Mapping: user.IdentityMapping{UIDMaps: ids, GIDMaps: ids}}
	volume := func(arg string) specedit.Edit {
		e, err := specedit.Volume("-v "+arg, arg, "/")
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	mapped := []specs.LinuxIDMapping{{HostID: 300000, Size: 65536}}
	for _, tt := range []struct {
		edits   []specedit.Edit
		options []string
		maps    []specs.LinuxIDMapping
		version string
	}{
		{[]specedit.Edit{volume("/a:/m:idmap")}, []string{"rbind", "idmap", "rprivate"}, mapped, "1.1.0"},
		{[]specedit.Edit{volume("/a:/m:ro,ridmap")}, []string{"rbind", "ro", "ridmap", "rprivate"}, mapped, "1.2.0"},
		{[]specedit.Edit{volume("/a:/m:idmap"), set(t, "/linux/uidMappings/0/size", "7")}, []string{"rbind", "idmap", "rprivate"},
			[]specs.LinuxIDMapping{{HostID: 300000, Size: 7}}, "1.1.0"},
		{[]specedit.Edit{volume("/a:/m:idmap"), volume("/b:/m")}, []string{"rbind", "rprivate"}, nil, "1.0.0"},
	} {
		spec, _ := cdiConfig(t, host, tt.edits...)
		for _, m := range spec.Mounts {
			if m.Destination != "/m" {
				continue
			}
			gids := tt.maps
			if gids != nil {
				gids = mapped
			}
			if !slices.Equal(m.Options, tt.options) || !slices.Equal(m.UIDMappings, tt.maps) || !slices.Equal(m.GIDMappings, gids) || spec.Version != tt.version {
				t.Errorf("%s: %+v", spec.Version, m)
			}
		}
	}
	if _, err := (&specedit.Plan{Edits: []specedit.Edit{volume("/a:/m:idmap"), volume("/b:/m")}}).Build(nil); err != nil {
		t.Errorf("a mount that was replaced: %v", err)
	}
}

// A mount of the base that has the container's mapping gets the one that replaces it; one that has another keeps that.
func TestIDMapOfBase(t *testing.T) {
	one, other := []user.IDMap{{ParentID: 300000, Count: 65536}}, []user.IDMap{{ParentID: 500000, Count: 65536}}
	base := []byte(`{"ociVersion":"1.1.0","root":{"path":"rootfs"},"process":{"cwd":"/","args":["sh"],"user":{"uid":0,"gid":0}},"mounts":[
		{"destination":"/m","type":"none","source":"/a","options":["rbind","idmap"],"uidMappings":[{"containerID":0,"hostID":300000,"size":65536}],
			"gidMappings":[{"containerID":0,"hostID":300000,"size":65536}]},
		{"destination":"/own","type":"none","source":"/a","options":["rbind","idmap"],"uidMappings":[{"containerID":0,"hostID":300000,"size":65536}],
			"gidMappings":[{"containerID":0,"hostID":7,"size":65536}]}],
		"linux":{"namespaces":[{"type":"mount"},{"type":"user"}],"uidMappings":[{"containerID":0,"hostID":300000,"size":65536}],
			"gidMappings":[{"containerID":0,"hostID":300000,"size":65536}]}}`)
	for _, ids := range [][]user.IDMap{one, other} {
		plan := specedit.Plan{Base: base, Host: specedit.Host{Mapping: user.IdentityMapping{UIDMaps: ids, GIDMaps: ids}}}
		text, err := plan.Build(nil)
		if err != nil {
			t.Fatal(err)
		}
		var spec specs.Spec
		if err := json.Unmarshal(text, &spec); err != nil {
			t.Fatal(err)
		}
		want := []specs.LinuxIDMapping{{HostID: uint32(ids[0].ParentID), Size: 65536}}
		if m := spec.Mounts[0]; !slices.Equal(m.UIDMappings, want) || !slices.Equal(m.GIDMappings, want) {
			t.Errorf("the container has %v, the mount %+v", want, m)
		}
		if m := spec.Mounts[1]; m.UIDMappings[0].HostID != 300000 || m.GIDMappings[0].HostID != 7 {
			t.Errorf("a mapping of the mount's own was changed: %+v", m)
		}
	}
}
