// Package tarscript is a small language for tar archives, above all for those which the Writer of archive/tar rightly
// refuses to write. The same lines declare the tree that an archive should become.
//
// One line is one entry; words with blanks or odd bytes are Go string literals; $NAME is replaced beforehand:
//
//	file NAME [attributes] [= CONTENT]
//	dir  NAME [attributes]
//	sym  NAME -> TARGET
//	hard NAME => TARGET
//	fifo NAME
//	char NAME dev=MAJOR:MINOR
//	block NAME dev=MAJOR:MINOR
//
// Attributes, each a header field as it is written, whatever a sane writer would say:
//
//	mode=0644 uid=0 gid=0 mtime=SECONDS size=N dev=MAJOR:MINOR   octal where it fits the field, base-256 where not;
//	                                        b256/N forces base-256, raw:TEXT is the bytes of the field
//	type=C magic=ustar|gnu|v7|TEXT prefix=TEXT uname=TEXT gname=TEXT chksum=bad|signed
//	body=zeros:N                            N zero bytes for content
//	pax.KEY=VALUE                           a record in a PAX header of the entry's own; xattr.NAME is short for
//	                                        pax.SCHILY.xattr.NAME
//	long=pax|gnu|none                       how a name or target beyond 100 bytes is written; pax if not said
//	gnusparse=OFFSET:LENGTH,... realsize=N  an old GNU sparse file; content is what the map's pieces hold
//
// And lines that are no entry:
//
//	pax KEY=VALUE...    a PAX header alone; hdr.FIELD=VALUE sets fields of its own header
//	global KEY=VALUE... a global PAX header
//	paxraw TEXT, globalraw TEXT    the same with the payload byte by byte
//	longname TEXT, longlink TEXT   GNU 'L' and 'K' headers
//	end                 an end-of-archive marker here (one is appended unless there is a noend line)
//	zeros N, bytes TEXT, noend
//	cut N, chop N       keep the first N bytes; drop the last N bytes
package tarscript

