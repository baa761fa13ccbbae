package specedit

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"ocibundle/specedit/jsontree"
)

// dockerSpec is the config that a docker engine writes for a plain `docker run` (moby 28), without
// what only the engine can give: its control group, its network's hook, and its resolv.conf, hosts
// and hostname files. A test compares the two. The seccomp profile and the groups are put in later.
func dockerSpec(h Host) *specs.Spec {
	caps := []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
		"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE"}
	hostname := cleanHostname(h.Hostname)
	zero := 0
	spec := &specs.Spec{
		Version: baseVersion,
		Process: &specs.Process{
			Args:         []string{"sh"},
			Env:          []string{defaultPath, "HOSTNAME=" + hostname},
			Cwd:          "/",
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
			OOMScoreAdj:  &zero,
		},
		Root:     &specs.Root{Path: "rootfs"},
		Hostname: hostname,
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts",
				Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=67108864"}},
		},
		Linux: &specs.Linux{
			Sysctl: maps.Clone(networkSysctls),
			Resources: &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{
				{Allow: false, Access: "rwm"},
				allowDevice(1, 5), allowDevice(1, 3), allowDevice(1, 9), allowDevice(1, 8), allowDevice(5, 0), allowDevice(5, 1),
			}},
			Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.NetworkNamespace},
				{Type: specs.UTSNamespace}, {Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}},
			MaskedPaths: []string{"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys",
				"/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
				"/sys/firmware", "/sys/devices/virtual/powercap"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
	if h.CgroupV2 {
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	if h.userNamespace() {
		inUserNamespace(spec, h)
		delete(spec.Linux.Sysctl, pingGroups) // the range must be mapped whole: docker leaves it out for remapped users
		if h.Rootless {
			// What a user's service manager starts has more (systemd.exec(5), OOMScoreAdjust=), which
			// an ordinary user may not lower (proc(5), oom_score_adj).
			spec.Process.OOMScoreAdj = nil
		}
	}
	return spec
}

func allowDevice(major, minor int64) specs.LinuxDeviceCgroup {
	return specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &major, Minor: &minor, Access: "rwm"}
}

// cleanHostname makes a host name of a directory's name: letters, digits, dots and hyphens, 63 at
// most.
func cleanHostname(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-':
			return r
		}
		return '-'
	}, s)
	s = strings.Trim(s[:min(len(s), 63)], "-.")
	if s == "" {
		return "container"
	}
	return s
}

// dockerExtras puts in what depends on the rootfs and on the document: root's groups and the
// seccomp profile.
func (d *Doc) dockerExtras() error {
	if !d.host.Rootless {
		u, err := d.users.User("0")
		if _, unreadable := errors.AsType[*FileError](err); unreadable {
			return err
		}
		if err != nil {
			// Nobody has asked for a user: the engine, too, goes on without the files.
			d.note("the groups of the container's root are not known: %v", err)
		}
		groups := slices.DeleteFunc(append([]int{0}, u.Sgids...), func(gid int) bool {
			_, _, err := d.host.Mapping.ToHost(0, gid)
			return err != nil && !d.host.Mapping.Empty() // the template asks for no group that the mapping lacks
		})
		if err := d.addGroups(groups...); err != nil {
			return err
		}
	}
	return d.setSeccomp(&pendingSeccomp{own: true, make: seccomp.GetDefaultProfile})
}

// followEdits makes what the template said follow what the edits changed, as docker does: the
// HOSTNAME variable.
func (d *Doc) followEdits() {
	for i, e := range jsontree.Elements(d.Get("process", "env")) {
		if e.By == "" && envKey(e) == "HOSTNAME" {
			if name := d.Text("hostname"); name != "" {
				d.Get("process", "env").List[i] = jsontree.NewString("HOSTNAME="+name, "")
			} else {
				d.Get("process", "env").RemoveKeyed(func(x *jsontree.Node) bool { return x == e })
			}
			break
		}
	}
}

const pingGroups = "net.ipv4.ping_group_range"

// networkSysctls are what the template sets in a network namespace of the container's own.
var networkSysctls = map[string]string{
	"net.ipv4.ip_unprivileged_port_start": "0",
	pingGroups:                            "0 2147483647",
}

// dropNetworkSysctls takes the template's network settings away where the container no longer has a
// network namespace of its own, also from a base that was made of the template: runtimes
// refuse them there.
func (d *Doc) dropNetworkSysctls() {
	sysctl := d.Get("linux", "sysctl")
	if sysctl == nil || sysctl.Kind != jsontree.KindObject || d.own("network") {
		return
	}
	for k, v := range networkSysctls {
		if n := sysctl.Obj[k]; n != nil && n.By == d.base && n.Text == v {
			sysctl.RemoveMember(k, "")
		}
	}
	if len(sysctl.Keys) == 0 && sysctl.By == d.base {
		d.Get("linux").RemoveMember("sysctl", "")
	}
}
