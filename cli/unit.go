package cli

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"ocibundle/pipeline/unit"
)

func (p *program) unitCommand() *command {
	flags := []*flagDef{{names: []string{"runtime"}, value: "PROGRAM", usage: "the runtime, instead of runc or crun as PATH has them"}}
	return &command{name: "unit", arguments: "DIR", usage: "print a systemd service that runs a bundle: the system's for root, else the user's",
		flags: flags, run: p.unit}
}

// unit prints a systemd service.
func (p *program) unit(dirs []string) error {
	dir, err := p.only(dirs, "bundles", "ocibundle unit DIR > ~/.config/systemd/user/NAME.service")
	if err != nil {
		return err
	}
	candidates := []string{"runc", "crun"}
	if name, ok := p.rec.last("runtime"); ok {
		candidates = []string{name}
	}
	runtime, err := findRuntime(candidates)
	if err != nil {
		return err
	}
	text, warnings, err := unit.Service(unit.Config{Dir: dir, Runtime: runtime, System: os.Geteuid() == 0})
	if errors.Is(err, unit.ErrTerminal) {
		return (&usageError{msg: "unit", err: err}).hint("ocibundle edit %s --tty=false", dir)
	}
	if _, ok := errors.AsType[*unit.NameError](err); ok {
		return &usageError{msg: "unit", err: err}
	}
	if err != nil {
		return err
	}
	p.warn(warnings...)
	return p.stdout.print(text)
}

// findRuntime returns the absolute path of the first of some programs that there is.
func findRuntime(names []string) (string, error) {
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if path, err = filepath.Abs(path); err != nil {
			return "", err
		}
		return path, nil
	}
	return "", usagef("find a runtime: there is no %s", strings.Join(names, ", and no ")).hint("--runtime PROGRAM names one that is not in PATH, such as /usr/sbin/runc")
}
