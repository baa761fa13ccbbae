package cli

import (
	"errors"
	"flag"
	"io"
	"strings"
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

// flagSet makes defs flags of the library's, which records their uses.
func flagSet(defs []*flagDef, rec *record) *flag.FlagSet {
	set := flag.NewFlagSet("", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	for _, d := range defs {
		for _, name := range d.names {
			d.define(set, name, rec)
		}
	}
	return set
}

// define makes one spelling a flag of the library's.
func (d *flagDef) define(set *flag.FlagSet, name string, rec *record) {
	if d.value != "" && !d.optional {
		set.Func(name, "", func(v string) error {
			rec.uses = append(rec.uses, use{def: d, given: dashed(name), value: v})
			return nil
		})
		return
	}
	set.BoolFunc(name, "", func(v string) error {
		if d.value == "" && v != "true" && v != "false" {
			return errors.New("it is true or false")
		}
		rec.uses = append(rec.uses, use{def: d, given: dashed(name), value: v, bare: v == "true"})
		return nil
	})
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

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
