package specedit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The operations of RFC 6902 are done on the tree itself, not by a library
// over JSON text: selectors, the blame for what an edit wrote, and errors that
// name what is there all need the walk anyway. A library is the oracle in the
// tests, which also name where it departs from the RFC.

// operation is one operation of an RFC 6902 patch.
type operation struct {
	op, path, from string
	value          *node // nil: the operation has none
}

// Add is the "add" operation of RFC 6902, section 4.1.
func Add(label, pointer, value string) (Edit, error) {
	return opEdit(label, operation{op: "add", path: pointer, value: valueOf(value)})
}

// Replace is the "replace" operation of RFC 6902, section 4.3.
func Replace(label, pointer, value string) (Edit, error) {
	return opEdit(label, operation{op: "replace", path: pointer, value: valueOf(value)})
}

// Test is the "test" operation of RFC 6902, section 4.6.
func Test(label, pointer, value string) (Edit, error) {
	return opEdit(label, operation{op: "test", path: pointer, value: valueOf(value)})
}

// Remove is the "remove" operation of RFC 6902, section 4.2.
func Remove(label, pointer string) (Edit, error) {
	return opEdit(label, operation{op: "remove", path: pointer})
}

// Copy is the "copy" operation of RFC 6902, section 4.5.
func Copy(label, from, pointer string) (Edit, error) {
	return opEdit(label, operation{op: "copy", from: from, path: pointer})
}

// Move is the "move" operation of RFC 6902, section 4.4.
func Move(label, from, pointer string) (Edit, error) {
	return opEdit(label, operation{op: "move", from: from, path: pointer})
}

// Set adds or replaces a value and creates the parents that are missing:
// arrays where the specification has an array, objects elsewhere.
func Set(label, pointer, value string) (Edit, error) {
	if _, err := splitRaw(pointer); err != nil {
		return Edit{}, blame(label, err)
	}
	v := valueOf(value)
	return newEdit(label, func(d *Doc) error { return d.set(pointer, v.clone(d.by)) }), nil
}

// valueOf reads the VALUE of a flag: JSON where it parses as JSON, else a
// string.
func valueOf(text string) *node {
	if n, err := parse([]byte(text), ""); err == nil {
		return n
	}
	return newString(text, "")
}

func opEdit(label string, o operation) (Edit, error) {
	for _, p := range []string{o.from, o.path} {
		if _, err := splitRaw(p); err != nil {
			return Edit{}, blame(label, err)
		}
	}
	return newEdit(label, func(d *Doc) error { return d.operate(o) }), nil
}

// Patch is a whole RFC 6902 patch. A failing operation leaves nothing of it.
func Patch(label string, patch []byte) (Edit, error) {
	ops, err := parsePatch(patch)
	if err != nil {
		return Edit{}, blame(label, err)
	}
	return newEdit(label, func(d *Doc) error {
		for i, o := range ops {
			if err := d.operate(o); err != nil {
				return blame(fmt.Sprintf("%s, operation %d (%s)", label, i, o.op), err)
			}
		}
		return nil
	}), nil
}

func parsePatch(patch []byte) ([]operation, error) {
	root, err := parse(patch, "")
	if err != nil {
		return nil, fmt.Errorf("read the patch: %w", err)
	}
	if root.kind != kindArray {
		return nil, &treeError{Problem: fmt.Sprintf("an RFC 6902 patch is an array of operations, this is %s", root.kind)}
	}
	ops := make([]operation, 0, len(root.list))
	for i, n := range root.list {
		o, err := parseOperation(n)
		if err != nil {
			return nil, &treeError{Problem: fmt.Sprintf("operation %d: %v", i, err)}
		}
		ops = append(ops, o)
	}
	return ops, nil
}

func parseOperation(n *node) (operation, error) {
	var o operation
	if n.kind != kindObject {
		return o, fmt.Errorf("an operation is an object, this is %s", n.kind)
	}
	name := func(member string) (string, error) {
		v := n.obj[member]
		if v == nil {
			return "", fmt.Errorf("no member %q", member)
		}
		s, ok := v.str()
		if !ok {
			return "", fmt.Errorf("member %q is %s, a string is wanted", member, v.kind)
		}
		return s, nil
	}
	var err error
	if o.op, err = name("op"); err != nil {
		return o, err
	}
	if o.path, err = name("path"); err != nil {
		return o, err
	}
	switch o.op {
	case "add", "replace", "test":
		if o.value = n.obj["value"]; o.value == nil {
			return o, fmt.Errorf("%s %s: no member %q", o.op, o.path, "value")
		}
	case "copy", "move":
		if o.from, err = name("from"); err != nil {
			return o, err
		}
	case "remove":
	default:
		return o, fmt.Errorf("there is no operation %q: add, remove, replace, move, copy and test are", o.op)
	}
	for _, p := range []string{o.path, o.from} {
		if _, err := splitRaw(p); err != nil {
			return o, err
		}
	}
	return o, nil
}

