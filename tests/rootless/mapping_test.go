package rootless

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	pb "github.com/rootless-containers/proto/go-proto"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ocibundle/tests/testenv"
)

// owners demands that every entry is on disk with the ids that to gives for the container's.
func owners(t *testing.T, bundle string, to func(uid, gid int) (uint32, uint32)) {
	t.Helper()
	for _, h := range entries(t) {
		uid, gid := to(h.Uid, h.Gid)
		mode := h.Mode
		if want := fmt.Sprintf("%d:%d %o", uid, gid, mode); owner(t, filepath.Join(bundle, "rootfs", h.Name)) != want {
			t.Errorf("%s is %s, want %s", h.Name, owner(t, filepath.Join(bundle, "rootfs", h.Name)), want)
		}
	}
	uid, gid := to(0, 0)
	if want := fmt.Sprintf("%d:%d 755", uid, gid); owner(t, filepath.Join(bundle, "rootfs")) != want {
		t.Errorf("rootfs is %s, want %s", owner(t, filepath.Join(bundle, "rootfs")), want)
	}
}

// in translates by maps.
func in(maps []idMap, id int) uint32 {
	for _, m := range maps {
		if uint32(id) >= m.ContainerID && uint32(id)-m.ContainerID < m.Size {
			return m.HostID + uint32(id) - m.ContainerID
		}
	}
	return ^uint32(0)
}

func capability(t *testing.T, path string) string {
	t.Helper()
	testenv.NeedTool(t, "getcap")
	_, after, _ := strings.Cut(testenv.Output(t, exec.CommandContext(t.Context(), "getcap", "-n", path)), " ")
	return strings.TrimSpace(after)
}

