package specedit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// SplitPointer splits the PTR=VALUE of a flag at the first "=" outside of a
// [key=value] segment. ok is false where there is no such "=".
func SplitPointer(arg string) (pointer, value string, ok bool) {
	for i := 0; i < len(arg); i++ {
		if arg[i] == '=' {
			return arg[:i], arg[i+1:], true
		}
		if arg[i] == '[' && i > 0 && arg[i-1] == '/' {
			if n := selectorLen(arg[i:]); n > 0 {
				i += n - 1
			}
		}
	}
	return arg, "", false
}

// selectorLen is the length of the [key=value] that s starts with, 0 if it
// starts with none. The value may hold "/", "=" and "]"; it ends at the first
// "]" after which a pointer can end or go on.
func selectorLen(s string) int {
	for i := 1; i < len(s); i++ {
		if s[i] == ']' && (i+1 == len(s) || s[i+1] == '/' || s[i+1] == '=') && strings.Contains(s[:i], "=") {
			return i + 1
		}
	}
	return 0
}

var unescaper = strings.NewReplacer("~1", "/", "~0", "~")

// escapeToken writes a member name as a pointer segment (RFC 6901, section 3).
func escapeToken(s string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(s)
}

func pointerOf(tokens ...string) string {
	var b strings.Builder
	for _, t := range tokens {
		b.WriteByte('/')
		b.WriteString(escapeToken(t))
	}
	return b.String()
}

// splitRaw cuts a pointer into its segments, still escaped.
func splitRaw(pointer string) ([]string, error) {
	if pointer == "" {
		return nil, nil
	}
	if pointer[0] != '/' {
		return nil, &treeError{Pointer: pointer, Problem: fmt.Sprintf("a pointer starts with \"/\": did you mean /%s?", pointer)}
	}
	segments := strings.Split(pointer[1:], "/")
	for _, s := range segments {
		for i := range len(s) {
			if s[i] == '~' && (i+1 == len(s) || s[i+1] != '0' && s[i+1] != '1') {
				return nil, &treeError{Pointer: pointer, Problem: "in a pointer \"~\" is written ~0, and \"/\" within a name ~1"}
			}
		}
	}
	return segments, nil
}

// treeError is what a pointer, a patch or a document asks for that cannot be had.
type treeError struct {
	Pointer string // RFC 6901 pointer of what it is about, "" for no one place
	Problem string // what was found and what is wanted
}

func (e *treeError) Error() string {
	if e.Pointer == "" {
		return e.Problem
	}
	return e.Pointer + ": " + e.Problem
}

// schema is what a tree's specification knows, for suggestions and for parents that
// are to be made.
type schema interface {
	// Members lists the names that the object at a path may have.
	Members(path []string) []string
	// Elsewhere is the pointer of the one place where a name stands, "" for none.
	Elsewhere(name string) string
	// Container says what is at a path: an array, an object, or kindNull for
	// neither.
	Container(path []string) kind
}

// tree is a document that is being changed.
type tree struct {
	root   *node
	by     string // label of the edit at work, for what it writes
	schema schema // nil: nothing is known
}

func (t *tree) members(path []string) []string {
	if t.schema == nil {
		return nil
	}
	return t.schema.Members(path)
}

func (t *tree) elsewhere(name string) string {
	if t.schema == nil {
		return ""
	}
	return t.schema.Elsewhere(name)
}

// place is where a pointer leads: a member or element of parent, which need
// not exist yet. The whole document has no parent.
type place struct {
	parent *node
	name   string   // member name, if parent is an object
	index  int      // element index, if parent is an array; its length for "-"
	value  *node    // what is there; nil: nothing yet
	path   []string // the segments with selectors resolved
}

func (p *place) String() string { return pointerOf(p.path...) }

// find resolves a pointer. Every segment but the last must exist.
func (t *tree) find(pointer string) (*place, error) {
	segments, err := splitRaw(pointer)
	if err != nil {
		return nil, err
	}
	p := &place{value: t.root}
	for len(segments) > 0 {
		if p.value == nil {
			return nil, t.missing(p, pointer, segments)
		}
		p, segments, err = p.step(segments)
		if err != nil {
			return nil, err
		}
	}
	return p, nil
}

// step goes one segment down, from a value that exists.
func (p *place) step(segments []string) (*place, []string, error) {
	next := &place{parent: p.value, path: slices.Clone(p.path)}
	switch p.value.kind {
	case kindObject:
		next.name = unescaper.Replace(segments[0])
		next.value = p.value.obj[next.name]
		next.path = append(next.path, next.name)
		return next, segments[1:], nil
	case kindArray:
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
			i, err := p.selectElement(segment)
			if err != nil {
				return nil, nil, err
			}
			next.index = i
		} else {
			i, err := arrayIndex(unescaper.Replace(segment), len(p.value.list))
			if err != nil {
				return nil, nil, &treeError{Pointer: p.String() + "/" + segment, Problem: err.Error()}
			}
			next.index = i
		}
		if next.index < len(p.value.list) {
			next.value = p.value.list[next.index]
			next.path = append(next.path, strconv.Itoa(next.index))
		} else {
			next.path = append(next.path, segment)
		}
		return next, rest, nil
	}
	return nil, nil, &treeError{Pointer: pointerOf(p.path...), Problem: fmt.Sprintf("is %s, which has no member %q", p.value.kind, unescaper.Replace(segments[0]))}
}

