// Package host says what a config depends on of the machine and of the caller.
package host

import (
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
	if h.Rootless {
		h.HardLimits = HardLimits()
	}
	return h
}
