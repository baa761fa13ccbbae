package specedit

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"ocibundle/specedit/jsontree"
)

// Device is `docker run --device HOST[:CONTAINER[:PERMISSIONS]]`: a device node of the host, or
// every one below a directory, is made in the container, and its control group is let at it. In a
// user namespace the host's node is bound instead. The node is looked at when the edit is made.
// PERMISSIONS are of r, w and m; a rootless container has no control group to enforce them.
func Device(label, arg, cwd string) (Edit, error) {
	if err := text("the device", arg); err != nil {
		return Edit{}, Blame(label, err)
	}
	parts := strings.Split(arg, ":")
	access := "rwm"
	if n := len(parts); n > 1 && permissions(parts[n-1]) {
		access, parts = parts[n-1], parts[:n-1]
	}
	if len(parts) > 2 || parts[0] == "" {
		return reject(label, "%q is not a device: expected HOST[:CONTAINER[:rwm]]", arg)
	}
	host, err := source(parts[0], cwd)
	if err != nil {
		return Edit{}, Blame(label, err)
	}
	target := host
	if len(parts) == 2 {
		if target, err = MountDestination(parts[1]); err != nil {
			return Edit{}, Blame(label, err)
		}
	}
	devices, lost, err := DevicesBelow(host, target, nil)
	if err != nil {
		return Edit{}, Blame(label, fmt.Errorf("look at the device: %w", err))
	}
	if len(devices) == 0 {
		return reject(label, "%s is not a device node, or a directory with device nodes", host)
	}
	var warnings []string
	for _, err := range lost {
		warnings = append(warnings, fmt.Sprintf("`%s`: devices are left out: %v", label, err))
	}
	e := NewEdit(label, func(d *Doc) error {
		for _, dev := range devices {
			if err := d.putDevice(dev, host+strings.TrimPrefix(dev.Path, target)); err != nil {
				return err
			}
			rule := specs.LinuxDeviceCgroup{Allow: true, Type: dev.Type, Major: &dev.Major, Minor: &dev.Minor, Access: access}
			if err := d.allowDevice(rule); err != nil {
				return err
			}
		}
		return nil
	})
	e.Warnings = warnings
	return e, nil
}

// putDevice gives the container a device node, which on the host is source. A user namespace may
// make none. Runtimes bind the host's node of the same name instead; a bind mount serves any name.
func (d *Doc) putDevice(dev specs.LinuxDevice, source string) error {
	if d.own("user") {
		return d.PutMount(specs.Mount{Destination: dev.Path, Type: "bind", Source: source, Options: []string{"bind", "rprivate"}})
	}
	return d.Upsert("path", dev, "linux", "devices")
}

// allowDevice lets the container's control group at a device. A user's runtime cannot write device
// rules, and needs none: it gives the container only what the user can open.
func (d *Doc) allowDevice(rule specs.LinuxDeviceCgroup) error {
	if d.host.Rootless {
		return nil
	}
	n, err := jsontree.FromGo(rule, d.By)
	if err != nil {
		return err
	}
	rules, err := d.Array("linux", "resources", "devices")
	if err != nil {
		return err
	}
	// Appended, for the last rule that matches counts; an earlier one of an edit for the same device
	// goes.
	rules.RemoveKeyed(func(e *jsontree.Node) bool {
		return e.By != d.base && e.Member("type").Same(n.Obj["type"]) && e.Member("major").Same(n.Obj["major"]) && e.Member("minor").Same(n.Obj["minor"])
	})
	rules.List = append(rules.List, n)
	return nil
}

func permissions(s string) bool {
	return s != "" && len(s) <= 3 && strings.Trim(s, "rwm") == ""
}

// DevicesBelow lists the device node of the host at a path, or every one below it, as the devices
// of a container below target. A directory for which skip is true is not looked at; skip may be
// nil. What cannot be read costs what is in it: lost has an error for each.
func DevicesBelow(host, target string, skip func(dir string) bool) (out []specs.LinuxDevice, lost []error, err error) {
	var st unix.Stat_t
	if err := unix.Stat(host, &st); err != nil {
		return nil, nil, &fs.PathError{Op: "stat", Path: host, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if dev, ok := DeviceOf(&st, target); ok {
			out = append(out, dev)
		}
		return out, nil, nil
	}
	_ = filepath.WalkDir(host, func(name string, e fs.DirEntry, err error) error {
		if e != nil && e.IsDir() && skip != nil && skip(name) {
			return fs.SkipDir
		}
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) { // devices come and go
				lost = append(lost, err)
			}
			return nil
		}
		if e.Type()&fs.ModeDevice == 0 {
			return nil
		}
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return nil
		}
		if dev, ok := DeviceOf(&st, path.Join(target, strings.TrimPrefix(name, host))); ok {
			out = append(out, dev)
		}
		return nil
	})
	return out, lost, nil
}

// DeviceOf is what stat(2) said of a device node, as a device of a container at target.
func DeviceOf(st *unix.Stat_t, target string) (specs.LinuxDevice, bool) {
	dev := specs.LinuxDevice{Path: target}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		dev.Type = "c"
	case unix.S_IFBLK:
		dev.Type = "b"
	default:
		return dev, false
	}
	dev.Major, dev.Minor = int64(unix.Major(uint64(st.Rdev))), int64(unix.Minor(uint64(st.Rdev)))
	mode := fs.FileMode(st.Mode & 0o777)
	uid, gid := st.Uid, st.Gid
	dev.FileMode, dev.UID, dev.GID = &mode, &uid, &gid
	return dev, true
}
