package cli

import (
	"context"

	"github.com/urfave/cli/v2"

	"ocibundle/pipeline/bundle"
	"ocibundle/pipeline/userns"
)

func (p *program) rmCommand() *cli.Command {
	flags := []*flagDef{{names: []string{"force", "f"}, category: catOther, usage: "an absent bundle is not an error; remove a directory that holds nothing but a rootfs, too"}}
	return p.command("rm", "[-f] DIR...", "remove bundles, files of subordinate ids included", flags, p.rm)
}

// rm removes bundles: all of them, or where one cannot be removed, none.
func (p *program) rm(dirs []string) error {
	dirs = append(dirs, p.args...) // "--" before names that look like flags, as for rm(1)
	if len(dirs) == 0 {
		return usagef("no bundle was named").hint("ocibundle rm DIR removes the bundle DIR")
	}
	// From inside the namespace a user's own containers cannot be seen.
	if err := bundle.CheckInUse(dirs...); err != nil {
		return err
	}
	ids, err := userns.Enter(context.Background(), userns.Request{Mode: userns.ModeWidest})
	if err != nil {
		return err
	}
	ctx, stop := signalContext()
	defer stop()
	err = bundle.Remove(ctx, dirs, bundle.RemoveOptions{Force: p.rec.is("force")})
	p.explain(err, ids)
	return err
}
