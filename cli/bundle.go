package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"ocibundle/pipeline"
	"ocibundle/pipeline/bundle"
	"ocibundle/pipeline/check"
	"ocibundle/pipeline/decode"
	"ocibundle/pipeline/host"
	"ocibundle/pipeline/userns"
	"ocibundle/specedit"
	"ocibundle/specedit/imageconfig"
)

// main is the main job: a stream in, a bundle out.
func (p *program) main(positional []string) error {
	switch {
	case p.rec.is("help"):
		return p.stdout.print(p.mainPage())
	case p.rec.is("version"):
		return p.stdout.print(p.version())
	case len(positional) > 0:
		return cmp.Or(p.strayBool(positional[0]), p.strayArgument(positional[0]))
	case len(p.rec.uses) == 0 && !p.hasArgs:
		return usagef("nothing to do").hint("docker export CONTAINER | ocibundle -o DIR").hint("ocibundle --help lists everything")
	}
	o, err := readOptions(&p.rec)
	if err != nil {
		return err
	}
	if err := checkStdin(o.input); err != nil {
		return err
	}
	if err := p.chooseIDs(o); err != nil {
		return err
	}
	f := &files{}
	if o.input == "-" {
		f.stdin = "the stream"
	}
	if err := p.plan(&o.config.Spec, o.template, f); err != nil {
		return err
	}
	o.config.Open = func() (io.ReadCloser, error) { return decode.OpenFile(o.input) }
	o.config.Progress = new(decode.Progress)
	done := showProgress(p.stderr, o.progress, o.config.Progress)
	res, err := p.runPipeline(o)
	done()
	if err != nil {
		return err
	}
	p.summarize(o, res)
	return nil
}

// runPipeline makes the bundle, or writes it to standard output.
func (p *program) runPipeline(o *options) (*pipeline.Result, error) {
	if o.stream { // nothing to clean up
		return pipeline.Stream(context.Background(), o.config.Source, p.stdout)
	}
	res, err := pipeline.Run(p.signals.gently(), o.config)
	if err != nil {
		return nil, hintOutput(err, o.config.Output)
	}
	if !o.quiet {
		res.Warnings = append(res.Warnings, p.foresee(o, res)...)
	}
	return res, nil
}

// hintOutput says what to do about a place where no bundle can be made.
func hintOutput(err error, output string) error {
	switch parent := filepath.Dir(filepath.Clean(output)); {
	case errors.Is(err, unix.ENOSPC):
		return &hintedError{err, "the disk is full; -o names a directory on another one"}
	case errors.Is(err, unix.EDQUOT):
		return &hintedError{err, "the quota is used up; -o names a directory on another disk"}
	case errors.Is(err, fs.ErrNotExist):
		if _, gone := os.Stat(parent); errors.Is(gone, fs.ErrNotExist) {
			return &hintedError{err, fmt.Sprintf("make the directory %q first", parent)}
		}
	}
	return err
}

// chooseIDs chooses how the container's ids are stored on disk. Until it returns nothing has been
// opened, so that the program can start over inside a user namespace: a pipe can be read only once.
func (p *program) chooseIDs(o *options) (err error) {
	if o.stream {
		if err := p.stdout.readyForStream("tar -C DIR -x"); err != nil {
			return err
		}
		o.config.IDs, err = userns.Headers(o.ids)
	} else {
		if o.config.Force {
			// From inside a namespace a user's own containers cannot be seen.
			if err := bundle.CheckInUse(o.config.Output); err != nil {
				return err
			}
		}
		o.config.IDs, err = p.enter(o.ids)
	}
	if err == nil {
		o.config.Spec.Host, err = host.Describe(o.config.IDs)
	}
	return err
}

// foresee says what will stop the new bundle's command from starting.
func (p *program) foresee(o *options, res *pipeline.Result) (warnings []string) {
	found, err := check.Bundle(p.signals.ctx, check.Config{Dir: res.Output, IDs: o.config.IDs, Start: true, Names: o.config.Spec.ResolvesNames()})
	if err != nil {
		return nil // the bundle is there, and this is beyond what was asked for
	}
	for _, f := range found {
		warnings = append(warnings, findingLine(f))
	}
	return warnings
}

// plan reads the base and the edits of a config.
func (p *program) plan(plan *specedit.Plan, template string, f *files) error {
	if err := setTemplate(plan, template, f); err != nil {
		return err
	}
	imported, err := p.importConfig(plan, f)
	if err != nil {
		return err
	}
	edits, err := p.edits(f)
	if err != nil {
		return err
	}
	plan.Edits = slices.Concat(imported, edits)
	return nil
}

// importConfig makes the edits of --image-config.
func (p *program) importConfig(plan *specedit.Plan, f *files) ([]specedit.Edit, error) {
	name, ok := p.rec.last("image-config")
	if !ok {
		return nil, nil
	}
	text, err := f.ReadFile("--image-config", name)
	if err != nil {
		return nil, err
	}
	label := "--image-config " + name
	_, network := p.rec.last("net")
	im, err := imageconfig.Edits(label, text,
		imageconfig.Options{Rootless: plan.Host.Rootless, Network: network, CDIDirs: p.rec.all("cdi-spec-dir")})
	if err != nil {
		return nil, err
	}
	p.imported = &im
	if w := im.Warning(); w != "" {
		// An edit that changes nothing: its warning is printed where the others are.
		return append(im.Edits, specedit.Edit{Label: label, Warnings: []string{w}}), nil
	}
	return im.Edits, nil
}

// checkStdin refuses to wait for somebody to type a tar stream.
func checkStdin(name string) error {
	if name == "-" && term.IsTerminal(int(os.Stdin.Fd())) {
		return usagef("standard input is a terminal").
			hint("pipe a stream in: docker export CONTAINER | ocibundle -o DIR").hint("or name a file: -i FILE")
	}
	return nil
}
