package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"ocibundle/pipeline/userns"
	"ocibundle/specedit"
)

// CheckConfig is a bundle to be looked at.
type CheckConfig struct {
	// Dir is the bundle.
	Dir string
	// IDs is how this process sees the ids on disk: what userns.Enter says of ModeWidest. The bundle is looked at for a
	// runtime that the same caller runs.
	IDs userns.State
}

// The codes of what Check finds beside those of [specedit.Inspect].
const (
	FindingConfig       = "config"             // config.json cannot be read
	FindingRootfs       = "rootfs"             // there is no rootfs, or root.path is not the bundle's
	FindingMountTarget  = "mount-target"       // a mount has nothing to sit on
	FindingMountLink    = "mount-symlink"      // a mount target is a symbolic link
	FindingMountEscape  = "mount-escape"       // a mount target has more ".." than directories
	FindingBindSource   = "bind-source"        // the source of a bind mount is missing
	FindingDeviceLink   = "device-symlink"     // a device that the runtime makes is a symbolic link, CVE-2025-31133
	FindingCwd          = "cwd"                // the working directory is none
	FindingNoPath       = "path-unset"         // no PATH to look the command up in
	FindingNotFound     = "command-not-found"  // the command is not in the container
	FindingNotRunnable  = "command-permission" // the user may not execute the command
	FindingNoExec       = "command-noexec"     // the command is on a filesystem without execution
	FindingFormat       = "command-format"     // the kernel would not know what the command is
	FindingInterpreter  = "interpreter"        // the command's interpreter is missing or not to be executed
	FindingArchitecture = "architecture"       // the command is for another machine
	FindingNamespace    = "namespace-path"     // a namespace to be joined is not there
	FindingHook         = "hook"               // a hook is not there
	FindingSecurity     = "security-module"    // a profile or label that this host cannot give
	FindingRlimit       = "rlimit"             // a limit above the caller's own
	FindingDevice       = "device"             // a device of the host that is not there
	FindingOwner        = "owner"              // files of owners that the mapping lacks
	FindingUnreadable   = "unreadable"         // what could not be looked at
	FindingMore         = "more"               // there is more than is listed
	FindingParent       = "parent"             // a directory above the bundle that the container's root may not search
	FindingForbidden    = "userns-unavailable" // the caller can have no user namespace
)

