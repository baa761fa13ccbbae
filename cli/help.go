package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"ocibundle/specedit/jsontree"
)

// categories are the sections of --help, in their order.
var categories = []string{
	catBundle, catInput, catOwnership, catSpec, catOutput,
	catProcess, catIsolate, catMounts, catLimits, catSecurity, catRaw, catOther,
}

// catOther is the section of flags that have no other.
const catOther = "Flags"

const mainHead = `ocibundle - turn a container's filesystem stream into an OCI bundle

   docker export web | ocibundle -o web --image-config <(docker inspect web)
   docker export web | ocibundle -o web --net host -v ./data:/data -- /usr/bin/web
   docker save web:1 | ocibundle --image -o web

Usage:
   docker export CONTAINER | ocibundle -o DIR [flags] [-- ARG...]
   ocibundle COMMAND [flags]

Reads a container's filesystem as a tar stream, extracts it safely into
DIR/rootfs and writes DIR/config.json. DIR appears only when all of it is there.
ARG... is the command that the container runs.
`

const mainTail = `
Edits are applied in the order of the command line. PTR is a JSON pointer, in
which [key=value] picks an element of an array: /linux/namespaces/[type=network].
VALUE is JSON, or else a string. FILE may be the JSON text itself.

Exit status: 0 done; 1 I/O; 2 usage or a bad edit; 3 malformed or cut stream, or
check found something; 4 refused; 5 the destination exists or is in use; 128+N
ended by signal N.
`

// everyday are the flags that --help lists first.
var everyday = []string{
	"output", "force", "image-config", "image", "env", "user", "volume", "net", "memory", "remap",
}

func isEveryday(d *flagDef) bool { return slices.Contains(everyday, d.names[0]) }

// helpFlag is every command's.
var helpFlag = &flagDef{names: []string{"help", "h"}, usage: "show this page; after a command, the command's", category: catOutput}

// mainDefs are the flags of the main job.
func mainDefs() []*flagDef { return slices.Concat(mainFlags, editFlags) }

func (p *program) helpCommand() *command {
	return &command{name: "help", arguments: "[COMMAND]", usage: "show the page of --help, or that of a command", run: p.help}
}

// help is --help of the main job or of a command.
func (p *program) help(positional []string) error {
	switch len(positional) {
	case 0:
		return p.stdout.print(p.mainPage())
	case 1:
		if c := p.find(positional[0]); c != nil {
			return p.stdout.print(helpPage(c))
		}
		e := usagef("there is no command %q", positional[0])
		if near := p.nearestCommand(positional[0]); near != "" {
			e.hint("did you mean %s?", near)
		}
		return e.hint("ocibundle --help lists the commands")
	}
	return usagef("%d commands were named, not one", len(positional)).hint("ocibundle help COMMAND")
}

func (p *program) nearestCommand(name string) string {
	var names []string
	for _, c := range p.commands() {
		if !c.hidden() {
			names = append(names, c.name)
		}
	}
	return jsontree.Nearest(name, names)
}

// mainPage is the page of ocibundle --help.
func (p *program) mainPage() string {
	var commands strings.Builder
	for _, c := range p.commands() {
		if !c.hidden() {
			fmt.Fprintf(&commands, "   %s\t%s\n", c.name, c.usage)
		}
	}
	everydayFirst := func(name string) int { return slices.Index(everyday, name) }
	first := slices.SortedFunc(slices.Values(slices.DeleteFunc(mainDefs(), func(d *flagDef) bool { return !isEveryday(d) })),
		func(a, b *flagDef) int { return everydayFirst(a.names[0]) - everydayFirst(b.names[0]) })
	rest := slices.DeleteFunc(mainDefs(), isEveryday)
	return mainHead + "\nEveryday flags:\n" + aligned(flagLines(first)) +
		"\nCommands, each with a --help of its own:\n" + aligned(commands.String()) + sections(rest) + mainTail
}

// helpPage is the page of a command's --help.
func helpPage(c *command) string {
	syntax := strings.TrimSpace("ocibundle " + c.name + " " + c.arguments)
	return "ocibundle " + c.name + " - " + c.usage + "\n\nUsage:\n   " + syntax + "\n" + sections(c.flags)
}

// sections lists flags by category, in the order of their tables.
func sections(defs []*flagDef) string {
	var b strings.Builder
	for _, c := range categories {
		var in []*flagDef
		for _, d := range defs {
			if cmp.Or(d.category, catOther) == c {
				in = append(in, d)
			}
		}
		if len(in) > 0 {
			b.WriteString("\n" + c + ":\n" + flagLines(in))
		}
	}
	return aligned(b.String())
}

func flagLines(defs []*flagDef) string {
	var b strings.Builder
	for _, d := range defs {
		fmt.Fprintf(&b, "   %s\t%s\n", d.spelling(), d.usage)
	}
	return b.String()
}

// aligned puts what stands behind tabs into columns.
func aligned(text string) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	w.Write([]byte(text)) // to a strings.Builder, which never fails
	w.Flush()
	return b.String()
}
