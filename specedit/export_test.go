package specedit

import "bytes"

// ApplyPatch applies an RFC 6902 patch to any JSON text, without the checks
// that only a config has to pass.
func ApplyPatch(doc, patch []byte) ([]byte, error) {
	root, err := parse(doc, "")
	if err != nil {
		return nil, err
	}
	e, err := Patch("--patch x", patch)
	if err != nil {
		return nil, err
	}
	d := &Doc{tree: tree{root: root, schema: specSchema{}}}
	if err := d.run(e); err != nil {
		return nil, err
	}
	return []byte(d.root.compact()), nil
}

// ApplyEdits applies edits to any JSON text.
func ApplyEdits(doc []byte, edits ...Edit) ([]byte, error) {
	root, err := parse(doc, "")
	if err != nil {
		return nil, err
	}
	d := &Doc{tree: tree{root: root, schema: specSchema{}}, users: noRootfs{}}
	for _, e := range edits {
		if err := d.run(e); err != nil {
			return nil, err
		}
	}
	return []byte(d.root.compact()), nil
}

// Equal is the equality of RFC 6902.
func Equal(a, b []byte) bool {
	x, err1 := parse(a, "")
	y, err2 := parse(b, "")
	return err1 == nil && err2 == nil && x.equal(y)
}

// SameText tells whether two JSON texts are the same but for blanks.
func SameText(a, b []byte) bool {
	x, err1 := parse(a, "")
	y, err2 := parse(b, "")
	return err1 == nil && err2 == nil && bytes.Equal([]byte(x.compact()), []byte(y.compact()))
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
			segments, err := splitRaw(p)
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
