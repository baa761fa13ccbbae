package cli

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"ocibundle/specedit"
)

// files reads the files that flags name, each once.
type files struct {
	// stdin is what reads standard input already.
	stdin string
}

// ReadFile reads the file called name for a flag; "-" is standard input.
func (f *files) ReadFile(flag, name string) ([]byte, error) {
	const limit = 16 << 20
	r := os.Stdin
	if name == "-" {
		if f.stdin != "" {
			return nil, usagef("%s and %s both read standard input", f.stdin, flag)
		}
		f.stdin = flag
	} else {
		var err error
		if r, err = os.Open(name); err != nil {
			return nil, &usageError{msg: flag, err: err}
		}
		defer r.Close()
	}
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, &usageError{msg: flag, err: err}
	}
	if len(b) > limit {
		return nil, usagef("%s: %q is larger than %d MiB", flag, name, limit>>20)
	}
	return b, nil
}

// setTemplate makes the base of a plan out of --template.
func setTemplate(p *specedit.Plan, name string, f *files) error {
	templates := []string{specedit.TemplateDocker, specedit.TemplateRunc}
	if name == "" || slices.Contains(templates, name) {
		p.Template = name
		return nil
	}
	p.BaseLabel = "--template " + name
	var err error
	p.Base, err = f.ReadFile("--template", name)
	if e, ok := errors.AsType[*usageError](err); ok {
		switch {
		case errors.Is(err, fs.ErrNotExist) && !strings.Contains(name, "/"):
			return e.hint("--template is %s, or a file", strings.Join(templates, ", "))
		case errors.Is(err, unix.EISDIR):
			return e.hint("a bundle's config is %q", filepath.Join(name, "config.json"))
		}
	}
	return err
}
