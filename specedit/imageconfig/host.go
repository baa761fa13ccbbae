package imageconfig

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"ocibundle/specedit"
	"ocibundle/specedit/jsontree"
)

// namespaces carries the modes over. A namespace of another container has only that
// container's process for a name, which a bundle outlives.
func (im *importer) namespaces() {
	c, h := &im.d.config, &im.d.host
	mode := func(member, setting, value string, namespace specs.LinuxNamespaceType) {
		to := "private"
		kind, rest, _ := strings.Cut(value, ":")
		switch {
		case value == "host":
			to = "host"
		case kind == "ns" && rest != "":
			to = rest
		case kind == "container":
			im.notice(member, setting, value, "the bundle gets one of its own")
		}
		im.edit(member, func(label string) (specedit.Edit, error) { return specedit.Namespace(label, namespace, to, "/") })
	}

	// A network of the engine's cannot be had. What stands in for it is the template's
	// choice: a namespace with nothing but lo, or the host's for an ordinary user.
	switch kind, _, _ := strings.Cut(h.NetworkMode, ":"); {
	case c.NetworkDisabled, kind == "none", kind == "host", kind == "ns":
		mode("HostConfig.NetworkMode", "network mode", h.NetworkMode, specs.NetworkNamespace)
	case kind != "" && !im.o.Network:
		im.notice("HostConfig.NetworkMode", "network mode", h.NetworkMode, "nothing connects a bundle to it")
	}
	mode("HostConfig.PidMode", "pid mode", h.PidMode, specs.PIDNamespace)
	mode("HostConfig.IpcMode", "ipc mode", h.IpcMode, specs.IPCNamespace)
	mode("HostConfig.UTSMode", "uts mode", h.UTSMode, specs.UTSNamespace)
	cgroupns := h.CgroupnsMode
	if im.d.kind == PodmanContainer {
		cgroupns = h.CgroupMode
	}
	// Engines before API 1.41 have no such mode: the template's stays.
	if cgroupns != "" {
		mode("HostConfig.CgroupnsMode", "cgroup namespace mode", cgroupns, specs.CgroupNamespace)
	}

	if h.UTSMode != "host" {
		if c.Hostname != "" {
			im.edit("Config.Hostname", func(label string) (specedit.Edit, error) { return specedit.Hostname(label, c.Hostname) })
		}
		if c.Domainname != "" {
			// The specification has a member of its own since 1.1; the sysctl, which
			// the engine uses, does for every version.
			im.edit("Config.Domainname", func(label string) (specedit.Edit, error) {
				return specedit.Sysctl(label, "kernel.domainname="+c.Domainname)
			})
		}
	}
	if mode := h.UsernsMode; mode != "" && mode != "host" && mode != "private" {
		im.notice("HostConfig.UsernsMode", "user namespace mode", mode, "ownership is remapped by the bundle's own mapping")
	}
	if raw := string(h.IDMappings); raw != "" && raw != "null" && raw != "{}" {
		im.notice("HostConfig.IDMappings", "user namespace mapping", "", "ownership is remapped by the bundle's own mapping")
	}
}

// security carries over capabilities, privileges and profiles.
func (im *importer) security() {
	h := &im.d.host
	im.capabilities()
	if h.ReadonlyRootfs {
		im.edit("HostConfig.ReadonlyRootfs", func(label string) (specedit.Edit, error) { return specedit.ReadOnly(label, specedit.SwitchOn) })
	}
	if h.Privileged {
		im.apply("HostConfig.Privileged", privileged)
	}
	// null is an engine's that does not say; a list, an empty one too, is the whole list.
	paths := func(member string, list []string, to string) {
		if list != nil && !h.Privileged {
			im.apply(member, func(d *specedit.Doc) error {
				if len(list) == 0 {
					d.Drop("linux", to)
					return nil
				}
				return d.Put(list, "linux", to)
			})
		}
	}
	paths("HostConfig.MaskedPaths", h.MaskedPaths, "maskedPaths")
	paths("HostConfig.ReadonlyPaths", h.ReadonlyPaths, "readonlyPaths")

	seccomp, apparmor := false, false
	for i, opt := range h.SecurityOpt {
		member := fmt.Sprintf("HostConfig.SecurityOpt[%d]", i)
		// Both separators are valid; a profile holds plenty of either.
		name, value := opt, ""
		if at := strings.IndexAny(opt, "=:"); at >= 0 {
			name, value = opt[:at], opt[at+1:]
		}
		switch name {
		case "no-new-privileges":
			im.edit(member, func(label string) (specedit.Edit, error) {
				on, err := specedit.ParseSwitch(value)
				if err != nil {
					return specedit.Edit{}, err
				}
				return specedit.NoNewPrivileges(label, on)
			})
		case "seccomp":
			seccomp = true
			im.seccomp(member, value)
		case "apparmor":
			apparmor = true
			im.apparmor(member, value)
		case "label", "disable":
			if value != "disable" && name != "disable" {
				im.notice(member, "SELinux label option", value, "the rootfs is not labelled")
			}
		case "writable-cgroups":
			if value == "" || value == "true" {
				im.apply(member, writableCgroups)
			}
		default:
			im.notice(member, "security option", opt, "")
		}
	}
	if !seccomp && !h.Privileged {
		// Made anew: what the default profile allows depends on the capabilities.
		im.edit("HostConfig.SecurityOpt", func(label string) (specedit.Edit, error) { return specedit.SeccompDefault(label), nil })
	}
	if profile := im.d.container.AppArmorProfile; profile != "" && profile != "unconfined" && !apparmor {
		im.notice("AppArmorProfile", "AppArmor profile", profile, "the engine loads it into the kernel, and a bundle cannot count on it")
	}
	if label := im.d.container.ProcessLabel; label != "" {
		im.notice("ProcessLabel", "SELinux label", label, "the rootfs is not labelled")
	}
}

