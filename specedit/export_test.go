package specedit

import (
	"bytes"

	"ocibundle/specedit/jsontree"
)

// ApplyPatch applies an RFC 6902 patch to any JSON text, without the checks that only a config has
// to pass.
func ApplyPatch(doc, patch []byte) ([]byte, error) {
	root, err := jsontree.Parse(doc, "")
	if err != nil {
		return nil, err
	}
	e, err := Patch("--patch x", patch)
	if err != nil {
		return nil, err
	}
	d := &Doc{Tree: jsontree.Tree{Root: root, Schema: specSchema{}}}
	if err := d.apply(e); err != nil {
		return nil, err
	}
	return []byte(d.Root.Compact()), nil
}

// ApplyEdits applies edits to any JSON text.
func ApplyEdits(doc []byte, edits ...Edit) ([]byte, error) {
	root, err := jsontree.Parse(doc, "")
	if err != nil {
		return nil, err
	}
	d := &Doc{Tree: jsontree.Tree{Root: root, Schema: specSchema{}}, users: noRootfs{}}
	for _, e := range edits {
		if err := d.apply(e); err != nil {
			return nil, err
		}
	}
	return []byte(d.Root.Compact()), nil
}

// Equal is the equality of RFC 6902.
func Equal(a, b []byte) bool {
	x, err1 := jsontree.Parse(a, "")
	y, err2 := jsontree.Parse(b, "")
	return err1 == nil && err2 == nil && x.Equal(y)
}

// SameText reports whether two JSON texts are the same but for blanks.
func SameText(a, b []byte) bool {
	x, err1 := jsontree.Parse(a, "")
	y, err2 := jsontree.Parse(b, "")
	return err1 == nil && err2 == nil && bytes.Equal([]byte(x.Compact()), []byte(y.Compact()))
}

// Tables that tests hold against the specification's own sources.
var (
	Required = required
	Choices  = choices
	Retired  = retired
	SpecType = specType
)

// FirstVersion is the release that the feature table says a member is from.
func FirstVersion(path []string) string {
	for _, f := range features {
		for _, p := range f.patterns {
			if bytes.IndexByte([]byte(p), '=') >= 0 {
				continue
			}
			segments, err := jsontree.Split(p)
			if err != nil || len(segments) > len(path) {
				continue
			}
			match := true
			for i := range segments {
				match = match && segments[i] == path[i]
			}
			if match {
				return f.version
			}
		}
	}
	return baseVersion
}

// MemberNames lists the JSON members of a struct type.
var FieldsOf = fieldsOf

// FieldName is the name of a field.
func FieldName(f field) string { return f.name }
