package imageconfig

import (
	"encoding/json"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"ocibundle/specedit"
)

// names carries over what the container resolves names with.
func (im *importer) names() {
	h := &im.d.host
	var servers []string
	if err := json.Unmarshal(h.DNS, &servers); err != nil && len(h.DNS) > 0 {
		im.refuse("HostConfig.Dns", "want a list of strings")
	}
	var n specedit.Names
	for _, s := range servers {
		if _, err := netip.ParseAddr(s); err != nil {
			im.notice("HostConfig.Dns", "DNS server", s, "it is not an address")
			continue
		}
		n.Servers = append(n.Servers, s)
	}
	n.Search = im.oneWordEach("HostConfig.DnsSearch", "DNS search domain", h.DNSSearch)
	n.Options = im.oneWordEach("HostConfig.DnsOptions", "DNS option", h.DNSOptions)
	for _, entry := range h.ExtraHosts {
		if line, why := hostsLine(entry); why != "" {
			im.notice("HostConfig.ExtraHosts", "extra host", entry, why)
		} else {
			n.Hosts = append(n.Hosts, line)
		}
	}
	if file := h.HostsFile; file != "" {
		im.notice("HostConfig.HostsFile", "hosts file", file, "")
	}
	if len(n.Servers)+len(n.Search)+len(n.Options)+len(n.Hosts) == 0 {
		return
	}
	var err error
	if n.Time, err = time.Parse(time.RFC3339, im.d.container.Created); err != nil {
		n.Time = time.Unix(0, 0) // not now: the same stream and document make the same bundle
	}
	im.edit("HostConfig.Dns", func(label string) (specedit.Edit, error) { return specedit.SetNames(label, n), nil })
}

// oneWordEach returns the values that are one word of a line.
func (im *importer) oneWordEach(member, setting string, values []string) (words []string) {
	for _, v := range values {
		if !isWord(v) {
			im.notice(member, setting, v, "it is not one word")
			continue
		}
		words = append(words, v)
	}
	return words
}

func isWord(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) })
}

// hostsLine makes a line of hosts(5) of NAME:ADDRESS or, from podman, NAME;NAME:ADDRESS.
func hostsLine(entry string) (line, why string) {
	names, address, _ := strings.Cut(entry, ":")
	address = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
	if address == "host-gateway" {
		return "", "only an engine has a gateway"
	}
	names = strings.ReplaceAll(names, ";", " ")
	if _, err := netip.ParseAddr(address); err != nil || names == "" {
		return "", "it is not NAME:ADDRESS"
	}
	for name := range strings.SplitSeq(names, " ") {
		if !isWord(name) || strings.Contains(name, "#") {
			return "", "it is not NAME:ADDRESS"
		}
	}
	return address + "\t" + names, ""
}
