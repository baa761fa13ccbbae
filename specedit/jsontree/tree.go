package jsontree

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Error is what a pointer, a patch or a document asks for that cannot be had.
type Error struct {
	Pointer string // RFC 6901 pointer of what it is about, "" for no one place
	Problem string // what was found and what was expected
}

func (e *Error) Error() string {
	if e.Pointer == "" {
		return e.Problem
	}
	return e.Pointer + ": " + e.Problem
}

// schema is what a tree's specification knows, for suggestions and for parents that are to be made.
type schema interface {
	// Members lists the names that the object at a path may have.
	Members(path []string) []string
	// Elsewhere is the pointer of the one place where a name stands, "" for none.
	Elsewhere(name string) string
	// Container says what is at a path: an array, an object, or kindNull for neither.
	Container(path []string) Kind
}

// Tree is a document that is being changed.
type Tree struct {
	Root   *Node
	By     string // label of the edit at work, for what it writes
	Schema schema // nil: nothing is known

	copied int // values that copy and move operations made
	passed int // elements of arrays that operations had to go through or push along
}

// maxPassed bounds what a patch of many operations on a long array costs: a second or two.
const maxPassed = 1 << 24

// pass counts a way through an array.
func (t *Tree) pass(list []*Node) error {
	if t.passed += len(list); t.passed > maxPassed {
		return &Error{Problem: "too many operations on too long an array"}
	}
	return nil
}

// copyOf is a copy of a value for the edit at work. A patch that copies a document into itself
// doubles it each time.
func (t *Tree) copyOf(n *Node) (*Node, error) {
	if t.copied += n.Size(); t.copied > MaxValues {
		return nil, &Error{Problem: fmt.Sprintf("copies and moves more than %d values", MaxValues)}
	}
	return n.Clone(t.By), nil
}

// Size is the number of values in a value, itself included.
func (n *Node) Size() int {
	total := 1
	for _, e := range n.List {
		total += e.Size()
	}
	for _, e := range n.Obj {
		total += e.Size()
	}
	return total
}

func (t *Tree) members(path []string) []string {
	if t.Schema == nil {
		return nil
	}
	return t.Schema.Members(path)
}

func (t *Tree) elsewhere(name string) string {
	if t.Schema == nil {
		return ""
	}
	return t.Schema.Elsewhere(name)
}

// place is where a pointer leads: a member or element of parent, which need not exist yet. The
// whole document has no parent.
type place struct {
	parent *Node
	name   string   // member name, if parent is an object
	index  int      // element index, if parent is an array; its length for "-"
	value  *Node    // what is there; nil: nothing yet
	path   []string // the segments with selectors resolved
}

func (p *place) String() string { return Pointer(p.path...) }

// find resolves a pointer. Every segment but the last must exist.
func (t *Tree) find(pointer string) (*place, error) {
	segments, err := Split(pointer)
	if err != nil {
		return nil, err
	}
	p := &place{value: t.Root}
	for len(segments) > 0 {
		if p.value == nil {
			return nil, t.missing(p, pointer, segments)
		}
		p, segments, err = t.step(p, segments)
		if err != nil {
			return nil, err
		}
	}
	return p, nil
}

// step goes one segment down, from a value that exists.
func (t *Tree) step(p *place, segments []string) (*place, []string, error) {
	next := &place{parent: p.value, path: slices.Clone(p.path)}
	switch p.value.Kind {
	case KindObject:
		next.name = unescaper.Replace(segments[0])
		next.value = p.value.Obj[next.name]
		next.path = append(next.path, next.name)
		return next, segments[1:], nil
	case KindArray:
		segment, rest := segments[0], segments[1:]
		if strings.HasPrefix(segment, "[") {
			joined := strings.Join(segments, "/")
			if n := selectorLen(joined); n > 0 {
				segment = joined[:n]
				rest = nil
				if n < len(joined) {
					rest = strings.Split(joined[n+1:], "/")
				}
			}
			if err := t.pass(p.value.List); err != nil {
				return nil, nil, err
			}
			i, err := p.selectElement(segment)
			if err != nil {
				return nil, nil, err
			}
			next.index = i
		} else {
			i, err := arrayIndex(unescaper.Replace(segment), len(p.value.List))
			if err != nil {
				return nil, nil, &Error{Pointer: p.String() + "/" + segment, Problem: err.Error()}
			}
			next.index = i
		}
		if next.index < len(p.value.List) {
			next.value = p.value.List[next.index]
			next.path = append(next.path, strconv.Itoa(next.index))
		} else {
			next.path = append(next.path, segment)
		}
		return next, rest, nil
	}
	return nil, nil, &Error{Pointer: Pointer(p.path...), Problem: fmt.Sprintf("is %s, which has no member %q", p.value.Kind, unescaper.Replace(segments[0]))}
}

