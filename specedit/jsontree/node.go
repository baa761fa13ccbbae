// Package jsontree is a JSON document that keeps the order of its members, the text of its numbers
// and who wrote what, with RFC 6901 pointers, RFC 6902 patches and RFC 7386 merge patches on it.
//
// A document and a patch may be anybody's: nesting is bounded, and what encoding/json would repair
// in silence is an error.
package jsontree

import (
	"slices"
	"strconv"
	"strings"
)

// Kind is the JSON type of a node.
type Kind uint8

const (
	KindNull Kind = iota
	KindBool
	KindNumber
	KindString
	KindArray
	KindObject
)

func (k Kind) String() string {
	return [...]string{"null", "a boolean", "a number", "a string", "an array", "an object"}[k]
}

// Node is one JSON value that keeps the order of its members and the text of its numbers.
type Node struct {
	Kind Kind
	Text string            // the decoded string, the number's literal, or "true" and "false"
	List []*Node           // elements of an array
	Keys []string          // member names of an object, in order
	Obj  map[string]*Node  // members of an object
	By   string            // label of the edit that wrote this value; empty: a built-in template
	Was  *Node             // what a named edit put this in the place of, if it can be put back
	Gone map[string]string // members removed from an object: name -> label of the edit that did
}

// NewObject makes an empty object; by is the label of the edit that wants it.
func NewObject(by string) *Node {
	return &Node{Kind: KindObject, Obj: map[string]*Node{}, By: by}
}

// NewArray makes an empty array.
func NewArray(by string) *Node { return &Node{Kind: KindArray, By: by} }

// NewString makes a string.
func NewString(s, by string) *Node { return &Node{Kind: KindString, Text: s, By: by} }

// Member returns the named member of an object, or nil.
func (n *Node) Member(name string) *Node {
	if n == nil || n.Kind != KindObject {
		return nil
	}
	return n.Obj[name]
}

// SetMember replaces a member in place or appends it.
func (n *Node) SetMember(name string, v *Node) {
	if _, ok := n.Obj[name]; !ok {
		n.Keys = append(n.Keys, name)
	}
	n.Obj[name] = v
	delete(n.Gone, name)
}

// RemoveMember takes a member away and remembers who did, so that a missing required member can be
// blamed on the right edit.
func (n *Node) RemoveMember(name, by string) { n.RemoveMembers([]string{name}, by) }

// RemoveMembers does so for several at once.
func (n *Node) RemoveMembers(names []string, by string) {
	before := len(n.Obj)
	for _, name := range names {
		if _, ok := n.Obj[name]; !ok {
			continue
		}
		delete(n.Obj, name)
		if n.Gone == nil {
			n.Gone = map[string]string{}
		}
		n.Gone[name] = by
	}
	if len(n.Obj) < before {
		n.Keys = slices.DeleteFunc(n.Keys, func(k string) bool { return n.Obj[k] == nil })
	}
}

// scalar tells strings, numbers and booleans.
func (n *Node) scalar() bool {
	return n.Kind == KindString || n.Kind == KindNumber || n.Kind == KindBool
}

// Str returns the text of a string node, and whether it is one.
func (n *Node) Str() (string, bool) {
	if n == nil || n.Kind != KindString {
		return "", false
	}
	return n.Text, true
}

// Clone copies a value whole. A non-empty label is put on every copied node.
func (n *Node) Clone(by string) *Node {
	c := &Node{Kind: n.Kind, Text: n.Text, By: n.By, Keys: slices.Clone(n.Keys)}
	if by != "" {
		c.By = by
	}
	c.List = slices.Grow(c.List, len(n.List))
	for _, e := range n.List {
		c.List = append(c.List, e.Clone(by))
	}
	if n.Kind == KindObject {
		c.Obj = make(map[string]*Node, len(n.Obj))
		for k, v := range n.Obj {
			c.Obj[k] = v.Clone(by)
		}
		if by == "" && len(n.Gone) > 0 {
			c.Gone = make(map[string]string, len(n.Gone))
			for k, v := range n.Gone {
				c.Gone[k] = v
			}
		}
	}
	return c
}

// Equal is the equality of RFC 6902, section 4.6: members in any order, numbers by value.
func (n *Node) Equal(o *Node) bool {
	if n.Kind != o.Kind {
		return false
	}
	switch n.Kind {
	case KindNumber:
		return CanonicalNumber(n.Text) == CanonicalNumber(o.Text)
	case KindArray:
		return slices.EqualFunc(n.List, o.List, (*Node).Equal)
	case KindObject:
		if len(n.Obj) != len(o.Obj) {
			return false
		}
		for k, v := range n.Obj {
			w, ok := o.Obj[k]
			if !ok || !v.Equal(w) {
				return false
			}
		}
		return true
	}
	return n.Text == o.Text
}

// CanonicalNumber writes a JSON number in one way per value, without ever expanding its exponent:
// 1e999999999 is a valid number.
func CanonicalNumber(lit string) string {
	sign := ""
	if rest, ok := strings.CutPrefix(lit, "-"); ok {
		sign, lit = "-", rest
	}
	mantissa, exponent, _ := strings.Cut(strings.ToLower(lit), "e")
	whole, frac, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+frac, "0")
	trimmed := strings.TrimRight(digits, "0")
	if trimmed == "" {
		return "0"
	}
	exp := int64(len(digits) - len(trimmed) - len(frac))
	if exponent != "" {
		e, err := strconv.ParseInt(exponent, 10, 64)
		if err != nil || e > 1<<40 || e < -1<<40 {
			return sign + lit // beyond any use: equal only to itself
		}
		exp += e
	}
	return sign + trimmed + "e" + strconv.FormatInt(exp, 10)
}

// Same is equal for values that may be missing.
func (n *Node) Same(o *Node) bool { return n != nil && o != nil && n.Equal(o) }
