package specedit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// kind is the JSON type of a node.
type kind uint8

const (
	kindNull kind = iota
	kindBool
	kindNumber
	kindString
	kindArray
	kindObject
)

func (k kind) String() string {
	return [...]string{"null", "a boolean", "a number", "a string", "an array", "an object"}[k]
}

// maxDepth bounds the nesting of a document. The specification needs seven
// levels; the bound keeps a hostile file from exhausting the stack.
const maxDepth = 200

// node is one JSON value that keeps the order of its members and the text of
// its numbers.
type node struct {
	kind kind
	text string            // the decoded string, the number's literal, or "true" and "false"
	list []*node           // elements of an array
	keys []string          // member names of an object, in order
	obj  map[string]*node  // members of an object
	by   string            // label of the edit that wrote this value; empty: a built-in template
	was  *node             // what a named edit put this in the place of, if it can be put back
	gone map[string]string // members removed from an object: name -> label of the edit that did
}

func newObject(by string) *node {
	return &node{kind: kindObject, obj: map[string]*node{}, by: by}
}

func newArray(by string) *node { return &node{kind: kindArray, by: by} }

func newString(s, by string) *node { return &node{kind: kindString, text: s, by: by} }

// member returns the named member of an object, or nil.
func (n *node) member(name string) *node {
	if n == nil || n.kind != kindObject {
		return nil
	}
	return n.obj[name]
}

// setMember replaces a member in place or appends it.
func (n *node) setMember(name string, v *node) {
	if _, ok := n.obj[name]; !ok {
		n.keys = append(n.keys, name)
	}
	n.obj[name] = v
	delete(n.gone, name)
}

// removeMember takes a member away and remembers who did, so that a missing
// required member can be blamed on the right edit.
func (n *node) removeMember(name, by string) {
	if _, ok := n.obj[name]; !ok {
		return
	}
	delete(n.obj, name)
	n.keys = slices.DeleteFunc(n.keys, func(k string) bool { return k == name })
	if n.gone == nil {
		n.gone = map[string]string{}
	}
	n.gone[name] = by
}

// str returns the text of a string node, and whether it is one.
func (n *node) str() (string, bool) {
	if n == nil || n.kind != kindString {
		return "", false
	}
	return n.text, true
}

// clone copies a value whole. A non-empty label is put on every copied node.
func (n *node) clone(by string) *node {
	c := &node{kind: n.kind, text: n.text, by: n.by, keys: slices.Clone(n.keys)}
	if by != "" {
		c.by = by
	}
	for _, e := range n.list {
		c.list = append(c.list, e.clone(by))
	}
	if n.kind == kindObject {
		c.obj = make(map[string]*node, len(n.obj))
		for k, v := range n.obj {
			c.obj[k] = v.clone(by)
		}
		if by == "" && len(n.gone) > 0 {
			c.gone = make(map[string]string, len(n.gone))
			for k, v := range n.gone {
				c.gone[k] = v
			}
		}
	}
	return c
}

// equal is the equality of RFC 6902, section 4.6: members in any order,
// numbers by value.
func (n *node) equal(o *node) bool {
	if n.kind != o.kind {
		return false
	}
	switch n.kind {
	case kindNumber:
		return canonicalNumber(n.text) == canonicalNumber(o.text)
	case kindArray:
		return slices.EqualFunc(n.list, o.list, (*node).equal)
	case kindObject:
		if len(n.obj) != len(o.obj) {
			return false
		}
		for k, v := range n.obj {
			w, ok := o.obj[k]
			if !ok || !v.equal(w) {
				return false
			}
		}
		return true
	}
	return n.text == o.text
}

// canonicalNumber writes a JSON number in one way per value, without ever
// expanding its exponent: 1e999999999 is a valid number.
func canonicalNumber(lit string) string {
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

// syntaxError is a JSON text that cannot be read, with the place in it.
type syntaxError struct {
	line, column int
	err          error
}

func (e *syntaxError) Error() string {
	return fmt.Sprintf("line %d, column %d: %v", e.line, e.column, e.err)
}

func (e *syntaxError) Unwrap() error { return e.err }

// parse reads one JSON text. Where encoding/json would repair in silence
// (a member given twice, a string that is no Unicode) it is an error instead:
// the repaired document would not be the one that was written.
func parse(data []byte, by string) (*node, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // a byte order mark, RFC 8259 section 8.1
	p := parser{data: data, by: by, dec: json.NewDecoder(bytes.NewReader(data))}
	p.dec.UseNumber()
	n, err := p.value(0)
	if err == nil {
		if _, err = p.dec.Token(); err == nil {
			err = errors.New("more text after the JSON value")
		} else if err == io.EOF {
			return n, nil
		}
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
		if len(bytes.TrimSpace(data)) == 0 {
			err = errors.New("no JSON in it")
		}
	}
	at := p.dec.InputOffset()
	if s, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = s.Offset
		// The offset is that of the character or the one behind it.
		if i := int(at) - 1; i >= 0 && i < len(data) && strings.Contains(s.Error(), fmt.Sprintf("character %q", data[i])) {
			at--
		}
	}
	before := data[:min(int(at), len(data))]
	return nil, &syntaxError{
		line:   1 + bytes.Count(before, []byte("\n")),
		column: len(before) - bytes.LastIndexByte(before, '\n'),
		err:    err,
	}
}

