package cli

import (
	"errors"
	"fmt"
	"os"

	"ocibundle/specedit"
)

// edits makes the edits of the command line, in its order, and reads the files they name.
func (p *program) edits(f *files) ([]specedit.Edit, error) {
	cwd, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("find the working directory: %w", err)
	}
	in := &editInputs{files: f, cwd: cwd, lookupEnv: os.LookupEnv, cdiDirs: p.rec.all("cdi-spec-dir")}
	var edits []specedit.Edit
	for _, u := range p.rec.uses {
		if u.def.make == nil {
			continue
		}
		e, err := u.def.make(u.label(), u.value, in)
		if err != nil {
			var usage *usageError
			var edit *specedit.EditError
			if errors.As(err, &usage) || errors.As(err, &edit) {
				return nil, err
			}
			return nil, &usageError{msg: u.label(), err: err}
		}
		edits = append(edits, e)
	}
	if p.hasArgs {
		if len(p.args) == 0 {
			return nil, usagef("nothing follows --").hint("the container's command goes there; leave -- out to keep the one there is")
		}
		edits = append(edits, specedit.Args(p.args))
	}
	return edits, nil
}
