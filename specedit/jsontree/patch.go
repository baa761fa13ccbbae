package jsontree

import (
	"fmt"
	"slices"
	"strings"
)

// Operation is one operation of an RFC 6902 patch.
type Operation struct {
	Op, Path, From string
	Value          *Node // nil: the operation has none
}

// ParsePatch reads an RFC 6902 patch. Errors name the operation.
func ParsePatch(patch []byte) ([]Operation, error) {
	root, err := Parse(patch, "")
	if err != nil {
		return nil, fmt.Errorf("read the patch: %w", err)
	}
	if root.Kind != KindArray {
		return nil, &Error{Problem: fmt.Sprintf("an RFC 6902 patch is an array of operations, this is %s", root.Kind)}
	}
	ops := make([]Operation, 0, len(root.List))
	for i, n := range root.List {
		o, err := parseOperation(n)
		if err != nil {
			return nil, &Error{Problem: fmt.Sprintf("operation %d: %v", i, err)}
		}
		ops = append(ops, o)
	}
	return ops, nil
}

func parseOperation(n *Node) (Operation, error) {
	var o Operation
	if n.Kind != KindObject {
		return o, fmt.Errorf("an operation is an object, this is %s", n.Kind)
	}
	name := func(member string) (string, error) {
		v := n.Obj[member]
		if v == nil {
			return "", fmt.Errorf("no member %q", member)
		}
		s, ok := v.Str()
		if !ok {
			return "", fmt.Errorf("member %q is %s, expected a string", member, v.Kind)
		}
		return s, nil
	}
	var err error
	if o.Op, err = name("op"); err != nil {
		return o, err
	}
	if o.Path, err = name("path"); err != nil {
		return o, err
	}
	switch o.Op {
	case "add", "replace", "test":
		if o.Value = n.Obj["value"]; o.Value == nil {
			return o, fmt.Errorf("%s %s: no member %q", o.Op, o.Path, "value")
		}
	case "copy", "move":
		if o.From, err = name("from"); err != nil {
			return o, err
		}
	case "remove":
	default:
		return o, fmt.Errorf("there is no operation %q: add, remove, replace, move, copy and test are", o.Op)
	}
	for _, p := range []string{o.Path, o.From} {
		if _, err := Split(p); err != nil {
			return o, err
		}
	}
	return o, nil
}

// Operate does one operation of a patch. Where one fails, the tree is of no more use.
func (t *Tree) Operate(o Operation) error {
	switch o.Op {
	case "add":
		return t.add(o.Path, o.Value.Clone(t.By))
	case "replace":
		p, err := t.existing(o.Path)
		if err != nil {
			return err
		}
		t.write(p, o.Value.Clone(t.By))
		return nil
	case "remove":
		p, err := t.existing(o.Path)
		if err != nil {
			return err
		}
		return t.take(p)
	case "test":
		p, err := t.existing(o.Path)
		if err != nil {
			return err
		}
		if !p.value.Equal(o.Value) {
			return &Error{Pointer: p.String(), Problem: fmt.Sprintf("is %s, not %s", Brief(p.value), Brief(o.Value))}
		}
		return nil
	case "copy":
		from, err := t.existing(o.From)
		if err != nil {
			return err
		}
		v, err := t.copyOf(from.value)
		if err != nil {
			return err
		}
		return t.add(o.Path, v)
	case "move":
		return t.move(o.From, o.Path)
	}
	return fmt.Errorf("unknown operation %q", o.Op)
}

// Brief shows a value in an error, cut where it is long.
func Brief(n *Node) string {
	const limit = 120
	s := n.Compact()
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "..."
}

// add inserts into an array, and writes a member of an object.
func (t *Tree) add(pointer string, v *Node) error {
	p, err := t.find(pointer)
	if err != nil {
		return err
	}
	if p.parent != nil && p.parent.Kind == KindArray {
		p.parent.List = slices.Insert(p.parent.List, p.index, v)
		return t.pass(p.parent.List[p.index:])
	}
	t.write(p, v)
	return nil
}

// write puts a value in the place of what is there.
func (t *Tree) write(p *place, v *Node) {
	switch {
	case p.parent == nil:
		t.Root = v
	case p.parent.Kind == KindObject:
		p.parent.SetMember(p.name, v)
	default:
		p.parent.List[p.index] = v
	}
}

// take removes what is at a place.
func (t *Tree) take(p *place) error {
	switch {
	case p.parent == nil:
		return &Error{Problem: "the whole document cannot be removed"}
	case p.parent.Kind == KindObject:
		p.parent.RemoveMember(p.name, t.By)
	default:
		if err := t.pass(p.parent.List[p.index:]); err != nil {
			return err
		}
		p.parent.List = append(p.parent.List[:p.index:p.index], p.parent.List[p.index+1:]...)
	}
	return nil
}

func (t *Tree) move(from, to string) error {
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
			return &Error{Pointer: p.String(), Problem: fmt.Sprintf("cannot be moved into itself (%s)", target)}
		}
		if inside {
			return nil // onto itself: nothing moves, not even within its parent
		}
	}
	v, err := t.copyOf(p.value)
	if err != nil {
		return err
	}
	if err := t.take(p); err != nil {
		return err
	}
	// The target is looked for again: what was taken away may have moved it.
	return t.add(to, v)
}

// Set writes a value and creates its parents.
func (t *Tree) Set(pointer string, v *Node) error {
	segments, err := Split(pointer)
	if err != nil {
		return err
	}
	p := &place{value: t.Root}
	for len(segments) > 0 {
		if p.value == nil {
			made := t.container(p.path, segments[0])
			t.place(p, made)
			p.value = made
		}
		if p, segments, err = t.step(p, segments); err != nil {
			return err
		}
	}
	t.place(p, v)
	return nil
}

// place writes a value where p leads, past the end of an array too.
func (t *Tree) place(p *place, v *Node) {
	if p.parent != nil && p.parent.Kind == KindArray && p.index == len(p.parent.List) {
		p.parent.List = append(p.parent.List, v)
		return
	}
	t.write(p, v)
}

// container makes the missing parent of a segment.
func (t *Tree) container(path []string, next string) *Node {
	made := KindNull
	if t.Schema != nil {
		made = t.Schema.Container(path)
	}
	if made == KindArray || made == KindNull && (next == "-" || next == "0") {
		return NewArray(t.By)
	}
	return NewObject(t.By)
}

// Merge is the pseudocode of RFC 7386, section 2. A nil target is one that does not exist.
func Merge(target, patch *Node, by string) *Node {
	if patch.Kind != KindObject {
		return patch.Clone(by)
	}
	if target == nil || target.Kind != KindObject {
		target = NewObject(by)
	}
	var gone []string
	for _, name := range patch.Keys {
		v := patch.Obj[name]
		if v.Kind == KindNull {
			gone = append(gone, name)
			continue
		}
		target.SetMember(name, Merge(target.Obj[name], v, by))
	}
	target.RemoveMembers(gone, by)
	return target
}
