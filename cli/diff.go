package cli

import "ocibundle/specedit"

// diffCommand prints the patch between two configs.
func (p *program) diffCommand(positional []string) error {
	if len(positional) != 2 {
		return usagef("%d files were named, not two", len(positional)).hint("ocibundle diff A.json B.json")
	}
	f := &files{}
	var text [2][]byte
	for i, name := range positional {
		var err error
		if text[i], err = f.ReadFile([]string{"the first file", "the second file"}[i], name); err != nil {
			return err
		}
	}
	patch, err := specedit.Diff(text[0], text[1])
	if err != nil {
		return &usageError{msg: "diff", err: err}
	}
	_, err = p.stdout.Write(patch)
	return err
}
