// Package host says what a config depends on of the machine and of the caller.
package host

import (
	"os"
	"strings"

	"ocibundle/pipeline/userns"
	"ocibundle/specedit"
)

// Describe gathers what a default config depends on.
func Describe(ids userns.State) specedit.Host {
	h := specedit.Host{
		CgroupV2: UnifiedCgroups(),
		Rootless: ids.Rootless && !ids.Host.Empty(),
		Mapping:  ids.Host,
	}
	h.Hosts, h.ResolvConf, h.UpstreamResolvConf = nameFiles()
	if h.Rootless {
		h.HardLimits = HardLimits()
	}
	return h
}

// nameFiles are the files that this host resolves names with, those that it has: hosts,
// resolv.conf, and where that names a resolver on the loopback alone, which another
// network namespace does not reach, the one that names its servers (systemd-resolved(8)).
func nameFiles() (hosts, resolvConf, upstream string) {
	regular := func(name string) string {
		if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
			return ""
		}
		return name
	}
	hosts, resolvConf = regular("/etc/hosts"), regular("/etc/resolv.conf")
	text, err := os.ReadFile("/etc/resolv.conf")
	if resolvConf == "" || err != nil {
		return hosts, resolvConf, ""
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" && !strings.HasPrefix(f[1], "127.") && f[1] != "::1" {
			return hosts, resolvConf, ""
		}
	}
	return hosts, resolvConf, regular("/run/systemd/resolve/resolv.conf")
}
