package specedit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"

	"ocibundle/specedit/jsontree"
)

// Host is what a built-in template depends on.
type Host struct {
	// CgroupV2 says that the host has the unified hierarchy: a container then gets a cgroup
	// namespace.
	CgroupV2 bool
	// Rootless asks for the form that an ordinary user's runtime can start, as `runc spec
	// --rootless` writes it. The built-in templates need a Mapping for it.
	Rootless bool
	// HardLimits are the limits that the user who runs the runtime cannot raise, by type
	// (RLIMIT_NOFILE). What is not there is not known.
	HardLimits map[string]uint64
	// CgroupDelegated says that an ordinary user's runtime may set limits in its control group of
	// version 2. Only what is said of a config depends on it.
	CgroupDelegated bool
	// Mapping maps container ids to host ids. Empty: no user namespace.
	Mapping user.IdentityMapping
	// Hostname is the container's host name in the docker template.
	Hostname string
	// Hosts and ResolvConf are the host's files of these names, UpstreamResolvConf one that has the
	// name servers where ResolvConf has only a resolver on the loopback; "" where there is none.
	Hosts, ResolvConf, UpstreamResolvConf string
	// Resolver is what these files say: servers that other networks reach, if there are.
	Resolver Resolver
}

// userNamespace reports whether the config has a user namespace of its own.
func (h Host) userNamespace() bool { return h.Rootless || !h.Mapping.Empty() }

// The built-in templates.
const (
	TemplateRunc   = "runc"
	TemplateDocker = "docker"
)

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// runcSpec is the config that `runc spec` writes (runc 1.1, specconv.Example). A test compares the
// two. The version is computed later.
func runcSpec(h Host) *specs.Spec {
	caps := []string{"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
	spec := &specs.Spec{
		Version: baseVersion,
		Process: &specs.Process{
			Terminal: true,
			Args:     []string{"sh"},
			Env:      []string{defaultPath, "TERM=xterm"},
			Cwd:      "/",
			Capabilities: &specs.LinuxCapabilities{
				Bounding: caps, Effective: caps, Permitted: caps, Ambient: caps,
			},
			Rlimits:         []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 1024, Soft: 1024}},
			NoNewPrivileges: true,
		},
		Root:     &specs.Root{Path: "rootfs", Readonly: true},
		Hostname: "runc",
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts",
				Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
		},
		Linux: &specs.Linux{
			Resources: &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}},
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace}, {Type: specs.MountNamespace},
			},
			MaskedPaths: []string{"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
				"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
	if h.CgroupV2 {
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	if h.userNamespace() {
		// No network namespace: a user's runtime has nobody to connect it.
		spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
			return n.Type == specs.NetworkNamespace
		})
		inUserNamespace(spec, h)
		// devpts would need group 5 of the host's; runc's own form drops it too.
		for i := range spec.Mounts {
			spec.Mounts[i].Options = slices.DeleteFunc(spec.Mounts[i].Options, func(o string) bool {
				return strings.HasPrefix(o, "gid=") || strings.HasPrefix(o, "uid=")
			})
		}
	}
	return spec
}

// inUserNamespace adds the user namespace and takes away what only the host's root can do: there
// are no cgroups to write limits to.
func inUserNamespace(spec *specs.Spec, h Host) {
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	spec.Linux.UIDMappings = specMapping(h.Mapping.UIDMaps)
	spec.Linux.GIDMappings = specMapping(h.Mapping.GIDMaps)
	spec.Linux.Resources = nil
}

func specMapping(maps []user.IDMap) []specs.LinuxIDMapping {
	var out []specs.LinuxIDMapping
	for _, m := range maps {
		out = append(out, specs.LinuxIDMapping{ContainerID: uint32(m.ID), HostID: uint32(m.ParentID), Size: uint32(m.Count)})
	}
	return out
}

// checkMapping wants ids that a config can carry: runtime-spec has 32 bits.
func checkMapping(h Host) error {
	for _, maps := range [][]user.IDMap{h.Mapping.UIDMaps, h.Mapping.GIDMaps} {
		for _, m := range maps {
			if m.ID < 0 || m.ParentID < 0 || m.Count < 1 || m.ID+m.Count > 1<<32 || m.ParentID+m.Count > 1<<32 {
				return fmt.Errorf("make a config: the mapping %d:%d:%d does not fit into 32 bits", m.ID, m.ParentID, m.Count)
			}
		}
	}
	return nil
}

