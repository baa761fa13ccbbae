package userns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/moby/sys/user"
)

func all() []idRange { return []idRange{{0, maxID + 1}} }

// maps parses "C:H:N C:H:N".
func maps(t *testing.T, s string) []user.IDMap {
	t.Helper()
	var out []user.IDMap
	for f := range strings.FieldsSeq(s) {
		var m user.IDMap
		if _, err := fmt.Sscanf(f, "%d:%d:%d", &m.ID, &m.ParentID, &m.Count); err != nil {
			t.Fatalf("map %q: %v", f, err)
		}
		out = append(out, m)
	}
	return out
}

func mapString(m []user.IDMap) string {
	parts := make([]string, len(m))
	for i := range m {
		parts[i] = formatMap(m[i])
	}
	return strings.Join(parts, " ")
}

func TestParseSubIDs(t *testing.T) {
	for _, c := range []struct {
		name, file string
		want       []idRange
	}{
		{"by name", "ann:100000:65536\nbob:165536:65536\n", []idRange{{100000, 65536}}},
		{"by uid", "1001:200000:10\n", []idRange{{200000, 10}}},
		{"several, by both, in order", "ann:300:5\n1001:100:5\nann:200:5\n", []idRange{{300, 5}, {100, 5}, {200, 5}}},
		{"no newline at the end", "ann:7:1", []idRange{{7, 1}}},
		{"name is a prefix", "anna:100000:65536\nan:1:1\n", nil},
		{"too few fields", "ann:100000\n", nil},
		{"too many fields", "ann:100000:65536:x\n", nil},
		{"no number", "ann:abc:65536\n", nil},
		{"empty range", "ann:100000:0\n", nil},
		{"negative", "ann:-5:10\nann:5:-10\n", nil},
		{"up to the last id", "ann:4294967290:5\n", []idRange{{4294967290, 5}}},
		{"one id too many", "ann:4294967290:6\n", nil},
		{"overflow", "ann:9223372036854775807:9223372036854775807\nann:99999999999999999999:1\n", nil},
		{"comment", "# ann:1:1\n", nil},
		{"empty", "", nil},
	} {
		got, err := parseSubIDs(strings.NewReader(c.file), []string{"1001", "ann"})
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.name, got, err, c.want)
		}
	}
}

func TestWidest(t *testing.T) {
	for _, c := range []struct {
		name           string
		ranges, mapped []idRange
		want           string
		dropped        int64
	}{
		{"none", nil, all(), "0:1000:1", 0},
		{"one", []idRange{{100000, 65536}}, all(), "0:1000:1 1:100000:65536", 0},
		{"several keep their order", []idRange{{300, 5}, {100, 5}}, all(), "0:1000:1 1:300:5 6:100:5", 0},
		{"adjacent ones stay apart", []idRange{{100, 5}, {105, 5}}, all(), "0:1000:1 1:100:5 6:105:5", 0},
		{"own id inside", []idRange{{990, 20}}, all(), "0:1000:1 1:990:10 11:1001:9", 0},
		{"own id first", []idRange{{1000, 20}}, all(), "0:1000:1 1:1001:19", 0},
		{"own id last", []idRange{{990, 11}}, all(), "0:1000:1 1:990:10", 0},
		{"own id alone", []idRange{{1000, 1}}, all(), "0:1000:1", 0},
		{"overlapping", []idRange{{100, 10}, {105, 10}}, all(), "0:1000:1 1:100:10 11:110:5", 0},
		{"the same twice", []idRange{{100, 10}, {100, 10}}, all(), "0:1000:1 1:100:10", 0},
		{"one around another", []idRange{{105, 2}, {100, 10}}, all(), "0:1000:1 1:105:2 3:100:5 8:107:3", 0},
		{"half of it exists here", []idRange{{100000, 65536}}, []idRange{{0, 110000}}, "0:1000:1 1:100000:10000", 0},
		{"two pieces of it exist here", []idRange{{100, 100}}, []idRange{{150, 10}, {110, 10}}, "0:1000:1 1:110:10 11:150:10", 0},
		{"nothing of it exists here", []idRange{{100000, 65536}}, []idRange{{0, 65536}}, "0:1000:1", 0},
		{"all ids", []idRange{{0, maxID + 1}}, all(), fmt.Sprintf("0:1000:1 1:0:1000 1001:1001:%d", int64(maxID-1000)), 0},
	} {
		got, dropped := widest(1000, c.ranges, c.mapped)
		if mapString(got) != c.want || dropped != c.dropped {
			t.Errorf("%s: %s, %d dropped; want %s, %d dropped", c.name, mapString(got), dropped, c.want, c.dropped)
		}
	}
}

