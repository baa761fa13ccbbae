package imageconfig

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Every member that the engine's API and the image specification have is accounted
// for.
func TestImageConfigMembers(t *testing.T) {
	var names func(typ reflect.Type) []string
	names = func(typ reflect.Type) []string {
		var all []string
		for f := range typ.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case name == "" && f.Anonymous:
				all = append(all, names(f.Type)...)
			case name == "":
				all = append(all, f.Name)
			default:
				all = append(all, name)
			}
		}
		return all
	}
	for _, c := range []struct {
		typ   reflect.Type
		table map[string]memberFate
	}{
		{reflect.TypeFor[container.Config](), configMembers}, {reflect.TypeFor[container.HostConfig](), hostConfigMembers},
		{reflect.TypeFor[ocispec.ImageConfig](), configMembers},
	} {
		list := names(c.typ)
		if len(list) < 8 {
			t.Fatalf("%v has only %q", c.typ, list)
		}
		for _, name := range list {
			if c.table[name] == "" {
				t.Errorf("%v has %s, which the table lacks", c.typ, name)
			}
		}
	}
}

// What an edit or a notice is made of is decoded, in the types that the engine's API has.
func TestDecodedMembers(t *testing.T) {
	for _, c := range []struct {
		ours, theirs reflect.Type
		table        map[string]memberFate
	}{
		{reflect.TypeFor[containerConfig](), reflect.TypeFor[container.Config](), configMembers},
		{reflect.TypeFor[hostConfig](), reflect.TypeFor[container.HostConfig](), hostConfigMembers},
	} {
		known := map[string]bool{}
		for name, fate := range c.table {
			known[strings.ToLower(name)] = true
			same := func(field string) bool { return strings.EqualFold(field, name) }
			ours, ok := c.ours.FieldByNameFunc(same)
			if !ok {
				if fate == carried {
					t.Errorf("%v lacks %s", c.ours, name)
				}
				continue
			}
			theirs, ok := c.theirs.FieldByNameFunc(same)
			if decodesItself := reflect.PointerTo(ours.Type).Implements(reflect.TypeFor[json.Unmarshaler]()); !ok || decodesItself {
				continue // podman's own, or one that podman writes otherwise
			}
			if !alike(ours.Type, theirs.Type) {
				t.Errorf("%s is a %v, and the API has %v", name, ours.Type, theirs.Type)
			}
		}
		for _, f := range reflect.VisibleFields(c.ours) {
			if !f.Anonymous && !known[strings.ToLower(f.Name)] {
				t.Errorf("%v has %s, which the table lacks", c.ours, f.Name)
			}
		}
	}
}

// alike says that JSON of the one type decodes into the other, which may have fewer members.
func alike(ours, theirs reflect.Type) bool {
	if ours.Kind() != theirs.Kind() {
		return false
	}
	switch ours.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return alike(ours.Elem(), theirs.Elem())
	case reflect.Map:
		return ours.Elem() == reflect.TypeFor[json.RawMessage]() || alike(ours.Elem(), theirs.Elem())
	case reflect.Struct:
		for f := range ours.Fields() {
			their, ok := theirs.FieldByName(f.Name)
			if !ok || !alike(f.Type, their.Type) {
				return false
			}
		}
	}
	return true
}
