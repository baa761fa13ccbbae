package check

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"ocibundle/tarx/handle"
)

// checkMount finds the target of a mount and puts it into the view.
func (k *checker) checkMount(i int, m specs.Mount) {
	if slices.Contains(m.Options, "remount") {
		return // changes the flags of what is there
	}
	where := pointer("mounts", i, "destination")
	r, err := k.view.walk(strings.TrimRight(m.Destination, "/"), walkMake)
	if err != nil {
		at := m.Destination
		if we, ok := errors.AsType[*walkError](err); ok {
			at = we.at
		}
		switch {
		case errors.Is(err, errTooMany):
			// said once, at the end
		case errors.Is(err, unix.ENOTDIR):
			k.at(FindingMountTarget, where, "is %q, whose parent %q is not a directory", m.Destination, filepath.Dir(at))
		case errors.Is(err, unix.ELOOP):
			k.at(FindingMountLink, where, "is %q, a loop of symbolic links at %q", m.Destination, at)
		default:
			k.at(FindingMountTarget, where, "is %q, which cannot be reached at %q: %v", m.Destination, at, err)
		}
		return
	}
	defer r.close()
	if r.clamped {
		k.at(FindingMountEscape, where, "is %q, which leads above the rootfs", m.Destination)
	}
	if r.symlink {
		k.at(FindingMountLink, where, "is %q, a symbolic link in the rootfs (to %q)", m.Destination, r.name)
	}
	if on := k.view.mounts[r.mount]; r.made && on.index >= 0 && on.readonly {
		k.at(FindingMountTarget, where, "is %q, which does not exist in %s, a read-only mount", m.Destination, pointer("mounts", on.index))
	}
	vm := viewMount{index: i, target: r.name, kind: m.Type, noexec: lastOption(m, "noexec", "exec"), readonly: lastOption(m, "ro", "rw")}
	isDir, known := true, r.file != nil
	switch {
	case isBind(m):
		vm.kind, vm.unknown = "bind", true
		if isDir, err = k.bindSource(i, m, &vm); err != nil {
			known = false
		}
	case m.Type == "tmpfs":
		// The runtime puts devices into /dev, and with tmpcopyup what was there before.
		vm.unknown = r.name == "/dev" || slices.Contains(m.Options, "tmpcopyup")
	default:
		vm.unknown = true
	}
	if known && isDir != r.isDir() {
		want := map[bool]string{true: "a directory", false: "a file"}
		k.at(FindingMountTarget, where, "is %q, %s in the rootfs, and %s is to be mounted on it", m.Destination, want[r.isDir()], want[isDir])
	}
	k.view.mount(r.spot, vm)
}

// bindSource opens the source of a bind mount and tells whether it is a directory.
func (k *checker) bindSource(i int, m specs.Mount, vm *viewMount) (isDir bool, err error) {
	f, err := openSource(k.dir, m.Source)
	if err == nil {
		var fi fs.FileInfo
		if fi, err = f.Stat(); err == nil {
			isDir = fi.IsDir()
		}
	}
	if err != nil {
		k.lookups.note(m.Source, err)
		k.at(FindingBindSource, pointer("mounts", i, "source"), "is %q: %v", m.Source, handle.Cause(err))
		return false, err
	}
	var st unix.Statfs_t
	if unix.Fstatfs(int(f.Fd()), &st) == nil {
		vm.noexec = vm.noexec || st.Flags&unix.ST_NOEXEC != 0
		if st.Type == unix.PROC_SUPER_MAGIC || st.Type == unix.SYSFS_MAGIC {
			f.Close() // it is not the same to another process, and what looks like a file may be anything
			return isDir, nil
		}
	}
	vm.root, vm.unknown = f, false
	return isDir, nil
}

// checkDevices looks for links where the runtime makes devices: it takes what is there for the device, and binds it over
// what is to be masked (CVE-2025-31133, CVE-2025-52565).
func (k *checker) checkDevices() {
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty", "console"} {
		r, err := k.view.walk("/dev/"+name, walkLook)
		if err != nil {
			continue
		}
		r.close()
		if r.symlink {
			k.file(FindingDeviceLink, "/dev/"+name, "is a symbolic link (to %q), and nothing is mounted on /dev", r.name)
		}
	}
	if len(k.mapping.UIDMaps) == 0 || k.spec.Linux == nil {
		return
	}
	for i, d := range k.spec.Linux.Devices {
		if unix.Access(d.Path, unix.F_OK) == unix.ENOENT {
			k.at(FindingDevice, pointer("linux", "devices", i, "path"), "is %q, which this host lacks: in a user namespace the runtime binds the host's", d.Path)
		}
	}
}
