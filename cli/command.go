package cli

import (
	"errors"
	"flag"
	"io"
	"slices"
)

// command is one of the commands, or without a name the main job.
type command struct {
	name      string
	arguments string // what stands for its positional arguments
	usage     string
	flags     []*flagDef
	run       func(positional []string) error
}

// commands are those with a name, in the order of --help.
func (p *program) commands() []*command {
	return []*command{
		p.specCommand(), p.editCommand(), p.diffCommand(), p.checkCommand(), p.exportCommand(), p.rmCommand(), p.unitCommand(),
		p.completionCommand(), p.manCommand(), p.helpCommand(), p.completeCommand(),
	}
}

// hidden commands are for scripts.
func (c *command) hidden() bool { return c.name == completeName }

// only returns the one word that a command takes. what it is about is named in the plural, and
// example says how the command is used.
func (p *program) only(words []string, what, example string) (string, error) {
	words = append(words, p.args...) // "--" before a name that looks like a flag
	if len(words) != 1 {
		return "", usagef("%d %s were named, not one", len(words), what).hint("%s", example)
	}
	return words[0], nil
}

// find returns the command of a name, nil where there is none.
func (p *program) find(name string) *command {
	all := p.commands()
	if i := slices.IndexFunc(all, func(c *command) bool { return c.name == name }); i >= 0 {
		return all[i]
	}
	return nil
}

// runCommand parses what stands behind the name of a command. The library ends the flags of one at
// its first positional argument; here they may stand on either side of it.
func (p *program) runCommand(c *command, args []string) error {
	if len(p.rec.uses) > 0 {
		given := p.rec.uses[0].label()
		if p.rec.is("help") {
			return p.stdout.print(helpPage(c))
		}
		return usagef("%s comes before %q", given, c.name).hint("flags of a command go after it: ocibundle %s %s", c.name, given)
	}
	if c.name == completeName { // its arguments are another command line
		return c.run(args)
	}
	set := flag.NewFlagSet(c.name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	for _, f := range cliFlags(c.flags, &p.rec) {
		if err := f.Apply(set); err != nil {
			return err
		}
	}
	var positional []string
	for rest := args; ; {
		err := set.Parse(rest)
		if errors.Is(err, flag.ErrHelp) {
			return p.stdout.print(helpPage(c))
		}
		if err != nil {
			return parseError(err, args, c.flags)
		}
		if rest = set.Args(); len(rest) == 0 {
			return c.run(positional)
		}
		if err := p.strayBool(rest[0]); err != nil {
			return err
		}
		positional, rest = append(positional, rest[0]), rest[1:]
	}
}
