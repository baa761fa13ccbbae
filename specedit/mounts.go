package specedit

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"ocibundle/specedit/jsontree"
)

// PutMount adds a mount, in the place of one with the same destination. A new one goes before the
// mounts below it, which it would hide.
func (d *Doc) PutMount(m specs.Mount) error {
	mounts, err := d.Array("mounts")
	if err != nil {
		return err
	}
	n, err := jsontree.FromGo(m, d.By)
	if err != nil {
		return err
	}
	same := func(e *jsontree.Node) bool {
		dst, ok := e.Member("destination").Str()
		return ok && path.Clean(dst) == m.Destination
	}
	if !slices.ContainsFunc(mounts.List, same) {
		below := slices.IndexFunc(mounts.List, func(e *jsontree.Node) bool {
			dst, _ := e.Member("destination").Str()
			return strings.HasPrefix(path.Clean(dst), m.Destination+"/")
		})
		if below >= 0 {
			mounts.List = slices.Insert(mounts.List, below, n)
			return nil
		}
	}
	mounts.ReplaceKeyed(n, same)
	return nil
}

func mountEdit(label string, m specs.Mount, warnings ...string) Edit {
	e := NewEdit(label, func(d *Doc) error {
		if slices.ContainsFunc(m.Options, isIDMap) {
			d.idmapped = append(d.idmapped, idmapped{d.By, m.Destination})
		}
		return d.PutMount(m)
	})
	e.Warnings = warnings
	return e
}

// MountDestination wants an absolute path in the container that is not its root.
func MountDestination(dst string) (string, error) {
	if err := text("the destination", dst); err != nil {
		return "", err
	}
	if !path.IsAbs(dst) {
		return "", &EditError{Problem: fmt.Sprintf("the destination %q is not an absolute path in the container", dst)}
	}
	if path.Clean(dst) == "/" {
		return "", &EditError{Problem: "nothing can be mounted over the root of the container"}
	}
	return path.Clean(dst), nil
}

// source makes the source of a bind mount absolute against cwd.
func source(src, cwd string) (string, error) {
	if err := text("the source", src); err != nil {
		return "", err
	}
	if src == "" {
		return "", &EditError{Problem: "the source of the bind mount is missing"}
	}
	if filepath.IsAbs(src) {
		return filepath.Clean(src), nil
	}
	if cwd == "" {
		return "", &EditError{Problem: fmt.Sprintf("the source %q is a relative path, and the current directory is not known", src)}
	}
	return filepath.Join(cwd, src), nil
}

// propagations are the ways mounts spread through a bind mount (mount_namespaces(7)), as docker
// names them.
var propagations = []string{"rprivate", "private", "rshared", "shared", "rslave", "slave"}

func noVolumes(label, name string) error {
	return &EditError{
		Label:   label,
		Problem: fmt.Sprintf("%q is a named volume, which only an engine has", name),
		Hint:    fmt.Sprintf("for the directory %s here, write ./%s", name, name),
	}
}

// Volume is `docker run --volume SRC:DST[:OPTIONS]` for a directory or file of the host. A relative
// SRC starts with "." and is taken against cwd.
func Volume(label, arg, cwd string) (Edit, error) {
	parts := strings.Split(arg, ":")
	if len(parts) == 1 {
		return Edit{}, &EditError{Label: label, Problem: fmt.Sprintf("%q is an anonymous volume, which only an engine has", arg),
			Hint: "SRC:DST binds a directory of the host; a tmpfs is an empty one in memory"}
	}
	if len(parts) > 3 || slices.Contains(parts[:2], "") {
		return reject(label, "%q is not a mount: expected SRC:DST[:OPTIONS]", arg)
	}
	if !strings.HasPrefix(parts[0], "/") && !strings.HasPrefix(parts[0], ".") {
		if !strings.Contains(parts[0], "/") {
			return Edit{}, noVolumes(label, parts[0])
		}
		return Edit{}, &EditError{Label: label, Problem: fmt.Sprintf("%q is neither an absolute path nor one that starts with a dot", parts[0]),
			Hint: fmt.Sprintf("for the directory %s here, write ./%s", parts[0], parts[0])}
	}
	src, err := source(parts[0], cwd)
	if err != nil {
		return Edit{}, Blame(label, err)
	}
	dst, err := MountDestination(parts[1])
	if err != nil {
		return Edit{}, Blame(label, err)
	}
	var words []string
	if len(parts) == 3 {
		words = strings.Split(parts[2], ",")
	}
	options, warnings, err := volumeOptions(label, words)
	if err != nil {
		return Edit{}, err
	}
	return mountEdit(label, specs.Mount{Destination: dst, Type: "bind", Source: src, Options: options}, warnings...), nil
}

