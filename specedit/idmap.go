package specedit

import (
	"errors"
	"slices"
	"strconv"

	"ocibundle/specedit/jsontree"
)

// idmapped is a bind mount that is to have the ids of the container: the edit and the destination.
type idmapped struct{ by, destination string }

// ErrNoMapping is wrapped by the error for a mount whose ids are to be mapped where the container
// has no mapping.
var ErrNoMapping = errors.New("there is no mapping")

func isIDMap(option string) bool { return option == "idmap" || option == "ridmap" }

// mapMounts gives the mounts of edits that ask for it the final mapping of the container: what uid 0
// owns on the host is then uid 0's in the container, and the other way round (mount_setattr(2),
// MOUNT_ATTR_IDMAP).
func (d *Doc) mapMounts() error {
	for _, want := range d.idmapped {
		for _, m := range d.Elements("mounts") {
			if m.By != want.by || !m.Member("destination").Is(want.destination) {
				continue // another edit has replaced it
			}
			if d.host.Rootless {
				return &EditError{Label: m.By, Problem: "an ordinary user cannot have the ids of a mount mapped: the kernel wants CAP_SYS_ADMIN over its filesystem",
					Hint: "without that, what the user owns on the host is root's in the container"}
			}
			uids, gids := d.Get("linux", "uidMappings"), d.Get("linux", "gidMappings")
			if !d.own("user") || len(jsontree.Elements(uids)) == 0 || len(jsontree.Elements(gids)) == 0 {
				return &EditError{Label: m.By, Problem: "the ids of a mount are mapped as the container's user namespace maps them, and there is none", Err: ErrNoMapping}
			}
			m.SetMember("uidMappings", uids.Clone(m.By))
			m.SetMember("gidMappings", gids.Clone(m.By))
		}
	}
	return nil
}

// oldIDMaps are the options that need no later specification than the mappings beside them, which
// are of 1.1.0: crun 1.8 takes both, and refuses 1.2.0, which has the option. ridmap adds to what
// the mappings say.
func (d *Doc) oldIDMaps() (options []*jsontree.Node) {
	for _, m := range d.Elements("mounts") {
		if m.Member("uidMappings") != nil {
			options = append(options, slices.DeleteFunc(slices.Clone(jsontree.Elements(m.Member("options"))), func(o *jsontree.Node) bool { return !o.Is("idmap") })...)
		}
	}
	return options
}

// idmapRefusals are the mounts whose ids no runtime can map that knows of it. Tried with runc 1.2
// and 1.5 and crun 1.8.1; runc 1.1 mounts them as they are.
func (d *Doc) idmapRefusals() (found []refusal) {
	for i, m := range jsontree.Elements(d.Get("mounts")) {
		mapped := m.Member("uidMappings") != nil
		if !mapped && !slices.ContainsFunc(jsontree.Elements(m.Member("options")), func(o *jsontree.Node) bool { return isIDMap(textOf(o)) }) {
			continue
		}
		message := ""
		switch {
		case d.host.Rootless:
			message = "has its ids mapped, which takes CAP_SYS_ADMIN over its filesystem: an ordinary user's runtime cannot do it"
		case !mapped && !d.has("user"):
			message = "has its ids mapped, but no mapping, and there is no user namespace to have one from"
		default:
			continue
		}
		found = append(found, refusal{FindingIDMap, jsontree.Pointer("mounts", strconv.Itoa(i)), m, message})
	}
	return found
}
