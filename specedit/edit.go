package specedit

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Edit is one change of a config. The zero value changes nothing.
type Edit struct {
	// Label is the edit in the user's own words, `--env FOO=1`. Errors blame
	// it, so the caller sets it to what was typed.
	Label string
	// Warnings are sentences about what of the edit was understood but has no
	// effect. They are known as soon as the edit is made.
	Warnings []string

	apply func(*Doc) error
}

// EditError is an edit that does not apply, or whose result is no valid
// config.
type EditError struct {
	Label   string // the edit that is to blame; empty: the built-in template
	Pointer string // RFC 6901 pointer of what it is about, "" for no one place
	Problem string // what was found and what is wanted
	Hint    string // something to try, "" for nothing
	Err     error  // the cause, if there is one
}

func (e *EditError) Error() string {
	var parts []string
	if e.Label != "" {
		parts = append(parts, "`"+shorten(e.Label)+"`")
	}
	// A problem that starts with a verb has the pointer for its subject.
	verb, _, _ := strings.Cut(e.Problem, " ")
	switch {
	case e.Pointer == "" || e.Problem == "":
		parts = append(parts, slices.DeleteFunc([]string{e.Pointer, e.Problem}, func(s string) bool { return s == "" })...)
	case slices.Contains([]string{"is", "does", "has", "selects", "needs", "cannot"}, verb):
		parts = append(parts, e.Pointer+" "+e.Problem)
	default:
		parts = append(parts, e.Pointer, e.Problem)
	}
	if e.Err != nil && e.Problem == "" {
		parts = append(parts, e.Err.Error())
	}
	return strings.Join(parts, ": ")
}

// shorten cuts a label to what fits into a line: it may hold a whole patch.
func shorten(label string) string {
	const limit = 120
	label = strings.Join(strings.Fields(label), " ")
	if r := []rune(label); len(r) > limit {
		return string(r[:limit]) + "..."
	}
	return label
}

func (e *EditError) Unwrap() error { return e.Err }

// ErrUnmapped is wrapped by the error for a user or group id of the process
// that the config's own id mapping lacks.
var ErrUnmapped = errors.New("the id is not in the mapping")

// blame puts the label of an edit on an error that has none yet.
func blame(label string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*EditError](err); ok {
		if e.Label == "" {
			e.Label = label
		}
		return e
	}
	if e, ok := errors.AsType[*treeError](err); ok {
		return &EditError{Label: label, Pointer: e.Pointer, Problem: e.Problem}
	}
	return &EditError{Label: label, Err: err}
}

// Doc is a config while it is being edited.
type Doc struct {
	tree
	base  string // label of what the edits started from; empty: a built-in template
	host  Host
	users UserLookup

	groups  []int           // what GroupAdd added: it outlives a later User
	swapSet bool            // MemorySwap was given: Memory leaves it alone
	notes   []string        // see Plan.Warnings
	profile *pendingSeccomp // a seccomp profile that depends on the final capabilities

	// unresolved is the last user that the rootfs lacks, and where it stands.
	unresolved struct {
		uid *node
		err error
	}
}

// note records a sentence for [Plan.Warnings].
func (d *Doc) note(format string, args ...any) {
	d.notes = append(d.notes, fmt.Sprintf(format, args...))
}

// newEdit makes an edit whose label can be overwritten by the caller: errors
// take the label that the edit has when it is applied.
func newEdit(label string, apply func(*Doc) error) Edit {
	return Edit{Label: label, apply: apply}
}

// Join makes one edit of several, under one label.
func Join(label string, edits ...Edit) Edit {
	e := newEdit(label, func(d *Doc) error {
		for _, part := range edits {
			if part.apply == nil {
				continue
			}
			if err := part.apply(d); err != nil {
				return err
			}
		}
		return nil
	})
	for _, part := range edits {
		e.Warnings = append(e.Warnings, part.Warnings...)
	}
	return e
}

// run applies one edit under its label.
func (d *Doc) run(e Edit) error {
	if e.apply == nil {
		return nil
	}
	d.by = e.Label
	if d.by == "" {
		d.by = "an edit"
	}
	defer func() { d.by = "" }()
	return blame(e.Label, e.apply(d))
}

// get returns the value at a path of plain member names, or nil.
func (t *tree) get(path ...string) *node {
	n := t.root
	for _, name := range path {
		n = n.member(name)
	}
	return n
}

// text returns the string at a path, "" where there is none.
func (t *tree) text(path ...string) string {
	s, _ := t.get(path...).str()
	return s
}

// object returns the object at a path, which is made where it is missing.
func (t *tree) object(path ...string) (*node, error) {
	n := t.root
	for i, name := range path {
		if n.kind != kindObject {
			return nil, &treeError{Pointer: pointerOf(path[:i]...), Problem: fmt.Sprintf("is %s, an object is wanted", n.kind)}
		}
		m := n.obj[name]
		if m == nil {
			m = newObject(t.by)
			n.setMember(name, m)
		}
		n = m
	}
	if n.kind != kindObject {
		return nil, &treeError{Pointer: pointerOf(path...), Problem: fmt.Sprintf("is %s, an object is wanted", n.kind)}
	}
	return n, nil
}

// array returns the array at a path, which is made where it is missing.
func (t *tree) array(path ...string) (*node, error) {
	last := len(path) - 1
	parent, err := t.object(path[:last]...)
	if err != nil {
		return nil, err
	}
	n := parent.obj[path[last]]
	if n == nil {
		n = newArray(t.by)
		parent.setMember(path[last], n)
	}
	if n.kind != kindArray {
		return nil, &treeError{Pointer: pointerOf(path...), Problem: fmt.Sprintf("is %s, an array is wanted", n.kind)}
	}
	return n, nil
}

// put writes a Go value at a path of member names, parents included.
func (t *tree) put(value any, path ...string) error {
	last := len(path) - 1
	parent, err := t.object(path[:last]...)
	if err != nil {
		return err
	}
	n, err := fromGo(value, t.by)
	if err != nil {
		return err
	}
	parent.setMember(path[last], n)
	return nil
}

// drop removes what is at a path of member names, if anything is.
func (t *tree) drop(path ...string) {
	last := len(path) - 1
	if parent := t.get(path[:last]...); parent != nil && parent.kind == kindObject {
		parent.removeMember(path[last], t.by)
	}
}

// upsert puts a value into an array of objects in the place of the elements
// whose member key has the same value, or at the end.
func (t *tree) upsert(key string, value any, path ...string) error {
	list, err := t.array(path...)
	if err != nil {
		return err
	}
	n, err := fromGo(value, t.by)
	if err != nil {
		return err
	}
	list.replaceKeyed(n, func(e *node) bool {
		m := e.member(key)
		return m != nil && m.equal(n.obj[key])
	})
	return nil
}

// replaceKeyed puts n in the place of the first element that matches, takes
// the other matches away, and appends n where there is none.
func (n *node) replaceKeyed(v *node, same func(*node) bool) {
	placed := false
	kept := n.list[:0]
	for _, e := range n.list {
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
	n.list = kept
}

// removeKeyed takes away the elements that match and says how many there were.
func (n *node) removeKeyed(same func(*node) bool) int {
	if n == nil {
		return 0
	}
	kept := n.list[:0]
	for _, e := range n.list {
		if !same(e) {
			kept = append(kept, e)
		}
	}
	removed := len(n.list) - len(kept)
	n.list = kept
	return removed
}
