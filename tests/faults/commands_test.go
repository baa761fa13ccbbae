package faults

// command is one way to use the program.
type command struct {
	name    string
	args    string // IN/ is the directory of what is read
	stdin   string // export or image
	bundles string // that are there before
	does    deed
	slow    bool   // its stream takes a while, so that it says how far it is
	who     string // the only identity, where not all of them can
}

// deed is what a command does to what is there.
type deed int

const (
	makes   deed = iota // a bundle b
	edits               // the config of b
	removes             // bundles
	looks               // and changes nothing
)

var commands = []command{
	{name: "main", args: "-o b", stdin: "export"},
	{name: "file", args: "--json --verbose -i IN/export.tar.gz -o b"},
	{name: "flags", args: "-o b --image-config IN/named/inspect.json --patch IN/named/patch.json --env-file IN/named/env -u root:root -- /bin/sh", stdin: "export"},
	{name: "image", args: "--image -i IN/image.tar -o b"},
	{name: "force", args: "-f -o b", stdin: "export", bundles: "b"},
	{name: "sync", args: "--sync -f -o b", stdin: "export", bundles: "b"},
	{name: "shift", args: "--uidmap 0:300000:65536 -o b", stdin: "export", who: "root"},
	{name: "stream", args: "-o -", stdin: "export", does: looks},
	{name: "spec", args: "spec --template IN/named/base.json -e A=1 -- /bin/sh", does: looks},
	{name: "edit", args: "edit b -e A=1 --patch IN/named/patch.json", bundles: "b", does: edits},
	{name: "diff", args: "diff IN/a.json IN/b.json", does: looks},
	{name: "check", args: "check b", bundles: "b", does: looks},
	{name: "export", args: "export b", bundles: "b", does: looks},
	{name: "rm", args: "rm b", bundles: "b", does: removes},
	{name: "progress", args: "--progress always --verbose -o b", stdin: "export", slow: true},
	{name: "rm several", args: "rm -f b absent c d", bundles: "b c d", does: removes},
}
