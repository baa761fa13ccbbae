package jsontree

import (
	"bytes"
	"encoding/json"
)

// Compact is the value on one line.
func (n *Node) Compact() string {
	var b bytes.Buffer
	n.write(&b, "", "")
	return b.String()
}

// Encode is the document as a file: indented with tabs as `runc spec` does, with a newline at the
// end.
func (n *Node) Encode() []byte {
	var b bytes.Buffer
	b.Grow(32 << 10) // most configs are smaller, with Docker's seccomp profile in them
	n.write(&b, "\n", "\t")
	b.WriteByte('\n')
	return b.Bytes()
}

// write appends the value. newline is "\n" and the current indentation, or empty for everything on
// one line.
func (n *Node) write(b *bytes.Buffer, newline, indent string) {
	inner := newline
	if newline != "" {
		inner += indent
	}
	switch n.Kind {
	case KindString:
		writeString(b, n.Text)
	case KindArray:
		if len(n.List) == 0 {
			b.WriteString("[]")
			return
		}
		b.WriteByte('[')
		for i, e := range n.List {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(inner)
			e.write(b, inner, indent)
		}
		b.WriteString(newline)
		b.WriteByte(']')
	case KindObject:
		if len(n.Keys) == 0 {
			b.WriteString("{}")
			return
		}
		b.WriteByte('{')
		for i, k := range n.Keys {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(inner)
			writeString(b, k)
			b.WriteByte(':')
			if newline != "" {
				b.WriteByte(' ')
			}
			n.Obj[k].write(b, inner, indent)
		}
		b.WriteString(newline)
		b.WriteByte('}')
	default:
		b.WriteString(n.Text)
	}
}

// writeString quotes without the HTML escapes of encoding/json: a shell's && should be readable in
// the file.
func writeString(b *bytes.Buffer, s string) {
	if isPlain(s) {
		b.WriteByte('"')
		b.WriteString(s)
		b.WriteByte('"')
		return
	}
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string into a buffer cannot fail
	b.Truncate(b.Len() - 1)
}

// isPlain says that nothing in s needs an escape, as in nearly all strings.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
