package cli

import "ocibundle/docs"

func (p *program) manCommand() *command {
	return &command{name: "man", usage: "print the manual page: ocibundle man | man -l -", run: p.man}
}

// man prints the manual page.
func (p *program) man(positional []string) error {
	if len(positional) > 0 {
		return usagef("unexpected argument %q", positional[0]).hint("ocibundle man | man -l -")
	}
	return p.stdout.print(docs.Manual)
}
