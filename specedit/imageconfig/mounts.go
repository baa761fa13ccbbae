package imageconfig

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"

	"ocibundle/specedit"
	"ocibundle/specedit/jsontree"
)

// importedMount is a mount that the document asks for.
type importedMount struct {
	member string
	mount  specs.Mount
	shared string // what the propagation wants of the rootfs: "shared", "rslave", or ""
	tmpfs  string // for a tmpfs, the options as docker run --tmpfs takes them
}

// mounts carries over what was mounted at the user's wish: binds, named volumes and tmpfs. Volumes
// that the engine made up a name for hold what no bundle has.
func (im *importer) mounts() {
	h := &im.d.host
	list, known := im.listedMounts()
	list = append(list, im.requestedMounts(known)...)
	for _, target := range specedit.SortedKeys(h.Tmpfs) {
		list = append(list, importedMount{member: "HostConfig.Tmpfs", mount: specs.Mount{Destination: target}, tmpfs: h.Tmpfs[target]})
	}
	list = append(list, im.writable(list)...)
	if h.VolumeDriver != "" && h.VolumeDriver != "local" {
		im.notice("HostConfig.VolumeDriver", "volume driver", h.VolumeDriver, "")
	}

	im.shm()
	// What is mounted below another mount has to come after it.
	slices.SortStableFunc(list, func(a, b importedMount) int {
		return depth(a.mount.Destination) - depth(b.mount.Destination)
	})
	for _, m := range list {
		if m.mount.Type == "bind" {
			im.decide("%s of the host is bound to %s", m.mount.Source, m.mount.Destination)
		}
		im.mount(m)
	}
}

// listedMounts are those that the engine lists as the container's. known has their destinations.
func (im *importer) listedMounts() (list []importedMount, known map[string]bool) {
	var anonymous []string
	asked := map[string]mount.Mount{}
	for _, m := range im.d.host.Mounts {
		asked[m.Target] = m
	}
	known = map[string]bool{}
	for i, p := range im.d.container.Mounts {
		member := fmt.Sprintf("Mounts[%d]", i)
		known[p.Destination] = true
		switch {
		case p.Type == mount.TypeTmpfs:
			// Its options are in HostConfig alone.
		case p.Type == mount.TypeBind:
			list = im.bind(list, member, p, asked[p.Destination])
		case p.Type != mount.TypeVolume:
			im.notice(member, string(p.Type)+" mount", p.Destination, "")
		case anonymousVolume(p.Name):
			anonymous = append(anonymous, p.Destination)
		case p.Driver != "local" && p.Driver != "" || p.Source == "":
			im.notice(member, "volume", p.Name+" at "+p.Destination, "only its driver "+p.Driver+" can mount it")
		case asked[p.Destination].VolumeOptions != nil && asked[p.Destination].VolumeOptions.Subpath != "":
			// A link that the container made below the volume would lead out of it.
			im.notice(member, "volume", p.Name+" at "+p.Destination, "a part of a volume cannot be bound safely")
		default:
			im.decide("volume %s is the host's %s", p.Name, p.Source)
			list = im.bind(list, member, p, asked[p.Destination])
		}
	}
	if len(anonymous) > 0 {
		slices.Sort(anonymous)
		im.notice("Mounts", "anonymous volumes", strings.Join(anonymous, ", "), "they stay directories of the rootfs")
	}
	return list, known
}