// apparmor carries a profile over as the engine does: not to a host without AppArmor,
// where a runtime refuses even the name unconfined.
func (im *importer) apparmor(member, profile string) {
	enabled, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	switch {
	case profile == "unconfined":
		// What no profile is asked for keeps that of the runtime, which is none.
		im.apply(member, func(d *specedit.Doc) error {
			d.Drop("process", "apparmorProfile")
			return nil
		})
	case err != nil || !strings.HasPrefix(string(enabled), "Y"):
		im.notice(member, "AppArmor profile", profile, "this host has no AppArmor")
	default:
		im.edit(member, func(label string) (specedit.Edit, error) { return specedit.AppArmor(label, profile) })
	}
}

// seccomp carries a profile over. docker's inspect has the profile itself, podman's
// only the path of a file in a form of its own.
func (im *importer) seccomp(member, value string) {
	im.edit(member, func(label string) (specedit.Edit, error) {
		switch {
		case value == "unconfined":
			return specedit.SeccompUnconfined(label), nil
		case value == "builtin", value == "default":
			return specedit.SeccompDefault(label), nil
		case strings.HasPrefix(strings.TrimSpace(value), "{"):
			return specedit.SeccompProfile(label, []byte(value))
		}
		im.notice(member, "seccomp profile", value, "the default profile stands in for it")
		return specedit.SeccompDefault(label), nil
	})
}

// capabilities follows the engine: dropping ALL leaves what is added, adding ALL
// leaves out what is dropped, else what is added counts more than what is dropped.
func (im *importer) capabilities() {
	h := &im.d.host
	if c := &im.d.container; c.BoundingCaps != nil {
		im.podmanCapabilities(c.BoundingCaps, c.EffectiveCaps)
		return
	}
	if h.Privileged {
		im.edit("HostConfig.Privileged", func(label string) (specedit.Edit, error) { return specedit.CapAdd(label, "ALL") })
		return
	}
	add := func() {
		for i, name := range h.CapAdd {
			im.edit(fmt.Sprintf("HostConfig.CapAdd[%d]", i), func(label string) (specedit.Edit, error) { return specedit.CapAdd(label, name) })
		}
	}
	drop := func() {
		for i, name := range h.CapDrop {
			im.edit(fmt.Sprintf("HostConfig.CapDrop[%d]", i), func(label string) (specedit.Edit, error) { return specedit.CapDrop(label, name) })
		}
	}
	all := false
	for _, name := range h.CapAdd {
		all = all || strings.EqualFold(strings.TrimPrefix(strings.ToUpper(name), "CAP_"), "ALL")
	}
	if all {
		add()
		drop()
	} else {
		drop()
		add()
	}
}

// podmanCapabilities takes the sets as podman lists them. To another user than root it
// gives what was asked for by name as ambient ones, which survive execve(2).
func (im *importer) podmanCapabilities(bounding, effective []string) {
	sets := specs.LinuxCapabilities{Bounding: bounding, Effective: effective, Permitted: effective}
	if len(effective) < len(bounding) {
		sets.Inheritable, sets.Ambient = effective, effective
	}
	for _, name := range slices.Concat(bounding, effective) {
		if _, err := specedit.Capabilities(name); err != nil {
			im.edit("BoundingCaps", func(string) (specedit.Edit, error) { return specedit.Edit{}, err })
			return
		}
	}
	im.put("BoundingCaps", sets, "process", "capabilities")
}