type parser struct {
	data []byte
	by   string
	dec  *json.Decoder
}

func (p *parser) value(depth int) (*node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested more than %d levels deep", maxDepth)
	}
	start := p.dec.InputOffset()
	tok, err := p.dec.Token()
	if err != nil {
		return nil, err
	}
	switch v := tok.(type) {
	case nil:
		return &node{kind: kindNull, text: "null", by: p.by}, nil
	case bool:
		return &node{kind: kindBool, text: strconv.FormatBool(v), by: p.by}, nil
	case json.Number:
		return &node{kind: kindNumber, text: v.String(), by: p.by}, nil
	case string:
		if err := p.unicode(v, start); err != nil {
			return nil, err
		}
		return newString(v, p.by), nil
	case json.Delim:
		if v == '[' {
			return p.array(depth)
		}
		return p.object(depth)
	}
	return nil, fmt.Errorf("unexpected %v", tok)
}

func (p *parser) array(depth int) (*node, error) {
	n := newArray(p.by)
	for p.dec.More() {
		e, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.list = append(n.list, e)
	}
	_, err := p.dec.Token()
	return n, err
}

func (p *parser) object(depth int) (*node, error) {
	n := newObject(p.by)
	for p.dec.More() {
		start := p.dec.InputOffset()
		tok, err := p.dec.Token()
		if err != nil {
			return nil, err
		}
		name, ok := tok.(string)
		if !ok {
			return nil, fmt.Errorf("a member name is wanted, not %v", tok)
		}
		if err := p.unicode(name, start); err != nil {
			return nil, err
		}
		if _, twice := n.obj[name]; twice {
			return nil, fmt.Errorf("member %q stands twice in one object", name)
		}
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.setMember(name, v)
	}
	_, err := p.dec.Token()
	return n, err
}

// unicode finds what the decoder turned into U+FFFD: bytes that are no UTF-8
// and lone halves of surrogate pairs.
func (p *parser) unicode(decoded string, start int64) error {
	if !strings.ContainsRune(decoded, utf8.RuneError) {
		return nil
	}
	raw := p.data[start:p.dec.InputOffset()]
	meant := bytes.Count(raw, []byte("\uFFFD")) + bytes.Count(bytes.ToLower(raw), []byte(`\ufffd`))
	if strings.Count(decoded, "\uFFFD") > meant || !utf8.Valid(raw) {
		return fmt.Errorf("the string %q is not valid Unicode", decoded)
	}
	return nil
}

// fromGo turns a Go value into a tree through its JSON form.
func fromGo(v any, by string) (*node, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return parse(buf.Bytes(), by)
}

// compact is the value on one line.
func (n *node) compact() string {
	var b bytes.Buffer
	n.write(&b, "", "")
	return b.String()
}

// encode is the document as a file: indented with tabs as `runc spec` does,
// with a newline at the end.
func (n *node) encode() []byte {
	var b bytes.Buffer
	n.write(&b, "\n", "\t")
	b.WriteByte('\n')
	return b.Bytes()
}

// write appends the value. newline is "\n" and the current indentation, or
// empty for everything on one line.
func (n *node) write(b *bytes.Buffer, newline, indent string) {
	inner := newline
	if newline != "" {
		inner += indent
	}
	switch n.kind {
	case kindString:
		writeString(b, n.text)
	case kindArray:
		if len(n.list) == 0 {
			b.WriteString("[]")
			return
		}
		b.WriteByte('[')
		for i, e := range n.list {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(inner)
			e.write(b, inner, indent)
		}
		b.WriteString(newline)
		b.WriteByte(']')
	case kindObject:
		if len(n.keys) == 0 {
			b.WriteString("{}")
			return
		}
		b.WriteByte('{')
		for i, k := range n.keys {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(inner)
			writeString(b, k)
			b.WriteByte(':')
			if newline != "" {
				b.WriteByte(' ')
			}
			n.obj[k].write(b, inner, indent)
		}
		b.WriteString(newline)
		b.WriteByte('}')
	default:
		b.WriteString(n.text)
	}
}

// writeString quotes without the HTML escapes of encoding/json: a shell's &&
// should be readable in the file.
func writeString(b *bytes.Buffer, s string) {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string into a buffer cannot fail
	b.Truncate(b.Len() - 1)
}
