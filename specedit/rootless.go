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
		if bind, ok := hostBinds[kind]; ok && !d.own(bind.namespace) {
			d.note("%s: %s is a mount of %s, which the kernel refuses in a user namespace without a %s namespace of its own: --mount type=bind,src=%s,dst=%[5]s,ro",
				d.author(m), pointerOf("mounts", strconv.Itoa(i)), kind, bind.namespace, bind.mount.Destination)
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
