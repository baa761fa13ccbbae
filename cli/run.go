package cli

import (
	"errors"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"ocibundle/pipeline/host"
	"ocibundle/pipeline/userns"
	"ocibundle/specedit/imageconfig"
)

// Run does all that main does but exit, unless a signal ends the run at once. version is the
// release.
func Run(version string, args []string, stdout, stderr io.Writer) int {
	p := &program{release: strings.TrimSpace(version), stdout: newOutput(stdout), stderr: stderr}
	p.signals = watchSignals(func(err *signalError) { os.Exit(p.report(err)) })
	return p.report(p.run(args))
}

// program is one run: its streams and its command line.
type program struct {
	release    string
	stdout     *output
	stderr     io.Writer
	signals    *signals
	fewThreads bool // others may take those that a run needs

	rec     record
	args    []string // behind "--"
	hasArgs bool

	imported *imageconfig.Result // what --image-config came to, if it was given
}

func (p *program) run(args []string) error {
	// What is behind "--" is the container's command, whatever it looks like: the library would
	// take its first word for a subcommand.
	asked := len(args) > 1 && args[1] == completeName // about a command line with a "--" of its own
	if i := slices.Index(args, "--"); i >= 0 && !asked {
		args, p.args, p.hasArgs = args[:i], args[i+1:], true
	}
	app := &cli.App{
		Name:           "ocibundle",
		Flags:          cliFlags(mainDefs(), &p.rec),
		Before:         func(*cli.Context) error { return p.checkRoom() },
		Action:         func(c *cli.Context) error { return p.main(c.Args().Slice()) },
		Writer:         p.stdout,
		ErrWriter:      p.stderr,
		HideHelp:       true,
		HideVersion:    true,
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return parseError(err, args, mainDefs()) },
		ExitErrHandler: func(*cli.Context, error) {},
	}
	for _, c := range p.commands() {
		app.Commands = append(app.Commands, &cli.Command{
			Name: c.name, SkipFlagParsing: true, HideHelp: true,
			Action: func(ctx *cli.Context) error { return p.runCommand(c, ctx.Args().Slice()) },
		})
	}
	return app.Run(args)
}

// enter is userns.Enter for a run that signals end. In the outer process it returns the inner one's
// status once that has ended.
func (p *program) enter(r userns.Request) (userns.State, error) {
	ids, err := userns.Enter(p.signals.gently(), r)
	if err != nil {
		return ids, err
	}
	if p.fewThreads {
		host.TakeThreads()
	}
	return ids, p.signals.atOnce()
}

// report prints an error as the contract says, and returns the exit status.
func (p *program) report(err error) int {
	code, hints := status(err)
	if err == nil {
		return code
	}
	if _, ok := errors.AsType[*userns.Exited](err); ok {
		return code // the inner process has said it
	}
	if sig, ok := errors.AsType[*signalError](err); ok && sig.quiet() {
		return code
	}
	p.complain("", "%v", err)
	for _, h := range hints {
		p.complain("hint", "%s", h)
	}
	return code
}

// version is the release, with what the build knows of the commit.
func (p *program) version() string {
	words := []string{"ocibundle", p.release}
	if info, ok := debug.ReadBuildInfo(); ok {
		if v := info.Main.Version; v != "" && v != "(devel)" { // without a repository, or -buildvcs=false
			words = append(words, v)
		}
		words = append(words, info.GoVersion)
	}
	return strings.Join(words, " ") + "\n"
}

// checkRoom refuses to begin what this process's limits leave no room for.
func (p *program) checkRoom() (err error) {
	if !p.rec.is("version") {
		p.fewThreads, err = host.CheckRoom()
	}
	return err
}
