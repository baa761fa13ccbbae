package specedit

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"
	"tags.cncf.io/container-device-interface/pkg/parser"
	cdispecs "tags.cncf.io/container-device-interface/specs-go"

	"ocibundle/specedit/jsontree"
)

// IsCDI tells the name of a CDI device, VENDOR/CLASS=NAME, from the path of a node, as docker and
// podman do.
func IsCDI(device string) bool { return parser.IsQualifiedName(device) }

// CDI is `docker run --device VENDOR/CLASS=NAME`: what the files of a vendor in dirs say that a
// container needs for a device (tags.cncf.io/container-device-interface, SPEC.md). Without dirs they
// are the usual ones, /etc/cdi and /var/run/cdi. The files and the device nodes are looked at when
// the edit is made, so the result is for this host.
func CDI(label, name string, dirs []string) (Edit, error) {
	if len(dirs) == 0 {
		dirs = cdi.DefaultSpecDirs
	}
	if err := checkCDI(dirs); err != nil {
		return Edit{}, Blame(label, err)
	}
	cache, err := cdi.NewCache(cdi.WithAutoRefresh(false), cdi.WithSpecDirs(dirs...))
	if err != nil {
		return Edit{}, Blame(label, err)
	}
	device := cache.GetDevice(name)
	if device == nil {
		return Edit{}, Blame(label, noCDI(cache, name))
	}
	// What the library makes of an empty config is what it would add to any.
	var add specs.Spec
	if _, err := cache.InjectDevices(&add, name); err != nil {
		return Edit{}, Blame(label, fmt.Errorf("look at the device: %w", err))
	}
	nodes := map[string]*cdispecs.DeviceNode{}
	for _, n := range slices.Concat(device.GetSpec().ContainerEdits.DeviceNodes, device.ContainerEdits.DeviceNodes) {
		nodes[n.Path] = n
	}
	e := NewEdit(label, func(d *Doc) error { return d.inject(&add, nodes) })
	e.Decisions = cdiDecisions(&add, nodes)
	return e, nil
}

// cdiFileLimit is far beyond what a vendor has to say, in bytes.
const cdiFileLimit = 16 << 20

// checkCDI refuses what the library would wait for or read without an end.
func checkCDI(dirs []string) error {
	for _, dir := range dirs {
		if dir == "" {
			return &EditError{Problem: "the name of a directory with CDI files is empty"}
		}
		entries, _ := os.ReadDir(dir) // what cannot be read the library passes over, and noCDI tells
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); e.IsDir() || ext != ".json" && ext != ".yaml" {
				continue
			}
			file := filepath.Join(dir, e.Name())
			st, err := os.Stat(file)
			switch {
			case err != nil: // as above
			case !st.Mode().IsRegular() && !st.IsDir():
				return &EditError{Problem: fmt.Sprintf("%q cannot be used: it is not a regular file", file)}
			case st.Size() > cdiFileLimit:
				return &EditError{Problem: fmt.Sprintf("%q cannot be used: it is larger than %d MiB", file, cdiFileLimit>>20)}
			}
		}
	}
	return nil
}

// nodeSource is where the host has a device node.
func nodeSource(n *cdispecs.DeviceNode) string { return cmp.Or(n.HostPath, n.Path) }

// hooksOf are the hooks of a config, by the names of their members.
func hooksOf(spec *specs.Spec) map[string][]specs.Hook {
	h := spec.Hooks
	if h == nil {
		return nil
	}
	return map[string][]specs.Hook{
		//lint:ignore SA1019 deprecated, and run by every runtime
		"prestart":      h.Prestart,
		"createRuntime": h.CreateRuntime, "createContainer": h.CreateContainer, "startContainer": h.StartContainer,
		"poststart": h.Poststart, "poststop": h.Poststop,
	}
}

// cdiDecisions says what of the host the container gets. All hooks but startContainer are programs
// that the host runs, with the rights of whoever starts the bundle.
func cdiDecisions(add *specs.Spec, nodes map[string]*cdispecs.DeviceNode) (says []string) {
	if add.Linux != nil {
		for _, dev := range add.Linux.Devices {
			says = append(says, fmt.Sprintf("device %s of the host is given to the container", nodeSource(nodes[dev.Path])))
		}
	}
	for _, m := range add.Mounts {
		says = append(says, fmt.Sprintf("%s of the host is bound to %s", m.Source, m.Destination))
	}
	hooks := hooksOf(add)
	for _, when := range SortedKeys(hooks) {
		where := "on the host"
		if when == "startContainer" {
			where = "in the container"
		}
		for _, h := range hooks[when] {
			line := h.Path
			if len(h.Args) > 1 {
				line += " " + strings.Join(h.Args[1:], " ")
			}
			says = append(says, fmt.Sprintf("the hook %s runs %s: %s", when, where, line))
		}
	}
	return says
}