// privileged takes away what confines a container, beside the capabilities. The
// engine's other privilege, all the host's devices, is among the devices.
func privileged(d *specedit.Doc) error {
	d.Drop("linux", "seccomp")
	d.Drop("linux", "maskedPaths")
	d.Drop("linux", "readonlyPaths")
	for _, m := range d.Elements("mounts") {
		if m.Member("destination").Is("/sys") {
			m.RemoveOption("ro")
		}
	}
	return writableCgroups(d)
}

func writableCgroups(d *specedit.Doc) error {
	for _, m := range d.Elements("mounts") {
		if m.Member("type").Is("cgroup") || m.Member("type").Is("cgroup2") {
			m.RemoveOption("ro")
		}
	}
	return nil
}

// resources carries the limits over.
func (im *importer) resources() {
	h := &im.d.host
	for i, u := range h.Ulimits {
		if u == nil {
			continue
		}
		name := strings.TrimPrefix(strings.ToLower(u.Name), "rlimit_")
		im.edit(fmt.Sprintf("HostConfig.Ulimits[%d]", i), func(label string) (specedit.Edit, error) {
			return specedit.Ulimit(label, fmt.Sprintf("%s=%d:%d", name, u.Soft, u.Hard))
		})
	}
	if h.OomScoreAdj < 0 && im.o.Rootless {
		im.notice("HostConfig.OomScoreAdj", "OOM score adjustment", strconv.Itoa(h.OomScoreAdj), "an ordinary user cannot lower it")
	} else if h.OomScoreAdj != 0 {
		im.edit("HostConfig.OomScoreAdj", func(label string) (specedit.Edit, error) {
			return specedit.OOMScoreAdj(label, strconv.Itoa(h.OomScoreAdj))
		})
	}

	// To the engine a number below 1 is one that is not set.
	positive := func(member, setting string, value int64, to ...string) {
		if value < -1 {
			im.refuse("HostConfig."+member, "%d is no limit", value)
		}
		if value > 0 {
			im.limit("HostConfig."+member, setting, value, to...)
		}
	}
	positive("Memory", "memory limit", h.Memory, "memory", "limit")
	positive("MemoryReservation", "memory reservation", h.MemoryReservation, "memory", "reservation")
	positive("MemorySwap", "swap limit", h.MemorySwap, "memory", "swap")
	// podman has 0 where it was not asked for anything.
	if s := h.MemorySwappiness; s != nil && *s != -1 && (*s != 0 || im.d.kind != PodmanContainer) {
		if *s < 0 || *s > 100 {
			im.refuse("HostConfig.MemorySwappiness", "%d is not between 0 and 100", *s)
		}
		im.limit("HostConfig.MemorySwappiness", "swappiness", *s, "memory", "swappiness")
	}
	if h.OomKillDisable != nil && *h.OomKillDisable {
		im.limit("HostConfig.OomKillDisable", "disabling the OOM killer", true, "memory", "disableOOMKiller")
	}
	positive("CpuShares", "CPU shares", h.CPUShares, "cpu", "shares")
	if h.NanoCPUs > 0 {
		// The engine's period is a tenth of a second.
		const period = 100_000
		im.limit("HostConfig.NanoCpus", "CPU limit", h.NanoCPUs/(1e9/period), "cpu", "quota")
		im.limit("HostConfig.NanoCpus", "CPU period", period, "cpu", "period")
	}
	positive("CpuPeriod", "CPU period", h.CPUPeriod, "cpu", "period")
	positive("CpuQuota", "CPU quota", h.CPUQuota, "cpu", "quota")
	positive("CpuRealtimePeriod", "CPU real-time period", h.CPURealtimePeriod, "cpu", "realtimePeriod")
	positive("CpuRealtimeRuntime", "CPU real-time runtime", h.CPURealtimeRuntime, "cpu", "realtimeRuntime")
	if h.CpusetCpus != "" {
		im.limit("HostConfig.CpusetCpus", "CPU set", h.CpusetCpus, "cpu", "cpus")
	}
	if h.CpusetMems != "" {
		im.limit("HostConfig.CpusetMems", "memory node set", h.CpusetMems, "cpu", "mems")
	}
	// No limit is a limit of -1, not the absence of one.
	if p := h.PidsLimit; p != nil && *p != 0 {
		im.limit("HostConfig.PidsLimit", "pids limit", max(*p, -1), "pids", "limit")
	}
	im.blockIO()
	for _, key := range specedit.SortedKeys(h.CgroupConf) {
		im.limit("HostConfig.CgroupConf", "control group setting "+key, h.CgroupConf[key], "unified", key)
	}
	for _, key := range specedit.SortedKeys(h.Sysctls) {
		im.edit("HostConfig.Sysctls", func(label string) (specedit.Edit, error) { return specedit.Sysctl(label, key+"="+h.Sysctls[key]) })
	}
}

