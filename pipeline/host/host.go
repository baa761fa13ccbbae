// Package host says what a config depends on of the machine and of the caller.
package host

import (
	"net/netip"
	"os"
	"slices"
	"strings"

	"ocibundle/pipeline/userns"
	"ocibundle/specedit"
)

// Describe gathers what a default config depends on. An error is one of the disk or of this process's limits.
func Describe(ids userns.State) (specedit.Host, error) {
	h := specedit.Host{
		CgroupV2: UnifiedCgroups(),
		Rootless: ids.Rootless && !ids.Host.Empty(),
		Mapping:  ids.Host,
	}
	if h.Rootless {
		h.HardLimits = HardLimits()
	}
	return h, nameFiles(&h)
}

// nameFiles finds the files that this host resolves names with, those that it has: hosts,
// resolv.conf, and where that names a resolver on the loopback alone, which another
// network namespace does not reach, the one that names its servers (systemd-resolved(8)).
func nameFiles(h *specedit.Host) (err error) {
	if h.Hosts, err = regular("/etc/hosts"); err != nil {
		return err
	}
	if h.ResolvConf, h.Resolver, err = resolver("/etc/resolv.conf"); err != nil || h.ResolvConf == "" ||
		slices.ContainsFunc(h.Resolver.Servers, func(s string) bool { return !OnLoopback(s) }) {
		return err
	}
	upstream, servers, err := resolver("/run/systemd/resolve/resolv.conf")
	if upstream != "" {
		h.UpstreamResolvConf, h.Resolver = upstream, servers
	}
	return err
}

// OnLoopback tells whether a name server is on the loopback, where only its own network
// namespace reaches it.
func OnLoopback(server string) bool {
	address, err := netip.ParseAddr(server)
	return err == nil && address.IsLoopback()
}

// ReadResolver reads a resolv.conf; of one that is not there, or cannot be read, there is nothing. An error is one of the
// disk or of this process's limits.
func ReadResolver(name string) (specedit.Resolver, error) {
	_, r, err := resolver(name)
	return r, err
}

// resolver is name, if that is a regular file, and what it says.
func resolver(name string) (file string, r specedit.Resolver, err error) {
	if file, err = regular(name); file == "" {
		return "", r, err
	}
	text, err := os.ReadFile(name)
	if err != nil && !IsFault(err) {
		err = nil
	}
	return file, ParseResolver(text), err
}

// regular is name, if that is a regular file, which nobody waits for.
func regular(name string) (string, error) {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		if IsFault(err) {
			return "", err
		}
		return "", nil
	}
	return name, nil
}

// ParseResolver reads the text of a resolv.conf (resolv.conf(5)).
func ParseResolver(text []byte) (r specedit.Resolver) {
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			r.Servers = append(r.Servers, f[1])
		case "domain", "search":
			r.Search = f[1:]
		case "options":
			r.Options = append(r.Options, f[1:]...)
		}
	}
	return r
}