// requestedMounts are those that were asked for and are not among known, the destinations of those
// that are listed. The engines list what they have resolved; a document that was cut down by hand
// still says what was asked for.
func (im *importer) requestedMounts(known map[string]bool) (list []importedMount) {
	h := &im.d.host
	for i, b := range h.Binds {
		member := fmt.Sprintf("HostConfig.Binds[%d]", i)
		source, rest, ok := strings.Cut(b, ":")
		destination, options, _ := strings.Cut(rest, ":")
		if !ok || destination == "" {
			im.refuse(member, "%q is not SOURCE:DESTINATION", b)
			return nil
		}
		if known[destination] || known[path.Clean(destination)] {
			continue
		}
		if !path.IsAbs(source) {
			im.notice(member, "volume", source+" at "+destination, "the document does not say where it is")
			continue
		}
		p := mountPoint{}
		p.Type, p.Source, p.Destination, p.Mode, p.RW = mount.TypeBind, source, destination, options, true
		for option := range strings.SplitSeq(options, ",") {
			switch {
			case option == "ro":
				p.RW = false
			case slices.Contains(mount.Propagations, mount.Propagation(option)):
				p.Propagation = mount.Propagation(option)
			}
		}
		list = im.bind(list, member, p, mount.Mount{})
	}
	for i, m := range h.Mounts {
		member := fmt.Sprintf("HostConfig.Mounts[%d]", i)
		switch m.Type {
		case mount.TypeTmpfs:
			list = append(list, importedMount{member: member, mount: specs.Mount{Destination: m.Target}, tmpfs: tmpfsOptions(m)})
		case mount.TypeBind:
			if !known[m.Target] {
				p := mountPoint{}
				p.Type, p.Source, p.Destination, p.RW = mount.TypeBind, m.Source, m.Target, !m.ReadOnly
				if m.BindOptions != nil {
					p.Propagation = m.BindOptions.Propagation
				}
				list = im.bind(list, member, p, m)
			}
		case mount.TypeVolume:
			if !known[m.Target] {
				im.notice(member, "volume", m.Source+" at "+m.Target, "the document does not say where it is")
			}
		default:
			if !known[m.Target] {
				im.notice(member, string(m.Type)+" mount", m.Target, "")
			}
		}
	}
	return list
}

func depth(p string) int { return strings.Count(path.Clean("/"+p), "/") }

// anonymousVolume tells a name that an engine made up: 32 random bytes in hex.
func anonymousVolume(name string) bool {
	return len(name) == 64 && strings.Trim(name, "0123456789abcdef") == ""
}

// bind appends a bind mount of a directory or file of the host.
func (im *importer) bind(list []importedMount, member string, p mountPoint, asked mount.Mount) []importedMount {
	if !path.IsAbs(p.Source) {
		im.refuse(member, "the source %q of the mount at %q is not absolute", p.Source, p.Destination)
		return list
	}
	options := []string{"rbind"}
	if asked.BindOptions != nil && asked.BindOptions.NonRecursive {
		options[0] = "bind"
	}
	for _, o := range p.Options {
		switch o {
		case "rbind", "bind":
			options[0] = o
		case "ro", "rw", "z", "Z", "U", "copy", "nocopy":
		default:
			options = append(options, o)
		}
	}
	if !p.RW {
		ro := "ro"
		if asked.BindOptions != nil && asked.BindOptions.ReadOnlyForceRecursive {
			ro = "rro"
		}
		options = append(options, ro)
	}
	m := importedMount{member: member}
	if p.Propagation != "" {
		if !slices.Contains(mount.Propagations, p.Propagation) {
			im.refuse(member, "%q is no mount propagation", p.Propagation)
			return list
		}
		options = append(options, string(p.Propagation))
		switch p.Propagation {
		case mount.PropagationShared, mount.PropagationRShared:
			m.shared = "shared"
		case mount.PropagationSlave, mount.PropagationRSlave:
			m.shared = "rslave"
		}
	}
	if p.Type == mount.TypeBind {
		for option := range strings.SplitSeq(p.Mode, ",") {
			if option == "z" || option == "Z" {
				im.notice(member, "SELinux relabelling of", p.Destination, "")
			}
		}
	}
	m.mount = specs.Mount{Destination: p.Destination, Type: "bind", Source: path.Clean(p.Source), Options: options}
	return append(list, m)
}