// noControlGroup is why an ordinary user's bundle gets no limits.
const noControlGroup = "an ordinary user's runtime has no control group to set it in"

// limit appends an edit that sets a value below /linux/resources.
func (im *importer) limit(member, setting string, value any, to ...string) {
	if im.o.Rootless {
		im.notice(member, setting, fmt.Sprint(value), noControlGroup)
		return
	}
	im.put(member, value, append([]string{"linux", "resources"}, to...)...)
}

// limitDevice appends an edit that adds a value to an array below /linux/resources;
// setting and name say in a notice what it is.
func (im *importer) limitDevice(member, setting, name string, value any, to ...string) {
	if im.o.Rootless {
		im.notice(member, setting, name, noControlGroup)
		return
	}
	im.apply(member, func(d *specedit.Doc) error {
		list, err := d.Array(append([]string{"linux", "resources"}, to...)...)
		if err != nil {
			return err
		}
		n, err := jsontree.FromGo(value, d.By)
		if err != nil {
			return err
		}
		list.List = append(list.List, n)
		return nil
	})
}

const noDevice = "this host has none"

// engineOnly names the settings that only an engine can carry out.
func (im *importer) engineOnly() {
	h := &im.d.host
	c := &im.d.config
	some := func(member, setting, value string) {
		if value != "" {
			im.notice(member, setting, value, "")
		}
	}
	list := func(member, setting string, values []string) { some(member, setting, strings.Join(values, ", ")) }

	list("HostConfig.PortBindings", "published ports", specedit.SortedKeys(h.PortBindings))
	if h.PublishAllPorts {
		some("HostConfig.PublishAllPorts", "published ports", "all")
	}
	if log := h.LogConfig; len(log.Config) > 0 || !slices.Contains([]string{"", "json-file", "local", "k8s-file", "journald", "none"}, log.Type) {
		some("HostConfig.LogConfig", "log driver", log.Type)
	}
	if h.Init != nil && *h.Init || strings.EqualFold(c.Annotations["io.podman.annotations.init"], "true") {
		im.notice("HostConfig.Init", "init process", "", "the command is the first process itself")
	}
	if h.AutoRemove {
		im.notice("HostConfig.AutoRemove", "automatic removal", "", "")
	}
	if c.StopTimeout != nil && im.d.kind == DockerContainer {
		some("Config.StopTimeout", "stop timeout", strconv.Itoa(*c.StopTimeout)+" s")
	}
	if !slices.Contains([]string{"", "runc", "io.containerd.runc.v2", "oci", "crun"}, h.Runtime) {
		some("HostConfig.Runtime", "runtime", h.Runtime)
	}
	list("HostConfig.Links", "links", h.Links)
	some("HostConfig.CgroupParent", "cgroup parent", h.CgroupParent)
	some("HostConfig.Cgroup", "cgroup", h.Cgroup)
	list("HostConfig.StorageOpt", "storage options", specedit.SortedKeys(h.StorageOpt))
	if h.KernelMemory > 0 {
		im.notice("HostConfig.KernelMemory", "kernel memory limit", strconv.FormatInt(h.KernelMemory, 10), "runtimes ignore it")
	}
	if h.KernelMemoryTCP > 0 {
		im.notice("HostConfig.KernelMemoryTCP", "kernel memory TCP limit", strconv.FormatInt(h.KernelMemoryTCP, 10), "runtimes ignore it")
	}
	if h.DiskQuota > 0 {
		some("HostConfig.DiskQuota", "disk quota", strconv.FormatUint(h.DiskQuota, 10))
	}
	if c.Timeout > 0 {
		some("Config.Timeout", "timeout", strconv.FormatUint(uint64(c.Timeout), 10)+" s")
	}
	if c.SystemdMode {
		im.notice("Config.SystemdMode", "systemd mode", "", "")
	}
	if len(c.Secrets) > 0 && string(c.Secrets) != "null" && string(c.Secrets) != "[]" {
		im.notice("Config.Secrets", "secrets", "", "")
	}
	list("Config.ChrootDirs", "chroot directories", c.ChrootDirs)
}
