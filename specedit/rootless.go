package specedit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ocibundle/specedit/jsontree"
)

// A refusal is what a valid document asks for and a runtime will not give, because it starts the
// container in a user namespace or is itself run by an ordinary user. Tried with runc 1.1.5 and
// 1.5.2 and crun 1.8.1.
type refusal struct {
	code    string
	pointer string
	node    *jsontree.Node
	// message goes on from the pointer: "is ..." or "has ...", after a colon anything.
	message string
}

// warnRootless notes the refusals: better said here than found out there.
func (d *Doc) warnRootless() {
	for _, r := range d.refusals() {
		sep := ": "
		if strings.HasPrefix(r.message, "is ") || strings.HasPrefix(r.message, "has ") {
			sep = " "
		}
		d.note("%s: %s%s%s", d.author(r.node), r.pointer, sep, r.message)
	}
}

func (d *Doc) refusals() []refusal {
	found := d.idmapRefusals()
	if !d.own("user") {
		return found
	}
	refuse := func(code string, n *jsontree.Node, path []string, format string, args ...any) {
		found = append(found, refusal{code, jsontree.Pointer(path...), n, fmt.Sprintf(format, args...)})
	}
	for i, m := range jsontree.Elements(d.Get("mounts")) {
		kind, _ := m.Member("type").Str()
		for _, o := range jsontree.Elements(m.Member("options")) {
			key, value, _ := strings.Cut(o.Text, "=")
			id, err := strconv.ParseInt(value, 10, 64)
			if err == nil && (key == "uid" || key == "gid") && !d.maps(key, id) {
				refuse(FindingMountID, m, []string{"mounts", strconv.Itoa(i)}, "has the option %s, which the mapping lacks: the kernel refuses the mount", o.Text)
			}
		}
		if bind, ok := hostBinds[kind]; ok && !d.own(bind.namespace) && !bindMount(m) {
			cure := "it has to go"
			if at := bind.mount.Source; at != "" {
				cure = "the mount type=bind,src=" + at + ",dst=" + at + ",ro can take its place"
			}
			refuse(FindingKernelMount, m, []string{"mounts", strconv.Itoa(i)},
				"is a mount of %s, which the kernel refuses in a user namespace without a %s namespace of its own: %s", kind, bind.namespace, cure)
		}
	}
	if n := d.Get("process", "oomScoreAdj"); n != nil && strings.HasPrefix(n.Text, "-") {
		refuse(FindingOOMScore, n, []string{"process", "oomScoreAdj"},
			"is %s, and the kernel lets nobody lower it from inside a user namespace: the container will not start", n.Text)
	}
	if !d.host.Rootless {
		return found
	}
	if n := d.Get("process", "user", "additionalGids"); n != nil && len(n.List) > 0 {
		refuse(FindingGroups, n.List[0], []string{"process", "user", "additionalGids"}, "runc refuses them from an ordinary user, crun accepts them")
	}
	for i, r := range jsontree.Elements(d.Get("process", "rlimits")) {
		kind, limit := textOf(r.Member("type")), r.Member("hard")
		if limit == nil {
			continue
		}
		hard, err := strconv.ParseUint(limit.Text, 10, 64)
		if own, known := d.host.HardLimits[kind]; known && err == nil && hard > own {
			refuse(FindingRlimit, r, []string{"process", "rlimits", strconv.Itoa(i)}, "%s is %d, and an ordinary user may not raise it above %d here", kind, hard, own)
		}
	}
	why := "runc refuses it from an ordinary user, crun ignores it: control groups of version 1 cannot be delegated"
	if d.host.CgroupV2 {
		if d.host.CgroupDelegated {
			return found
		}
		why = "an ordinary user's runtime can set it only in a control group that was delegated, as by systemd-run --user --scope -p Delegate=yes"
	}
	for _, key := range []string{"memory", "cpu", "pids", "blockIO", "hugepageLimits", "network", "rdma", "unified"} {
		if n := d.Get("linux", "resources", key); n != nil && len(n.Keys)+len(n.List) > 0 {
			refuse(FindingCgroup, n, []string{"linux", "resources", key}, "%s", why)
		}
	}
	if n := d.Get("linux", "cgroupsPath"); n != nil && n.Text != "" {
		refuse(FindingCgroup, n, []string{"linux", "cgroupsPath"}, "%s", why)
	}
	return found
}

// bindMount reports whether an element of mounts is a bind mount, whatever its type says.
func bindMount(m *jsontree.Node) bool {
	return m.Member("type").Is("bind") || slices.ContainsFunc(jsontree.Elements(m.Member("options")), func(o *jsontree.Node) bool {
		return o.Text == "bind" || o.Text == "rbind"
	})
}

// maps reports whether the document's own mapping, if it has one, has a container id; what is "uid"
// or "gid".
func (d *Doc) maps(what string, id int64) bool {
	ranges := jsontree.Elements(d.Get("linux", what+"Mappings"))
	return len(ranges) == 0 || slices.ContainsFunc(ranges, func(e *jsontree.Node) bool { return inRange(e, id) })
}

// author is who is to be told about a value: the last edit that had a hand in it, or what the edits
// started from.
func (d *Doc) author(n *jsontree.Node) string {
	by := n.By
	for _, key := range slices.Backward(n.Keys) {
		if by != d.base && by != "" {
			break
		}
		by = n.Obj[key].By
	}
	switch by {
	case "":
		return "the template"
	case d.base:
		return d.base
	}
	return "`" + shorten(by) + "`"
}