// arrayIndex reads an index as RFC 6901, section 4 spells it: no sign, no leading zero; "-" is the
// place after the last element.
func arrayIndex(s string, length int) (int, error) {
	if s == "-" {
		return length, nil
	}
	i, err := strconv.Atoi(s)
	if err != nil || i < 0 || strconv.Itoa(i) != s {
		return 0, fmt.Errorf("%q is not an index of an array: give a number, \"-\" for its end, or a selector like [type=network]", s)
	}
	if i > length {
		return 0, fmt.Errorf("the array has %s", Count(length, "element"))
	}
	return i, nil
}

// selectElement finds the one element that a [key=value] stands for.
func (p *place) selectElement(segment string) (int, error) {
	inner := strings.TrimSuffix(strings.TrimPrefix(segment, "["), "]")
	key, want, ok := strings.Cut(inner, "=")
	if !ok || len(inner) != len(segment)-2 {
		return 0, &Error{Pointer: p.String() + "/" + segment, Problem: "a selector is written [key=value]"}
	}
	key, want = unescaper.Replace(key), unescaper.Replace(want)
	var found []int
	for i, e := range p.value.List {
		if m := e.Member(key); m != nil && m.scalar() && m.Text == want {
			found = append(found, i)
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	var there []string
	for _, e := range p.value.List[:min(len(p.value.List), MaxCandidates)] {
		if m := e.Member(key); m != nil {
			there = append(there, m.Text)
		}
	}
	e := &Error{Pointer: p.String() + "/" + segment}
	switch {
	case len(found) > 1:
		var at []string
		for _, i := range found[:min(len(found), 10)] {
			at = append(at, fmt.Sprintf("%s/%d", p, i))
		}
		e.Problem = fmt.Sprintf("selects %d elements: %s", len(found), strings.Join(at, ", "))
	case len(there) == 0:
		e.Problem = fmt.Sprintf("no element has a member %q", key)
		if names := p.value.memberNames(); len(names) > 0 {
			e.Problem += "; there is " + strings.Join(names, ", ")
		} else {
			e.Problem = "the array has no elements to select from"
		}
	default:
		e.Problem = fmt.Sprintf("no element has %s %q; there is %s", key, want, strings.Join(there[:min(len(there), 10)], ", "))
		if s := Nearest(want, there); s != "" {
			e.Problem += fmt.Sprintf(": did you mean [%s=%s]?", key, s)
		}
	}
	return 0, e
}

// memberNames lists the first distinct member names of an array's elements.
func (n *Node) memberNames() []string {
	var names []string
	for _, e := range n.List {
		for _, k := range e.Keys {
			if len(names) < 10 && !slices.Contains(names, k) {
				names = append(names, k)
			}
		}
	}
	return names
}

// existing resolves a pointer whose last segment must exist too.
func (t *Tree) existing(pointer string) (*place, error) {
	p, err := t.find(pointer)
	if err != nil {
		return nil, err
	}
	if p.value == nil {
		return nil, t.missing(p, pointer, nil)
	}
	return p, nil
}

// missing says that nothing is at p, and what was probably meant. rest is what the pointer goes on
// with.
func (t *Tree) missing(p *place, pointer string, rest []string) error {
	e := &Error{Pointer: p.String(), Problem: "does not exist"}
	if p.parent.Kind == KindArray {
		e.Problem = "is past the end: the array has " + Count(len(p.parent.List), "element")
		return e
	}
	tail := ""
	if len(rest) > 0 {
		tail = "/" + strings.Join(rest, "/")
	}
	parents := p.path[:len(p.path)-1]
	if by := p.parent.Gone[p.name]; by != "" {
		e.Problem = fmt.Sprintf("does not exist any more: `%s` removed it", by)
		return e
	}
	if s := Nearest(p.name, p.parent.Keys); s != "" {
		e.Problem += fmt.Sprintf(": did you mean %s%s?", Pointer(append(slices.Clone(parents), s)...), tail)
		return e
	}
	if s := Nearest(p.name, t.members(parents)); s != "" && s != p.name {
		e.Problem += fmt.Sprintf(": did you mean %s%s?", Pointer(append(slices.Clone(parents), s)...), tail)
		return e
	}
	if s := t.elsewhere(p.name); s != "" && s != p.String() {
		e.Problem += fmt.Sprintf(": did you mean %s%s?", s, tail)
	}
	return e
}
