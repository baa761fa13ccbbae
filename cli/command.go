package cli

import (
	"errors"
	"flag"
	"io"

	"github.com/urfave/cli/v2"
)

// command makes a subcommand. The library ends the flags of one at its first
// positional argument; here they may stand on either side of it.
func (p *program) command(name, arguments, usage string, defs []*flagDef, run func(positional []string) error) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, ArgsUsage: arguments,
		Flags:           cliFlags(defs, &p.rec),
		SkipFlagParsing: true,
		HideHelpCommand: true,

		CustomHelpTemplate: commandHelp(name, arguments, usage, defs),
		Action: func(c *cli.Context) error {
			if len(p.rec.uses) > 0 {
				return usagef("%s stands before %q", p.rec.uses[0].label(), name).hint("flags of a command go after it: ocibundle %s %s", name, p.rec.uses[0].label())
			}
			set := flag.NewFlagSet(name, flag.ContinueOnError)
			set.SetOutput(io.Discard)
			for _, f := range c.Command.Flags {
				if f, ok := f.(cliFlag); ok {
					if err := f.Apply(set); err != nil {
						return err
					}
				}
			}
			var positional []string
			for rest := c.Args().Slice(); ; {
				err := set.Parse(rest)
				if errors.Is(err, flag.ErrHelp) {
					return cli.ShowSubcommandHelp(c)
				}
				if err != nil {
					return parseError(err)
				}
				if rest = set.Args(); len(rest) == 0 {
					break
				}
				positional, rest = append(positional, rest[0]), rest[1:]
			}
			return run(positional)
		},
	}
}
