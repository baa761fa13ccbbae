package specedit_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"ocibundle/specedit"
)

// What containers/common installs as /usr/share/containers/seccomp.json has the names of error
// numbers since 2021 (containers/common#660).
func TestPodmanProfile(t *testing.T) {
	profile := `{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,"defaultErrno":"ENOSYS",
		"archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]},{"architecture":"SCMP_ARCH_AARCH64","subArchitectures":["SCMP_ARCH_ARM"]}],
		"syscalls":[{"names":["bdflush"],"action":"SCMP_ACT_ERRNO","args":[],"comment":"","includes":{},"excludes":{},"errnoRet":1,"errno":"EPERM"},
			{"names":["vhangup"],"action":"SCMP_ACT_ERRNO","errno":"38"},
			{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[],"comment":"","includes":{},"excludes":{},"errno":""}]}`
	e, err := specedit.SeccompProfile("l", []byte(profile))
	if err != nil {
		t.Fatal(err)
	}
	seccomp := build(t, specedit.Plan{Edits: []specedit.Edit{e}})["linux"].(map[string]any)["seccomp"].(map[string]any)
	rule := func(i int) any { return seccomp["syscalls"].([]any)[i].(map[string]any)["errnoRet"] }
	if seccomp["defaultErrnoRet"] != 38.0 || rule(0) != 1.0 || rule(1) != 38.0 || rule(2) != nil {
		t.Errorf("%v", seccomp)
	}
	for _, bad := range []string{`"ENOSUCH"`, `5`} {
		if _, err := specedit.SeccompProfile("l", []byte(strings.Replace(profile, `"ENOSYS"`, bad, 1))); err == nil {
			t.Errorf("defaultErrno %s is taken", bad)
		}
	}
}

// Docker's profile lets at calls that go with a capability, of those that the container ends up with.
func TestSeccompFollowsCapabilities(t *testing.T) {
	edit := func(e specedit.Edit, err error) specedit.Edit {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	drop, admin, time := edit(specedit.CapDrop("", "ALL")), edit(specedit.CapAdd("", "SYS_ADMIN")), edit(specedit.CapAdd("", "SYS_TIME"))
	for _, c := range []struct {
		name                 string
		edits                []specedit.Edit
		chroot, mount, clock bool
	}{
		{"plain", nil, true, false, false},
		{"more", []specedit.Edit{admin}, true, true, false},
		{"none", []specedit.Edit{drop}, false, false, false},
		{"another", []specedit.Edit{drop, time}, false, false, true},
		{"said once more", []specedit.Edit{drop, specedit.SeccompDefault(""), time}, false, false, true},
	} {
		p := specedit.Plan{Edits: c.edits}
		for range 2 { // what one build makes is not the next one's
			text := fmt.Sprint(build(t, p)["linux"].(map[string]any)["seccomp"])
			for call, want := range map[string]bool{"chroot": c.chroot, "mount": c.mount, "settimeofday": c.clock} {
				if got := slices.Contains(strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" []", r) }), call); got != want {
					t.Errorf("%s: %s is allowed: %v", c.name, call, got)
				}
			}
		}
	}
}