// Check says what would stop a bundle from running, in the order of config.json, the rootfs, the host. No finding is no
// promise: what a program does once it runs is its own business.
//
// The bundle is hostile. Nothing in it is executed; nothing but config.json, the first bytes of the command and of its
// interpreters, and directories is opened, and only what has proved to be a regular file or a directory. Nothing is
// followed out of the rootfs but into the sources of the config's bind mounts. Memory is bounded.
//
// Where there is no bundle at all, the error is a *BundleError.
func Check(ctx context.Context, c CheckConfig) ([]specedit.Finding, error) {
	dir, err := openBundle(c.Dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	k := &check{
		ids: c.IDs, dir: dir,
		// In the namespace that Enter makes, everybody is root.
		ordinary: c.IDs.InNamespace || os.Geteuid() != 0,
	}
	if err := k.run(ctx); err != nil {
		return nil, err
	}
	return k.found, nil
}

// check is a bundle that is being looked at.
type check struct {
	ids      userns.State
	ordinary bool // the caller is an ordinary user
	dir      *os.File
	found    []specedit.Finding

	rootfs *os.File
	spec   *specs.Spec
	view   *view
	cwd    string // where the command starts, in the view; empty: unknown
	// mapping is that of the config, as this process sees the ids on disk; empty without a user namespace.
	mapping user.IdentityMapping
	// mapped says that the mapping is known: a user namespace that is joined has one that is not in the config.
	mapped bool
}

func (k *check) at(code, pointer, format string, args ...any) {
	k.add(specedit.Finding{Code: code, Pointer: pointer, Message: fmt.Sprintf(format, args...)})
}

func (k *check) file(code, path, format string, args ...any) {
	k.add(specedit.Finding{Code: code, Path: path, Message: fmt.Sprintf(format, args...)})
}

// maxFindings bounds what is said of a bundle that is wrong all over.
const maxFindings = 500

func (k *check) add(f specedit.Finding) {
	if len(k.found) == maxFindings {
		f = specedit.Finding{Code: FindingMore, Path: "config.json", Message: fmt.Sprintf("has more wrong with it than the first %d findings, which are listed", maxFindings)}
	}
	if len(k.found) <= maxFindings {
		k.found = append(k.found, f)
	}
}

func (k *check) run(ctx context.Context) error {
	text, configErr := readConfig(k.dir)
	var rootErr error
	k.rootfs, rootErr = openAt(k.dir, "rootfs", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if rootErr == nil {
		defer k.rootfs.Close()
	}
	if errors.Is(configErr, fs.ErrNotExist) && errors.Is(rootErr, fs.ErrNotExist) {
		return &BundleError{Kind: BundleNone, Dir: k.dir.Name(), Detail: "it has neither a rootfs nor a config.json"}
	}
	if configErr != nil {
		k.file(FindingConfig, "config.json", "cannot be read: %v", configErr)
	} else {
		host := specedit.Host{Rootless: k.ordinary}
		if k.ordinary {
			host.HardLimits = HardLimits()
		}
		host.CgroupV2 = Host(k.ids).CgroupV2
		host.CgroupDelegated = host.CgroupV2 && delegated()
		var found []specedit.Finding
		k.spec, found = specedit.Inspect(text, host)
		k.found = append(k.found, found...)
	}
	if rootErr != nil {
		what := rootErr.Error()
		if errors.Is(rootErr, unix.ELOOP) || errors.Is(rootErr, unix.ENOTDIR) {
			what = "it is not a directory"
		}
		k.file(FindingRootfs, "rootfs", "cannot be opened: %s", what)
	}
	if k.spec == nil {
		return nil
	}
	k.readMapping()
	k.checkHost()
	if rootErr != nil || !k.isRoot() {
		return nil
	}
	k.view = newView(k.rootfs)
	defer k.view.close()
	var st unix.Statfs_t
	if unix.Fstatfs(int(k.rootfs.Fd()), &st) == nil {
		k.view.mounts[0].noexec = st.Flags&unix.ST_NOEXEC != 0
	}
	for i, m := range k.spec.Mounts {
		k.checkMount(i, m)
	}
	k.checkDevices()
	if p := k.spec.Process; p != nil {
		k.checkCwd(p.Cwd)
		if len(p.Args) > 0 {
			k.checkCommand(p)
		}
	}
	k.checkParents()
	return k.checkOwners(ctx)
}

// maxChecked is the most bytes of a config.json that are looked at. A tree of it takes a hundred times as much memory, and
// execve(2) takes no more arguments and environment than this has room for.
const maxChecked = 4 << 20

// readConfig reads config.json, which may be anything.
func readConfig(dir *os.File) ([]byte, error) {
	h, err := openAt(dir, "config.json", unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	fi, err := h.Stat()
	if err != nil {
		return nil, cause(err)
	}
	if !fi.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	f, err := os.OpenFile(procFD(h), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxChecked+1))
	if err != nil {
		return nil, cause(err)
	}
	if len(text) > maxChecked {
		return nil, fmt.Errorf("it has more than %d MiB", maxChecked>>20)
	}
	return text, nil
}

// procFD is a path that the kernel takes for what f is open on.
func procFD(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

// delegated tells whether the caller may make control groups where it is: its own, or one above, belongs to it
// (Documentation/admin-guide/cgroup-v2.rst, "Delegation").
func delegated() bool {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		group, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::")
		for ; ok && group != "/" && group != "."; group = filepath.Dir(group) {
			if unix.Access(filepath.Join("/sys/fs/cgroup", group, "cgroup.procs"), unix.W_OK) == nil {
				return true
			}
		}
	}
	return false
}

// readMapping takes the mapping of the config's own user namespace.
func (k *check) readMapping() {
	k.mapped = true
	var own bool
	for _, n := range namespaces(k.spec) {
		if n.Type == specs.UserNamespace {
			own, k.mapped = n.Path == "", n.Path == ""
		}
	}
	if !own {
		return
	}
	if k.ordinary && !k.ids.InNamespace {
		k.at(FindingForbidden, "/linux/namespaces", "a user namespace is among them, and this host lets an ordinary user make none")
	}
	host := user.IdentityMapping{UIDMaps: idMaps(k.spec.Linux.UIDMappings), GIDMaps: idMaps(k.spec.Linux.GIDMappings)}
	if len(host.UIDMaps) == 0 || len(host.GIDMaps) == 0 {
		k.mapped = false // said by specedit
		return
	}
	var err error
	if k.mapping, err = k.ids.ToDisk(host); err != nil {
		k.mapped = false
		k.at(specedit.FindingMapping, "/linux/uidMappings", "the caller cannot have the mapping: %v", err)
	}
}

func namespaces(spec *specs.Spec) []specs.LinuxNamespace {
	if spec.Linux == nil {
		return nil
	}
	return spec.Linux.Namespaces
}

// isRoot tells whether root.path is the bundle's rootfs: the only directory that is looked into.
func (k *check) isRoot() bool {
	if k.spec.Root == nil || k.spec.Root.Path == "" {
		return false // said by specedit
	}
	fd, err := unix.Openat(int(k.dir.Fd()), k.spec.Root.Path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		k.at(FindingRootfs, "/root/path", "is %q: %v", k.spec.Root.Path, err)
		return false
	}
	defer unix.Close(fd)
	var is, want unix.Stat_t
	if err := errors.Join(unix.Fstat(fd, &is), unix.Fstat(int(k.rootfs.Fd()), &want)); err != nil {
		k.at(FindingRootfs, "/root/path", "cannot be looked at: %v", err)
		return false
	}
	if is.Dev != want.Dev || is.Ino != want.Ino {
		k.at(FindingRootfs, "/root/path", "is %q, which is not the rootfs of this bundle", k.spec.Root.Path)
		return false
	}
	return true
}

// checkHost looks for what the config wants of the host.
func (k *check) checkHost() {
	for i, n := range namespaces(k.spec) {
		if n.Path != "" && errors.Is(unix.Access(n.Path, unix.F_OK), unix.ENOENT) {
			k.at(FindingNamespace, pointer("linux", "namespaces", i, "path"), "is %q, which does not exist", n.Path)
		}
	}
	if h := k.spec.Hooks; h != nil {
		for _, list := range []struct {
			name  string
			hooks []specs.Hook
		}{
			//lint:ignore SA1019 deprecated, and run by every runtime
			{"prestart", h.Prestart},
			{"createRuntime", h.CreateRuntime}, {"createContainer", h.CreateContainer}, {"poststart", h.Poststart}, {"poststop", h.Poststop},
		} {
			for i, hook := range list.hooks {
				if unix.Access(hook.Path, unix.F_OK) == unix.ENOENT {
					k.at(FindingHook, pointer("hooks", list.name, i, "path"), "is %q, which does not exist on this host", hook.Path)
				}
			}
		}
	}
	p := k.spec.Process
	if p == nil {
		return
	}
	if p.ApparmorProfile != "" && !enabled("/sys/module/apparmor/parameters/enabled", "Y") {
		k.at(FindingSecurity, "/process/apparmorProfile", "is %q, and this host has no AppArmor", p.ApparmorProfile)
	}
	if p.SelinuxLabel != "" && unix.Access("/sys/fs/selinux/enforce", unix.F_OK) != nil {
		k.at(FindingSecurity, "/process/selinuxLabel", "is %q, and this host has no SELinux", p.SelinuxLabel)
	}
}

func enabled(file, prefix string) bool {
	text, err := os.ReadFile(file)
	return err == nil && strings.HasPrefix(string(text), prefix)
}

// pointer makes a pointer of names that need no escapes.
func pointer(parts ...any) string {
	var b strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&b, "/%v", p)
	}
	return b.String()
}

