package jsontree

import "fmt"

// Get returns the value at a path of plain member names, or nil.
func (t *Tree) Get(path ...string) *Node {
	n := t.Root
	for _, name := range path {
		n = n.Member(name)
	}
	return n
}

// Text returns the string at a path, "" where there is none.
func (t *Tree) Text(path ...string) string {
	s, _ := t.Get(path...).Str()
	return s
}

// Object returns the object at a path, which is made where it is missing.
func (t *Tree) Object(path ...string) (*Node, error) {
	n := t.Root
	for i, name := range path {
		if n.Kind != KindObject {
			return nil, &Error{Pointer: Pointer(path[:i]...), Problem: fmt.Sprintf("is %s, expected an object", n.Kind)}
		}
		m := n.Obj[name]
		if m == nil {
			m = NewObject(t.By)
			n.SetMember(name, m)
		}
		n = m
	}
	if n.Kind != KindObject {
		return nil, &Error{Pointer: Pointer(path...), Problem: fmt.Sprintf("is %s, expected an object", n.Kind)}
	}
	return n, nil
}

// Array returns the array at a path, which is made where it is missing.
func (t *Tree) Array(path ...string) (*Node, error) {
	last := len(path) - 1
	parent, err := t.Object(path[:last]...)
	if err != nil {
		return nil, err
	}
	n := parent.Obj[path[last]]
	if n == nil {
		n = NewArray(t.By)
		parent.SetMember(path[last], n)
	}
	if n.Kind != KindArray {
		return nil, &Error{Pointer: Pointer(path...), Problem: fmt.Sprintf("is %s, expected an array", n.Kind)}
	}
	return n, nil
}

// Put writes a Go value at a path of member names, parents included.
func (t *Tree) Put(value any, path ...string) error {
	last := len(path) - 1
	parent, err := t.Object(path[:last]...)
	if err != nil {
		return err
	}
	n, err := FromGo(value, t.By)
	if err != nil {
		return err
	}
	parent.SetMember(path[last], n)
	return nil
}

// Drop removes what is at a path of member names, if anything is.
func (t *Tree) Drop(path ...string) {
	last := len(path) - 1
	if parent := t.Get(path[:last]...); parent != nil && parent.Kind == KindObject {
		parent.RemoveMember(path[last], t.By)
	}
}

// Upsert puts a value into an array of objects in the place of the elements whose member key has
// the same value, or at the end.
func (t *Tree) Upsert(key string, value any, path ...string) error {
	list, err := t.Array(path...)
	if err != nil {
		return err
	}
	n, err := FromGo(value, t.By)
	if err != nil {
		return err
	}
	list.ReplaceKeyed(n, func(e *Node) bool {
		m := e.Member(key)
		return m != nil && m.Equal(n.Obj[key])
	})
	return nil
}

// ReplaceKeyed puts n in the place of the first element that matches, takes the other matches away,
// and appends n where there is none.
func (n *Node) ReplaceKeyed(v *Node, same func(*Node) bool) {
	placed := false
	kept := n.List[:0]
	for _, e := range n.List {
		if !same(e) {
			kept = append(kept, e)
		} else if !placed {
			kept = append(kept, v)
			placed = true
		}
	}
	if !placed {
		kept = append(kept, v)
	}
	n.List = kept
}

// RemoveKeyed takes away the elements that match and says how many there were.
func (n *Node) RemoveKeyed(same func(*Node) bool) int {
	if n == nil {
		return 0
	}
	kept := n.List[:0]
	for _, e := range n.List {
		if !same(e) {
			kept = append(kept, e)
		}
	}
	removed := len(n.List) - len(kept)
	n.List = kept
	return removed
}

// Is reports whether a value is this string.
func (n *Node) Is(text string) bool { s, ok := n.Str(); return ok && s == text }

// RemoveOption takes an option away from a mount.
func (n *Node) RemoveOption(option string) {
	if options := n.Member("options"); options != nil {
		options.RemoveKeyed(func(e *Node) bool { return e.Is(option) })
	}
}

// Elements returns the elements of an array, which may be missing.
func Elements(n *Node) []*Node {
	if n == nil {
		return nil
	}
	return n.List
}
