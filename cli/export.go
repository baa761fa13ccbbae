package cli

import (
	"context"

	"ocibundle/pipeline/bundle"
	"ocibundle/pipeline/userns"
)

func (p *program) exportCommand() *command {
	flags := []*flagDef{{names: []string{"quiet", "q"}, usage: "no warnings"}}
	return &command{name: "export", arguments: "DIR", usage: "write a bundle's rootfs as a tar stream, with the container's own ids",
		flags: flags, run: p.export}
}

// export writes a bundle's rootfs to standard output.
func (p *program) export(dirs []string) error {
	dir, err := p.only(dirs, "bundles", "ocibundle export DIR | docker import -")
	if err != nil {
		return err
	}
	if err := p.stdout.readyForStream("docker import -"); err != nil {
		return err
	}
	ids, err := p.enter(userns.Request{Mode: userns.ModeWidest})
	if err != nil {
		return err
	}
	rep, err := bundle.Export(context.Background(), bundle.ExportConfig{Dir: dir, Out: p.stdout, IDs: ids})
	if err != nil {
		p.explain(err, ids)
		return err
	}
	if !p.rec.is("quiet") {
		for _, l := range rep.Losses {
			p.warn(lossText(l))
		}
	}
	return nil
}
