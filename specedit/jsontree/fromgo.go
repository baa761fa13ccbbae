package jsontree

import (
	"bytes"
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// FromGo turns a Go value into the tree of its JSON form. Of a specification's types few members
// are in use, and only those are looked at: encoding/json would first make an encoder for each of
// the others, which takes longer than the rest of a config.
func FromGo(v any, by string) (*Node, error) { return fromGo(reflect.ValueOf(v), by) }

var (
	marshaler     = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

func fromGo(v reflect.Value, by string) (*Node, error) {
	if !v.IsValid() {
		return &Node{Kind: KindNull, Text: "null", By: by}, nil
	}
	t := v.Type()
	if t.Implements(marshaler) || t.Implements(textMarshaler) {
		return throughText(v, by)
	}
	switch t.Kind() {
	case reflect.Bool:
		return &Node{Kind: KindBool, Text: strconv.FormatBool(v.Bool()), By: by}, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return &Node{Kind: KindNumber, Text: strconv.FormatInt(v.Int(), 10), By: by}, nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return &Node{Kind: KindNumber, Text: strconv.FormatUint(v.Uint(), 10), By: by}, nil
	case reflect.String:
		return NewString(unicodeOf(v.String()), by), nil
	case reflect.Pointer, reflect.Interface:
		return fromGo(v.Elem(), by)
	case reflect.Struct:
		n := NewObject(by)
		return n, n.addFields(v)
	case reflect.Map:
		if t.Key().Kind() == reflect.String && !v.IsNil() {
			return fromMap(v, by)
		}
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 || t.Kind() == reflect.Slice && v.IsNil() {
			break
		}
		n := NewArray(by)
		for i := range v.Len() {
			e, err := fromGo(v.Index(i), by)
			if err != nil {
				return nil, err
			}
			n.List = append(n.List, e)
		}
		return n, nil
	}
	return throughText(v, by)
}

// addFields adds the fields of a struct, as their tags have it.
func (n *Node) addFields(v reflect.Value) error {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			if err := n.addFields(v.Field(i)); err != nil {
				return err
			}
			continue
		case !f.IsExported(), name == "-", options == "omitempty" && isEmpty(v.Field(i)):
			continue
		case name == "":
			name = f.Name
		}
		member, err := fromGo(v.Field(i), n.By)
		if err != nil {
			return err
		}
		n.SetMember(name, member)
	}
	return nil
}

func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Struct:
		return false
	case reflect.Slice, reflect.Map, reflect.Array:
		return v.Len() == 0
	}
	return v.IsZero()
}

// fromMap makes an object of a map, in the order of its keys.
func fromMap(v reflect.Value, by string) (*Node, error) {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	n := NewObject(by)
	for _, k := range keys {
		e, err := fromGo(v.MapIndex(k), by)
		if err != nil {
			return nil, err
		}
		n.SetMember(unicodeOf(k.String()), e)
	}
	return n, nil
}

// unicodeOf puts U+FFFD in the place of each byte that is not Unicode.
func unicodeOf(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s))
}

// throughText is for what has a JSON form of its own.
func throughText(v reflect.Value, by string) (*Node, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v.Interface()); err != nil {
		return nil, err
	}
	return Parse(buf.Bytes(), by)
}
