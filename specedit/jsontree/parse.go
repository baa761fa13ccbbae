package jsontree

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a document. The specification needs seven levels; the bound keeps
// a hostile file from exhausting the stack.
const maxDepth = 200

// MaxValues bounds the values of a document, and those that the copy and move operations of its
// patches make. A config has some thousand; a value costs half a kilobyte of memory, also one that
// is a byte of text.
const MaxValues = 1 << 17

// syntaxError is a JSON text that cannot be read, with the place in it.
type syntaxError struct {
	line, column int
	err          error
}

func (e *syntaxError) Error() string {
	return fmt.Sprintf("line %d, column %d: %v", e.line, e.column, e.err)
}

func (e *syntaxError) Unwrap() error { return e.err }

// Parse reads one JSON text. Where encoding/json would repair in silence (a member given twice, a
// string that is not Unicode) it is an error instead: the repaired document would not be the one
// that was written.
func Parse(data []byte, by string) (*Node, error) {
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
	// Not the offset of a *json.SyntaxError: that counts what its last call has read.
	at := min(int(p.dec.InputOffset()), len(data))
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = len(data) - len(bytes.TrimLeft(data[at:], " \t\r\n"))
	}
	before := data[:at]
	return nil, &syntaxError{
		line:   1 + bytes.Count(before, []byte("\n")),
		column: len(before) - bytes.LastIndexByte(before, '\n'),
		err:    err,
	}
}

type parser struct {
	values int
	data   []byte
	by     string
	dec    *json.Decoder
}

func (p *parser) value(depth int) (*Node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested more than %d levels deep", maxDepth)
	}
	if p.values++; p.values > MaxValues {
		return nil, fmt.Errorf("more than %d values", MaxValues)
	}
	start := p.dec.InputOffset()
	tok, err := p.dec.Token()
	if err != nil {
		return nil, err
	}
	switch v := tok.(type) {
	case nil:
		return &Node{Kind: KindNull, Text: "null", By: p.by}, nil
	case bool:
		return &Node{Kind: KindBool, Text: strconv.FormatBool(v), By: p.by}, nil
	case json.Number:
		return &Node{Kind: KindNumber, Text: v.String(), By: p.by}, nil
	case string:
		if err := p.unicode(v, start); err != nil {
			return nil, err
		}
		return NewString(v, p.by), nil
	case json.Delim:
		if v == '[' {
			return p.array(depth)
		}
		return p.object(depth)
	}
	return nil, fmt.Errorf("unexpected %v", tok)
}

func (p *parser) array(depth int) (*Node, error) {
	n := NewArray(p.by)
	for p.dec.More() {
		e, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.List = append(n.List, e)
	}
	_, err := p.dec.Token()
	return n, err
}

func (p *parser) object(depth int) (*Node, error) {
	n := NewObject(p.by)
	for p.dec.More() {
		start := p.dec.InputOffset()
		tok, err := p.dec.Token()
		if err != nil {
			return nil, err
		}
		name, ok := tok.(string)
		if !ok {
			return nil, fmt.Errorf("expected a member name, not %v", tok)
		}
		if err := p.unicode(name, start); err != nil {
			return nil, err
		}
		if _, twice := n.Obj[name]; twice {
			return nil, fmt.Errorf("member %q appears twice in one object", name)
		}
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.SetMember(name, v)
	}
	_, err := p.dec.Token()
	return n, err
}

// unicode finds what the decoder turned into U+FFFD: bytes that are not UTF-8 and lone halves of
// surrogate pairs.
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
