package specedit

import (
	"cmp"
	"errors"
	"io/fs"
	"path"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"ocibundle/specedit/jsontree"
)

// Resolv says what a container resolves names with; the zero value is ResolvAuto. What is none of
// the constants is the absolute path of a file of the host, which is bound as resolv.conf.
type Resolv string

const (
	// ResolvAuto, for the docker template alone, binds the host's hosts file, and its resolv.conf
	// where the container has a network that leads anywhere, each only where the rootfs has nothing
	// there and no edit mounts anything. An engine mounts files of its own over the empty ones that
	// it leaves in a container's filesystem.
	ResolvAuto Resolv = ""
	// ResolvHost binds both, whatever the rootfs has.
	ResolvHost Resolv = "host"
	// ResolvNone binds neither.
	ResolvNone Resolv = "none"
)

// FileLookup is what a [UserLookup] knows besides, if there is a rootfs.
type FileLookup interface {
	// Empty reports whether the rootfs has nothing, or a file without content, at a name such as
	// "etc/hosts".
	Empty(name string) (bool, error)
}

// Empty implements [FileLookup].
func (r RootUsers) Empty(name string) (bool, error) { return r.files().Empty(name) }

// Empty implements [FileLookup].
func (r FileUsers) Empty(name string) (bool, error) {
	data, err := r.Read(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return true, nil
	}
	if errno, ok := errors.AsType[unix.Errno](err); ok && errno != unix.ELOOP {
		return false, &FileError{Name: name, Err: err}
	}
	return err == nil && len(data) == 0, nil // what cannot be read as a file is something
}

// resolv adds the mounts that names are resolved with, or the files that say what the container
// itself had. docker says that the base is that template.
func (d *Doc) resolv(mode Resolv, docker bool) error {
	rootfs, _ := d.users.(FileLookup)
	switch {
	case mode == ResolvNone:
		return nil
	case mode == ResolvAuto && !docker:
		d.noteLost(d.names.all(), "only the docker template resolves names by itself")
		return nil
	case mode == ResolvAuto && rootfs == nil: // what the rootfs has is not known
		if d.users == (noRootfs{}) {
			d.noteLost(d.names.all(), "there is no rootfs to write them into")
		}
		return nil
	}
	hosts := nameFile{name: "etc/hosts", source: d.host.Hosts, forced: mode == ResolvHost}
	conf := nameFile{name: "etc/resolv.conf", source: d.host.ResolvConf, forced: mode != ResolvAuto}
	if mode == ResolvAuto {
		conf.source = d.networkResolvConf()
		conf.own, conf.says = d.names.resolvConf(d.host.Resolver), d.names.resolverSettings()
	} else if mode != ResolvHost {
		conf.source = string(mode)
	}
	if mode != ResolvHost {
		hosts.own, hosts.says = d.hostsFile(), d.names.hostSettings()
	}
	for _, f := range []nameFile{hosts, conf} {
		if err := d.resolvWith(f, rootfs); err != nil {
			return err
		}
	}
	return nil
}

// nameFile is a file that names are resolved with.
type nameFile struct {
	name   string   // in the rootfs
	source string   // the host's file for it; "" for none
	forced bool     // whatever the rootfs has
	own    *File    // what the container had instead
	says   []string // own in words
}

// resolvWith mounts a file, or has it written into the rootfs.
func (d *Doc) resolvWith(f nameFile, rootfs FileLookup) error {
	if f.source == "" && f.own == nil || d.mountedAt("/"+f.name) {
		return nil
	}
	if !f.forced && rootfs != nil {
		empty, err := rootfs.Empty(f.name)
		if err != nil {
			return err
		}
		if !empty {
			d.noteLost(f.says, "the rootfs has its own /"+f.name)
			return nil
		}
	}
	if f.own != nil {
		d.files = append(d.files, *f.own)
		return nil
	}
	// In a user namespace a bind cannot lose the flags that its source's mount has
	// (mount_namespaces(7)): all are there, as none is missed.
	return d.PutMount(specs.Mount{Destination: "/" + f.name, Type: "bind", Source: f.source,
		Options: []string{"bind", "ro", "nosuid", "nodev", "noexec", "rprivate"}})
}

// networkResolvConf is the file of the host that fits the container's network: none for a network
// of its own, which leads nowhere, and for one at a path the servers themselves, not a resolver on
// the host's loopback.
func (d *Doc) networkResolvConf() string {
	switch n := d.networkNamespace(); {
	case n == nil:
		return d.host.ResolvConf
	case n.Member("path") == nil:
		return ""
	}
	return cmp.Or(d.host.UpstreamResolvConf, d.host.ResolvConf)
}

// networkNamespace is the container's, nil where it is the host's.
func (d *Doc) networkNamespace() *jsontree.Node {
	for _, n := range jsontree.Elements(d.Get("linux", "namespaces")) {
		if n.Member("type").Is("network") {
			return n
		}
	}
	return nil
}

// mountedAt reports whether something is mounted at a path, or above it.
func (d *Doc) mountedAt(p string) bool {
	for _, m := range jsontree.Elements(d.Get("mounts")) {
		dst := path.Join("/", textOf(m.Member("destination")))
		if dst != "/" && (dst == p || strings.HasPrefix(p, dst+"/")) {
			return true
		}
	}
	return false
}
