package specedit

import (
	"slices"
	"strings"
	"time"
)

// Resolver is what resolv.conf(5) says.
type Resolver struct {
	Servers, Search, Options []string
}

// Names are a container's own settings to resolve names with, as docker run --dns and --add-host
// make them. The engine keeps them in files of its own, which it mounts over the empty ones of the
// rootfs.
type Names struct {
	Resolver
	// Hosts are lines of hosts(5).
	Hosts []string
	// Time is when the container was made, the time that the files get.
	Time time.Time
}

// SetNames makes the edit that gives a container these settings. With [ResolvAuto] they become
// files of the rootfs, see [Plan.Files].
func SetNames(label string, n Names) Edit {
	return NewEdit(label, func(d *Doc) error {
		d.names = n
		return nil
	})
}

// File is a file that belongs into the rootfs, where it is missing or empty.
type File struct {
	Name string // "etc/hosts"
	Text string
	// After is a file of the host that Text goes behind, "" for none.
	After string
	Time  time.Time
}

// resolverSettings say what is in resolv.conf, hostSettings what is in hosts.
func (n *Names) resolverSettings() (says []string) {
	for _, s := range []struct {
		what   string
		values []string
	}{{"DNS servers", n.Servers}, {"DNS search domains", n.Search}, {"DNS options", n.Options}} {
		if len(s.values) > 0 {
			says = append(says, s.what+" "+strings.Join(s.values, ", "))
		}
	}
	return says
}

func (n *Names) hostSettings() []string {
	if len(n.Hosts) == 0 {
		return nil
	}
	return []string{"extra hosts " + strings.ReplaceAll(strings.Join(n.Hosts, ", "), "\t", " ")}
}

func (n *Names) all() []string { return slices.Concat(n.resolverSettings(), n.hostSettings()) }

// noteLost notes settings that have no place.
func (d *Doc) noteLost(says []string, why string) {
	if len(says) > 0 {
		d.note("not taken over: %s (%s)", strings.Join(says, "; "), why)
	}
}

// resolvConf is the file for the settings, nil where there are none. What they leave open is the
// host's, as with Docker.
func (n *Names) resolvConf(host Resolver) *File {
	if len(n.resolverSettings()) == 0 {
		return nil
	}
	pick := func(own, host []string) []string {
		if len(own) == 0 {
			own = host
		}
		// A lone "." asks for an empty list (docker run --dns-search .).
		return slices.DeleteFunc(slices.Clone(own), func(s string) bool { return s == "." })
	}
	var b strings.Builder
	for _, server := range pick(n.Servers, host.Servers) {
		b.WriteString("nameserver " + server + "\n")
	}
	for _, line := range [][]string{{"search", strings.Join(pick(n.Search, host.Search), " ")}, {"options", strings.Join(pick(n.Options, host.Options), " ")}} {
		if line[1] != "" {
			b.WriteString(strings.Join(line, " ") + "\n")
		}
	}
	return &File{Name: "etc/resolv.conf", Text: b.String(), Time: n.Time}
}

// localNames is what Docker begins a container's hosts file with.
const localNames = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
	"fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"

// hostsFile is the file for the settings, nil where there are none. In the host's network the
// host's own comes first, as with Docker.
func (d *Doc) hostsFile() *File {
	if len(d.names.Hosts) == 0 {
		return nil
	}
	f := File{Name: "etc/hosts", Text: strings.Join(d.names.Hosts, "\n") + "\n", Time: d.names.Time}
	if d.networkNamespace() == nil {
		f.After = d.host.Hosts
	}
	if f.After == "" {
		f.Text = localNames + f.Text
	}
	return &f
}
