package cli

import (
	"ocibundle/pipeline/bundle"
	"ocibundle/pipeline/userns"
)

func (p *program) rmCommand() *command {
	flags := []*flagDef{{names: []string{"force", "f"}, usage: "ignore bundles that do not exist; remove a directory that holds nothing but a rootfs"}}
	return &command{name: "rm", arguments: "DIR...", usage: "remove bundles, files of subordinate ids included", flags: flags, run: p.rm}
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
	ids, err := p.enter(userns.Request{Mode: userns.ModeWidest})
	if err != nil {
		return err
	}
	err = bundle.Remove(p.signals.gently(), dirs, bundle.RemoveOptions{Force: p.rec.is("force")})
	p.explain(err, ids)
	return err
}
