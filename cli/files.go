package cli

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"ocibundle/specedit"
)

// pipeSize is what most programs write at once, or more. With less, their writes
// are done in turns with our reads. With more, they fill pages that have left the
// processor's cache when they are read, and while they fill them with nobody
// reading, the workers run out of work.
const pipeSize = 128 << 10

// openStream opens what is to be read.
func openStream(name string) (io.ReadCloser, error) {
	f := os.Stdin
	if name != "-" {
		var err error
		if f, err = os.Open(name); err != nil {
			return nil, err
		}
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("stat the input: %w", err)
	}
	if fi.Mode()&os.ModeNamedPipe != 0 {
		// That this fails is no matter.
		if n, err := unix.FcntlInt(f.Fd(), unix.F_GETPIPE_SZ, 0); err == nil && n < pipeSize {
			unix.FcntlInt(f.Fd(), unix.F_SETPIPE_SZ, pipeSize)
		}
	}
	return f, nil
}

// checkStdin refuses to wait for somebody to type a tar stream.
func checkStdin(name string) error {
	if name == "-" && term.IsTerminal(int(os.Stdin.Fd())) {
		return usagef("standard input is a terminal").
			hint("pipe a stream in: docker export CONTAINER | ocibundle -o DIR").hint("or name a file: -i FILE")
	}
	return nil
}

// files reads the files that flags name, each once.
type files struct {
	// stdin is what reads standard input already.
	stdin string
}

// ReadFile reads the file called name for a flag; "-" is standard input.
func (f *files) ReadFile(flag, name string) ([]byte, error) {
	const limit = 64 << 20
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
	switch name {
	case "", specedit.TemplateRunc, specedit.TemplateDocker:
		p.Template = name
		return nil
	}
	p.BaseLabel = "--template " + name
	var err error
	p.Base, err = f.ReadFile("--template", name)
	return err
}