func (t *tree) operate(o operation) error {
	switch o.op {
	case "add":
		return t.add(o.path, o.value.clone(t.by))
	case "replace":
		p, err := t.existing(o.path)
		if err != nil {
			return err
		}
		t.write(p, o.value.clone(t.by))
		return nil
	case "remove":
		p, err := t.existing(o.path)
		if err != nil {
			return err
		}
		return t.take(p)
	case "test":
		p, err := t.existing(o.path)
		if err != nil {
			return err
		}
		if !p.value.equal(o.value) {
			return &treeError{Pointer: p.String(), Problem: fmt.Sprintf("is %s, not %s", brief(p.value), brief(o.value))}
		}
		return nil
	case "copy":
		from, err := t.existing(o.from)
		if err != nil {
			return err
		}
		return t.add(o.path, from.value.clone(t.by))
	case "move":
		return t.move(o.from, o.path)
	}
	return fmt.Errorf("unknown operation %q", o.op)
}

// brief shows a value in an error, cut where it is long.
func brief(n *node) string {
	const limit = 120
	s := n.compact()
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "..."
}

// add inserts into an array, and writes a member of an object.
func (t *tree) add(pointer string, v *node) error {
	p, err := t.find(pointer)
	if err != nil {
		return err
	}
	if p.parent != nil && p.parent.kind == kindArray {
		list := p.parent.list
		p.parent.list = append(list[:p.index:p.index], append([]*node{v}, list[p.index:]...)...)
		return nil
	}
	t.write(p, v)
	return nil
}

// write puts a value in the place of what is there.
func (t *tree) write(p *place, v *node) {
	switch {
	case p.parent == nil:
		t.root = v
	case p.parent.kind == kindObject:
		p.parent.setMember(p.name, v)
	default:
		p.parent.list[p.index] = v
	}
}

// take removes what is at a place.
func (t *tree) take(p *place) error {
	switch {
	case p.parent == nil:
		return &treeError{Problem: "the whole document cannot be removed"}
	case p.parent.kind == kindObject:
		p.parent.removeMember(p.name, t.by)
	default:
		p.parent.list = append(p.parent.list[:p.index:p.index], p.parent.list[p.index+1:]...)
	}
	return nil
}

func (t *tree) move(from, to string) error {
	p, err := t.existing(from)
	if err != nil {
		return err
	}
	target, err := t.find(to)
	if err != nil && len(p.path) == 0 {
		return err
	}
	if err == nil && len(target.path) >= len(p.path) {
		inside := true
		for i := range p.path {
			inside = inside && target.path[i] == p.path[i]
		}
		if inside && len(target.path) > len(p.path) {
			return &treeError{Pointer: p.String(), Problem: fmt.Sprintf("cannot be moved into itself (%s)", target)}
		}
		if inside {
			return nil // onto itself: nothing moves, not even within its parent
		}
	}
	if err := t.take(p); err != nil {
		return err
	}
	// The target is looked for again: what was taken away may have moved it.
	return t.add(to, p.value.clone(t.by))
}

// set writes a value and creates its parents.
func (t *tree) set(pointer string, v *node) error {
	segments, err := splitRaw(pointer)
	if err != nil {
		return err
	}
	p := &place{value: t.root}
	for len(segments) > 0 {
		if p.value == nil {
			made := t.container(p.path, segments[0])
			t.place(p, made)
			p.value = made
		}
		if p, segments, err = p.step(segments); err != nil {
			return err
		}
	}
	t.place(p, v)
	return nil
}

// place writes a value where p leads, past the end of an array too.
func (t *tree) place(p *place, v *node) {
	if p.parent != nil && p.parent.kind == kindArray && p.index == len(p.parent.list) {
		p.parent.list = append(p.parent.list, v)
		return
	}
	t.write(p, v)
}

// container makes the missing parent of a segment.
func (t *tree) container(path []string, next string) *node {
	made := kindNull
	if t.schema != nil {
		made = t.schema.Container(path)
	}
	if made == kindArray || made == kindNull && (next == "-" || next == "0") {
		return newArray(t.by)
	}
	return newObject(t.by)
}

// MergePatch is an RFC 7386 merge patch.
func MergePatch(label string, patch []byte) (Edit, error) {
	root, err := parse(patch, "")
	if err != nil {
		return Edit{}, blame(label, fmt.Errorf("read the merge patch: %w", err))
	}
	return newEdit(label, func(d *Doc) error {
		d.root = merge(d.root, root, d.by)
		return nil
	}), nil
}

// merge is the pseudocode of RFC 7386, section 2. A nil target is one that
// does not exist.
func merge(target, patch *node, by string) *node {
	if patch.kind != kindObject {
		return patch.clone(by)
	}
	if target == nil || target.kind != kindObject {
		target = newObject(by)
	}
	for _, name := range patch.keys {
		v := patch.obj[name]
		if v.kind == kindNull {
			target.removeMember(name, by)
			continue
		}
		target.setMember(name, merge(target.obj[name], v, by))
	}
	return target
}

