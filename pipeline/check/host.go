package check

import (
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"ocibundle/pipeline/host"
)

// delegated tells whether the caller may make control groups where it is: its own, or one above, belongs to it
// (Documentation/admin-guide/cgroup-v2.rst, "Delegation").
func delegated() bool {
	return slices.ContainsFunc(host.Cgroups(""), func(dir string) bool {
		return dir != host.CgroupRoot && unix.Access(dir+"/cgroup.procs", unix.W_OK) == nil
	})
}

// checkHost looks for what the config wants of the host.
func (k *checker) checkHost() {
	for i, n := range namespaces(k.spec) {
		if n.Path != "" && errors.Is(unix.Access(n.Path, unix.F_OK), unix.ENOENT) {
			k.at(FindingNamespace, pointer("linux", "namespaces", i, "path"), "is %q, which does not exist", n.Path)
		}
	}
	if h := k.spec.Hooks; h != nil {
		for _, list := range []struct {
			name  string
			hooks []specs.Hook
		}{
			//lint:ignore SA1019 deprecated, and run by every runtime
			{"prestart", h.Prestart},
			{"createRuntime", h.CreateRuntime}, {"createContainer", h.CreateContainer}, {"poststart", h.Poststart}, {"poststop", h.Poststop},
		} {
			for i, hook := range list.hooks {
				if unix.Access(hook.Path, unix.F_OK) == unix.ENOENT {
					k.at(FindingHook, pointer("hooks", list.name, i, "path"), "is %q, which does not exist on this host", hook.Path)
				}
			}
		}
	}
	p := k.spec.Process
	if p == nil {
		return
	}
	if p.ApparmorProfile != "" && !enabled("/sys/module/apparmor/parameters/enabled", "Y") {
		k.at(FindingSecurity, "/process/apparmorProfile", "is %q, and this host has no AppArmor", p.ApparmorProfile)
	}
	if p.SelinuxLabel != "" && unix.Access("/sys/fs/selinux/enforce", unix.F_OK) != nil {
		k.at(FindingSecurity, "/process/selinuxLabel", "is %q, and this host has no SELinux", p.SelinuxLabel)
	}
}

func enabled(file, prefix string) bool {
	text, err := os.ReadFile(file)
	return err == nil && strings.HasPrefix(string(text), prefix)
}