// writable are the tmpfs of a read-only container of podman, which podman 5 does not list
// (podman-create(1), --read-only-tmpfs).
func (im *importer) writable(list []importedMount) (more []importedMount) {
	if im.d.kind != PodmanContainer || !im.d.host.ReadonlyRootfs {
		return nil
	}
	if slices.Contains(im.d.config.CreateCommand, "--read-only-tmpfs=false") {
		return nil
	}
	for _, target := range []string{"/run", "/tmp", "/var/tmp"} {
		if !slices.ContainsFunc(list, func(m importedMount) bool { return path.Clean(m.mount.Destination) == target }) {
			more = append(more, importedMount{member: "HostConfig.ReadonlyRootfs", mount: specs.Mount{Destination: target}, tmpfs: "rw,rprivate,nosuid,nodev,tmpcopyup"})
		}
	}
	return more
}

// tmpfsOptions writes the options of docker run --mount type=tmpfs as --tmpfs has them.
func tmpfsOptions(m mount.Mount) string {
	var options []string
	if m.ReadOnly {
		options = append(options, "ro")
	}
	if o := m.TmpfsOptions; o != nil {
		if o.Mode != 0 {
			options = append(options, fmt.Sprintf("mode=%o", uint32(o.Mode)))
		}
		if o.SizeBytes != 0 {
			options = append(options, "size="+shortSize(o.SizeBytes))
		}
		for _, pair := range o.Options {
			options = append(options, strings.Join(pair, "="))
		}
	}
	return strings.Join(options, ",")
}

// shortSize writes a size with the largest unit that divides it, as the engine does.
func shortSize(n int64) string {
	unit := 0
	for unit < 3 && n%1024 == 0 {
		n /= 1024
		unit++
	}
	return fmt.Sprintf("%d%s", n, [...]string{"", "k", "m", "g"}[unit])
}

// shm gives /dev/shm the container's size, or takes it away where the ipc mode is none.
func (im *importer) shm() {
	h := &im.d.host
	switch {
	case h.IpcMode == "none":
		im.apply("HostConfig.IpcMode", func(d *specedit.Doc) error {
			d.Get("mounts").RemoveKeyed(func(m *jsontree.Node) bool { return m.Member("destination").Is("/dev/shm") })
			return nil
		})
	case h.IpcMode == "host", strings.HasPrefix(h.IpcMode, "container:"), h.ShmSize <= 0:
	default:
		im.edit("HostConfig.ShmSize", func(label string) (specedit.Edit, error) { return specedit.ShmSize(label, fmt.Sprint(h.ShmSize)) })
	}
}

// mount appends the edit for one mount.
func (im *importer) mount(m importedMount) {
	to, err := specedit.MountDestination(m.mount.Destination)
	if err != nil {
		im.edit(m.member, func(string) (specedit.Edit, error) { return specedit.Edit{}, err })
		return
	}
	m.mount.Destination = to
	switch {
	case m.mount.Type != "":
	case im.d.kind == PodmanContainer:
		// podman writes the options that it gave the runtime, its defaults included.
		m.mount.Type, m.mount.Source, m.mount.Options = "tmpfs", "tmpfs", strings.Split(m.tmpfs, ",")
	case strings.Contains(to, ":"):
		im.refuse(m.member, "the destination %q has a colon in it", to)
		return
	default:
		im.edit(m.member, func(label string) (specedit.Edit, error) { return specedit.Tmpfs(label, to+":"+m.tmpfs) })
		return
	}
	im.apply(m.member, func(d *specedit.Doc) error {
		if to == "/dev" {
			// A /dev of the user's has its own pts, shm and mqueue, or none.
			d.Get("mounts").RemoveKeyed(func(e *jsontree.Node) bool {
				below, _ := e.Member("destination").Str()
				return strings.HasPrefix(below, "/dev/")
			})
		}
		if m.shared != "" && d.Text("linux", "rootfsPropagation") != "shared" {
			if err := d.Put(m.shared, "linux", "rootfsPropagation"); err != nil {
				return err
			}
		}
		return d.PutMount(m.mount)
	})
}
