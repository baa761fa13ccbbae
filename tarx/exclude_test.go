package tarx

import "testing"

// What GNU tar 1.34 leaves out with --anchored --exclude.
func TestExclude(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"a", "a", true}, {"a", "a/b/c", true}, {"a", "ab", false}, {"a", "b/a", false}, {"a/b", "a", false},
		{"./a", "a", true}, {"/a/", "a", true}, {"*", "a/b", true}, {"*.o", "a/b.o", true}, {"*.o", "b.o/x", true},
		{"a*c", "a/b/c", true}, {"a?c", "a/c", true}, {"a?c", "ac", false}, {"[ab]x", "bx", true}, {"[!ab]x", "bx", false},
		{"[^ab]x", "cx", true}, {"[a-c]x", "bx", true}, {"[a-c]x", "dx", false}, {"[]a]x", "]x", true}, {"[]a]x", "ax", true},
		{"[[:digit:]]x", "5x", true}, {"[[:digit:]]x", "dx", false}, {"[ab", "[ab", true}, {`\*`, "*", true}, {`\*`, "a", false},
		{"a.c", "abc", false}, {"a+(b)", "a+(b)", true}, {"a\nb", "a\nb", true}, {"*", "a\nb", true}, {"caf?", "caf\xe9", true},
		{"var/cache/*", "var/cache", false}, {"var/cache/*", "var/cache/x/y", true}, {"a|b", "b", false}, {`[\]]`, "]", true},
		{"[.]x", "ax", false}, {"*", "", false}, {`a\`, `a\`, true},
	} {
		e, err := NewExclude([]string{c.pattern})
		if err != nil {
			t.Errorf("%q: %v", c.pattern, err)
			continue
		}
		if got := e.Match([]byte(c.name)); got != c.want {
			t.Errorf("%q, %q: %v", c.pattern, c.name, got)
		}
	}
	for _, p := range []string{"", "/", ".", "./", "[z-a]"} {
		if _, err := NewExclude([]string{p}); err == nil {
			t.Errorf("%q is taken", p)
		}
	}
	var none *Exclude
	if none.Match([]byte("a")) {
		t.Error("no pattern matches")
	}
}
