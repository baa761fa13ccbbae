package specedit

import (
	"fmt"

	"ocibundle/specedit/jsontree"
)

// The operations of RFC 6902 are done on the tree itself, not by a library over JSON text:
// selectors, the blame for what an edit wrote, and errors that name what is there all need the walk
// anyway. A library is the oracle in the tests, which also name where it departs from the RFC.

// Add is the "add" operation of RFC 6902, section 4.1.
func Add(label, pointer, value string) (Edit, error) {
	return opEdit(label, jsontree.Operation{Op: "add", Path: pointer, Value: valueOf(value)})
}

// Replace is the "replace" operation of RFC 6902, section 4.3.
func Replace(label, pointer, value string) (Edit, error) {
	return opEdit(label, jsontree.Operation{Op: "replace", Path: pointer, Value: valueOf(value)})
}

// Test is the "test" operation of RFC 6902, section 4.6.
func Test(label, pointer, value string) (Edit, error) {
	return opEdit(label, jsontree.Operation{Op: "test", Path: pointer, Value: valueOf(value)})
}

// Remove is the "remove" operation of RFC 6902, section 4.2.
func Remove(label, pointer string) (Edit, error) {
	return opEdit(label, jsontree.Operation{Op: "remove", Path: pointer})
}

// Copy is the "copy" operation of RFC 6902, section 4.5.
func Copy(label, from, pointer string) (Edit, error) {
	return opEdit(label, jsontree.Operation{Op: "copy", From: from, Path: pointer})
}

// Move is the "move" operation of RFC 6902, section 4.4.
func Move(label, from, pointer string) (Edit, error) {
	return opEdit(label, jsontree.Operation{Op: "move", From: from, Path: pointer})
}

// Set adds or replaces a value and creates the parents that are missing: arrays where the
// specification has an array, objects elsewhere.
func Set(label, pointer, value string) (Edit, error) {
	if _, err := jsontree.Split(pointer); err != nil {
		return Edit{}, Blame(label, err)
	}
	v := valueOf(value)
	return NewEdit(label, func(d *Doc) error { return d.Set(pointer, v.Clone(d.By)) }), nil
}

// valueOf reads the VALUE of a flag: JSON where it parses as JSON, else a string.
func valueOf(text string) *jsontree.Node {
	if n, err := jsontree.Parse([]byte(text), ""); err == nil {
		return n
	}
	return jsontree.NewString(text, "")
}

func opEdit(label string, o jsontree.Operation) (Edit, error) {
	for _, p := range []string{o.From, o.Path} {
		if _, err := jsontree.Split(p); err != nil {
			return Edit{}, Blame(label, err)
		}
	}
	return NewEdit(label, func(d *Doc) error { return d.Operate(o) }), nil
}

// Patch is a whole RFC 6902 patch. A failing operation leaves nothing of it.
func Patch(label string, patch []byte) (Edit, error) {
	ops, err := jsontree.ParsePatch(patch)
	if err != nil {
		return Edit{}, Blame(label, err)
	}
	return NewEdit(label, func(d *Doc) error {
		for i, o := range ops {
			if err := d.Operate(o); err != nil {
				return Blame(fmt.Sprintf("%s, operation %d (%s)", label, i, o.Op), err)
			}
		}
		return nil
	}), nil
}

// MergePatch is an RFC 7386 merge patch.
func MergePatch(label string, patch []byte) (Edit, error) {
	root, err := jsontree.Parse(patch, "")
	if err != nil {
		return Edit{}, Blame(label, fmt.Errorf("read the merge patch: %w", err))
	}
	return NewEdit(label, func(d *Doc) error {
		d.Root = jsontree.Merge(d.Root, root, d.By)
		return nil
	}), nil
}

// Diff is the RFC 6902 patch that makes b out of a, both JSON texts. Objects are changed member by
// member. So are arrays, around the longest run of elements that stay; a list of words, such as the
// options of a mount, is replaced where that is shorter to write.
func Diff(a, b []byte) ([]byte, error) {
	from, err := jsontree.Parse(a, "")
	if err != nil {
		return nil, fmt.Errorf("read the first document: %w", err)
	}
	to, err := jsontree.Parse(b, "")
	if err != nil {
		return nil, fmt.Errorf("read the second document: %w", err)
	}
	patch := jsontree.Diff(from, to)
	version, _ := to.Member("ociVersion").Str()
	if len(patch.List) > 0 && older(version, versionNeeded(to, nil)) && to.Member("ociVersion").Equal(from.Member("ociVersion")) {
		unversioned := from.Clone("")
		unversioned.RemoveMember("ociVersion", "")
		patch = jsontree.Diff(unversioned, to)
	}
	return patch.Encode(), nil
}
