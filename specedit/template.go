package specedit

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Host is what a built-in template depends on.
type Host struct {
	// CgroupV2 says that the host has the unified hierarchy: a container then
	// gets a cgroup namespace.
	CgroupV2 bool
	// Rootless asks for the form that an ordinary user's runtime can start,
	// as `runc spec --rootless` writes it. It needs a Mapping.
	Rootless bool
	// Mapping maps container ids to host ids. Empty: no user namespace.
	Mapping user.IdentityMapping
	// Hostname is the container's host name in the docker template.
	Hostname string
}

// userNamespace tells whether the config has a user namespace of its own.
func (h Host) userNamespace() bool { return h.Rootless || !h.Mapping.Empty() }

// The built-in templates.
const (
	TemplateRunc   = "runc"
	TemplateDocker = "docker"
)

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// runcSpec is the config that `runc spec` writes (runc 1.1, specconv.Example).
// A test compares the two. The version is computed later.
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

// inUserNamespace adds the user namespace and takes away what only the host's
// root can do: there are no cgroups to write limits to.
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
	if h.Rootless && h.Mapping.Empty() {
		return fmt.Errorf("make a rootless config: no id mapping is given")
	}
	for _, maps := range [][]user.IDMap{h.Mapping.UIDMaps, h.Mapping.GIDMaps} {
		for _, m := range maps {
			if m.ID < 0 || m.ParentID < 0 || m.Count < 1 || m.ID+m.Count > 1<<32 || m.ParentID+m.Count > 1<<32 {
				return fmt.Errorf("make a config: the mapping %d:%d:%d does not fit into 32 bits", m.ID, m.ParentID, m.Count)
			}
		}
	}
	return nil
}

// sysfs is the default mount of /sys; without a network namespace of its own
// a user namespace cannot mount it, and takes the host's instead.
var sysBind = specs.Mount{Destination: "/sys", Type: "none", Source: "/sys",
	Options: []string{"rbind", "nosuid", "noexec", "nodev", "ro"}}

// settle gives the template's own mounts the form that works in the namespaces
// which the finished document has. What an edit or a template file wrote stays.
func (d *Doc) settle() error {
	if err := d.settleSeccomp(); err != nil {
		return err
	}
	own := func(kind string) bool {
		return slices.ContainsFunc(list(d.get("linux", "namespaces")), func(n *node) bool {
			return n.member("type") != nil && n.member("type").text == kind && n.member("path") == nil
		})
	}
	if !own("user") {
		return nil
	}
	for i, m := range list(d.get("mounts")) {
		if m.by != "" || m.kind != kindObject {
			continue
		}
		kind, _ := m.member("type").str()
		if kind == "sysfs" && !own("network") {
			n, err := fromGo(sysBind, "")
			if err != nil {
				return err
			}
			if dst := m.member("destination"); dst != nil {
				n.setMember("destination", dst)
			}
			d.get("mounts").list[i] = n
		}
	}
	return nil
}
