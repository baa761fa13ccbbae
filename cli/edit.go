package cli

import "ocibundle/pipeline/bundle"

// editCommand edits a bundle.
func (p *program) editCommand(positional []string) error {
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
	ctx, stop := signalContext()
	defer stop()
	warnings, err := bundle.Edit(ctx, positional[0], edits)
	if err != nil {
		return err
	}
	p.warn(warnings)
	return nil
}
