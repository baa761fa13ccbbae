package tarx

import (
	"fmt"
	"regexp"
	"strings"
)

// Exclude is a list of patterns for names that are left out.
type Exclude struct{ patterns []*regexp.Regexp }

// NewExclude makes an Exclude of patterns as in `tar --anchored --exclude` (GNU tar manual, "Controlling Pattern-Matching"):
// shell patterns (glob(7)) for the whole name, in which "*" and "?" match slashes, too. What matches is left out with all that is
// below it. Names are compared without a slash or "./" at their beginning.
func NewExclude(patterns []string) (*Exclude, error) {
	e := new(Exclude)
	for _, p := range patterns {
		trimmed := strings.TrimRight(p, "/")
		for strings.HasPrefix(trimmed, "/") || strings.HasPrefix(trimmed, "./") {
			trimmed = strings.TrimPrefix(strings.TrimPrefix(trimmed, "."), "/")
		}
		if trimmed == "" || trimmed == "." {
			return nil, fmt.Errorf("%q matches no name that can be left out", p)
		}
		re, err := regexp.Compile(`(?s)\A(?:` + globRegexp(trimmed) + `)(?:/|\z)`)
		if err != nil {
			return nil, fmt.Errorf("%q is not a pattern", p)
		}
		e.patterns = append(e.patterns, re)
	}
	return e, nil
}

// Match says whether a normalized name is left out. No name matches a nil Exclude.
func (e *Exclude) Match(name []byte) bool {
	if e == nil || len(name) == 0 {
		return false
	}
	for _, re := range e.patterns {
		if re.Match(name) {
			return true
		}
	}
	return false
}

// globRegexp turns a shell pattern into a regular expression.
func globRegexp(p string) string {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		switch c := p[i]; c {
		case '*':
			b.WriteString(".*")
		case '?':
			b.WriteByte('.')
		case '[':
			class, n := globClass(p[i:])
			b.WriteString(class)
			i += n - 1
		case '\\':
			i = min(i+1, len(p)-1)
			b.WriteString(regexp.QuoteMeta(p[i : i+1]))
		default:
			b.WriteString(regexp.QuoteMeta(p[i : i+1]))
		}
	}
	return b.String()
}

// globClass turns a bracket expression at the beginning of p, of n bytes, into one of a regular expression. A bracket that is
// never closed stands for itself.
func globClass(p string) (class string, n int) {
	at := 1
	var b strings.Builder
	b.WriteByte('[')
	if at < len(p) && (p[at] == '!' || p[at] == '^') {
		b.WriteByte('^')
		at++
	}
	for first := at; at < len(p); at++ {
		switch c := p[at]; {
		case c == ']' && at > first:
			b.WriteByte(']')
			return b.String(), at + 1
		case c == '[' && at+1 < len(p) && p[at+1] == ':' && strings.Contains(p[at+2:], ":]"):
			end := at + 2 + strings.Index(p[at+2:], ":]") + 2
			b.WriteString(p[at:end])
			at = end - 1
		case c == '\\' && at+1 < len(p):
			at++
			b.WriteString(`\` + p[at:at+1])
		case c == '-':
			b.WriteByte('-')
		case c < 0x80 && !isWord(c):
			b.WriteString(`\` + string(c))
		default:
			b.WriteByte(c)
		}
	}
	return `\[`, 1
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}