func TestMappings(t *testing.T) {
	testenv.NeedTool(t, "newuidmap", "newgidmap")
	stream := archive(t, entries(t))
	u := asUser(t, testenv.UserOptions{SubIDs: 65536})
	root := asRoot(t)
	shift := []idMap{{0, u.user.SubUIDs[0].Start, 1000}}
	own := func(h *host) string {
		return fmt.Sprintf("0:%d:1000,1000:%d:1", h.user.SubUIDs[0].Start+1000, h.user.UID)
	}
	flags := func(flag, maps string) (out []string) {
		for _, m := range strings.Split(maps, ",") {
			out = append(out, flag, m)
		}
		return out
	}

	for _, c := range []struct {
		name       string
		h          *host
		args       []string
		uids, gids []idMap // of config.json and on disk
		mode       string  // of the bundle directory
		rootID     uint32  // of a file capability; 0: version 2
	}{
		{"user", u, nil, fit(u.user.UID, u.user.SubUIDs), fit(u.user.GID, u.user.SubGIDs), fmt.Sprintf("%d:%d 700", u.user.UID, u.user.GID), u.user.UID},
		{"user, subid", u, []string{"--remap", "subid"}, fit(u.user.UID, u.user.SubUIDs), fit(u.user.GID, u.user.SubGIDs),
			fmt.Sprintf("%d:%d 700", u.user.UID, u.user.GID), u.user.UID},
		{"user, explicit", u, append(append(flags("--uidmap", own(u)), "--quiet"), flags("--gidmap", fmt.Sprintf("0:%d:1000", u.user.SubGIDs[0].Start))...),
			[]idMap{{0, u.user.SubUIDs[0].Start + 1000, 1000}, {1000, u.user.UID, 1}}, []idMap{{0, u.user.SubGIDs[0].Start, 1000}}, "", u.user.SubUIDs[0].Start + 1000},
		{"user, shifted", u, append(flags("--uidmap", fmt.Sprintf("0:%d:1000", u.user.SubUIDs[0].Start)), "--quiet"), shift, shift,
			fmt.Sprintf("%d:%d 710", u.user.UID, u.user.SubUIDs[0].Start), u.user.SubUIDs[0].Start},
		{"root", root, nil, nil, nil, "0:0 700", 0},
		{"root, none", root, []string{"--remap", "none"}, nil, nil, "0:0 700", 0},
		{"root, shifted", root, []string{"--uidmap", "0:1900000000:65536", "--gidmap", "0:2000000000:65536"},
			[]idMap{{0, 1900000000, 65536}}, []idMap{{0, 2000000000, 65536}}, "0:2000000000 710", 1900000000},
		{"root, one flag for both", root, []string{"--gidmap", "0:1900000000:1000"},
			[]idMap{{0, 1900000000, 1000}}, []idMap{{0, 1900000000, 1000}}, "0:1900000000 710", 1900000000},
		{"root, with a hole", root, flags("--uidmap", "0:1900000000:100,999:1900001000:1"),
			[]idMap{{0, 1900000000, 100}, {999, 1900001000, 1}}, []idMap{{0, 1900000000, 100}, {999, 1900001000, 1}}, "0:1900000000 710", 1900000000},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := *c.h
			h.t = t
			b := h.bundle(stream, "b", c.args...)
			uids, gids := mappings(t, b)
			if !reflect.DeepEqual(uids, c.uids) || !reflect.DeepEqual(gids, c.gids) {
				t.Errorf("config.json maps %v and %v, want %v and %v", uids, gids, c.uids, c.gids)
			}
			owners(t, b, func(uid, gid int) (uint32, uint32) {
				if c.uids == nil {
					return uint32(uid), uint32(gid)
				}
				return in(c.uids, uid), in(c.gids, gid)
			})
			if got := owner(t, b); c.mode != "" && got != c.mode {
				t.Errorf("bundle is %s, want %s", got, c.mode)
			}
			want := "cap_net_bind_service=ep"
			if c.rootID != 0 {
				want += fmt.Sprintf(" [rootid=%d]", c.rootID)
			}
			if got := capability(t, filepath.Join(b, "rootfs/bind")); got != want {
				t.Errorf("file capability %s, want %s", got, want)
			}
			if err := os.RemoveAll(b); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A user may have several lines in /etc/subuid, and the user's own id may lie in one.
func TestSeveralRanges(t *testing.T) {
	testenv.NeedTool(t, "newuidmap", "newgidmap")
	base := uint32(1_000_000_000 + os.Getpid()%50_000*10_000)
	h := asUser(t, testenv.UserOptions{
		SubUIDs: []testenv.Range{{Start: base, Count: 100}, {Start: base + 5000, Count: 2000}},
		SubGIDs: []testenv.Range{{Start: base + 7000, Count: 1000}, {Start: base + 100, Count: 50}},
	})
	b := h.bundle(archive(t, entries(t)), "b")
	uids, gids := mappings(t, b)
	wantUIDs, wantGIDs := fit(h.user.UID, h.user.SubUIDs), fit(h.user.GID, h.user.SubGIDs)
	if !reflect.DeepEqual(uids, wantUIDs) || !reflect.DeepEqual(gids, wantGIDs) {
		t.Errorf("config.json maps %v and %v, want %v and %v", uids, gids, wantUIDs, wantGIDs)
	}
	owners(t, b, func(uid, gid int) (uint32, uint32) { return in(uids, uid), in(gids, gid) })
}

// In self mode every file is the caller's, and what it would have been is in an attribute that umoci and runrootless read.
func TestSelf(t *testing.T) {
	for _, o := range []testenv.UserOptions{{}, {SubIDs: 65536}} {
		h := asUser(t, o)
		headers := entries(t)
		foreign, err := proto.Marshal(&pb.Resource{Uid: 1, Gid: 1})
		if err != nil {
			t.Fatal(err)
		}
		headers = append(headers, tar.Header{Typeflag: tar.TypeReg, Name: "forged", Mode: 0o644,
			PAXRecords: map[string]string{"SCHILY.xattr.user.rootlesscontainers": string(foreign)}})
		args := []string{"-o", "b", "--json"}
		if o.SubIDs > 0 {
			args = append(args, "--remap", "self") // auto would have been subid
		}
		r := h.ocibundle(archive(t, headers), args...)
		if r.code != 0 {
			t.Fatalf("exit %d: %s", r.code, r.stderr)
		}
		if !json.Valid([]byte(r.stdout)) {
			t.Errorf("--json printed %q", r.stdout)
		}
		for _, text := range []string{"data/link", "forged", "user.rootlesscontainers"} { // lost: ids of a link; dropped: the stream's own
			if !strings.Contains(r.stderr, text) {
				t.Errorf("no warning about %s: %s", text, r.stderr)
			}
		}
		b := filepath.Join(h.dir, "b")
		uids, gids := mappings(t, b)
		if want := []idMap{{0, h.user.UID, 1}}; !reflect.DeepEqual(uids, want) {
			t.Errorf("config.json maps %v, want %v", uids, want)
		}
		if want := []idMap{{0, h.user.GID, 1}}; !reflect.DeepEqual(gids, want) {
			t.Errorf("config.json maps %v, want %v", gids, want)
		}
		owners(t, b, func(int, int) (uint32, uint32) { return h.user.UID, h.user.GID })
		if got, want := capability(t, filepath.Join(b, "rootfs/bind")), fmt.Sprintf("cap_net_bind_service=ep [rootid=%d]", h.user.UID); got != want {
			t.Errorf("file capability %s, want %s", got, want)
		}
		for _, hdr := range headers {
			path := filepath.Join(b, "rootfs", hdr.Name)
			value := make([]byte, 100)
			n, err := unix.Lgetxattr(path, "user.rootlesscontainers", value)
			carries := slices.Contains([]byte{tar.TypeReg, tar.TypeDir, tar.TypeLink}, hdr.Typeflag) && (hdr.Uid != 0 || hdr.Gid != 0)
			if !carries {
				if err == nil {
					t.Errorf("%s has an attribute %q", hdr.Name, value[:n])
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", hdr.Name, err)
				continue
			}
			want := &pb.Resource{Uid: uint32(hdr.Uid), Gid: uint32(hdr.Gid)}
			var got pb.Resource
			if err := proto.Unmarshal(value[:n], &got); err != nil || !proto.Equal(&got, want) {
				t.Errorf("%s: %v, %v; want %v", hdr.Name, &got, err, want)
			}
			if text, err := proto.Marshal(want); err != nil || !bytes.Equal(value[:n], text) {
				t.Errorf("%s: %x, want %x", hdr.Name, value[:n], text)
			}
		}
	}
}

// In a container's user namespace nobody makes a device, and one that root makes outside could be opened there by whoever
// has the mapped ids. So with a mapping there are none, unless they are asked for.
func TestDevicesWithMapping(t *testing.T) {
	h := asRoot(t)
	stream := testenv.TarStream(t,
		tar.Header{Typeflag: tar.TypeDir, Name: "srv/", Mode: 0o755},
		tar.Header{Typeflag: tar.TypeChar, Name: "srv/null", Mode: 0o666, Uid: 5, Gid: 5, Devmajor: 1, Devminor: 3},
		tar.Header{Typeflag: tar.TypeLink, Name: "srv/again", Linkname: "srv/null"})
	mapping := []string{"--uidmap", "0:1900000000:65536"}
	for _, c := range []struct {
		args []string
		made string // its owner and mode; empty: left out
	}{
		{nil, "5:5 666"},
		{mapping, ""},
		{[]string{"--remap", "self"}, ""},
		{append(mapping, "--devices", "create"), "1900000005:1900000005 666"},
	} {
		b := filepath.Join(h.dir, "b")
		res := h.ocibundle(stream, append([]string{"-o", b}, c.args...)...)
		if res.code != 0 {
			t.Fatalf("%q: exit %d\n%s", c.args, res.code, res.stderr)
		}
		there := names(t, filepath.Join(b, "rootfs/srv"))
		counted := strings.Contains(res.stderr, "device")
		if c.made == "" && (len(there) > 0 || !counted) || c.made != "" && (len(there) != 2 || counted) {
			t.Errorf("%q: %q is there, and the program says %q", c.args, there, res.stderr)
		}
		if c.made != "" {
			if got := owner(t, filepath.Join(b, "rootfs/srv/null")); got != c.made {
				t.Errorf("%q: the device is %s, want %s", c.args, got, c.made)
			}
		}
		if err := os.RemoveAll(b); err != nil {
			t.Fatal(err)
		}
	}
	res := h.ocibundle(stream, append([]string{"-o", "-"}, mapping...)...)
	if res.code != 0 || strings.Contains(res.stdout, "rootfs/srv/null") {
		t.Errorf("the device is in the stream: exit %d\n%s", res.code, res.stderr)
	}
}