// arrayIndex reads an index as RFC 6901, section 4 spells it: no sign, no
// leading zero; "-" is the place after the last element.
func arrayIndex(s string, length int) (int, error) {
	if s == "-" {
		return length, nil
	}
	i, err := strconv.Atoi(s)
	if err != nil || i < 0 || strconv.Itoa(i) != s {
		return 0, fmt.Errorf("%q is no index of an array: give a number, \"-\" for its end, or a selector like [type=network]", s)
	}
	if i > length {
		return 0, fmt.Errorf("the array has %s", count(length, "element"))
	}
	return i, nil
}

func count(n int, what string) string {
	switch n {
	case 0:
		return "no " + what
	case 1:
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// selectElement finds the one element that a [key=value] stands for.
func (p *place) selectElement(segment string) (int, error) {
	inner := strings.TrimSuffix(strings.TrimPrefix(segment, "["), "]")
	key, want, ok := strings.Cut(inner, "=")
	if !ok || len(inner) != len(segment)-2 {
		return 0, &treeError{Pointer: p.String() + "/" + segment, Problem: "a selector is written [key=value]"}
	}
	key, want = unescaper.Replace(key), unescaper.Replace(want)
	var found []int
	var there []string
	for i, e := range p.value.list {
		m := e.member(key)
		if m == nil {
			continue
		}
		there = append(there, m.text)
		switch m.kind {
		case kindString, kindNumber, kindBool:
			if m.text == want {
				found = append(found, i)
			}
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	e := &treeError{Pointer: p.String() + "/" + segment}
	switch {
	case len(found) > 1:
		var at []string
		for _, i := range found {
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
		e.Problem = fmt.Sprintf("no element has %s %q; there is %s", key, want, strings.Join(there, ", "))
		if s := nearest(want, there); s != "" {
			e.Problem += fmt.Sprintf(": did you mean [%s=%s]?", key, s)
		}
	}
	return 0, e
}

// memberNames lists the distinct member names of an array's elements.
func (n *node) memberNames() []string {
	var names []string
	for _, e := range n.list {
		for _, k := range e.keys {
			if !slices.Contains(names, k) {
				names = append(names, k)
			}
		}
	}
	return names
}

// existing resolves a pointer whose last segment must exist too.
func (t *tree) existing(pointer string) (*place, error) {
	p, err := t.find(pointer)
	if err != nil {
		return nil, err
	}
	if p.value == nil {
		return nil, t.missing(p, pointer, nil)
	}
	return p, nil
}

// missing says that nothing is at p, and what was probably meant. rest is
// what the pointer goes on with.
func (t *tree) missing(p *place, pointer string, rest []string) error {
	e := &treeError{Pointer: p.String(), Problem: "does not exist"}
	if p.parent.kind == kindArray {
		e.Problem = "is past the end: the array has " + count(len(p.parent.list), "element")
		return e
	}
	tail := ""
	if len(rest) > 0 {
		tail = "/" + strings.Join(rest, "/")
	}
	parents := p.path[:len(p.path)-1]
	if by := p.parent.gone[p.name]; by != "" {
		e.Problem = fmt.Sprintf("does not exist any more: `%s` removed it", by)
		return e
	}
	if s := nearest(p.name, p.parent.keys); s != "" {
		e.Problem += fmt.Sprintf(": did you mean %s%s?", pointerOf(append(slices.Clone(parents), s)...), tail)
		return e
	}
	if s := nearest(p.name, t.members(parents)); s != "" && s != p.name {
		e.Problem += fmt.Sprintf(": did you mean %s%s?", pointerOf(append(slices.Clone(parents), s)...), tail)
		return e
	}
	if s := t.elsewhere(p.name); s != "" && s != p.String() {
		e.Problem += fmt.Sprintf(": did you mean %s%s?", s, tail)
	}
	return e
}

// nearest finds the candidate that a misspelt name most likely stands for:
// the same but for case, or within an edit distance of a third of its length.
func nearest(name string, candidates []string) string {
	best, bestDistance := "", max(1, len(name)/3)+1
	for _, c := range candidates {
		if strings.EqualFold(c, name) {
			return c
		}
		if d := distance(strings.ToLower(name), strings.ToLower(c)); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is the number of letters to insert, delete, change or swap with
// their neighbour to get from a to b (optimal string alignment).
func distance(a, b string) int {
	if max(len(a), len(b)) > 128 {
		return max(len(a), len(b))
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
