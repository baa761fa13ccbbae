package specedit

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"

	"ocibundle/specedit/jsontree"
)

// Finding is something that would stop a bundle from running.
type Finding struct {
	// Code names the kind of finding; it does not change between versions.
	Code string
	// Pointer is the RFC 6901 pointer of the member of config.json that it is about, empty where it
	// is about a file.
	Pointer string
	// Path is the file that it is about: absolute in the container, or a name in the bundle. Empty
	// for none.
	Path string
	// Message is a sentence about it, in lower case and without a full stop.
	Message string
}

// The codes of what can be found in config.json alone.
const (
	FindingSchema        = "schema"            // no valid document
	FindingUnmappedID    = "unmapped-id"       // a user or group of the process that the mapping lacks
	FindingDescriptor    = "cwd-descriptor"    // a working directory that leads through a process, CVE-2024-21626
	FindingKernelMount   = "kernel-mount"      // a mount that a user namespace may not make
	FindingIDMap         = "mount-idmap"       // a mount whose ids nobody can map
	FindingMountID       = "mount-id"          // an owner in the options of a mount that the mapping lacks
	FindingOOMScore      = "oom-score"         // a score lowered in a user namespace
	FindingGroups        = "additional-groups" // supplementary groups from an ordinary user
	FindingCgroup        = "cgroup"            // limits without a control group to set them in
	FindingMapping       = "mapping"           // a user namespace without a usable mapping
	FindingRlimit        = "rlimit"            // a limit above the caller's own
	FindingUserNamespace = "user-namespace"    // an ordinary user's container without a user namespace
)

// maxFaults bounds what is said of a document that is wrong all over.
const maxFaults = 100

// Inspect says what in the text of a config.json would stop any container that it describes.
// Nothing is modernized or changed on the way: it is what the runtime would read. The config is nil
// where the text is not one; every finding is about a Pointer, the empty one for the whole text.
func Inspect(text []byte, host Host) (*specs.Spec, []Finding) {
	fault := func(code, pointer, message string) []Finding {
		return []Finding{{Code: code, Pointer: pointer, Message: message}}
	}
	root, err := jsontree.Parse(text, "")
	if err != nil {
		return nil, fault(FindingSchema, "", err.Error())
	}
	if root.Kind != jsontree.KindObject {
		return nil, fault(FindingSchema, "", fmt.Sprintf("a config is a JSON object, this is %s", root.Kind))
	}
	var found []Finding
	for _, e := range faults(root, "", maxFaults) {
		code := FindingSchema
		switch {
		case errors.Is(e, ErrUnmapped):
			code = FindingUnmappedID
		case e.Pointer == "/process/cwd" && ThroughProcess(textOf(root.Member("process").Member("cwd"))):
			code = FindingDescriptor
		}
		found = append(found, Finding{Code: code, Pointer: e.Pointer, Message: e.Problem})
	}
	if len(found) == maxFaults {
		found = append(found, Finding{Code: FindingSchema, Message: fmt.Sprintf("has more faults than the %d that are listed", maxFaults)})
	}
	var spec specs.Spec
	if err := json.Unmarshal(root.Encode(), &spec); err != nil {
		if len(found) == 0 {
			found = fault(FindingSchema, "", err.Error())
		}
		return nil, found
	}
	d := &Doc{Tree: jsontree.Tree{Root: root}, host: host}
	for _, r := range d.refusals() {
		found = append(found, Finding{Code: r.code, Pointer: r.pointer, Message: r.message})
	}
	return &spec, append(found, inspect(&spec, d)...)
}

// inspect looks for what the specification allows and no runtime takes.
func inspect(spec *specs.Spec, d *Doc) (found []Finding) {
	add := func(code, pointer, format string, args ...any) {
		found = append(found, Finding{Code: code, Pointer: pointer, Message: fmt.Sprintf(format, args...)})
	}
	if spec.Process == nil {
		add(FindingSchema, "/process", "is missing: there is no command to run")
	} else {
		// setuid(2) takes no such id: runtimes keep to 31 bits.
		for i, id := range slices.Concat([]uint32{spec.Process.User.UID, spec.Process.User.GID}, spec.Process.User.AdditionalGids) {
			at := "/process/user/uid"
			switch {
			case i == 1:
				at = "/process/user/gid"
			case i > 1:
				at = jsontree.Pointer("process", "user", "additionalGids", strconv.Itoa(i-2))
			}
			if id > 1<<31-1 && len(found) < maxFaults {
				add(FindingUnmappedID, at, "is %d: runtimes accept ids up to %d", id, 1<<31-1)
			}
		}
	}
	if !d.own("user") {
		if d.host.Rootless && !d.has("user") {
			add(FindingUserNamespace, "/linux/namespaces", "an ordinary user cannot start a container without a user namespace")
		}
		return found
	}
	for _, m := range []struct {
		what, pointer string
		maps          []specs.LinuxIDMapping
	}{{"user", "/linux/uidMappings", spec.Linux.UIDMappings}, {"group", "/linux/gidMappings", spec.Linux.GIDMappings}} {
		switch {
		case len(m.maps) == 0:
			add(FindingMapping, m.pointer, "is empty, but there is a user namespace")
		case !slices.ContainsFunc(m.maps, func(m specs.LinuxIDMapping) bool { return contains(m, 0) }):
			add(FindingMapping, m.pointer, "has no %s id 0 of the container, which every runtime needs", m.what)
		}
	}
	return found
}

// textOf is the text of a string; empty for what is none, or missing.
func textOf(n *jsontree.Node) string {
	s, _ := n.Str()
	return s
}

// has reports whether the document has a namespace of a type, its own or one that it joins.
func (d *Doc) has(kind string) bool {
	return slices.ContainsFunc(jsontree.Elements(d.Get("linux", "namespaces")), func(n *jsontree.Node) bool { return n.Member("type").Is(kind) })
}

func contains(m specs.LinuxIDMapping, id uint32) bool {
	return id >= m.ContainerID && id-m.ContainerID < m.Size
}
