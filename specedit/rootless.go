package specedit

import (
	"slices"
	"strconv"
	"strings"
)

// warnRootless notes what a valid document asks for and a runtime will refuse,
// because it starts the container in a user namespace or is itself run by an
// ordinary user: better said here than found out there. Tried with runc 1.1.5
// and 1.5.2 and crun 1.8.1.
func (d *Doc) warnRootless() {
	if !d.own("user") {
		return
	}
	for i, m := range list(d.get("mounts")) {
		kind, _ := m.member("type").str()
		for _, o := range list(m.member("options")) {
			key, value, _ := strings.Cut(o.text, "=")
			id, err := strconv.ParseInt(value, 10, 64)
			if err == nil && (key == "uid" || key == "gid") && !d.maps(key, id) {
				d.note("%s: %s has the option %s, which the mapping lacks: the kernel refuses the mount", d.author(m), pointerOf("mounts", strconv.Itoa(i)), o.text)
			}
		}
		if bind, ok := hostBinds[kind]; ok && !d.own(bind.namespace) {
			cure := "--remove " + pointerOf("mounts", strconv.Itoa(i))
			if at := bind.mount.Source; at != "" {
				cure = "--mount type=bind,src=" + at + ",dst=" + at + ",ro"
			}
			d.note("%s: %s is a mount of %s, which the kernel refuses in a user namespace without a %s namespace of its own: %s",
				d.author(m), pointerOf("mounts", strconv.Itoa(i)), kind, bind.namespace, cure)
		}
	}
	if n := d.get("process", "oomScoreAdj"); n != nil && strings.HasPrefix(n.text, "-") {
		d.note("%s: /process/oomScoreAdj is %s, and the kernel lets nobody lower it from inside a user namespace: the container will not start", d.author(n), n.text)
	}
	if !d.host.Rootless {
		return
	}
	if n := d.get("process", "user", "additionalGids"); n != nil && len(n.list) > 0 {
		d.note("%s: an ordinary user's runc refuses /process/user/additionalGids, crun takes it", d.author(n.list[0]))
	}
	for _, r := range list(d.get("process", "rlimits")) {
		kind := r.member("type").text
		hard, err := strconv.ParseUint(r.member("hard").text, 10, 64)
		if own, known := d.host.HardLimits[kind]; known && err == nil && hard > own {
			d.note("%s: %s is %d, and an ordinary user may not raise it above %d here", d.author(r), kind, hard, own)
		}
	}
	why := "runc refuses it from an ordinary user, crun ignores it: control groups of version 1 cannot be delegated"
	if d.host.CgroupV2 {
		why = "an ordinary user's runtime can set it only in a control group that was delegated, as by systemd-run --user --scope -p Delegate=yes"
	}
	for _, key := range []string{"memory", "cpu", "pids", "blockIO", "hugepageLimits", "network", "rdma", "unified"} {
		if n := d.get("linux", "resources", key); n != nil && len(n.keys)+len(n.list) > 0 {
			d.note("%s: %s: %s", d.author(n), pointerOf("linux", "resources", key), why)
		}
	}
	if n := d.get("linux", "cgroupsPath"); n != nil && n.text != "" {
		d.note("%s: /linux/cgroupsPath: %s", d.author(n), why)
	}
}

// maps tells whether the document's own mapping, if it has one, has a container
// id; what is "uid" or "gid".
func (d *Doc) maps(what string, id int64) bool {
	ranges := list(d.get("linux", what+"Mappings"))
	return len(ranges) == 0 || slices.ContainsFunc(ranges, func(e *node) bool { return inRange(e, id) })
}

// author is who is to be told about a value: the last edit that had a hand in
// it, or what the edits started from.
func (d *Doc) author(n *node) string {
	by := n.by
	for _, key := range slices.Backward(n.keys) {
		if by != d.base && by != "" {
			break
		}
		by = n.obj[key].by
	}
	switch by {
	case "":
		return "the template"
	case d.base:
		return d.base
	}
	return "`" + shorten(by) + "`"
}
