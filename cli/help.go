package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// categories are the sections of --help, in their order.
var categories = []string{
	catBundle, catInput, catOwnership, catSpec, catOutput,
	catProcess, catIsolate, catMounts, catLimits, catSecurity, catRaw, catOther,
}

// catOther is the section of flags that have no other.
const catOther = "Flags"

const (
	appUsage   = "turn a container's filesystem stream into an OCI bundle"
	mainSyntax = "docker export CONTAINER | ocibundle -o DIR [flags] [-- ARG...]"

	description = "Reads a container's filesystem as a tar stream, extracts it safely into DIR/rootfs and writes DIR/config.json. " +
		"DIR appears only when all of it is there. ARG... is the command that the container runs."

	aboutEdits = "Edits are applied in the order of the command line. PTR is a JSON pointer, in which [key=value] picks an element " +
		"of an array: /linux/namespaces/[type=network]. VALUE is JSON, or else a string. FILE may be the JSON text itself."
)

// exitStatuses are the exit statuses: in short for --help, in full for the
// manual.
var exitStatuses = []struct{ code, short, full string }{
	{"0", "done", "Done."},
	{"1", "I/O", "I/O: the disk is full, a permission is lacking, the input cannot be read, the directory that DIR is to be in is missing."},
	{"2", "usage or a bad edit", "Usage, or an edit that does not apply; a file that a flag names cannot be read; a user name that the " +
		"rootfs lacks; a mapping that this caller cannot have; a directory that is no bundle."},
	{"3", "malformed or cut stream, or check found something", "The stream is malformed, cut or empty, or has another digest; check found something."},
	{"4", "refused", "Refused: an entry that would escape, an id outside the mapping, a limit."},
	{"5", "the destination exists or is in use", "The destination exists, is no bundle under --force, or is in use."},
	{"128+N", "ended by signal N", "Ended by signal N."},
}

// page is what --help, the manual and the completion scripts know of a command.
type page struct {
	name      string // empty: the main job
	arguments string
	usage     string
	flags     []*flagDef
}

// mainDefs are the flags of the main job.
func mainDefs() []*flagDef {
	return append(mainFlags[:len(mainFlags):len(mainFlags)], editFlagDefs()...)
}

// helpDefs are flags that the library has.
var helpDefs = []*flagDef{
	{names: []string{"help", "h"}, usage: "show the help page; after a command, the command's"},
	{names: []string{"version"}, usage: "print the version"},
}

// pages are the main job and then the commands, in the order of --help.
func (p *program) pages() []page {
	all := []page{{usage: appUsage, flags: append(mainDefs(), helpDefs...)}}
	for _, c := range p.commands() {
		all = append(all, page{name: c.Name, arguments: c.ArgsUsage, usage: c.Usage, flags: append(defsOf(c), helpDefs[0])})
	}
	return all
}

// defsOf are the flags of a command.
func defsOf(c *cli.Command) []*flagDef {
	var defs []*flagDef
	for _, f := range c.Flags {
		if f, ok := f.(cliFlag); ok {
			defs = append(defs, f.def)
		}
	}
	return defs
}

// inSections calls f for each category that has flags.
func inSections(defs []*flagDef, f func(category string, defs []*flagDef)) {
	all := slices.Clone(categories)
	for _, d := range defs {
		if c := cmp.Or(d.category, catOther); !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	for _, c := range all {
		var in []*flagDef
		for _, d := range defs {
			if cmp.Or(d.category, catOther) == c {
				in = append(in, d)
			}
		}
		if len(in) > 0 {
			f(c, in)
		}
	}
}

// flagHelp lists flags by category, in the order of their tables. The library
// would sort them by name.
func flagHelp(defs []*flagDef) string {
	var b strings.Builder
	inSections(defs, func(category string, defs []*flagDef) {
		b.WriteString("\n" + category + ":\n")
		for _, d := range defs {
			b.WriteString("   " + d.spelling() + "\t" + d.usage + "\n")
		}
	})
	return b.String()
}

// commandHelp is the page of a subcommand's --help.
func commandHelp(name, arguments, usage string, defs []*flagDef) string {
	syntax := strings.TrimSpace("ocibundle " + name + " " + arguments)
	return "ocibundle " + name + " - " + usage + "\n\nUsage:\n   " + syntax + "\n" + flagHelp(defs)
}

// appHelp is the template of --help.
func appHelp() string {
	var statuses []string
	for _, s := range exitStatuses {
		statuses = append(statuses, s.code+" "+s.short)
	}
	var help strings.Builder
	for _, d := range helpDefs {
		fmt.Fprintf(&help, "   %s{{\"\\t\"}}%s\n", d.spelling(), d.usage)
	}
	return `{{.Name}} - {{.Usage}}

Usage:
   ` + mainSyntax + `
   ocibundle COMMAND [flags]

` + wrap(description) + `{{if .VisibleCommands}}
Commands:{{range .VisibleCommands}}
   {{join .Names ", "}}{{"\t"}}{{.Usage}}{{end}}
{{end}}{{index .Metadata "flags"}}
Help:
` + help.String() + `
` + wrap(aboutEdits) + `
` + wrap("Exit status: "+strings.Join(statuses, "; ")+".")
}

// wrap breaks a paragraph into lines of at most 80 characters.
func wrap(text string) string {
	var b strings.Builder
	column := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case column == 0:
		case column+1+len(word) > 80:
			b.WriteByte('\n')
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String() + "\n"
}
