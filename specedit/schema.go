package specedit

import (
	"reflect"
	"strings"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"

	"ocibundle/specedit/jsontree"
)

var specType = reflect.TypeFor[specs.Spec]()

// field is one member that the specification has in an object.
type field struct {
	name string
	typ  reflect.Type
}

var fieldCache sync.Map // reflect.Type -> []field

// fieldsOf lists the JSON members of a struct, embedded structs included.
func fieldsOf(t reflect.Type) []field {
	if c, ok := fieldCache.Load(t); ok {
		return c.([]field)
	}
	var fields []field
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-":
		case name == "" && f.Anonymous:
			fields = append(fields, fieldsOf(indirect(f.Type))...)
		case name != "":
			fields = append(fields, field{name, indirect(f.Type)})
		}
	}
	fields = append(fields, retired[t]...)
	fieldCache.Store(t, fields)
	return fields
}

// retired lists members that earlier 1.x versions of the specification had and the types in use no
// longer do: they are valid in a config of their time. Source: specs-go/config.go of v1.1.0 to
// v1.2.1, gone in v1.3.0.
var retired = map[reflect.Type][]field{
	reflect.TypeFor[specs.LinuxIntelRdt](): {
		{"enableCMT", reflect.TypeFor[bool]()},
		{"enableMBM", reflect.TypeFor[bool]()},
	},
}

func indirect(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// typeAt is the type that the specification has for a place; nil if none.
func typeAt(path []string) reflect.Type {
	t := specType
	for _, name := range path {
		switch t.Kind() {
		case reflect.Slice, reflect.Array, reflect.Map:
			t = indirect(t.Elem())
		case reflect.Struct:
			var next reflect.Type
			for _, f := range fieldsOf(t) {
				if f.name == name {
					next = f.typ
				}
			}
			if next == nil {
				return nil
			}
			t = next
		default:
			return nil
		}
	}
	return t
}

// elsewhere finds the one place of the Linux part of the specification where a name stands that was
// looked for in a wrong place: /env is /process/env. The nearest place to the root counts; two at
// the same depth are no answer.
var elsewhere = func() func(string) string {
	index := sync.OnceValue(func() map[string][]string {
		places := map[string][]string{}
		var walk func(path []string, t reflect.Type)
		walk = func(path []string, t reflect.Type) {
			if t.Kind() != reflect.Struct || len(path) > 4 {
				return
			}
			for _, f := range fieldsOf(t) {
				if len(path) == 0 && foreign(f.name) {
					continue
				}
				p := append(path[:len(path):len(path)], f.name)
				places[strings.ToLower(f.name)] = append(places[strings.ToLower(f.name)], jsontree.Pointer(p...))
				walk(p, f.typ)
			}
		}
		walk(nil, specType)
		return places
	})
	return func(name string) string {
		best, depth, tie := "", 0, false
		for _, p := range index()[strings.ToLower(name)] {
			n := strings.Count(p, "/")
			switch {
			case best == "" || n < depth:
				best, depth, tie = p, n, false
			case n == depth:
				tie = true
			}
		}
		if tie {
			return ""
		}
		return best
	}
}()

// foreign tells the sections of other platforms, which no suggestion names.
func foreign(section string) bool {
	switch section {
	case "solaris", "windows", "vm", "zos", "freebsd":
		return true
	}
	return false
}

// specSchema is the runtime specification as a tree knows it.
type specSchema struct{}

// Members lists the names that the specification has for an object.
func (specSchema) Members(path []string) []string {
	t := typeAt(path)
	if t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	var names []string
	for _, f := range fieldsOf(t) {
		names = append(names, f.name)
	}
	return names
}

// Elsewhere is the one place where a name stands.
func (specSchema) Elsewhere(name string) string { return elsewhere(name) }

// Container reports whether the specification has an array or an object at a path.
func (specSchema) Container(path []string) jsontree.Kind {
	t := typeAt(path)
	if t == nil {
		return jsontree.KindNull
	}
	switch t.Kind() {
	case reflect.Slice, reflect.Array:
		return jsontree.KindArray
	case reflect.Map, reflect.Struct:
		return jsontree.KindObject
	}
	return jsontree.KindNull
}
