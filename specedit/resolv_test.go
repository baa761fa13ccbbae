package specedit_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/specedit"
)

func TestResolv(t *testing.T) {
	host := specedit.Host{Hosts: "/h/hosts", ResolvConf: "/h/resolv", UpstreamResolvConf: "/h/upstream"}
	namespace := func(value string) specedit.Edit {
		return must(specedit.Namespace("--net "+value, "network", value, "/"))
	}
	volume := func(arg string) specedit.Edit { return must(specedit.Volume("-v "+arg, arg, "/")) }
	none := map[string]string{}
	for _, c := range []struct {
		name     string
		template string
		base     string
		resolv   specedit.Resolv
		rootfs   map[string]string
		edits    []specedit.Edit
		want     string // what is at hosts and at resolv.conf
	}{
		{name: "a network of its own", rootfs: none, want: "/h/hosts "},
		{name: "the host's network", rootfs: none, edits: []specedit.Edit{namespace("host")}, want: "/h/hosts /h/resolv"},
		{name: "a network at a path", rootfs: none, edits: []specedit.Edit{namespace("/run/netns/x")}, want: "/h/hosts /h/upstream"},
		{name: "empty files", rootfs: map[string]string{"etc/hosts": "", "etc/resolv.conf": ""}, edits: []specedit.Edit{namespace("host")}, want: "/h/hosts /h/resolv"},
		{name: "the rootfs's own", rootfs: map[string]string{"etc/hosts": "x", "etc/resolv.conf": "x"}, edits: []specedit.Edit{namespace("host")}, want: " "},
		{name: "an edit's own", rootfs: none, edits: []specedit.Edit{namespace("host"), volume("/a:/etc/hosts")}, want: "/a /h/resolv"},
		{name: "an edit's own etc", rootfs: none, edits: []specedit.Edit{namespace("host"), volume("/a:/etc")}, want: " "},
		{name: "an edit's own beside etc", rootfs: none, edits: []specedit.Edit{volume("/a:/etcetera")}, want: "/h/hosts "},
		{name: "no rootfs", edits: []specedit.Edit{namespace("host")}, want: " "},
		{name: "none", resolv: specedit.ResolvNone, rootfs: none, edits: []specedit.Edit{namespace("host")}, want: " "},
		{name: "host", resolv: specedit.ResolvHost, rootfs: map[string]string{"etc/hosts": "x", "etc/resolv.conf": "x"}, want: "/h/hosts /h/resolv"},
		{name: "a file", resolv: "/f", rootfs: map[string]string{"etc/hosts": "x", "etc/resolv.conf": "x"}, want: " /f"},
		{name: "runc", template: specedit.TemplateRunc, rootfs: none, edits: []specedit.Edit{namespace("host")}, want: " "},
		{name: "runc, asked for", template: specedit.TemplateRunc, resolv: specedit.ResolvHost, rootfs: none, want: "/h/hosts /h/resolv"},
		{name: "a file's config", base: `{"ociVersion":"1.0.0","root":{"path":"rootfs"},"process":{"cwd":"/","args":["sh"]}}`, rootfs: none, want: " "},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := specedit.Plan{Template: c.template, Resolv: c.resolv, Host: host, Edits: c.edits}
			if c.base != "" {
				p.Base = []byte(c.base)
			}
			var users specedit.UserLookup
			if c.rootfs != nil {
				users = specedit.FileUsers{Read: func(name string) ([]byte, error) {
					if text, ok := c.rootfs[name]; ok {
						return []byte(text), nil
					}
					return nil, fs.ErrNotExist
				}}
			}
			text, err := p.Build(users)
			if err != nil {
				t.Fatal(err)
			}
			at := map[any]string{}
			mounts, _ := decode(t, text)["mounts"].([]any)
			for _, m := range mounts {
				at[m.(map[string]any)["destination"]], _ = m.(map[string]any)["source"].(string)
			}
			if got := at["/etc/hosts"] + " " + at["/etc/resolv.conf"]; got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
	// What cannot be looked at is not taken for nothing.
	for _, c := range []struct {
		err   error
		fails bool
	}{{unix.EIO, true}, {errors.New("it is a FIFO"), false}} {
		p := specedit.Plan{Host: host}
		text, err := p.Build(specedit.FileUsers{Read: func(name string) ([]byte, error) {
			if strings.Contains(name, "hosts") {
				return nil, c.err
			}
			return nil, nil
		}})
		if (err != nil) != c.fails || strings.Contains(string(text), "/h/hosts") {
			t.Errorf("%v: %v", c.err, err)
		}
	}
}

// What a container had of its own becomes files where --resolv says nothing else, and a warning
// where there is no place for it.
func TestNames(t *testing.T) {
	host := specedit.Host{Hosts: "/h/hosts", ResolvConf: "/h/resolv",
		Resolver: specedit.Resolver{Servers: []string{"192.0.2.1"}, Search: []string{"host.example"}, Options: []string{"edns0"}}}
	dns := specedit.Names{Resolver: specedit.Resolver{Servers: []string{"192.0.2.9"}, Search: []string{"a.example", "b.example"}, Options: []string{"ndots:2"}}}
	extra := specedit.Names{Hosts: []string{"192.0.2.3\tdb"}}
	hostNet := must(specedit.Namespace("--net host", "network", "host", "/"))
	volume := must(specedit.Volume("-v", "/a:/etc", "/"))
	const dockers = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\n" +
		"ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n192.0.2.3\tdb\n"
	full := map[string]string{"etc/hosts": "x", "etc/resolv.conf": "x"}
	for _, c := range []struct {
		name     string
		names    specedit.Names
		template string
		resolv   specedit.Resolv
		noRootfs bool
		rootfs   map[string]string
		edits    []specedit.Edit
		want     string // the files
		warns    string
	}{
		{name: "nothing of its own"},
		{name: "all of resolv.conf", names: dns, want: `etc/resolv.conf "nameserver 192.0.2.9\nsearch a.example b.example\noptions ndots:2\n" after ""`},
		{name: "servers", names: specedit.Names{Resolver: specedit.Resolver{Servers: []string{"192.0.2.9", "2001:db8::9"}}},
			want: `etc/resolv.conf "nameserver 192.0.2.9\nnameserver 2001:db8::9\nsearch host.example\noptions edns0\n" after ""`},
		{name: "no search", names: specedit.Names{Resolver: specedit.Resolver{Search: []string{"."}}},
			want: `etc/resolv.conf "nameserver 192.0.2.1\noptions edns0\n" after ""`},
		{name: "hosts", names: extra, want: fmt.Sprintf("etc/hosts %q after %q", dockers, "")},
		{name: "hosts in the host's network", names: extra, edits: []specedit.Edit{hostNet}, want: `etc/hosts "192.0.2.3\tdb\n" after "/h/hosts"`},
		{name: "files of the rootfs", names: specedit.Names{Resolver: dns.Resolver, Hosts: extra.Hosts}, rootfs: full,
			warns: "not taken over: extra hosts 192.0.2.3 db (the rootfs has its own /etc/hosts)|" +
				"not taken over: DNS servers 192.0.2.9; DNS search domains a.example, b.example; DNS options ndots:2 (the rootfs has its own /etc/resolv.conf)"},
		{name: "a mount", names: extra, edits: []specedit.Edit{volume}},
		{name: "asked for the host's", names: dns, resolv: specedit.ResolvHost, rootfs: full},
		{name: "asked for none", names: dns, resolv: specedit.ResolvNone},
		{name: "asked for a file", names: specedit.Names{Resolver: dns.Resolver, Hosts: extra.Hosts}, resolv: "/f", want: fmt.Sprintf("etc/hosts %q after %q", dockers, "")},
		{name: "runc", names: extra, template: specedit.TemplateRunc, warns: "not taken over: extra hosts 192.0.2.3 db (only the docker template resolves names by itself)"},
		{name: "no rootfs", names: extra, noRootfs: true, warns: "not taken over: extra hosts 192.0.2.3 db (there is no rootfs to write them into)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := specedit.Plan{Template: c.template, Resolv: c.resolv, Host: host, Edits: append([]specedit.Edit{specedit.SetNames("c", c.names)}, c.edits...)}
			if err := p.Check(); err != nil {
				t.Fatal(err)
			}
			var users specedit.UserLookup = specedit.FileUsers{Read: func(name string) ([]byte, error) {
				if text, ok := c.rootfs[name]; ok {
					return []byte(text), nil
				}
				return nil, fs.ErrNotExist
			}}
			if c.noRootfs {
				users = nil
			}
			text, err := p.Build(users)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range p.Files() {
				got = append(got, fmt.Sprintf("%s %q after %q", f.Name, f.Text, f.After))
				if strings.Contains(string(text), `"/`+f.Name+`"`) {
					t.Errorf("/%s is covered by a mount", f.Name)
				}
			}
			if strings.Join(got, "|") != c.want {
				t.Errorf("files %q\nwant  %q", got, c.want)
			}
			if got := strings.Join(p.Warnings(), "|"); got != c.warns {
				t.Errorf("warnings %q\nwant     %q", got, c.warns)
			}
		})
	}
}