// volumeOptions turns the OPTIONS of a --volume into those of a bind mount.
func volumeOptions(label string, words []string) (options, warnings []string, err error) {
	options = []string{"rbind"}
	propagation := "rprivate"
	var seen []string
	fail := func(format string, args ...any) ([]string, []string, error) {
		_, err := reject(label, format, args...)
		return nil, nil, err
	}
	for _, o := range words {
		class := o
		switch {
		case o == "ro" || o == "rw":
			class = "ro and rw"
			if o == "ro" {
				options = append(options, "ro")
			}
		case o == "z" || o == "Z":
			class = "z and Z"
			warnings = append(warnings, fmt.Sprintf("`%s`: %s is ignored: no SELinux labels are changed here", label, o))
		case slices.Contains(propagations, o):
			class = "propagations"
			propagation = o
		case o == "cached" || o == "delegated" || o == "consistent":
			class = "consistencies"
			warnings = append(warnings, fmt.Sprintf("`%s`: %s is ignored: it means nothing on Linux", label, o))
		case o == "nocopy":
			return fail("nocopy is for volumes, this is a bind mount, which copies nothing")
		case o == "idmap" || o == "ridmap":
			class = "idmap and ridmap"
			options = append(options, o)
		default:
			return fail("%q is not an option of a bind mount%s", o, suggest(o, append([]string{"ro", "rw", "idmap", "ridmap"}, propagations...)))
		}
		if slices.Contains(seen, class) {
			return fail("more than one of the %s", class)
		}
		seen = append(seen, class)
	}
	return append(options, propagation), warnings, nil
}

// mountFields is what the fields of a --mount say.
type mountFields struct {
	kind, src, dst, propagation, size, mode string

	readOnly, flat, haveSource bool

	only     map[string]string // field -> the kind of mount that has it
	warnings []string
}

// Mount is `docker run --mount`: comma-separated KEY=VALUE fields of a bind mount or a tmpfs.
func Mount(label, arg, cwd string) (Edit, error) {
	fields, err := csv.NewReader(strings.NewReader(arg)).Read()
	if err != nil {
		return Edit{}, Blame(label, fmt.Errorf("read the comma-separated fields: %w", err))
	}
	m := mountFields{only: map[string]string{}}
	for _, f := range fields {
		key, value, valued := strings.Cut(f, "=")
		if err := m.field(label, strings.ToLower(key), value, valued); err != nil {
			return Edit{}, Blame(label, err)
		}
	}
	for key, kind := range m.only {
		if m.kind != kind && (m.kind == "bind" || m.kind == "tmpfs") {
			return reject(label, "%s is for type=%s, this is type=%s", key, kind, m.kind)
		}
	}
	switch m.kind {
	case "bind", "tmpfs":
	case "", "volume":
		return Edit{}, &EditError{Label: label, Problem: "a mount without type=bind or type=tmpfs is a volume, which only an engine has",
			Hint: "type=bind,src=DIR,dst=PATH binds a directory of the host"}
	default:
		return reject(label, "type=%s is not supported: bind and tmpfs are", m.kind)
	}
	switch {
	case m.kind == "tmpfs" && m.haveSource:
		return reject(label, "a tmpfs has no source")
	case m.dst == "":
		return reject(label, "the destination is missing: dst=PATH")
	case m.kind == "bind":
		if m.src, err = source(m.src, cwd); err != nil {
			return Edit{}, Blame(label, err)
		}
	}
	return mountEdit(label, m.mount(), m.warnings...), nil
}

// field reads one field.
func (m *mountFields) field(label, key, value string, valued bool) (err error) {
	fail := func(format string, args ...any) error { return &EditError{Problem: fmt.Sprintf(format, args...)} }
	isSwitch := false
	switch key {
	case "type":
		m.kind = strings.ToLower(value)
	case "source", "src":
		m.src, m.haveSource = value, true
	case "destination", "dst", "target":
		if m.dst, err = MountDestination(value); err != nil {
			return err
		}
	case "readonly", "ro":
		isSwitch = true
		m.readOnly, err = fieldBool(value, valued)
	case "bind-propagation":
		m.propagation, m.only[key] = value, "bind"
		if !slices.Contains(propagations, value) {
			return fail("%q is not a propagation: expected one of %s", value, strings.Join(propagations, ", "))
		}
	case "bind-nonrecursive":
		isSwitch = true
		m.only[key] = "bind"
		m.flat, err = fieldBool(value, valued)
	case "bind-recursive":
		m.only[key] = "bind"
		if !slices.Contains([]string{"enabled", "writable", "disabled"}, value) {
			return fail("bind-recursive=%s is not supported: enabled, disabled and writable are", value)
		}
		m.flat = m.flat || value == "disabled"
	case "tmpfs-size":
		var n int64
		n, err = ParseSize(value)
		m.size, m.only[key] = strconv.FormatInt(n, 10), "tmpfs"
	case "tmpfs-mode":
		if _, err := strconv.ParseUint(value, 8, 12); err != nil {
			return fail("%q is not a mode: expected octal digits, as 1777", value)
		}
		m.mode, m.only[key] = value, "tmpfs"
	case "consistency":
		m.warnings = append(m.warnings, fmt.Sprintf("`%s`: consistency is ignored: it means nothing on Linux", label))
	default:
		if strings.HasPrefix(key, "volume-") || strings.HasPrefix(key, "image-") {
			return fail("%s is for mounts that only an engine has", key)
		}
		return fail("%q is not a field of a mount%s", key, suggest(key, []string{"type", "source", "src", "destination", "dst", "target",
			"readonly", "ro", "bind-propagation", "bind-recursive", "tmpfs-size", "tmpfs-mode"}))
	}
	switch {
	case err != nil:
		return fail("%s: %v", key, err)
	case !isSwitch && value == "":
		return fail("the field %s needs a value", key)
	}
	return nil
}

