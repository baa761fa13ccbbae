package imageconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/blkiodev"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"ocibundle/specedit"
)

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
		if name == "cdi" {
			for _, id := range r.DeviceIDs {
				im.cdiDevice(fmt.Sprintf("HostConfig.DeviceRequests[%d]", i), id)
			}
			continue
		}
		if name == "" {
			name = "of any driver"
		}
		im.notice(fmt.Sprintf("HostConfig.DeviceRequests[%d]", i), "device request", name, "")
	}
}

// device appends the edit for a device, or for all devices below a directory.
func (im *importer) device(member, from, to, perms string) {
	e, err := specedit.Device(im.labelFor(member), from+":"+to+":"+perms, "/")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		im.notice(member, "device", from, noDevice)
	case err != nil:
		im.notice(member, "device", from, blameless(err))
	default:
		im.decide("device %s of the host is given to the container", from)
		im.result.Edits = append(im.result.Edits, e)
	}
}

// cdiDevice appends the edit for a device that was asked for by its CDI name.
func (im *importer) cdiDevice(member, name string) {
	e, err := specedit.CDI(im.labelFor(member), name, im.o.CDIDirs)
	if err != nil {
		im.notice(member, "CDI device", name, blameless(err))
		return
	}
	im.result.Edits = append(im.result.Edits, e)
}

// blameless is an error without the label of its edit, for a notice.
func blameless(err error) string {
	if e, ok := errors.AsType[*specedit.EditError](err); ok {
		bare := *e
		bare.Label = ""
		return bare.Error()
	}
	return err.Error()
}

// deviceDir is where the host has its devices.
var deviceDir = "/dev"

// privilegedDevices gives a privileged container every device node of the host, but
// for those that the container has of its own.
func (im *importer) privilegedDevices() {
	const member = "HostConfig.Privileged"
	devices, lost, err := specedit.DevicesBelow(deviceDir, "/dev", func(dir string) bool {
		name, below := strings.CutPrefix(dir, deviceDir+"/")
		return below && slices.Contains([]string{"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"}, name)
	})
	if err != nil {
		im.notice(member, "the host's devices", "", err.Error())
		return
	}
	for _, err := range lost {
		im.notice(member, "devices", "", err.Error())
	}
	devices = slices.DeleteFunc(devices, func(dev specs.LinuxDevice) bool { return dev.Path == "/dev/console" })
	im.apply("HostConfig.Privileged", func(d *specedit.Doc) error {
		for _, dev := range devices {
			if err := d.Upsert("path", dev, "linux", "devices"); err != nil {
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
	dev, ok := specedit.DeviceOf(&st, name)
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
