package cli

import (
	"io"
	"runtime/debug"
	"slices"

	"github.com/urfave/cli/v2"

	"ocibundle/pipeline/host"
	"ocibundle/specedit/imageconfig"
)

// Run does all that main does but exit.
func Run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
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

	imported *imageconfig.Result // what --image-config came to, if it was given
}

func (p *program) run(args []string) error {
	// What is behind "--" is the container's command, whatever it looks like:
	// the library would take its first word for a subcommand.
	if i := slices.Index(args, "--"); i >= 0 {
		args, p.args, p.hasArgs = args[:i], args[i+1:], true
	}
	app := &cli.App{
		Name:     "ocibundle",
		Usage:    appUsage,
		Flags:    append(cliFlags(mainDefs(), &p.rec), versionFlag, cli.HelpFlag),
		Commands: p.commands(),
		Action:   p.main,
		Before: func(c *cli.Context) error {
			if c.Bool("version") {
				return nil
			}
			return host.CheckRoom()
		},
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
