// Package check says what would stop a bundle from running.
package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"ocibundle/pipeline/bundle"
	"ocibundle/pipeline/host"
	"ocibundle/pipeline/userns"
	"ocibundle/specedit"
)

// Config is a bundle to be looked at.
type Config struct {
	// Dir is the bundle.
	Dir string
	// IDs is how this process sees the ids on disk: what userns.Enter says of ModeWidest. The bundle is looked at for a
	// runtime that the same caller runs.
	IDs userns.State
	// Start looks only at what the command needs to start, which takes some milliseconds: mounts, the working directory,
	// the command and its interpreters.
	Start bool
	// Names says to look, with Start, at what names are resolved with, too. Without Start it is always looked at.
	Names bool
	// Slurm says that it is to run as a job of Slurm's: as an ordinary user without control groups, on every node.
	Slurm bool
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
	FindingDevice       = "device"             // a device of the host that is not there
	FindingOwner        = "owner"              // files of owners that the mapping lacks
	FindingUnreadable   = "unreadable"         // what could not be looked at
	FindingHosts        = "hosts"              // no file that makes localhost a name
	FindingResolv       = "resolv"             // no name server that the container reaches
	FindingMore         = "more"               // there is more than is listed
	FindingParent       = "parent"             // a directory above the bundle that the container's root may not search
	FindingForbidden    = "userns-unavailable" // the caller can have no user namespace
	FindingSlurmNetwork = "slurm-network"      // a network in which Slurm and the other nodes are not
	FindingSlurmSource  = "slurm-source"       // a bind source that no two nodes share
)

