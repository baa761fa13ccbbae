package specedit_test

import (
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
