package jsontree

import (
	"fmt"
	"strings"
)

// SplitPointer splits the PTR=VALUE of a flag at the first "=" outside of a [key=value] segment. ok
// is false where there is no such "=".
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

// selectorLen is the length of the [key=value] that s starts with, 0 if it starts with none. The
// value may hold "/", "=" and "]"; it ends at the first "]" after which a pointer can end or go on.
func selectorLen(s string) int {
	for i := 1; i < len(s); i++ {
		if s[i] == ']' && (i+1 == len(s) || s[i+1] == '/' || s[i+1] == '=') && strings.Contains(s[:i], "=") {
			return i + 1
		}
	}
	return 0
}

var unescaper = strings.NewReplacer("~1", "/", "~0", "~")

// escape writes a member name as a pointer segment (RFC 6901, section 3).
func escape(s string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(s)
}

// Pointer writes member names and indices as an RFC 6901 pointer.
func Pointer(tokens ...string) string {
	var b strings.Builder
	for _, t := range tokens {
		b.WriteByte('/')
		b.WriteString(escape(t))
	}
	return b.String()
}

// Split cuts a pointer into its segments, still escaped.
func Split(pointer string) ([]string, error) {
	if pointer == "" {
		return nil, nil
	}
	if pointer[0] != '/' {
		return nil, &Error{Pointer: pointer, Problem: fmt.Sprintf("a pointer starts with \"/\": did you mean /%s?", pointer)}
	}
	segments := strings.Split(pointer[1:], "/")
	for _, s := range segments {
		for i := range len(s) {
			if s[i] == '~' && (i+1 == len(s) || s[i+1] != '0' && s[i+1] != '1') {
				return nil, &Error{Pointer: pointer, Problem: "in a pointer \"~\" is written ~0, and \"/\" within a name ~1"}
			}
		}
	}
	return segments, nil
}