// mount is the mount of the runtime specification.
func (m *mountFields) mount() specs.Mount {
	if m.kind == "tmpfs" {
		options := []string{"noexec", "nosuid", "nodev", "rprivate"}
		if m.readOnly {
			options = append(options, "ro")
		}
		if m.mode != "" {
			options = append(options, "mode="+m.mode)
		}
		if m.size != "" {
			options = append(options, "size="+m.size)
		}
		return specs.Mount{Destination: m.dst, Type: "tmpfs", Source: "tmpfs", Options: options}
	}
	options := []string{"rbind"}
	if m.flat {
		options = []string{"bind"}
	}
	if m.readOnly {
		options = append(options, "ro")
	}
	return specs.Mount{Destination: m.dst, Type: "bind", Source: m.src, Options: append(options, cmp.Or(m.propagation, "rprivate"))}
}

func fieldBool(v string, valued bool) (bool, error) {
	if !valued {
		return true, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, fmt.Errorf("%q is neither true nor false", v)
	}
	return b, nil
}

// tmpfsOpposites are the flags of a tmpfs that undo each other.
var tmpfsOpposites = map[string]string{
	"ro": "rw", "rw": "ro", "exec": "noexec", "noexec": "exec", "suid": "nosuid", "nosuid": "suid", "dev": "nodev", "nodev": "dev",
	"sync": "async", "async": "sync", "diratime": "nodiratime", "nodiratime": "diratime", "atime": "noatime", "noatime": "atime",
	"relatime": "norelatime", "norelatime": "relatime", "strictatime": "nostrictatime", "nostrictatime": "strictatime",
}

// tmpfsValues are the mount options of tmpfs(5) that have a value.
var tmpfsValues = []string{"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge"}

// Tmpfs is `docker run --tmpfs DST[:OPTIONS]`, with docker's defaults of noexec, nosuid and nodev.
func Tmpfs(label, arg string) (Edit, error) {
	dst, extra, _ := strings.Cut(arg, ":")
	dst, err := MountDestination(dst)
	if err != nil {
		return Edit{}, Blame(label, err)
	}
	options := []string{"noexec", "nosuid", "nodev", "rprivate"}
	for o := range strings.SplitSeq(extra, ",") {
		if o == "" {
			continue
		}
		k, v, valued := strings.Cut(o, "=")
		switch {
		case valued && slices.Contains(tmpfsValues, k) && v != "":
			options = slices.DeleteFunc(options, func(x string) bool { return strings.HasPrefix(x, k+"=") })
		case !valued && slices.Contains(propagations, o):
			options = slices.DeleteFunc(options, func(x string) bool { return slices.Contains(propagations, x) })
		case !valued && tmpfsOpposites[o] != "":
			options = slices.DeleteFunc(options, func(x string) bool { return x == o || x == tmpfsOpposites[o] })
		default:
			return reject(label, "%q is not an option of a tmpfs%s", o, suggest(k, append(SortedKeys(tmpfsOpposites), tmpfsValues...)))
		}
		options = append(options, o)
	}
	return mountEdit(label, specs.Mount{Destination: dst, Type: "tmpfs", Source: "tmpfs", Options: options}), nil
}

// ShmSize sets the size of the container's /dev/shm, which is made if it has none of its own.
func ShmSize(label, value string) (Edit, error) {
	n, err := ParseSize(value)
	if err == nil && n <= 0 {
		err = fmt.Errorf("%q is not a size of a /dev/shm", value)
	}
	if err != nil {
		return Edit{}, Blame(label, err)
	}
	size := "size=" + strconv.FormatInt(n, 10)
	return NewEdit(label, func(d *Doc) error {
		for _, m := range jsontree.Elements(d.Get("mounts")) {
			dst, _ := m.Member("destination").Str()
			kind, _ := m.Member("type").Str()
			if path.Clean(dst) != "/dev/shm" || kind != "tmpfs" {
				continue
			}
			if m.Obj["options"] == nil {
				m.SetMember("options", jsontree.NewArray(d.By))
			}
			o := m.Obj["options"]
			o.ReplaceKeyed(jsontree.NewString(size, d.By), func(e *jsontree.Node) bool { return strings.HasPrefix(e.Text, "size=") })
			return nil
		}
		return d.PutMount(specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
			Options: []string{"nosuid", "noexec", "nodev", "mode=1777", size}})
	}), nil
}