// Diff is the RFC 6902 patch that makes b out of a, both JSON texts. Objects are
// changed member by member. So are arrays, around the longest run of elements
// that stay; a list of words, such as the options of a mount, is replaced where
// that is shorter to write.
func Diff(a, b []byte) ([]byte, error) {
	from, err := parse(a, "")
	if err != nil {
		return nil, fmt.Errorf("read the first document: %w", err)
	}
	to, err := parse(b, "")
	if err != nil {
		return nil, fmt.Errorf("read the second document: %w", err)
	}
	return diff(from, to).encode(), nil
}

// diff is the patch that makes b out of a.
func diff(a, b *node) *node { return operationNodes(appendDiff(nil, "", a, b)...) }

func appendDiff(ops []operation, path string, a, b *node) []operation {
	if a.equal(b) && sameText(a, b) {
		return ops
	}
	switch {
	case a.kind == kindObject && b.kind == kindObject:
		for _, k := range a.keys {
			if _, ok := b.obj[k]; !ok {
				ops = append(ops, operation{op: "remove", path: path + "/" + escapeToken(k)})
			}
		}
		for _, k := range b.keys {
			p := path + "/" + escapeToken(k)
			if v, ok := a.obj[k]; ok {
				ops = appendDiff(ops, p, v, b.obj[k])
			} else {
				ops = append(ops, operation{op: "add", path: p, value: b.obj[k]})
			}
		}
		return ops
	case a.kind == kindArray && b.kind == kindArray:
		parts := appendArrayDiff(nil, path, a.list, b.list)
		whole := operation{op: "replace", path: path, value: b}
		if scalars(a) && scalars(b) && !onlyAdds(parts) && len(operationNodes(whole).compact()) < len(operationNodes(parts...).compact()) {
			return append(ops, whole)
		}
		return append(ops, parts...)
	}
	return append(ops, operation{op: "replace", path: path, value: b})
}

func scalars(n *node) bool {
	return !slices.ContainsFunc(n.list, func(e *node) bool { return e.kind == kindArray || e.kind == kindObject })
}

func onlyAdds(ops []operation) bool {
	return !slices.ContainsFunc(ops, func(o operation) bool { return o.op != "add" })
}

// operationNodes is a patch as a JSON value.
func operationNodes(ops ...operation) *node {
	list := newArray("")
	for _, o := range ops {
		n := newObject("")
		n.setMember("op", newString(o.op, ""))
		n.setMember("path", newString(o.path, ""))
		if o.value != nil {
			n.setMember("value", o.value)
		}
		list.list = append(list.list, n)
	}
	return list
}

// sameText tells values that are equal but not written the same, as 1 and 1.0.
func sameText(a, b *node) bool {
	switch a.kind {
	case kindNumber:
		return a.text == b.text
	case kindArray:
		for i := range a.list {
			if !sameText(a.list[i], b.list[i]) {
				return false
			}
		}
	case kindObject:
		for k, v := range a.obj {
			if !sameText(v, b.obj[k]) {
				return false
			}
		}
	}
	return true
}

// appendArrayDiff keeps a longest common subsequence of elements and removes,
// changes and adds between them.
func appendArrayDiff(ops []operation, path string, a, b []*node) []operation {
	same := func(x, y *node) bool { return x.equal(y) && sameText(x, y) }
	start := 0
	for start < len(a) && start < len(b) && same(a[start], b[start]) {
		start++
	}
	endA, endB := len(a), len(b)
	for endA > start && endB > start && same(a[endA-1], b[endB-1]) {
		endA--
		endB--
	}
	midA, midB := a[start:endA], b[start:endB]
	const limit = 4 << 20 // cells of the table below: beyond it, a config is no longer edited by hand
	if len(midA) > limit/max(1, len(midB)) {
		return append(ops, operation{op: "replace", path: path, value: &node{kind: kindArray, list: b}})
	}
	// lcs[i][j]: length of the common subsequence of midA[i:] and midB[j:].
	lcs := make([][]int, len(midA)+1)
	for i := range lcs {
		lcs[i] = make([]int, len(midB)+1)
	}
	for i := len(midA) - 1; i >= 0; i-- {
		for j := len(midB) - 1; j >= 0; j-- {
			if same(midA[i], midB[j]) {
				lcs[i][j] = lcs[i+1][j+1] + 1
			} else {
				lcs[i][j] = max(lcs[i+1][j], lcs[i][j+1])
			}
		}
	}
	// at is the index in the array as it is once the operations so far are done.
	i, j, at := 0, 0, start
	for i < len(midA) || j < len(midB) {
		p := path + "/" + strconv.Itoa(at)
		switch {
		case i < len(midA) && j < len(midB) && same(midA[i], midB[j]):
			i, j, at = i+1, j+1, at+1
		case i < len(midA) && j < len(midB) && lcs[i+1][j+1] == lcs[i][j]:
			ops = appendDiff(ops, p, midA[i], midB[j])
			i, j, at = i+1, j+1, at+1
		case i < len(midA) && (j == len(midB) || lcs[i+1][j] == lcs[i][j]):
			ops = append(ops, operation{op: "remove", path: p})
			i++
		default:
			ops = append(ops, operation{op: "add", path: p, value: midB[j]})
			j, at = j+1, at+1
		}
	}
	return ops
}