// Bundle says what would stop a bundle from running, in the order of config.json, the rootfs, the host. No finding is no
// promise: what a program does once it runs is its own business.
//
// The bundle is hostile. Nothing in it is executed; nothing but config.json, the first bytes of the command and of its
// interpreters, /etc/hosts and /etc/resolv.conf, and directories is opened, and only what has proved to be a regular file
// or a directory. Nothing is followed out of the rootfs but into the sources of the config's bind mounts. Memory is bounded,
// and so is the number of names that are looked up. It returns when ctx ends, also where a filesystem does not answer.
//
// Where there is no bundle at all, the error is a *bundle.Error. What is no fault of the bundle, a disk that cannot be read
// or a limit of this process, is an error and never a finding.
func Bundle(ctx context.Context, c Config) (found []specedit.Finding, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		found, err = look(ctx, c)
	}()
	select {
	case <-done:
		return found, err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func look(ctx context.Context, c Config) ([]specedit.Finding, error) {
	dir, err := bundle.Open(c.Dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	k := &checker{
		ids: c.IDs, dir: dir, start: c.Start, names: c.Names || !c.Start, slurm: c.Slurm, lookups: &lookups{ctx: ctx, left: maxLookups},
		// In the namespace that Enter makes, everybody is root.
		ordinary: c.IDs.InNamespace || os.Geteuid() != 0,
	}
	if err := k.run(ctx); err != nil {
		return nil, err
	}
	return k.found, nil
}

// checker is a bundle that is being looked at.
type checker struct {
	ids      userns.State
	ordinary bool // the caller is an ordinary user
	start    bool // see Config
	names    bool
	slurm    bool
	dir      *os.File
	found    []specedit.Finding
	lookups  *lookups

	rootfs *os.File
	spec   *specs.Spec
	view   *view
	cwd    string // where the command starts, in the view; empty: unknown
	// mapping is that of the config, as this process sees the ids on disk; empty without a user namespace.
	mapping user.IdentityMapping
	// mapped says that the mapping is known: a user namespace that is joined has one that is not in the config.
	mapped bool
}

func (k *checker) at(code, pointer, format string, args ...any) {
	k.add(specedit.Finding{Code: code, Pointer: pointer, Message: fmt.Sprintf(format, args...)})
}

func (k *checker) file(code, path, format string, args ...any) {
	k.add(specedit.Finding{Code: code, Path: path, Message: fmt.Sprintf(format, args...)})
}

// maxFindings bounds what is said of a bundle that is wrong all over.
const maxFindings = 500

func (k *checker) add(f specedit.Finding) {
	if len(k.found) == maxFindings {
		f = specedit.Finding{Code: FindingMore, Path: "config.json", Message: fmt.Sprintf("has more wrong with it than the first %d findings, which are listed", maxFindings)}
	}
	if len(k.found) <= maxFindings {
		k.found = append(k.found, f)
	}
}

func (k *checker) run(ctx context.Context) error {
	text, configErr := bundle.ReadConfig(k.dir)
	var rootErr error
	k.rootfs, rootErr = bundle.OpenAt(k.dir, "rootfs", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if rootErr == nil {
		defer k.rootfs.Close()
	}
	switch {
	case errors.Is(configErr, fs.ErrNotExist) && errors.Is(rootErr, fs.ErrNotExist):
		return &bundle.Error{Kind: bundle.None, Dir: k.dir.Name(), Detail: "it has neither a rootfs nor a config.json"}
	case host.IsFault(configErr):
		return fmt.Errorf("read config.json: %w", configErr)
	case host.IsFault(rootErr):
		return fmt.Errorf("open the rootfs: %w", rootErr)
	case configErr != nil:
		k.file(FindingConfig, "config.json", "cannot be read: %v", configErr)
	default:
		k.inspect(text)
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
	if !k.start {
		k.checkHost()
	}
	if k.slurm {
		k.checkSlurm()
	}
	if rootErr != nil || !k.isRoot() {
		return k.lookups.err
	}
	k.view = newView(k.rootfs, k.lookups)
	defer k.view.close()
	k.checkView()
	if k.lookups.err != nil {
		return k.lookups.err
	}
	if k.start {
		return nil
	}
	if k.lookups.left == 0 {
		k.file(FindingMore, "config.json", "has not been looked at to the end: %v", errTooMany)
	}
	k.checkParents()
	return k.checkOwners(ctx)
}

// inspect reads the config and looks at it by itself.
func (k *checker) inspect(text []byte) {
	if k.start {
		k.spec = startOf(text)
		return
	}
	known := specedit.Host{Rootless: k.ordinary || k.slurm, CgroupV2: host.UnifiedCgroups()}
	if k.ordinary {
		known.HardLimits = host.HardLimits()
	}
	known.CgroupDelegated = known.CgroupV2 && !k.slurm && delegated()
	var found []specedit.Finding
	k.spec, found = specedit.Inspect(text, known)
	for _, f := range found {
		k.add(f)
	}
}

// startOf is what of a config a start depends on; nil where it cannot be read. The members that are not looked at here are
// not decoded: that would take longer than all of a small bundle's check.
func startOf(text []byte) *specs.Spec {
	var c struct {
		Process *specs.Process
		Root    *specs.Root
		Mounts  []specs.Mount
		Linux   *struct {
			UIDMappings, GIDMappings []specs.LinuxIDMapping
			Namespaces               []specs.LinuxNamespace
			Devices                  []specs.LinuxDevice
		}
	}
	if json.Unmarshal(text, &c) != nil {
		return nil
	}
	spec := &specs.Spec{Process: c.Process, Root: c.Root, Mounts: c.Mounts}
	if l := c.Linux; l != nil {
		spec.Linux = &specs.Linux{UIDMappings: l.UIDMappings, GIDMappings: l.GIDMappings, Namespaces: l.Namespaces, Devices: l.Devices}
	}
	return spec
}

// checkView looks at what the container will see: mounts first, for they cover what is below.
func (k *checker) checkView() {
	var st unix.Statfs_t
	if unix.Fstatfs(int(k.rootfs.Fd()), &st) == nil {
		k.view.mounts[0].noexec = st.Flags&unix.ST_NOEXEC != 0
	}
	for i, m := range k.spec.Mounts {
		if k.view.next() != nil {
			return
		}
		k.checkMount(i, m)
	}
	k.checkDevices()
	if p := k.spec.Process; p != nil {
		k.checkCwd(p.Cwd)
		if len(p.Args) > 0 {
			k.checkCommand(p)
		}
	}
	if k.names {
		k.checkNames()
	}
}

func namespaces(spec *specs.Spec) []specs.LinuxNamespace {
	if spec.Linux == nil {
		return nil
	}
	return spec.Linux.Namespaces
}

// isRoot tells whether root.path is the bundle's rootfs: the only directory that is looked into.
func (k *checker) isRoot() bool {
	if k.spec.Root == nil || k.spec.Root.Path == "" {
		return false // said by specedit
	}
	fd, err := unix.Openat(int(k.dir.Fd()), k.spec.Root.Path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		k.lookups.note(k.spec.Root.Path, err)
		k.at(FindingRootfs, "/root/path", "is %q: %v", k.spec.Root.Path, err)
		return false
	}
	defer unix.Close(fd)
	var is, want unix.Stat_t
	if err := errors.Join(unix.Fstat(fd, &is), unix.Fstat(int(k.rootfs.Fd()), &want)); err != nil {
		k.lookups.note(k.spec.Root.Path, err)
		k.at(FindingRootfs, "/root/path", "cannot be looked at: %v", err)
		return false
	}
	if is.Dev != want.Dev || is.Ino != want.Ino {
		k.at(FindingRootfs, "/root/path", "is %q, which is not the rootfs of this bundle", k.spec.Root.Path)
		return false
	}
	return true
}

// pointer makes a pointer of names that need no escapes.
func pointer(parts ...any) string {
	var b strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&b, "/%v", p)
	}
	return b.String()
}

// checkCwd looks at the working directory, which the runtime makes where it is missing.
func (k *checker) checkCwd(cwd string) {
	if !strings.HasPrefix(cwd, "/") {
		return // said by specedit
	}
	r, err := k.view.walk(cwd, walkMake)
	if errors.Is(err, errTooMany) {
		return
	}
	if err != nil {
		k.at(FindingCwd, "/process/cwd", "is %q: %v", cwd, err)
		return
	}
	defer r.close()
	switch m := k.view.mounts[r.mount]; {
	case m.kind == "proc" && specedit.ThroughProcess("/proc"+r.path) && !specedit.ThroughProcess(cwd):
		k.at(specedit.FindingDescriptor, "/process/cwd", "is %q, which leads to %q, through a process and out of the container", cwd, r.name)
	case !r.isDir():
		k.at(FindingCwd, "/process/cwd", "is %q, which is not a directory", cwd)
	default:
		k.cwd = r.name
	}
}
