package cli

import "github.com/urfave/cli/v2"

// commands are the subcommands, in the order of --help.
func (p *program) commands() []*cli.Command {
	help := &cli.Command{Name: "help", Usage: "show the page of --help", SkipFlagParsing: true, HideHelp: true,
		Action: cli.ShowAppHelp}
	return append(p.specCommands(), p.checkCommand(), p.exportCommand(), p.rmCommand(), p.completionCommand(), p.manCommand(), help)
}