// What does not fit into one write to uid_map is left out from the end, and counted.
func TestWidestFitsKernel(t *testing.T) {
	for _, step := range []int64{2, 10_000_000} { // the line limit, the byte limit
		var ranges []idRange
		for i := range int64(420) {
			ranges = append(ranges, idRange{2000 + i*step, 1})
		}
		got, dropped := widest(1000, ranges, all())
		size := 0
		for i, m := range got {
			size += len(mapLine(m))
			if m.ID != int64(i) {
				t.Fatalf("map %d starts at %d", i, m.ID)
			}
		}
		if len(got) > 340 || size >= 4096 {
			t.Errorf("step %d: %d lines of %d bytes", step, len(got), size)
		}
		if dropped == 0 || int64(len(got))+dropped != 421 {
			t.Errorf("step %d: %d lines, %d dropped", step, len(got), dropped)
		}
	}
}

func TestCompose(t *testing.T) {
	const ns = "0:1000:1 1:100000:1000 1001:5000:10"
	for _, c := range []struct{ host, want string }{
		{"0:1000:1", "0:0:1"},
		{ns, "0:0:1 1:1:1000 1001:1001:10"},
		{"0:100000:1000", "0:1:1000"},
		{"0:100500:10 10:1000:1 11:5000:10", "0:501:10 10:0:1 11:1001:10"},
		{"5:5000:2 0:100000:5", "0:1:5 5:1001:2"},
		{"0:99999:1", "!99999"},
		{"0:100000:1001", "!101000"},
	} {
		got, err := compose("uid", maps(t, c.host), maps(t, ns))
		if missing, wantErr := strings.CutPrefix(c.want, "!"); wantErr {
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Kind != KindOutside || !strings.Contains(e.Error(), "host id "+missing+" ") {
				t.Errorf("%s: error %v, want id %s outside", c.host, err, missing)
			}
			continue
		}
		if err != nil || mapString(got) != c.want {
			t.Errorf("%s: %s, %v; want %s", c.host, mapString(got), err, c.want)
		}
	}
	// A range may span several lines of the namespace.
	got, err := compose("uid", maps(t, "0:100:10"), maps(t, "0:105:5 5:100:5"))
	if want := "0:5:5 5:0:5"; err != nil || mapString(got) != want {
		t.Errorf("spanning: %s, %v; want %s", mapString(got), err, want)
	}
}

// user1000 is an ordinary user with a range and both helpers.
func user1000() caller {
	return caller{uid: 1000, gid: 1000, name: "ann", uids: all(), gids: all(), newuidmap: "/bin/newuidmap", newgidmap: "/bin/newgidmap",
		subUIDs: []idRange{{100000, 1000}}, subGIDs: []idRange{{200000, 1000}}}
}

func root() caller { return caller{name: "root", uids: all(), gids: all()} }

func with(c caller, change func(*caller)) caller {
	change(&c)
	return c
}