// inject adds what a CDI device asks for. Each part replaces what has its key, as the parts of other
// edits do, and a hook that is there already, of another device of the same vendor, runs once.
//
// In a user namespace the library would have its mounts idmapped, which neither an ordinary user's
// runtime can do nor an older one of root's, and which what all may read does not need.
func (d *Doc) inject(add *specs.Spec, nodes map[string]*cdispecs.DeviceNode) error {
	if p := add.Process; p != nil {
		for _, v := range p.Env {
			k, v, _ := strings.Cut(v, "=")
			if err := d.setenv(k, v); err != nil {
				return err
			}
		}
		if err := d.injectGroups(p.User.AdditionalGids); err != nil {
			return err
		}
	}
	if l := add.Linux; l != nil {
		if err := d.injectLinux(l, nodes); err != nil {
			return err
		}
	}
	for _, m := range add.Mounts {
		var err error
		if m.Destination, err = MountDestination(m.Destination); err != nil {
			return err
		}
		if err := d.PutMount(m); err != nil {
			return err
		}
	}
	hooks := hooksOf(add)
	for _, when := range SortedKeys(hooks) {
		for _, h := range hooks[when] {
			n, err := jsontree.FromGo(h, d.By)
			if err != nil {
				return err
			}
			list, err := d.Array("hooks", when)
			if err != nil {
				return err
			}
			list.ReplaceKeyed(n, n.Same)
		}
	}
	return nil
}

func (d *Doc) injectGroups(gids []uint32) error {
	if len(gids) == 0 {
		return nil
	}
	if d.host.Rootless {
		d.note("`%s`: the device's %s left out: a rootless container cannot set groups", shorten(d.By), jsontree.Count(len(gids), "supplementary group"))
		return nil
	}
	for _, gid := range gids {
		d.groups = append(d.groups, int(gid))
	}
	return d.addGroups(d.groups...)
}

func (d *Doc) injectLinux(l *specs.Linux, nodes map[string]*cdispecs.DeviceNode) error {
	for _, dev := range l.Devices {
		if err := d.putDevice(dev, nodeSource(nodes[dev.Path])); err != nil {
			return err
		}
		if dev.UID == nil || dev.GID == nil {
			d.unowned = append(d.unowned, dev.Path)
		}
	}
	if l.Resources != nil {
		for _, rule := range l.Resources.Devices {
			if rule.Access == "" { // the file says that none is to be given
				continue
			}
			if err := d.allowDevice(rule); err != nil {
				return err
			}
		}
	}
	for _, name := range SortedKeys(l.NetDevices) {
		if err := d.Put(l.NetDevices[name], "linux", "netDevices", name); err != nil {
			return err
		}
	}
	if l.IntelRdt != nil {
		return d.Put(l.IntelRdt, "linux", "intelRdt")
	}
	return nil
}

// ownDevices gives the nodes of CDI devices that have no owner to the user of the process, whom a
// later edit may have changed.
func (d *Doc) ownDevices() {
	for _, dev := range d.Elements("linux", "devices") {
		if at, _ := dev.Member("path").Str(); !slices.Contains(d.unowned, at) {
			continue
		}
		for _, id := range []string{"uid", "gid"} {
			if n := d.Get("process", "user", id); n != nil && n.Text != "0" && dev.Member(id) == nil {
				dev.SetMember(id, n.Clone(dev.By))
			}
		}
	}
}

// noCDI says that there is no device of a name, what there is, and what could not be looked at.
func noCDI(cache *cdi.Cache, name string) error {
	dirs := cache.GetSpecDirectories()
	for _, dir := range dirs { // the library passes over what it cannot read
		if _, err := os.ReadDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("look for the CDI device %q: %w", name, err)
		}
	}
	e := &EditError{Problem: fmt.Sprintf("there is no CDI device %q in %s", name, strings.Join(dirs, " and "))}
	broken := cache.GetErrors()
	if files := SortedKeys(broken); len(files) > 0 {
		cause := broken[files[0]][0].Error()
		if _, rest, ok := strings.Cut(cause, files[0]); ok { // it is said already
			cause = strings.TrimLeft(rest, `": `)
		}
		e.Problem += fmt.Sprintf(", and %q cannot be used: %s", files[0], shorten(cause))
		if len(files) > 1 {
			e.Problem += fmt.Sprintf(" (nor can %s more)", jsontree.Count(len(files)-1, "file"))
		}
		e.Err = broken[files[0]][0]
	}
	const most = 8
	known := cache.ListDevices()
	switch {
	case len(known) > most:
		e.Hint = fmt.Sprintf("there are %s and %d more", strings.Join(known[:most], ", "), len(known)-most)
	case len(known) > 0:
		e.Hint = "there are " + strings.Join(known, ", ")
	default:
		e.Hint = "a vendor's own program writes these files, as nvidia-ctk cdi generate does"
	}
	return e
}
