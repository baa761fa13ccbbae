package specedit

import "testing"

func TestVersions(t *testing.T) {
	for v, valid := range map[string]bool{
		"1.0.0": true, "1.0.2-dev": true, "1.1.0-rc.2+build.5": true, "10.20.30": true,
		"": false, "1": false, "1.0": false, "v1.0.0": false, "1.0.0-": false, "01.0.0": false, "1.0.x": false, "1.0.0.0": false,
	} {
		if err := checkVersion(v); (err == nil) != valid {
			t.Errorf("%q: %v", v, err)
		}
	}
	for _, c := range []struct {
		have, needed      string
		older, preRelease bool
	}{
		{"1.0.0", "1.0.2", true, false},
		{"1.0.2", "1.0.2", false, false},
		{"1.0.10", "1.0.2", false, false},
		{"1.0.2-dev", "1.0.2", true, true},
		{"1.0.2-dev", "1.1.0", true, false},
		{"1.1.0-rc.2+git", "1.1.0", true, true},
		{"1.0", "1.0.2", false, false}, // not a version: it is refused, not replaced
		{"", "1.0.0", false, false},
	} {
		if got := older(c.have, c.needed); got != c.older {
			t.Errorf("older(%q, %q) is %v", c.have, c.needed, got)
		}
		if got := preRelease(c.have, c.needed); got != c.preRelease {
			t.Errorf("preRelease(%q, %q) is %v", c.have, c.needed, got)
		}
	}
}