func TestDecide(t *testing.T) {
	noRange := with(user1000(), func(c *caller) { c.subUIDs, c.subGIDs = nil, nil })
	noHelper := with(user1000(), func(c *caller) { c.newgidmap = "" })
	oneID := with(root(), func(c *caller) { c.uids, c.gids, c.bounded = []idRange{{0, 1}}, []idRange{{0, 1}}, true })
	inside := with(root(), func(c *caller) { c.uids, c.gids, c.bounded = []idRange{{0, 1001}}, []idRange{{0, 65536}}, true })
	explicit := func(uid, gid string) Request {
		return Request{Mode: ModeExplicit, UIDMap: maps(t, uid), GIDMap: maps(t, gid)}
	}

	// One line per attempt: mode, namespace, host uids / gids, disk uids / gids, root id of file capabilities.
	describe := func(as []attempt) string {
		var lines []string
		for _, a := range as {
			s := a.state
			if s.InNamespace != !s.Namespace.Empty() {
				t.Errorf("in namespace %v with ids %v", s.InNamespace, s.Namespace)
			}
			lines = append(lines, fmt.Sprintf("%s ns=%s host=%s/%s disk=%s/%s cap=%d", s.Mode, mapString(s.Namespace.UIDMaps),
				mapString(s.Host.UIDMaps), mapString(s.Host.GIDMaps), mapString(s.Disk.UIDMaps), mapString(s.Disk.GIDMaps), s.CapRootID))
		}
		return strings.Join(lines, "\n")
	}
	const (
		wideUser = "subid ns=0:1000:1 1:100000:1000 host=0:1000:1 1:100000:1000/0:1000:1 1:200000:1000 disk=0:0:1 1:1:1000/0:0:1 1:1:1000 cap=0"
		selfWide = "self ns=0:1000:1 1:100000:1000 host=0:1000:1/0:1000:1 disk=0:0:1/0:0:1 cap=0"
		selfOne  = "self ns=0:1000:1 host=0:1000:1/0:1000:1 disk=0:0:1/0:0:1 cap=0"
		selfBare = "self ns= host=0:1000:1/0:1000:1 disk=0:1000:1/0:1000:1 cap=1000"
		selfRoot = "self ns= host=0:0:1/0:0:1 disk=0:0:1/0:0:1 cap=0"
		nothing  = "none ns= host=/ disk=/ cap=0"
	)
	for _, c := range []struct {
		name string
		c    caller
		r    Request
		want string
	}{
		{"root by default", root(), Request{}, nothing},
		{"root, auto", root(), Request{Mode: ModeAuto}, nothing},
		{"root, none", root(), Request{Mode: ModeNone}, nothing},
		{"root, self", root(), Request{Mode: ModeSelf}, selfRoot},
		{"root, widest", root(), Request{Mode: ModeWidest}, "widest ns= host=/ disk=/ cap=0"},
		{"root, subid", with(root(), func(c *caller) { c.subUIDs, c.subGIDs = []idRange{{500, 10}}, []idRange{{600, 10}} }), Request{Mode: ModeSubid},
			"subid ns= host=0:0:1 1:500:10/0:0:1 1:600:10 disk=0:0:1 1:500:10/0:0:1 1:600:10 cap=0"},
		{"root, shifted", root(), explicit("0:100000:65536", "0:200000:65536"),
			"explicit ns= host=0:100000:65536/0:200000:65536 disk=0:100000:65536/0:200000:65536 cap=100000"},
		{"root, uid map alone", root(), explicit("0:100000:65536", ""),
			"explicit ns= host=0:100000:65536/0:100000:65536 disk=0:100000:65536/0:100000:65536 cap=100000"},
		{"root, gid map alone", root(), explicit("", "0:7:9"), "explicit ns= host=0:7:9/0:7:9 disk=0:7:9/0:7:9 cap=7"},
		{"root of one id, auto", oneID, Request{}, selfRoot},
		{"root of one id, none", oneID, Request{Mode: ModeNone}, "none ns= host=/ disk=0:0:1/0:0:1 cap=0"},
		{"root in a namespace, auto", inside, Request{}, "none ns= host=/ disk=0:0:1001/0:0:65536 cap=0"},
		{"root in a namespace, map within", inside, explicit("0:100:901", ""), "explicit ns= host=0:100:901/0:100:901 disk=0:100:901/0:100:901 cap=100"},

		{"user, auto", user1000(), Request{}, wideUser},
		{"user, subid", user1000(), Request{Mode: ModeSubid}, wideUser},
		{"user, self", user1000(), Request{Mode: ModeSelf}, selfWide + "\n" + selfOne + "\n" + selfBare},
		{"user, widest", user1000(), Request{Mode: ModeWidest}, "widest ns=0:1000:1 1:100000:1000 host=/ disk=/ cap=0\n" +
			"widest ns=0:1000:1 host=/ disk=/ cap=0\nwidest ns= host=/ disk=/ cap=0"},
		{"no range, auto", noRange, Request{}, selfOne + "\n" + selfBare},
		{"no helper, auto", noHelper, Request{}, selfOne + "\n" + selfBare},
		{"one file has no range, auto", with(user1000(), func(c *caller) { c.subGIDs = nil }), Request{}, selfOne + "\n" + selfBare},
		{"range is the own id, auto", with(user1000(), func(c *caller) { c.subUIDs = []idRange{{1000, 1}} }), Request{}, selfOne + "\n" + selfBare},
		{"range is not mapped here, auto", with(user1000(), func(c *caller) { c.uids, c.bounded = []idRange{{0, 65536}}, true }), Request{}, selfOne + "\n" + selfBare},
		{"user, map of ranges", user1000(), explicit("0:100000:10 10:1000:1", "0:200005:20"),
			"explicit ns=0:1000:1 1:100000:1000 host=0:100000:10 10:1000:1/0:200005:20 disk=0:1:10 10:0:1/0:6:20 cap=1"},
		{"user without ranges, map of the own id", noRange, explicit("0:1000:1", ""),
			"explicit ns=0:1000:1 host=0:1000:1/0:1000:1 disk=0:0:1/0:0:1 cap=0"},
	} {
		got, err := decide(c.c, c.r)
		if err != nil || describe(got) != c.want {
			t.Errorf("%s:\n%s, %v; want\n%s", c.name, describe(got), err, c.want)
		}
	}
}

