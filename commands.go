package main

import "github.com/urfave/cli/v2"

// commands are the subcommands, in the order of --help.
func (p *program) commands() []*cli.Command {
	return append(p.specCommands(), p.exportCommand(), p.rmCommand())
}
