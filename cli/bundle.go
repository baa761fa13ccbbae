package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"ocibundle/pipeline"
	"ocibundle/pipeline/bundle"
	"ocibundle/pipeline/decode"
	"ocibundle/pipeline/host"
	"ocibundle/pipeline/userns"
	"ocibundle/specedit"
	"ocibundle/specedit/imageconfig"
)

// main is the main job: a stream in, a bundle out.
func (p *program) main(c *cli.Context) error {
	if c.Bool("version") {
		_, err := fmt.Fprintf(p.stdout, "ocibundle %s\n", version())
		return err
	}
	if c.NArg() > 0 {
		return p.strayArgument(c.Args().First())
	}
	if len(p.rec.uses) == 0 && !p.hasArgs {
		return usagef("nothing to do").hint("docker export CONTAINER | ocibundle -o DIR").hint("ocibundle --help tells the rest")
	}
	o, err := readOptions(&p.rec)
	if err != nil {
		return err
	}
	if err := checkStdin(o.input); err != nil {
		return err
	}
	if o.config.Force {
		// From inside a namespace a user's own containers cannot be seen.
		if err := bundle.CheckInUse(o.config.Output); err != nil {
			return err
		}
	}
	// Until here nothing was opened, so that the program can start over inside
	// a user namespace: a pipe can be read only once.
	enter := userns.Enter
	if o.stream {
		if err := p.checkStdout("tar -C DIR -x"); err != nil {
			return err
		}
		enter = func(_ context.Context, r userns.Request) (userns.State, error) { return userns.Headers(r) }
	}
	ids, err := enter(context.Background(), o.ids)
	if err != nil {
		return err
	}
	ctx := context.Background()
	if !o.stream {
		var stop func()
		ctx, stop = signalContext()
		defer stop()
	} // A write to a full pipe cannot be called off, and leaves nothing to clean up: a signal ends it where it is.

	f := &files{}
	if o.input == "-" {
		f.stdin = "the stream"
	}
	o.config.IDs = ids
	o.config.Spec.Host = host.Describe(ids)
	if err := p.plan(&o.config.Spec, o.template, f); err != nil {
		return err
	}
	o.config.Open = func() (io.ReadCloser, error) { return openStream(o.input) }
	o.config.Progress = new(decode.Progress)
	done := showProgress(p.stderr, o.progress, o.config.Progress)
	run := pipeline.Run
	if o.stream {
		run = func(ctx context.Context, c pipeline.Config) (*pipeline.Result, error) {
			return pipeline.Stream(ctx, c, p.stdout)
		}
	}
	res, err := run(ctx, o.config)
	done()
	if err != nil {
		return err
	}
	return p.tell(o, res)
}

// checkStdout refuses to write a tar stream to a terminal.
func (p *program) checkStdout(reader string) error {
	if f, ok := p.stdout.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return usagef("standard output is a terminal").hint("the stream is for a file or a pipe: ... > FILE, or ... | %s", reader)
	}
	return nil
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
	im, err := imageconfig.Edits(label, text, imageconfig.Options{Rootless: plan.Host.Rootless})
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

// signalContext ends with a signalError at the first signal that asks to end.
func signalContext() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	go func() {
		if sig, ok := <-ch; ok {
			cancel(&signalError{sig})
		}
	}()
	return ctx, func() {
		signal.Stop(ch)
		close(ch)
		cancel(errors.New("done"))
	}
}
