package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/moby/sys/user"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"ocibundle/pipeline"
	"ocibundle/specedit"
)

// specFlags are those of the subcommand spec that are no edits.
var specFlags = []*flagDef{
	{names: []string{"rootless"}, category: catSpec, usage: "a user namespace whose root is the caller, as runc spec --rootless"},
	templateFlag,
	imageConfigFlag,
}

// specCommands are the subcommands that are about the config alone.
func (p *program) specCommands() []*cli.Command {
	return []*cli.Command{
		p.command("spec", "[flags] [-- ARG...]", "print a config.json", slices.Concat(specFlags, editFlagDefs()), p.specCommand),
		p.command("edit", "DIR [flags] [-- ARG...]", "change the config.json of a bundle in one step", editFlagDefs(), p.editCommand),
		p.command("diff", "A.json B.json", "print the RFC 6902 patch from A to B", nil, p.diffCommand),
	}
}

// command makes a subcommand. The library ends the flags of one at its first
// positional argument; here they may stand on either side of it.
func (p *program) command(name, arguments, usage string, defs []*flagDef, run func(positional []string) error) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, ArgsUsage: arguments,
		Flags:           cliFlags(defs, &p.rec),
		SkipFlagParsing: true,
		HideHelpCommand: true,

		CustomHelpTemplate: commandHelp(name, arguments, usage, defs),
		Action: func(c *cli.Context) error {
			if len(p.rec.uses) > 0 {
				return usagef("%s stands before %q", p.rec.uses[0].label(), name).hint("flags of a command go after it: ocibundle %s %s", name, p.rec.uses[0].label())
			}
			set := flag.NewFlagSet(name, flag.ContinueOnError)
			set.SetOutput(io.Discard)
			for _, f := range c.Command.Flags {
				if f, ok := f.(cliFlag); ok {
					if err := f.Apply(set); err != nil {
						return err
					}
				}
			}
			var positional []string
			for rest := c.Args().Slice(); ; {
				err := set.Parse(rest)
				if errors.Is(err, flag.ErrHelp) {
					return cli.ShowSubcommandHelp(c)
				}
				if err != nil {
					return parseError(err)
				}
				if rest = set.Args(); len(rest) == 0 {
					break
				}
				positional, rest = append(positional, rest[0]), rest[1:]
			}
			return run(positional)
		},
	}
}

// specCommand prints a config: a filter where --template is "-".
func (p *program) specCommand(positional []string) error {
	if len(positional) > 0 {
		return usagef("unexpected argument %q", positional[0]).
			hint("a command for the container goes after --, as in: ocibundle spec -- %s", positional[0]).
			hint("--template %s reads a config to begin with", positional[0])
	}
	f := &files{}
	plan := specedit.Plan{Host: specedit.Host{CgroupV2: unifiedCgroups()}}
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
	p.warn(plan.Warnings())
	_, err = p.stdout.Write(config)
	return err
}

// editCommand edits a bundle.
func (p *program) editCommand(positional []string) error {
	if len(positional) != 1 {
		return usagef("%d directories were named, not one", len(positional)).hint("ocibundle edit DIR [edits]")
	}
	edits, err := p.edits(&files{})
	if err != nil {
		return err
	}
	if len(edits) == 0 {
		return usagef("nothing to edit").hint("ocibundle edit %s --env K=V, or any other edit flag", positional[0])
	}
	warnings, err := editBundle(positional[0], edits)
	if errors.Is(err, errNoBundle) {
		return &usageError{msg: fmt.Sprintf("edit %q", positional[0]), err: err, hints: []string{"name the directory that ocibundle -o made"}}
	}
	if err != nil {
		return err
	}
	p.warn(warnings)
	return nil
}

// diffCommand prints the patch between two configs.
func (p *program) diffCommand(positional []string) error {
	if len(positional) != 2 {
		return usagef("%d files were named, not two", len(positional)).hint("ocibundle diff A.json B.json")
	}
	f := &files{}
	var text [2][]byte
	for i, name := range positional {
		var err error
		if text[i], err = f.ReadFile([]string{"the first file", "the second file"}[i], name); err != nil {
			return err
		}
	}
	patch, err := specedit.Diff(text[0], text[1])
	if err != nil {
		return &usageError{msg: "diff", err: err}
	}
	_, err = p.stdout.Write(patch)
	return err
}

