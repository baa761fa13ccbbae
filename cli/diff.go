package cli

import (
	"os"

	"ocibundle/pipeline/bundle"
	"ocibundle/specedit"
)

func (p *program) diffCommand() *command {
	return &command{name: "diff", arguments: "A.json B.json", usage: "print the RFC 6902 patch from A to B, each a file or a bundle",
		run: p.diff}
}

// diff prints the patch between two configs.
func (p *program) diff(positional []string) error {
	positional = append(positional, p.args...)
	if len(positional) != 2 {
		return usagef("%d files were named, not two", len(positional)).hint("ocibundle diff A.json B.json")
	}
	f := &files{}
	var text [2][]byte
	for i, name := range positional {
		var err error
		if fi, serr := os.Stat(name); serr == nil && fi.IsDir() {
			text[i], err = bundle.Config(name)
		} else {
			text[i], err = f.ReadFile([]string{"the first file", "the second file"}[i], name)
		}
		if err != nil {
			return err
		}
	}
	patch, err := specedit.Diff(text[0], text[1])
	if err != nil {
		return &usageError{msg: "diff", err: err}
	}
	return p.stdout.print(string(patch))
}