// checkMount finds the target of a mount and puts it into the view.
func (k *check) checkMount(i int, m specs.Mount) {
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
func (k *check) bindSource(i int, m specs.Mount, vm *viewMount) (isDir bool, err error) {
	f, err := openSource(k.dir, m.Source)
	if err == nil {
		var fi fs.FileInfo
		if fi, err = f.Stat(); err == nil {
			isDir = fi.IsDir()
		}
	}
	if err != nil {
		k.at(FindingBindSource, pointer("mounts", i, "source"), "is %q: %v", m.Source, cause(err))
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
func (k *check) checkDevices() {
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

// checkCwd looks at the working directory, which the runtime makes where it is missing.
func (k *check) checkCwd(cwd string) {
	if !strings.HasPrefix(cwd, "/") {
		return // said by specedit
	}
	r, err := k.view.walk(cwd, walkMake)
	if err != nil {
		k.at(FindingCwd, "/process/cwd", "is %q: %v", cwd, err)
		return
	}
	defer r.close()
	switch m := k.view.mounts[r.mount]; {
	case m.kind == "proc" && specedit.DescriptorPath("/proc"+r.path) && !specedit.DescriptorPath(cwd):
		k.at(specedit.FindingDescriptor, "/process/cwd", "is %q, which leads to %q, a directory behind a file descriptor", cwd, r.name)
	case !r.isDir():
		k.at(FindingCwd, "/process/cwd", "is %q, which is not a directory", cwd)
	default:
		k.cwd = r.name
	}
}

// checkParents looks at the directories on the way to the rootfs, which the container's root must be able to search where
// it is another user on the host.
func (k *check) checkParents() {
	if !k.mapped || k.mapping.Empty() {
		return
	}
	uid, gid := k.mapping.RootPair()
	if uid < 0 || gid < 0 {
		return // said by specedit
	}
	if k.ids.InNamespace && uid == 0 && gid == 0 {
		return // the caller, who has just been there
	}
	path, err := os.Readlink(procFD(k.dir))
	if err != nil {
		return
	}
	if dir := unsearchable(path, uid, gid, k.mapping); dir != "" {
		host := uid
		if len(k.spec.Linux.UIDMappings) > 0 {
			host, _ = user.IdentityMapping{UIDMaps: idMaps(k.spec.Linux.UIDMappings), GIDMaps: idMaps(k.spec.Linux.GIDMappings)}.RootPair()
		}
		k.file(FindingParent, dir, "cannot be searched by the container's root, which is uid %d on the host", host)
	}
}

// checkOwners compares the owners of all files with the mapping.
func (k *check) checkOwners(ctx context.Context) error {
	if !k.mapped {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(k.rootfs.Fd()), &st); err != nil {
		return fmt.Errorf("stat the rootfs: %w", err)
	}
	if k.mapping.Empty() {
		// No image has such ids: they come from a mapping that the config has not.
		if st.Uid >= 1<<16 && !k.ids.Rootless {
			k.file(FindingOwner, "rootfs", "belongs to uid %d, and the config has no user namespace that makes it a container's id", st.Uid)
		}
		return nil
	}
	if !mapsTo(k.mapping.UIDMaps, st.Uid) || !mapsTo(k.mapping.GIDMaps, st.Gid) {
		k.file(FindingOwner, "rootfs", "belongs to %d:%d on disk, which the mapping lacks (%s)", st.Uid, st.Gid, ranges(k.mapping.UIDMaps))
	}
	w := ownerWalk{mapping: k.mapping, inNamespace: k.ids.InNamespace}
	o, err := w.run(ctx, k.rootfs)
	if err != nil {
		return fmt.Errorf("look through the rootfs: %w", err)
	}
	if o.outside > 0 {
		who := fmt.Sprintf("%s %d on disk", o.what, o.id)
		if o.hidden {
			who = "an id that the caller does not have"
		}
		maps := k.mapping.UIDMaps
		if o.what == "gid" {
			maps = k.mapping.GIDMaps
		}
		n := "file belongs"
		if o.outside > 1 {
			n = "files belong"
		}
		k.file(FindingOwner, "/"+o.first, "%d %s to ids that the mapping lacks (%s), this one to %s: the container sees them as nobody's", o.outside, n, ranges(maps), who)
	}
	if o.skipped > 0 {
		k.file(FindingUnreadable, "/"+o.unread, "%d directories could not be looked at, the first is this one", o.skipped)
	}
	return nil
}

// ranges shows the ids on disk of a mapping.
func ranges(maps []user.IDMap) string {
	var parts []string
	for i, m := range maps {
		if i == 4 {
			parts = append(parts, "...")
			break
		}
		parts = append(parts, fmt.Sprintf("%d-%d", m.ParentID, m.ParentID+m.Count-1))
	}
	return strings.Join(parts, ", ")
}
