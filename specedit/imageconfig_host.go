package specedit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/blkiodev"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
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
		im.edit(member, func(label string) (Edit, error) { return Namespace(label, namespace, to, "/") })
	}

	// A network of the engine's cannot be had. What stands in for it is the template's
	// choice: a namespace with nothing but lo, or the host's for an ordinary user.
	switch kind, _, _ := strings.Cut(string(h.NetworkMode), ":"); {
	case c.NetworkDisabled, kind == "none", kind == "host", kind == "ns":
		mode("HostConfig.NetworkMode", "network mode", string(h.NetworkMode), specs.NetworkNamespace)
	case kind != "":
		im.notice("HostConfig.NetworkMode", "network mode", string(h.NetworkMode), "nothing connects a bundle to it")
	}
	mode("HostConfig.PidMode", "pid mode", string(h.PidMode), specs.PIDNamespace)
	mode("HostConfig.IpcMode", "ipc mode", string(h.IpcMode), specs.IPCNamespace)
	mode("HostConfig.UTSMode", "uts mode", string(h.UTSMode), specs.UTSNamespace)
	cgroupns := string(h.CgroupnsMode)
	if im.d.kind == PodmanContainer {
		cgroupns = h.CgroupMode
	}
	// Engines before API 1.41 have no such mode: the template's stays.
	if cgroupns != "" {
		mode("HostConfig.CgroupnsMode", "cgroup namespace mode", cgroupns, specs.CgroupNamespace)
	}

	if !h.UTSMode.IsHost() {
		if c.Hostname != "" {
			im.edit("Config.Hostname", func(label string) (Edit, error) { return Hostname(label, c.Hostname) })
		}
		if c.Domainname != "" {
			// The specification has a member of its own since 1.1; the sysctl, which
			// the engine uses, does for every version.
			im.edit("Config.Domainname", func(label string) (Edit, error) { return Sysctl(label, "kernel.domainname="+c.Domainname) })
		}
	}
	if mode := string(h.UsernsMode); mode != "" && mode != "host" && mode != "private" {
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
		im.edit("HostConfig.ReadonlyRootfs", func(label string) (Edit, error) { return ReadOnly(label, SwitchOn) })
	}
	if h.Privileged {
		im.apply("HostConfig.Privileged", privileged)
	}
	// null is an engine's that does not say; a list, an empty one too, is the whole list.
	paths := func(member string, list []string, to string) {
		if list != nil && !h.Privileged {
			im.apply(member, func(d *Doc) error {
				if len(list) == 0 {
					d.drop("linux", to)
					return nil
				}
				return d.put(list, "linux", to)
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
			im.edit(member, func(label string) (Edit, error) {
				on, err := ParseSwitch(value)
				if err != nil {
					return Edit{}, err
				}
				return NoNewPrivileges(label, on)
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
		im.edit("HostConfig.SecurityOpt", func(label string) (Edit, error) { return SeccompDefault(label), nil })
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
		im.apply(member, func(d *Doc) error {
			d.drop("process", "apparmorProfile")
			return nil
		})
	case err != nil || !strings.HasPrefix(string(enabled), "Y"):
		im.notice(member, "AppArmor profile", profile, "this host has no AppArmor")
	default:
		im.edit(member, func(label string) (Edit, error) { return AppArmor(label, profile) })
	}
}

// seccomp carries a profile over. docker's inspect has the profile itself, podman's
// only the path of a file in a form of its own.
func (im *importer) seccomp(member, value string) {
	im.edit(member, func(label string) (Edit, error) {
		switch {
		case value == "unconfined":
			return SeccompUnconfined(label), nil
		case value == "builtin", value == "default":
			return SeccompDefault(label), nil
		case strings.HasPrefix(strings.TrimSpace(value), "{"):
			return SeccompProfile(label, []byte(value))
		}
		im.notice(member, "seccomp profile", value, "the default profile stands in for it")
		return SeccompDefault(label), nil
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
		im.edit("HostConfig.Privileged", func(label string) (Edit, error) { return CapAdd(label, "ALL") })
		return
	}
	add := func() {
		for i, name := range h.CapAdd {
			im.edit(fmt.Sprintf("HostConfig.CapAdd[%d]", i), func(label string) (Edit, error) { return CapAdd(label, name) })
		}
	}
	drop := func() {
		for i, name := range h.CapDrop {
			im.edit(fmt.Sprintf("HostConfig.CapDrop[%d]", i), func(label string) (Edit, error) { return CapDrop(label, name) })
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
		if _, err := capabilities(name); err != nil {
			im.edit("BoundingCaps", func(string) (Edit, error) { return Edit{}, err })
			return
		}
	}
	im.put("BoundingCaps", sets, "process", "capabilities")
}

// privileged takes away what confines a container, beside the capabilities. The
// engine's other privilege, all the host's devices, is among the devices.
func privileged(d *Doc) error {
	d.drop("linux", "seccomp")
	d.drop("linux", "maskedPaths")
	d.drop("linux", "readonlyPaths")
	for _, m := range d.elements("mounts") {
		if m.member("destination").is("/sys") {
			m.removeOption("ro")
		}
	}
	return writableCgroups(d)
}

func writableCgroups(d *Doc) error {
	for _, m := range d.elements("mounts") {
		if m.member("type").is("cgroup") || m.member("type").is("cgroup2") {
			m.removeOption("ro")
		}
	}
	return nil
}

// elements returns the elements of the array at a path, if it is one.
func (d *Doc) elements(path ...string) []*node {
	if n := d.get(path...); n != nil {
		return n.list
	}
	return nil
}

func (n *node) is(text string) bool { s, ok := n.str(); return ok && s == text }

// removeOption takes an option away from a mount.
func (n *node) removeOption(option string) {
	if options := n.member("options"); options != nil {
		options.removeKeyed(func(e *node) bool { return e.is(option) })
	}
}

// resources carries the limits over.
func (im *importer) resources() {
	h := &im.d.host
	for i, u := range h.Ulimits {
		if u == nil {
			continue
		}
		name := strings.TrimPrefix(strings.ToLower(u.Name), "rlimit_")
		im.edit(fmt.Sprintf("HostConfig.Ulimits[%d]", i), func(label string) (Edit, error) {
			return Ulimit(label, fmt.Sprintf("%s=%d:%d", name, u.Soft, u.Hard))
		})
	}
	if h.OomScoreAdj < 0 && im.o.Rootless {
		im.notice("HostConfig.OomScoreAdj", "OOM score adjustment", strconv.Itoa(h.OomScoreAdj), "an ordinary user cannot lower it")
	} else if h.OomScoreAdj != 0 {
		im.edit("HostConfig.OomScoreAdj", func(label string) (Edit, error) { return OOMScoreAdj(label, strconv.Itoa(h.OomScoreAdj)) })
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
	for _, key := range sortedKeys(h.CgroupConf) {
		im.limit("HostConfig.CgroupConf", "control group setting "+key, h.CgroupConf[key], "unified", key)
	}
	for _, key := range sortedKeys(h.Sysctls) {
		im.edit("HostConfig.Sysctls", func(label string) (Edit, error) { return Sysctl(label, key+"="+h.Sysctls[key]) })
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
	im.apply(member, func(d *Doc) error {
		list, err := d.array(append([]string{"linux", "resources"}, to...)...)
		if err != nil {
			return err
		}
		n, err := fromGo(value, d.by)
		if err != nil {
			return err
		}
		list.list = append(list.list, n)
		return nil
	})
}

func (im *importer) blockIO() {
	h := &im.d.host
	if h.BlkioWeight != 0 {
		im.limit("HostConfig.BlkioWeight", "block I/O weight", h.BlkioWeight, "blockIO", "weight")
	}
	const setting = "block I/O limit of"
	number := func(member, device string) (major, minor int64, ok bool) {
		major, minor, err := deviceNumber(device)
		if err != nil {
			im.notice(member, setting, device, err.Error())
		}
		return major, minor, err == nil
	}
	for i, w := range h.BlkioWeightDevice {
		if w == nil {
			continue
		}
		member := fmt.Sprintf("HostConfig.BlkioWeightDevice[%d]", i)
		if major, minor, ok := number(member, w.Path); ok {
			v := specs.LinuxWeightDevice{Weight: &w.Weight}
			v.Major, v.Minor = major, minor
			im.limitDevice(member, setting, w.Path, v, "blockIO", "weightDevice")
		}
	}
	throttle := func(member string, list []*blkiodev.ThrottleDevice, to string) {
		for i, t := range list {
			if t == nil {
				continue
			}
			member := fmt.Sprintf("HostConfig.%s[%d]", member, i)
			if major, minor, ok := number(member, t.Path); ok {
				v := specs.LinuxThrottleDevice{Rate: t.Rate}
				v.Major, v.Minor = major, minor
				im.limitDevice(member, setting, t.Path, v, "blockIO", to)
			}
		}
	}
	throttle("BlkioDeviceReadBps", h.BlkioDeviceReadBps, "throttleReadBpsDevice")
	throttle("BlkioDeviceWriteBps", h.BlkioDeviceWriteBps, "throttleWriteBpsDevice")
	throttle("BlkioDeviceReadIOps", h.BlkioDeviceReadIOps, "throttleReadIOPSDevice")
	throttle("BlkioDeviceWriteIOps", h.BlkioDeviceWriteIOps, "throttleWriteIOPSDevice")
}

// devices carries over the host's devices that the container was given.
func (im *importer) devices() {
	h := &im.d.host
	if h.Privileged {
		im.privilegedDevices()
	}
	for i, m := range h.Devices {
		if h.Privileged && m.PathOnHost == m.PathInContainer {
			continue // one of all the devices
		}
		perms := m.CgroupPermissions
		if perms == "" {
			perms = "rwm"
		}
		im.device(fmt.Sprintf("HostConfig.Devices[%d]", i), m.PathOnHost, m.PathInContainer, perms)
	}
	if h.Privileged {
		if !im.o.Rootless {
			im.put("HostConfig.Privileged", []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}, "linux", "resources", "devices")
		}
	} else {
		for i, rule := range h.DeviceCgroupRules {
			member := fmt.Sprintf("HostConfig.DeviceCgroupRules[%d]", i)
			r, err := parseDeviceRule(rule)
			if err != nil {
				im.refuse(member, "%q: %v", rule, err)
				return
			}
			im.limitDevice(member, "device rule", rule, r, "devices")
		}
	}
	for i, r := range h.DeviceRequests {
		name := r.Driver
		if name == "" {
			name = "of any driver"
		}
		im.notice(fmt.Sprintf("HostConfig.DeviceRequests[%d]", i), "device request", name, "")
	}
}

// device appends the edit for a device, or for all devices below a directory.
func (im *importer) device(member, from, to, perms string) {
	e, err := Device(im.labelFor(member), from+":"+to+":"+perms, "/")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		im.notice(member, "device", from, noDevice)
	case err != nil:
		im.notice(member, "device", from, blameless(err))
	default:
		im.result.Edits = append(im.result.Edits, e)
	}
}

const noDevice = "this host has none"

// blameless is an error without the label of its edit, for a notice.
func blameless(err error) string {
	if e, ok := errors.AsType[*EditError](err); ok {
		bare := *e
		bare.Label = ""
		return bare.Error()
	}
	return err.Error()
}

// privilegedDevices gives a privileged container every device node of the host, but
// for those that the container has of its own.
func (im *importer) privilegedDevices() {
	devices, err := devicesBelow("/dev", "/dev")
	if err != nil {
		im.notice("HostConfig.Privileged", "the host's devices", "", err.Error())
		return
	}
	devices = slices.DeleteFunc(devices, func(dev specs.LinuxDevice) bool {
		top, _, below := strings.Cut(strings.TrimPrefix(dev.Path, "/dev/"), "/")
		return top == "console" || below && slices.Contains([]string{"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"}, top)
	})
	im.apply("HostConfig.Privileged", func(d *Doc) error {
		for _, dev := range devices {
			if err := d.upsert("path", dev, "linux", "devices"); err != nil {
				return err
			}
		}
		return nil
	})
}

// deviceNumber is the number of a device node of the host.
func deviceNumber(name string) (major, minor int64, err error) {
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err == unix.ENOENT {
		return 0, 0, errors.New(noDevice)
	} else if err != nil {
		return 0, 0, err
	}
	dev, ok := deviceOf(&st, name)
	if !ok {
		return 0, 0, errors.New("on this host it is no device")
	}
	return dev.Major, dev.Minor, nil
}

// parseDeviceRule reads a rule of docker run --device-cgroup-rule: "c 1:* rwm".
func parseDeviceRule(rule string) (specs.LinuxDeviceCgroup, error) {
	r := specs.LinuxDeviceCgroup{Allow: true}
	fields := strings.Fields(rule)
	if len(fields) != 3 {
		return r, fmt.Errorf("a rule is written TYPE MAJOR:MINOR ACCESS")
	}
	if r.Type = fields[0]; r.Type != "a" && r.Type != "b" && r.Type != "c" {
		return r, fmt.Errorf("the type is a, b or c")
	}
	number := func(s string) (*int64, error) {
		if s == "*" {
			any := int64(-1)
			return &any, nil
		}
		n, err := strconv.ParseInt(s, 10, 32)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%q is no device number", s)
		}
		return &n, nil
	}
	major, minor, ok := strings.Cut(fields[1], ":")
	if !ok {
		return r, fmt.Errorf("the device is MAJOR:MINOR")
	}
	var err error
	if r.Major, err = number(major); err != nil {
		return r, err
	}
	if r.Minor, err = number(minor); err != nil {
		return r, err
	}
	if r.Access = fields[2]; strings.Trim(r.Access, "rwm") != "" {
		return r, fmt.Errorf("the access is made of r, w and m")
	}
	return r, nil
}

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

	list("HostConfig.PortBindings", "published ports", sortedKeys(h.PortBindings))
	if h.PublishAllPorts {
		some("HostConfig.PublishAllPorts", "published ports", "all")
	}
	if p := h.RestartPolicy; p.Name != "" && p.Name != "no" {
		some("HostConfig.RestartPolicy", "restart policy", string(p.Name))
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
	var dns []string
	if err := json.Unmarshal(h.DNS, &dns); err != nil && len(h.DNS) > 0 {
		im.refuse("HostConfig.Dns", "want a list of strings")
	}
	list("HostConfig.Dns", "DNS servers", dns)
	list("HostConfig.DnsOptions", "DNS options", h.DNSOptions)
	list("HostConfig.DnsSearch", "DNS search domains", h.DNSSearch)
	list("HostConfig.ExtraHosts", "extra hosts", h.ExtraHosts)
	list("HostConfig.Links", "links", h.Links)
	some("HostConfig.CgroupParent", "cgroup parent", h.CgroupParent)
	some("HostConfig.Cgroup", "cgroup", string(h.Cgroup))
	list("HostConfig.StorageOpt", "storage options", sortedKeys(h.StorageOpt))
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
