// Ocibundle turns a container's filesystem stream into an OCI bundle.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"ocibundle/pipeline"
	"ocibundle/pipeline/userns"
	"ocibundle/specedit"
)

func main() {
	os.Exit(run(os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// run does all that main does but exit.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := &program{stdin: stdin, stdout: stdout, stderr: stderr}
	err := p.run(args)
	code, hints := status(err)
	if err != nil {
		report(stderr, err, hints)
	}
	return code
}

// program is one run: its streams and its command line.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer

	rec     record
	args    []string // behind "--"
	hasArgs bool

	imported *specedit.ImageImport // what --image-config came to, if it was given
}

func (p *program) run(args []string) error {
	// What is behind "--" is the container's command, whatever it looks like:
	// the library would take its first word for a subcommand.
	if i := slices.Index(args, "--"); i >= 0 {
		args, p.args, p.hasArgs = args[:i], args[i+1:], true
	}
	app := &cli.App{
		Name:                  "ocibundle",
		Usage:                 appUsage,
		Flags:                 append(cliFlags(mainDefs(), &p.rec), versionFlag, cli.HelpFlag),
		Commands:              p.commands(),
		Action:                p.main,
		Reader:                p.stdin,
		Writer:                p.stdout,
		ErrWriter:             p.stderr,
		HideVersion:           true,
		Metadata:              map[string]any{"flags": flagHelp(mainDefs())},
		OnUsageError:          func(_ *cli.Context, err error, _ bool) error { return parseError(err) },
		ExitErrHandler:        func(*cli.Context, error) {},
		CustomAppHelpTemplate: appHelp(),
	}
	return app.Run(args)
}

// versionFlag has no short form: -v is docker's --volume.
var versionFlag = &cli.BoolFlag{Name: "version", Usage: "print the version", Category: catOutput, DisableDefaultText: true}

// version is the module's, from the build.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return info.Main.Version + " " + info.GoVersion
}

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
		if err := pipeline.CheckInUse(o.config.Output); err != nil {
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
	o.config.Spec.Host = pipeline.Host(ids)
	if err := p.plan(&o.config.Spec, o.template, f); err != nil {
		return err
	}
	o.config.Open = func() (io.ReadCloser, error) { return openStream(o.input) }
	o.config.Progress = new(pipeline.Progress)
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
	imported, err := p.importConfig(plan, template, f)
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
func (p *program) importConfig(plan *specedit.Plan, template string, f *files) ([]specedit.Edit, error) {
	name, ok := p.rec.last("image-config")
	if !ok {
		return nil, nil
	}
	text, err := f.ReadFile("--image-config", name)
	if err != nil {
		return nil, err
	}
	label := "--image-config " + name
	im, err := specedit.ImageConfig(label, text, specedit.ImageConfigOptions{Rootless: plan.Host.Rootless})
	if err != nil {
		return nil, err
	}
	if template == "" {
		plan.Template = specedit.TemplateDocker
	}
	p.imported = &im
	if w := im.Warning(); w != "" {
		// An edit that changes nothing: its warning is printed where the others are.
		return append(im.Edits, specedit.Edit{Label: label, Warnings: []string{w}}), nil
	}
	return im.Edits, nil
}

// strayArgument explains a word that stands where none belongs.
func (p *program) strayArgument(arg string) error {
	e := usagef("unexpected argument %q", arg)
	switch {
	case p.rec.is("force"):
		e.hint("-f is --force here; -i FILE reads a file")
	case slices.Contains([]string{"-", "x", "xf", "-xf"}, arg):
		e.hint("standard input is read by itself")
	}
	return e.hint("a command for the container goes after --, as in: ocibundle -o DIR -- %s", arg).
		hint("the stream comes from standard input, or from -i FILE")
}

// habits are flags of docker and tar that this program does not have.
var habits = map[string]string{
	"p":          "ports are not published; --net host|PATH chooses the network",
	"publish":    "ports are not published; --net host|PATH chooses the network",
	"P":          "ports are not published; --net host|PATH chooses the network",
	"name":       "the name is the runtime's business: runc run --bundle DIR NAME",
	"d":          "running in the background is the runtime's business: runc run --detach",
	"detach":     "running in the background is the runtime's business: runc run --detach",
	"rm":         "removing the container is the runtime's business; ocibundle rm removes a bundle",
	"restart":    "restarting is the business of whatever runs the runtime",
	"entrypoint": "the whole command goes after --, as in: ocibundle -o DIR -- COMMAND ARG",
	"it":         "-t gives the container a terminal; its input is the runtime's business",
	"ti":         "-t gives the container a terminal; its input is the runtime's business",
	"privileged": "--cap-add ALL --security-opt seccomp=unconfined comes near it",
	"C":          "-o DIR names the bundle to create",
	"x":          "extracting is all it does; -o DIR names the bundle",
	"xf":         "-i FILE names the stream; extracting is all it does",
	"z":          "compression is detected",
	"j":          "compression is detected",
	"J":          "compression is detected",
}

// parseError turns what the flag parser says into an error of ours.
func parseError(err error) error {
	msg := err.Error()
	if name, ok := strings.CutPrefix(msg, "flag provided but not defined: -"); ok {
		name = strings.TrimLeft(name, "-")
		e := usagef("there is no flag %s", dashed(name))
		h, ok := habits[name]
		if !ok {
			h, ok = dockerHints[name]
		}
		if ok {
			return e.hint("%s", h)
		}
		if h, ok := dockerHints[name]; ok {
			return e.hint("%s", h)
		}
		if near := nearestFlag(name); near != "" {
			return e.hint("did you mean %s?", dashed(near))
		}
		return e.hint("ocibundle --help lists the flags")
	}
	if name, ok := strings.CutPrefix(msg, "flag needs an argument: -"); ok {
		return usagef("%s needs a value", dashed(strings.TrimLeft(name, "-")))
	}
	if msg, ok := strings.CutPrefix(msg, "invalid boolean value "); ok {
		return usagef("invalid value %s", msg)
	}
	return &usageError{msg: msg}
}

// nearestFlag is the flag whose name is a slip away from name.
func nearestFlag(name string) string {
	best, at := "", 3
	for _, d := range mainDefs() {
		for _, n := range d.names {
			if dist := editDistance(n, name); dist < at && dist < len(n) {
				best, at = n, dist
			}
		}
	}
	return best
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diag, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diag+cost)
		}
	}
	return row[len(b)]
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
