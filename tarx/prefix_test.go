package tarx

import "testing"

func TestBelow(t *testing.T) {
	for _, tt := range []struct {
		name, rest string
		ok         bool
	}{
		{"a", ".", true}, {"a/", ".", true}, {"./a//", ".", true}, {"a/b", "b", true}, {".//./a/b/", "b", true}, {"/a/b/c", "b/c", true},
		{"a/../b", "../b", true}, // and leaves the root
		{"", "", false}, {".", "", false}, {"ab", "", false}, {"b/a", "", false}, {"../a", "", false},
	} {
		rest, ok := below([]byte(tt.name), "a")
		if string(rest) != tt.rest || ok != tt.ok {
			t.Errorf("%q: %q, %t", tt.name, rest, ok)
		}
	}
}
