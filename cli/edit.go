package cli

import "ocibundle/pipeline/bundle"

func (p *program) editCommand() *command {
	return &command{name: "edit", arguments: "DIR [flags] [-- ARG...]", usage: "change the config.json of a bundle in one step",
		flags: editFlags, run: p.edit}
}

// edit edits a bundle.
func (p *program) edit(positional []string) error {
	if len(positional) != 1 {
		return usagef("%d directories were named, not one", len(positional)).hint("ocibundle edit DIR [edits]")
	}
	edits, err := p.edits(&files{})
	if err != nil {
		return err
	}
	if len(edits) == 0 {
		return usagef("nothing to edit").hint("ocibundle edit %s --env K=V, or any other edit flag", positional[0])
	}
	warnings, err := bundle.Edit(p.signals.gently(), positional[0], edits)
	if err != nil {
		return err
	}
	p.warn(warnings...)
	return nil
}