func (p *program) warn(warnings []string) {
	for _, w := range warnings {
		fmt.Fprintf(p.stderr, "ocibundle: warning: %s\n", oneLine(w))
	}
}

// unifiedCgroups tells whether the host has the unified hierarchy alone.
func unifiedCgroups() bool {
	var st unix.Statfs_t
	return unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// errNoBundle is wrapped where a directory is not what a bundle is: it has a
// rootfs directory and a config.json with an ociVersion.
var errNoBundle = errors.New("it is no bundle")

// editTemporary is what the new config is called until it is complete. What an
// edit that was killed left is removed by the next.
const editTemporary = ".config.json."

// editBundle edits the config.json of a bundle in one step: whoever reads it
// sees the old one or the new one. Mode and owner stay. An edit that changes
// nothing does not touch the file.
func editBundle(dir string, edits []specedit.Edit) (warnings []string, err error) {
	root, err := os.OpenRoot(dir)
	if info, statErr := os.Stat(dir); statErr == nil && !info.IsDir() {
		return nil, fmt.Errorf("%w: it is no directory", errNoBundle)
	}
	if err != nil {
		return nil, fmt.Errorf("edit the bundle: %w", err)
	}
	defer root.Close()
	lock, err := root.Open(".")
	if err != nil {
		return nil, fmt.Errorf("edit the bundle: %w", err)
	}
	defer lock.Close()
	// Two edits at once must not lose one of them.
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock %q: %w", dir, err)
	}

	info, err := root.Lstat("config.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: it has no config.json", errNoBundle)
	}
	if err != nil {
		return nil, fmt.Errorf("edit the bundle: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: its config.json is no regular file", errNoBundle)
	}
	old, err := root.ReadFile("config.json")
	if err != nil {
		return nil, fmt.Errorf("edit the bundle: %w", err)
	}
	var has struct{ OCIVersion *string }
	if json.Unmarshal(old, &has) == nil && has.OCIVersion == nil {
		return nil, fmt.Errorf("%w: its config.json has no ociVersion", errNoBundle)
	}
	rootfs, err := openRootfs(lock)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoBundle, err)
	}
	defer rootfs.Close()

	plan := specedit.Plan{Base: old, BaseLabel: filepath.Join(dir, "config.json"), Edits: edits,
		Host: specedit.Host{CgroupV2: unifiedCgroups()}}
	if os.Geteuid() != 0 {
		plan.Host.Rootless, plan.Host.HardLimits = true, pipeline.HardLimits()
	}
	config, err := plan.Build(specedit.RootUsers{Root: rootfs})
	if err != nil {
		return nil, err
	}
	if bytes.Equal(config, old) {
		return plan.Warnings(), nil
	}
	return plan.Warnings(), replaceConfig(root, lock, info, config)
}

func openRootfs(dir *os.File) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), "rootfs", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open its rootfs: %w", err)
	}
	return os.NewFile(uintptr(fd), "rootfs"), nil
}

// replaceConfig writes the new config beside the old one and renames it.
func replaceConfig(root *os.Root, dir *os.File, old fs.FileInfo, config []byte) (err error) {
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("read the bundle: %w", err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, editTemporary) {
			if err := root.Remove(name); err != nil {
				return fmt.Errorf("remove what an earlier edit left: %w", err)
			}
		}
	}
	name := editTemporary + rand.Text()
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write the config: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write the config: %w", err), root.Remove(name))
		}
	}()
	_, err = f.Write(config)
	if st, ok := old.Sys().(*syscall.Stat_t); ok && err == nil && (int(st.Uid) != os.Geteuid() || int(st.Gid) != os.Getegid()) {
		err = f.Chown(int(st.Uid), int(st.Gid))
	}
	if err == nil {
		err = f.Chmod(old.Mode().Perm())
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return root.Rename(name, "config.json")
}
