package cli

import (
	"os"
	"slices"

	"github.com/moby/sys/user"

	"ocibundle/pipeline/host"
	"ocibundle/specedit"
)

// specFlags are those of spec besides the edits.
var specFlags = []*flagDef{
	{names: []string{"rootless"}, category: catSpec, usage: "a user namespace whose root is the caller, as runc spec --rootless"},
	templateFlag,
	imageConfigFlag,
}

func (p *program) specCommand() *command {
	return &command{name: "spec", arguments: "[flags] [-- ARG...]", usage: "print a config.json",
		flags: slices.Concat(specFlags, editFlags), run: p.spec}
}

// spec prints a config: a filter where --template is "-".
func (p *program) spec(positional []string) error {
	if len(positional) > 0 {
		return usagef("unexpected argument %q", positional[0]).
			hint("a command for the container goes after --, as in: ocibundle spec -- %s", positional[0]).
			hint("--template %s reads a config to start from", positional[0])
	}
	if err := p.stdout.checkOpen(); err != nil {
		return err
	}
	f := &files{}
	plan := specedit.Plan{Host: specedit.Host{CgroupV2: host.UnifiedCgroups()}}
	if p.rec.is("rootless") {
		plan.Host.Rootless = true
		plan.Host.Mapping = user.IdentityMapping{
			UIDMaps: []user.IDMap{{ID: 0, ParentID: int64(os.Geteuid()), Count: 1}},
			GIDMaps: []user.IDMap{{ID: 0, ParentID: int64(os.Getegid()), Count: 1}},
		}
	}
	if err := p.plan(&plan, p.rec.text("template"), f); err != nil {
		return err
	}
	config, err := plan.Build(nil)
	if err != nil {
		return err
	}
	p.warn(plan.Warnings()...)
	return p.stdout.print(string(config))
}