// sysfs is the default mount of /sys; without a network namespace of its own a user namespace
// cannot mount it, and takes the host's instead.
var sysBind = specs.Mount{Destination: "/sys", Type: "none", Source: "/sys",
	Options: []string{"rbind", "nosuid", "noexec", "nodev", "ro"}}

// hostBinds are what stands in for the template's mounts of kernel filesystems that a user
// namespace may only mount with the namespace they belong to.
var hostBinds = map[string]struct {
	namespace string
	mount     specs.Mount
}{
	"sysfs": {"network", sysBind},
	"proc":  {"pid", specs.Mount{Destination: "/proc", Type: "none", Source: "/proc", Options: []string{"rbind", "nosuid", "noexec", "nodev"}}},
	// Not every host has one mounted, and message queues need none: it is left out.
	"mqueue": {"ipc", specs.Mount{}},
}

// own reports whether the document has a new namespace of a type: not the host's, and not one that
// is joined by path.
func (d *Doc) own(kind string) bool {
	return slices.ContainsFunc(jsontree.Elements(d.Get("linux", "namespaces")), func(n *jsontree.Node) bool {
		t, _ := n.Member("type").Str()
		return t == kind && n.Member("path") == nil
	})
}

// followNamespaces gives what the template wrote the form that works in the namespaces and with the
// capabilities which the finished document has. What an edit wrote stays, and so does what a
// template file wrote, unless a user namespace was put into it here, or a namespace taken away.
func (d *Doc) followNamespaces() error {
	if err := d.remakeSeccomp(); err != nil {
		return err
	}
	if d.base == "" {
		d.followEdits()
	} else if d.host.Mapping.Empty() && !slices.ContainsFunc(d.had, func(kind string) bool { return !d.own(kind) }) {
		return nil // a file's own user namespace is its author's business
	}
	d.dropNetworkSysctls()
	if !d.own("user") {
		return nil
	}
	d.Get("mounts").RemoveKeyed(func(m *jsontree.Node) bool {
		kind, _ := m.Member("type").Str()
		bind, ok := hostBinds[kind]
		return d.untouched(m) && ok && !d.own(bind.namespace) && bind.mount.Source == ""
	})
	for i, m := range jsontree.Elements(d.Get("mounts")) {
		if !d.untouched(m) {
			continue
		}
		kind, _ := m.Member("type").Str()
		if bind, ok := hostBinds[kind]; ok && !d.own(bind.namespace) {
			n, err := jsontree.FromGo(bind.mount, d.base)
			if err != nil {
				return err
			}
			d.Get("mounts").List[i] = n
		}
		// The group of terminals must be one that the mapping has.
		if kind == "devpts" {
			m.Member("options").RemoveKeyed(func(o *jsontree.Node) bool {
				gid, ok := strings.CutPrefix(o.Text, "gid=")
				id, err := strconv.Atoi(gid)
				return ok && err == nil && !d.mappedGID(id)
			})
		}
	}
	return nil
}

// untouched reports whether a value is as the edits found it, all through.
func (d *Doc) untouched(n *jsontree.Node) bool {
	if n.By != d.base || len(n.Gone) > 0 {
		return false
	}
	for _, e := range n.List {
		if !d.untouched(e) {
			return false
		}
	}
	for _, e := range n.Obj {
		if !d.untouched(e) {
			return false
		}
	}
	return true
}

// mappedGID reports whether the document's own mapping has a group id.
func (d *Doc) mappedGID(id int) bool {
	return slices.ContainsFunc(jsontree.Elements(d.Get("linux", "gidMappings")), func(e *jsontree.Node) bool {
		return inRange(e, int64(id))
	})
}

// inRange reports whether an id mapping has a container id.
func inRange(mapping *jsontree.Node, id int64) bool {
	var v [2]int64
	for i, name := range []string{"containerID", "size"} {
		m := mapping.Member(name)
		if m == nil || m.Kind != jsontree.KindNumber {
			return false
		}
		v[i], _ = strconv.ParseInt(m.Text, 10, 64)
	}
	return id >= v[0] && id-v[0] < v[1]
}
