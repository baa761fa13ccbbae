// Package host says what a config depends on of the machine and of the caller.
package host

import (
	"golang.org/x/sys/unix"

	"ocibundle/pipeline/userns"
	"ocibundle/specedit"
)

// UnifiedCgroups reports whether the host has the unified hierarchy alone.
func UnifiedCgroups() bool {
	var st unix.Statfs_t
	return unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// Describe gathers what a default config depends on.
func Describe(ids userns.State) specedit.Host {
	h := specedit.Host{
		CgroupV2: UnifiedCgroups(),
		Rootless: ids.Rootless && !ids.Host.Empty(),
		Mapping:  ids.Host,
	}
	if h.Rootless {
		h.HardLimits = HardLimits()
	}
	return h
}