func TestDecideRefuses(t *testing.T) {
	noRange := with(user1000(), func(c *caller) { c.subUIDs, c.subGIDs = nil, nil })
	inside := with(root(), func(c *caller) { c.uids, c.gids, c.bounded = []idRange{{0, 1001}}, []idRange{{0, 65536}}, true })
	explicit := func(uid, gid string) Request {
		return Request{Mode: ModeExplicit, UIDMap: maps(t, uid), GIDMap: maps(t, gid)}
	}
	for _, c := range []struct {
		name string
		c    caller
		r    Request
		kind Kind
		text string
	}{
		{"none as a user", user1000(), Request{Mode: ModeNone}, KindNeedsRoot, "needs root"},
		{"no subuid", noRange, Request{Mode: ModeSubid}, KindNoRange, "/etc/subuid has no range for ann"},
		{"no subgid", with(user1000(), func(c *caller) { c.subGIDs = nil }), Request{Mode: ModeSubid}, KindNoRange, "/etc/subgid has no range for ann"},
		{"root without ranges", root(), Request{Mode: ModeSubid}, KindNoRange, "/etc/subuid has no range for root"},
		{"no newuidmap", with(user1000(), func(c *caller) { c.newuidmap = "" }), Request{Mode: ModeSubid}, KindNoHelper, "newuidmap"},
		{"no newgidmap", with(user1000(), func(c *caller) { c.newgidmap = "" }), Request{Mode: ModeSubid}, KindNoHelper, "newgidmap"},
		{"range is not mapped here", with(user1000(), func(c *caller) { c.uids, c.bounded = []idRange{{0, 65536}}, true }), Request{Mode: ModeSubid},
			KindNoRange, "/etc/subuid has no range for ann that is mapped in this user namespace"},
		{"before the range", user1000(), explicit("0:99999:2", ""), KindOutside, "uid map 0:99999:2: host id 99999 is not ann's own id or in its range in /etc/subuid"},
		{"beyond the range", user1000(), explicit("0:100000:1001", "0:1000:1"), KindOutside, "host id 101000 is not"},
		{"gids beyond", user1000(), explicit("0:100000:5", "0:100000:5"), KindOutside, "gid map 0:100000:5: host id 100000 is not ann's own id or in its range in /etc/subgid"},
		{"the host's root", user1000(), explicit("0:0:1", "0:1000:1"), KindOutside, "host id 0 is not"},
		{"no ranges", noRange, explicit("0:100000:10", ""), KindNoRange, "/etc/subuid has no range for ann"},
		{"no container root", root(), explicit("1:100000:10", ""), KindNoRoot, "uid map lacks container id 0"},
		{"no container root group", root(), explicit("0:0:10", "1:100000:10"), KindNoRoot, "gid map lacks container id 0"},
		{"no map at all", root(), explicit("", ""), KindNoRoot, "lacks"},
		{"container ids twice", root(), explicit("0:1000:10 9:2000:1", ""), KindOverlap, "uid maps 0:1000:10 and 9:2000:1 share container ids"},
		{"host ids twice", root(), explicit("0:1000:10 20:1009:5", ""), KindOverlap, "share host ids"},
		{"no ids", root(), explicit("0:1000:0", ""), KindBadMap, "uid map 0:1000:0 has no ids"},
		{"no ids, gids alone", root(), explicit("", "0:1000:0"), KindBadMap, "gid map 0:1000:0 has no ids"},
		{"negative count", root(), explicit("0:1000:-1", ""), KindBadMap, "has no ids"},
		{"negative id", root(), explicit("0:-1:2", ""), KindBadMap, "leaves the ids"},
		{"the id that is none", root(), explicit("0:4294967295:1", ""), KindBadMap, "leaves the ids 0 to 4294967294"},
		{"container ids too big", root(), explicit("0:0:1 4294967290:1:6", ""), KindBadMap, "leaves the ids"},
		{"not mapped here", inside, explicit("0:1000:2", ""), KindOutside, "uid map 0:1000:2: host id 1001 is not mapped in this user namespace"},
		{"gid not mapped here", inside, explicit("0:0:1", "0:65536:1"), KindOutside, "gid map 0:65536:1"},
	} {
		got, err := decide(c.c, c.r)
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Kind != c.kind || !strings.Contains(e.Error(), c.text) {
			t.Errorf("%s: %v, error %v; want kind %d, %q", c.name, got, err, c.kind, c.text)
		}
	}
	if _, err := decide(root(), Request{Mode: "all"}); err == nil {
		t.Error("unknown mode is taken")
	}
	many := Request{Mode: ModeExplicit}
	for i := range int64(341) {
		many.UIDMap = append(many.UIDMap, user.IDMap{ID: i, ParentID: 1000 + i, Count: 1})
	}
	if _, err := decide(root(), many); err == nil || !strings.Contains(err.Error(), "341 uid maps") {
		t.Errorf("341 maps: %v", err)
	}
}

