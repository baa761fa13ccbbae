package specedit

import (
	"errors"
	"io/fs"
	"path"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"ocibundle/specedit/jsontree"
)

// Resolv says what a container resolves names with; the zero value is ResolvAuto. What
// is none of the constants is the absolute path of a file of the host, which is bound as
// resolv.conf.
type Resolv string

const (
	// ResolvAuto, for the docker template alone, binds the host's hosts file, and its
	// resolv.conf where the container has a network that leads anywhere, each only where
	// the rootfs has nothing there and no edit mounts anything. An engine mounts files of
	// its own over the empty ones that it leaves in a container's filesystem.
	ResolvAuto Resolv = ""
	// ResolvHost binds both, whatever the rootfs has.
	ResolvHost Resolv = "host"
	// ResolvNone binds neither.
	ResolvNone Resolv = "none"
)

// FileLookup is what a [UserLookup] knows besides, if there is a rootfs.
type FileLookup interface {
	// Empty tells whether the rootfs has nothing, or a file without content, at a name
	// such as "etc/hosts".
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

// resolv adds the mounts that names are resolved with. docker says that the base is that
// template.
func (d *Doc) resolv(mode Resolv, docker bool) error {
	if mode == ResolvNone || mode == ResolvAuto && !docker {
		return nil
	}
	rootfs, _ := d.users.(FileLookup)
	if mode == ResolvAuto && rootfs == nil {
		return nil // what the rootfs has is not known
	}
	resolvConf, forced := d.host.ResolvConf, true
	switch mode {
	case ResolvHost:
	case ResolvAuto:
		resolvConf, forced = d.networkResolvConf(), false
	default:
		resolvConf = string(mode)
	}
	for _, f := range []struct {
		name, source string
		forced       bool
	}{{"etc/hosts", d.host.Hosts, mode == ResolvHost}, {"etc/resolv.conf", resolvConf, forced}} {
		if f.source == "" || d.mountedAt("/"+f.name) {
			continue
		}
		if !f.forced && rootfs != nil {
			empty, err := rootfs.Empty(f.name)
			if err != nil {
				return err
			}
			if !empty {
				continue
			}
		}
		// In a user namespace a bind cannot lose the flags that its source's mount has
		// (mount_namespaces(7)): all are there, as none is missed.
		if err := d.PutMount(specs.Mount{Destination: "/" + f.name, Type: "bind", Source: f.source,
			Options: []string{"bind", "ro", "nosuid", "nodev", "noexec", "rprivate"}}); err != nil {
			return err
		}
	}
	return nil
}

// networkResolvConf is the file of the host that fits the container's network: none for
// a network of its own, which leads nowhere, and for one at a path the servers
// themselves, not a resolver on the host's loopback.
func (d *Doc) networkResolvConf() string {
	for _, n := range jsontree.Elements(d.Get("linux", "namespaces")) {
		if !n.Member("type").Is("network") {
			continue
		}
		if n.Member("path") == nil {
			return ""
		}
		if d.host.UpstreamResolvConf != "" {
			return d.host.UpstreamResolvConf
		}
	}
	return d.host.ResolvConf
}

// mountedAt tells whether something is mounted at a path, or above it.
func (d *Doc) mountedAt(p string) bool {
	for _, m := range jsontree.Elements(d.Get("mounts")) {
		dst := path.Join("/", textOf(m.Member("destination")))
		if dst != "/" && (dst == p || strings.HasPrefix(p, dst+"/")) {
			return true
		}
	}
	return false
}
