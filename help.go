package main

import "strings"

// categories are the sections of --help, in their order.
var categories = []string{
	catBundle, catInput, catOwnership, catSpec, catOutput,
	catProcess, catIsolate, catMounts, catLimits, catSecurity, catRaw,
}

// catOther is the section of flags that have no other.
const catOther = "Flags"

// flagHelp lists flags by category, in the order of their tables. The library
// would sort them by name.
func flagHelp(defs []*flagDef) string {
	var b strings.Builder
	section := func(name string) {
		first := true
		for _, d := range defs {
			if d.category != name {
				continue
			}
			if first {
				b.WriteString("\n" + name + ":\n")
				first = false
			}
			b.WriteString("   " + d.spelling() + "\t" + d.usage + "\n")
		}
	}
	for _, c := range append([]string{catOther}, categories...) {
		section(c)
	}
	return b.String()
}

// commandHelp is the page of a subcommand's --help.
func commandHelp(name, arguments, usage string, defs []*flagDef) string {
	return "ocibundle " + name + " - " + usage + "\n\nUsage:\n   ocibundle " + name + " " + arguments + "\n" + flagHelp(defs)
}

const usageText = `docker export CONTAINER | ocibundle -o DIR [flags] [-- ARG...]
   ocibundle COMMAND [flags]`

// appHelp is the page of --help.
const appHelp = `{{.Name}} - {{.Usage}}

Usage:
   {{.UsageText}}

Reads a container's filesystem as a tar stream, extracts it safely into
DIR/rootfs and writes DIR/config.json. DIR appears only when all of it is there.
ARG... is the command that the container runs.
{{if .VisibleCommands}}
Commands:{{range .VisibleCommands}}
   {{join .Names ", "}}{{"\t"}}{{.Usage}}{{end}}
{{end}}{{index .Metadata "flags"}}
Help:
   -h, --help{{"\t"}}show this page; after a command, the command's
   --version{{"\t"}}print the version

Edits are applied in the order of the command line. PTR is a JSON pointer, in
which [key=value] picks an element of an array: /linux/namespaces/[type=network].
VALUE is JSON, or else a string. FILE may be the JSON text itself.

Exit status: 0 done; 1 I/O; 2 usage or a bad edit; 3 malformed or cut stream;
4 refused; 5 the destination exists or is in use; 128+N ended by signal N.
`