func TestReadMapped(t *testing.T) {
	file := filepath.Join(t.TempDir(), "uid_map")
	if err := os.WriteFile(file, []byte("         0       1000          1\n         1     100000      65536\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := readMapped(file); err != nil || !slices.Equal(got, []idRange{{0, 1}, {1, 65536}}) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := readMapped(file + "-missing"); err != nil || !slices.Equal(got, []idRange{{0, maxID + 1}}) {
		t.Errorf("a kernel without user namespaces: %v, %v", got, err)
	}
	if got, err := readMapped(filepath.Dir(file)); err == nil {
		t.Errorf("a directory: %v", got)
	}
}

// Ids for headers take no privilege, and are otherwise those that Enter chooses.
func TestHeaders(t *testing.T) {
	noRange := with(user1000(), func(c *caller) { c.subUIDs, c.subGIDs = nil, nil })
	noHelper := with(user1000(), func(c *caller) { c.newgidmap = "" })
	foreign := Request{Mode: ModeExplicit, UIDMap: maps(t, "0:300000:10"), GIDMap: maps(t, "0:400000:10")}
	const (
		wide = "subid host=0:1000:1 1:100000:1000/0:1000:1 1:200000:1000 cap=1000"
		self = "self host=0:1000:1/0:1000:1 cap=1000"
	)
	for _, c := range []struct {
		name string
		c    caller
		r    Request
		want string
	}{
		{"root by default", root(), Request{}, "none host=/ cap=0"},
		{"user by default", user1000(), Request{}, wide},
		{"user without ranges", noRange, Request{}, self},
		{"user without helpers", noHelper, Request{}, self},
		{"user without helpers, subid", noHelper, Request{Mode: ModeSubid}, wide},
		{"user without ranges, subid", noRange, Request{Mode: ModeSubid}, "!/etc/subuid"},
		{"user, self", user1000(), Request{Mode: ModeSelf}, self},
		{"user, none", user1000(), Request{Mode: ModeNone}, "none host=/ cap=0"},
		{"user, explicit", noRange, foreign, "explicit host=0:300000:10/0:400000:10 cap=300000"},
		{"without root", root(), Request{Mode: ModeExplicit, UIDMap: maps(t, "1:300000:10")}, "!0"},
	} {
		s, err := headers(c.c, c.r)
		if text, wantErr := strings.CutPrefix(c.want, "!"); wantErr {
			if _, ok := errors.AsType[*Error](err); !ok || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: error %v, want one that says %q", c.name, err, text)
			}
			continue
		}
		got := fmt.Sprintf("%s host=%s/%s cap=%d", s.Mode, mapString(s.Host.UIDMaps), mapString(s.Host.GIDMaps), s.CapRootID)
		if err != nil || got != c.want {
			t.Errorf("%s: %s, %v; want %s", c.name, got, err, c.want)
		}
		if mapString(s.Disk.UIDMaps) != mapString(s.Host.UIDMaps) || mapString(s.Disk.GIDMaps) != mapString(s.Host.GIDMaps) || s.InNamespace {
			t.Errorf("%s: %+v", c.name, s)
		}
	}
}
