package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"ocibundle/pipeline/bundle"
	"ocibundle/pipeline/userns"
)

func (p *program) exportCommand() *cli.Command {
	flags := []*flagDef{{names: []string{"quiet", "q"}, usage: "no warnings"}}
	return p.command("export", "DIR", "write a bundle's rootfs as a tar stream, with the container's own ids", flags, p.export)
}

// export writes a bundle's rootfs to standard output.
func (p *program) export(dirs []string) error {
	dirs = append(dirs, p.args...)
	if len(dirs) != 1 {
		return usagef("%d bundles were named, not one", len(dirs)).hint("ocibundle export DIR | docker import -")
	}
	if f, ok := p.stdout.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return usagef("standard output is a terminal").hint("ocibundle export %s > FILE", dirs[0])
	}
	ids, err := userns.Enter(context.Background(), userns.Request{Mode: userns.ModeWidest})
	if err != nil {
		return err
	}
	// A signal ends it where it is: there is nothing to clean up, and a write to
	// a full pipe cannot be called off.
	rep, err := bundle.Export(context.Background(), bundle.ExportConfig{Dir: dirs[0], Out: p.stdout, IDs: ids})
	if err != nil {
		p.explain(err, ids)
		return err
	}
	if p.rec.is("quiet") {
		return nil
	}
	for _, l := range rep.Losses {
		fmt.Fprintf(p.stderr, "ocibundle: warning: %s\n", oneLine(lossText(l)))
	}
	return nil
}