import (
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

const blockSize = 512

// Entry is one line of a script.
type Entry struct {
	Verb   string // file, dir, sym, hard, fifo, char, block, or a line that is not an entry
	Name   string
	Target string
	Body   []byte
	Attrs  []Attr
}

// Attr is one KEY=VALUE of a line, in the order written.
type Attr struct{ Key, Value string }

// Get returns the value of an attribute and whether the line has it.
func (e *Entry) Get(key string) (string, bool) {
	for _, a := range e.Attrs {
		if a.Key == key {
			return a.Value, true
		}
	}
	return "", false
}

var typeflags = map[string]byte{
	"file": '0', "hard": '1', "sym": '2', "char": '3', "block": '4', "dir": '5', "fifo": '6',
	"pax": 'x', "global": 'g', "paxraw": 'x', "globalraw": 'g', "longname": 'L', "longlink": 'K',
}

// Parse reads the lines of a script. Empty lines and lines that start with # are left out.
func Parse(script string, vars map[string]string) ([]Entry, error) {
	for name, value := range vars {
		script = strings.ReplaceAll(script, "$"+name, value)
	}
	var entries []Entry
	for number, line := range strings.Split(script, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		e, err := parseLine(line)
		if err != nil {
			return nil, fmt.Errorf("parse line %d %q: %w", number+1, line, err)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func parseLine(line string) (Entry, error) {
	words, err := split(line)
	if err != nil {
		return Entry{}, err
	}
	e := Entry{Verb: words[0]}
	words = words[1:]
	switch e.Verb {
	case "pax", "global", "end", "noend":
	default:
		if len(words) == 0 {
			return e, fmt.Errorf("%s wants a word after it", e.Verb)
		}
		e.Name, words = words[0], words[1:]
	}
	for len(words) > 0 {
		word := words[0]
		switch word {
		case "->", "=>", "=":
			if len(words) < 2 {
				return e, fmt.Errorf("nothing after %s", word)
			}
			if word == "=" {
				e.Body = []byte(words[1])
			} else {
				e.Target = words[1]
			}
			words = words[2:]
			continue
		}
		key, value, ok := strings.Cut(word, "=")
		if !ok {
			return e, fmt.Errorf("%q is not an attribute", word)
		}
		if key == "body" {
			n, err := strconv.Atoi(strings.TrimPrefix(value, "zeros:"))
			if err != nil {
				return e, err
			}
			e.Body = make([]byte, n)
		} else {
			e.Attrs = append(e.Attrs, Attr{key, value})
		}
		words = words[1:]
	}
	return e, nil
}

// split cuts a line into words; a part of a word in double quotes is a Go string literal.
func split(line string) ([]string, error) {
	var words []string
	for line = strings.TrimLeft(line, " \t"); line != ""; line = strings.TrimLeft(line, " \t") {
		var word strings.Builder
		for line != "" && line[0] != ' ' && line[0] != '\t' {
			if line[0] != '"' {
				word.WriteByte(line[0])
				line = line[1:]
				continue
			}
			quoted, err := strconv.QuotedPrefix(line)
			if err != nil {
				return nil, err
			}
			plain, err := strconv.Unquote(quoted)
			if err != nil {
				return nil, err
			}
			word.WriteString(plain)
			line = line[len(quoted):]
		}
		words = append(words, word.String())
	}
	return words, nil
}

// Build turns a script into the bytes of an archive.
func Build(script string, vars map[string]string) ([]byte, error) {
	entries, err := Parse(script, vars)
	if err != nil {
		return nil, err
	}
	return Write(entries)
}

// Write turns entries into the bytes of an archive.
func Write(entries []Entry) ([]byte, error) {
	var out []byte
	ended := false
	for _, e := range entries {
		switch e.Verb {
		case "noend":
			ended = true
		case "end":
			out = append(out, make([]byte, 2*blockSize)...)
			ended = true
		case "bytes":
			out = append(out, e.Name...)
		case "zeros", "cut", "chop":
			n, err := strconv.Atoi(e.Name)
			if err != nil {
				return nil, err
			}
			if !ended && e.Verb != "zeros" {
				out = append(out, make([]byte, 2*blockSize)...)
			}
			ended = ended || e.Verb != "zeros"
			switch e.Verb {
			case "zeros":
				out = append(out, make([]byte, n)...)
			case "cut":
				out = out[:n]
			case "chop":
				out = out[:len(out)-n]
			}
		default:
			var err error
			if out, err = e.AppendTo(out); err != nil {
				return nil, fmt.Errorf("write %s %q: %w", e.Verb, e.Name, err)
			}
		}
	}
	if !ended {
		out = append(out, make([]byte, 2*blockSize)...)
	}
	return out, nil
}

// Record is one PAX record with its own length in front.
func Record(key, value string) string {
	rest := len(" " + key + "=" + value + "\n")
	length := rest + len(strconv.Itoa(rest))
	length = rest + len(strconv.Itoa(length))
	return strconv.Itoa(length) + " " + key + "=" + value + "\n"
}

// AppendTo appends the entry's blocks, and those of the headers it needs before it.
func (e *Entry) AppendTo(out []byte) ([]byte, error) {
	typeflag, ok := typeflags[e.Verb]
	if !ok {
		return nil, fmt.Errorf("unknown verb")
	}
	var records strings.Builder
	h := header{typeflag: typeflag, name: e.Name, link: e.Target, magic: "ustar\x0000"}
	h.fields = map[string]string{"mode": "0644", "uid": "0", "gid": "0", "mtime": "1000000000"}
	body := e.Body
	switch e.Verb {
	case "dir":
		h.fields["mode"] = "0755"
	case "sym":
		h.fields["mode"] = "0777"
	case "pax", "global", "paxraw", "globalraw":
		h.name = map[byte]string{'x': "PaxHeaders/x", 'g': "GlobalHead/g"}[typeflag]
		body = []byte(e.Name)
	case "longname", "longlink":
		h.name, h.magic = "././@LongLink", "ustar  \x00"
		body = append([]byte(e.Name), 0)
	}
	isMeta := strings.ContainsRune("xgLK", rune(typeflag))
	long := "pax"
	for _, a := range e.Attrs {
		key, field := strings.CutPrefix(a.Key, "hdr.")
		switch {
		case isMeta && !field:
			if e.Verb != "pax" && e.Verb != "global" {
				return nil, fmt.Errorf("attribute %q does not begin with \"hdr.\"", a.Key)
			}
			body = append(body, Record(a.Key, a.Value)...)
		case strings.HasPrefix(key, "pax."):
			records.WriteString(Record(key[len("pax."):], a.Value))
		case strings.HasPrefix(key, "xattr."):
			records.WriteString(Record("SCHILY."+key, a.Value))
		case key == "type":
			h.typeflag = a.Value[0]
		case key == "name":
			h.name = a.Value
		case key == "link":
			h.link = a.Value
		case key == "magic":
			h.magic = map[string]string{"ustar": "ustar\x0000", "gnu": "ustar  \x00", "v7": ""}[a.Value]
			if h.magic == "" && a.Value != "v7" {
				h.magic = a.Value
			}
		case key == "long":
			long = a.Value
		case slices.Contains([]string{"mode", "uid", "gid", "mtime", "size", "dev", "prefix", "uname", "gname", "chksum", "gnusparse", "realsize"}, key):
			h.fields[key] = a.Value
		default:
			return nil, fmt.Errorf("unknown attribute %q", a.Key)
		}
	}
	if h.fields["size"] == "" {
		h.fields["size"] = strconv.Itoa(len(body))
	}
	if long != "none" && !isMeta {
		for _, text := range []struct {
			value, record string
			typeflag      byte
		}{{h.link, "linkpath", 'K'}, {h.name, "path", 'L'}} {
			if len(text.value) <= 100 {
				continue
			}
			if long == "pax" {
				records.WriteString(Record(text.record, text.value))
				continue
			}
			meta := Entry{Verb: map[byte]string{'K': "longlink", 'L': "longname"}[text.typeflag], Name: text.value}
			var err error
			if out, err = meta.AppendTo(out); err != nil {
				return nil, err
			}
			h.magic = "ustar  \x00"
		}
	}
	if records.Len() > 0 {
		meta := Entry{Verb: "paxraw", Name: records.String()}
		var err error
		if out, err = meta.AppendTo(out); err != nil {
			return nil, err
		}
	}
	blocks, err := h.blocks()
	if err != nil {
		return nil, err
	}
	out = append(out, blocks...)
	out = append(out, body...)
	return append(out, make([]byte, -len(body)&(blockSize-1))...), nil
}

type header struct {
	typeflag          byte
	name, link, magic string
	fields            map[string]string
}

func (h *header) blocks() ([]byte, error) {
	b := make([]byte, blockSize)
	copy(b[0:100], h.name)
	copy(b[157:257], h.link)
	copy(b[257:265], h.magic)
	copy(b[265:297], h.fields["uname"])
	copy(b[297:329], h.fields["gname"])
	copy(b[345:500], h.fields["prefix"])
	b[156] = h.typeflag
	major, minor, _ := strings.Cut(h.fields["dev"], ":")
	var extended []byte
	if h.fields["gnusparse"] != "" {
		var err error
		if extended, err = h.sparseMap(b); err != nil {
			return nil, err
		}
	}
	for _, f := range []struct {
		value    string
		base     int
		from, to int
	}{
		{h.fields["mode"], 8, 100, 108}, {h.fields["uid"], 10, 108, 116}, {h.fields["gid"], 10, 116, 124},
		{h.fields["size"], 10, 124, 136}, {h.fields["mtime"], 10, 136, 148},
		{major, 10, 329, 337}, {minor, 10, 337, 345},
	} {
		if f.value == "" {
			continue
		}
		if err := number(b[f.from:f.to], f.value, f.base); err != nil {
			return nil, err
		}
	}
	checksum(b, h.fields["chksum"])
	return append(b, extended...), nil
}

// number writes a numeric field: octal with a NUL behind it, base-256 where that is too small or asked for.
func number(field []byte, value string, base int) error {
	if raw, ok := strings.CutPrefix(value, "raw:"); ok {
		copy(field, raw)
		return nil
	}
	value, forced := strings.CutPrefix(value, "b256/")
	if forced {
		base = 10
	}
	n, ok := new(big.Int).SetString(value, base)
	if !ok {
		return fmt.Errorf("%q is not a number", value)
	}
	octal := n.Text(8)
	if !forced && n.Sign() >= 0 && len(octal) < len(field) {
		copy(field, strings.Repeat("0", len(field)-1-len(octal))+octal)
		return nil
	}
	if n.Sign() < 0 {
		n.Add(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(field))))
	}
	n.FillBytes(field)
	field[0] |= 0x80
	return nil
}

func checksum(b []byte, how string) {
	copy(b[148:156], "        ")
	if raw, ok := strings.CutPrefix(how, "raw:"); ok {
		copy(b[148:156], raw)
		return
	}
	sum := 0
	for _, c := range b {
		if how == "signed" {
			sum += int(int8(c))
		} else {
			sum += int(c)
		}
	}
	if how == "bad" {
		sum++
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

// sparseMap writes an old GNU sparse map: four pieces in the header, 21 in each block behind it.
func (h *header) sparseMap(b []byte) ([]byte, error) {
	pieces := strings.Split(h.fields["gnusparse"], ",")
	write := func(table []byte, capacity int) error {
		for i := 0; i < capacity && len(pieces) > 0; i++ {
			offset, length, ok := strings.Cut(pieces[0], ":")
			if !ok {
				return fmt.Errorf("%q is not a piece of a sparse map", pieces[0])
			}
			if err := number(table[24*i:24*i+12], offset, 10); err != nil {
				return err
			}
			if err := number(table[24*i+12:24*i+24], length, 10); err != nil {
				return err
			}
			pieces = pieces[1:]
		}
		return nil
	}
	copy(b[257:265], "ustar  \x00")
	if err := write(b[386:482], 4); err != nil {
		return nil, err
	}
	if size := h.fields["realsize"]; size != "" {
		if err := number(b[483:495], size, 10); err != nil {
			return nil, err
		}
	}
	var extended []byte
	if len(pieces) > 0 {
		b[482] = 1
	}
	for len(pieces) > 0 {
		next := make([]byte, blockSize)
		if err := write(next, 21); err != nil {
			return nil, err
		}
		if len(pieces) > 0 {
			next[504] = 1
		}
		extended = append(extended, next...)
	}
	return extended, nil
}
