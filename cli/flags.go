package cli

import (
	"flag"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// flagDef is one flag: its spellings, what --help says of it, and what edit it makes. Uses of it
// are recorded in the order of the command line.
type flagDef struct {
	names    []string // the long one first
	value    string   // placeholder; empty for a flag that takes none
	optional bool     // the value may be left out, and then is "true"
	usage    string
	category string
	make     makeEdit // nil for a flag that is not of an edit
}

// use is one use of a flag.
type use struct {
	def   *flagDef
	given string // the spelling, with its dashes
	value string
	bare  bool // no value was given
}

// label is the use in the user's own words.
func (u use) label() string {
	switch {
	case u.bare:
		return u.given
	case u.def.optional:
		return u.given + "=" + u.value
	}
	return u.given + " " + u.value
}

// record is what a command line asked for.
type record struct{ uses []use }

// last is the value that the last use of a flag gave.
func (r *record) last(name string) (string, bool) {
	for i := len(r.uses) - 1; i >= 0; i-- {
		if r.uses[i].def.names[0] == name {
			return r.uses[i].value, true
		}
	}
	return "", false
}

func (r *record) text(name string) string { v, _ := r.last(name); return v }

func (r *record) is(name string) bool { return r.text(name) == "true" }

// all are the values of all uses of a flag, in order.
func (r *record) all(name string) []string {
	var v []string
	for _, u := range r.uses {
		if u.def.names[0] == name {
			v = append(v, u.value)
		}
	}
	return v
}

// cliFlag makes a flagDef a flag of the command-line library. The library's own kinds of flags lose
// the order of different flags, split values at commas, and refuse two spellings of the same flag
// side by side.
type cliFlag struct {
	def *flagDef
	rec *record
}

// Apply implements cli.Flag.
func (f cliFlag) Apply(set *flag.FlagSet) error {
	for _, name := range f.def.names {
		given := dashed(name)
		if f.def.value == "" || f.def.optional {
			set.BoolFunc(name, f.def.usage, func(v string) error {
				if f.def.value == "" && v != "true" && v != "false" {
					return fmt.Errorf("it is true or false")
				}
				f.rec.uses = append(f.rec.uses, use{def: f.def, given: given, value: v, bare: v == "true"})
				return nil
			})
			continue
		}
		set.Func(name, f.def.usage, func(v string) error {
			f.rec.uses = append(f.rec.uses, use{def: f.def, given: given, value: v})
			return nil
		})
	}
	return nil
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// Names implements cli.Flag. The library is told of one spelling only, or it would refuse -e beside
// --env.
func (f cliFlag) Names() []string { return f.def.names[:1] }

// IsSet implements cli.Flag.
func (f cliFlag) IsSet() bool { _, ok := f.rec.last(f.def.names[0]); return ok }

// spelling is how --help writes the flag: short form first.
func (d *flagDef) spelling() string {
	var short, long []string
	for _, n := range d.names {
		if len(n) == 1 {
			short = append(short, dashed(n))
		} else {
			long = append(long, dashed(n))
		}
	}
	s := strings.Join(append(short, long...), ", ")
	switch {
	case d.optional:
		s += "[=" + d.value + "]"
	case d.value != "":
		s += " " + d.value
	}
	return s
}

// String implements fmt.Stringer.
func (f cliFlag) String() string { return f.def.spelling() }

func cliFlags(defs []*flagDef, rec *record) []cli.Flag {
	var out []cli.Flag
	for _, d := range defs {
		out = append(out, cliFlag{d, rec})
	}
	return out
}
