package specedit_test

import (
	"errors"
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
