package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"ocibundle/pipeline/check"
	"ocibundle/pipeline/userns"
	"ocibundle/specedit"
)

func (p *program) checkCommand() *command {
	flags := []*flagDef{
		{names: []string{"json"}, usage: "print the findings as a JSON object"},
		{names: []string{"runtime"}, value: "slurm", usage: "also say what would stop a job of Slurm's (srun --container)"},
	}
	return &command{name: "check", arguments: "DIR", usage: "say what would stop a bundle from running", flags: flags, run: p.check}
}

// checkError is a bundle in which something was found.
type checkError struct {
	dir   string
	count int
	hints []string
}

func (e *checkError) Error() string {
	things := "things"
	if e.count == 1 {
		things = "thing"
	}
	return fmt.Sprintf("%q: %d %s would stop it from running", e.dir, e.count, things)
}

// jsonCheck is what check --json prints.
type jsonCheck struct {
	Bundle   string        `json:"bundle"`
	Findings []jsonFinding `json:"findings"`
}

type jsonFinding struct {
	Code    string  `json:"code"`
	Pointer *string `json:"pointer,omitempty"` // of a member of config.json; "" is all of it
	Path    string  `json:"path,omitempty"`
	Message string  `json:"message"`
	Hint    string  `json:"hint,omitempty"`
}

// check says what would stop a bundle from running.
func (p *program) check(dirs []string) error {
	dir, err := p.only(dirs, "bundles", "ocibundle check DIR")
	if err != nil {
		return err
	}
	runtime, given := p.rec.last("runtime")
	if given && runtime != "slurm" {
		return usagef("--runtime %q is not supported", runtime).hint("without --runtime, check reports what stops any runtime; --runtime slurm adds what stops a job of Slurm's")
	}
	// Files of subordinate ids can be seen only where those ids are.
	ids, err := p.enter(userns.Request{Mode: userns.ModeWidest})
	if err != nil {
		return err
	}
	found, err := check.Bundle(p.signals.gently(), check.Config{Dir: dir, IDs: ids, Slurm: runtime == "slurm"})
	if err != nil {
		p.explain(err, ids)
		return err
	}
	var hints []string
	report := jsonCheck{Bundle: dir, Findings: []jsonFinding{}}
	for _, f := range found {
		j := jsonFinding{Code: f.Code, Path: f.Path, Message: f.Message, Hint: findingHints[f.Code]}
		if f.Path == "" {
			j.Pointer = &f.Pointer
		}
		report.Findings = append(report.Findings, j)
		if j.Hint != "" && !slices.Contains(hints, j.Hint) {
			hints = append(hints, j.Hint)
		}
	}
	if p.rec.is("json") {
		err = p.stdout.printJSON(report)
	} else {
		var lines strings.Builder
		for _, f := range found {
			lines.WriteString(oneLine(findingLine(f)) + "\n")
		}
		err = p.stdout.print(lines.String())
	}
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return &checkError{dir, len(found), hints}
	}
	return nil
}

// findingLine is a finding on one line: where, what.
func findingLine(f specedit.Finding) string {
	where := f.Path
	if where == "" {
		where = strings.TrimSpace("config.json " + f.Pointer)
	}
	verb, _, _ := strings.Cut(f.Message, " ")
	if slices.Contains([]string{"is", "has", "cannot", "needs", "belongs", "does"}, verb) {
		return where + " " + f.Message
	}
	return where + ": " + f.Message
}

// findingHints say what to try, by the code of a finding.
var findingHints = map[string]string{
	specedit.FindingSchema:        "ocibundle edit DIR changes a config.json and checks the result",
	specedit.FindingUnmappedID:    "ocibundle edit DIR --user UID:GID takes ids that the mapping has",
	specedit.FindingDescriptor:    "ocibundle edit DIR --workdir DIRECTORY",
	specedit.FindingKernelMount:   "ocibundle edit DIR --mount FIELDS puts another mount there, --remove PTR takes it out",
	specedit.FindingIDMap:         "ocibundle edit DIR --volume SRC:DST puts the mount there as it is",
	specedit.FindingMountID:       "ocibundle edit DIR --remove PTR takes the option out of the mount",
	specedit.FindingOOMScore:      "ocibundle edit DIR --remove /process/oomScoreAdj",
	specedit.FindingGroups:        "ocibundle edit DIR --remove /process/user/additionalGids, or run it with crun",
	specedit.FindingCgroup:        "ocibundle edit DIR --remove PTR takes the limit out",
	specedit.FindingUserNamespace: "make the bundle as the user who is to run it: --remap subid or --remap self",
	check.FindingSlurmNetwork:     "ocibundle edit DIR --net host",
	check.FindingSlurmSource:      "name a directory that all nodes share, or make one on each of them",
	check.FindingConfig:           "ocibundle spec > DIR/config.json writes a new one",
	check.FindingRootfs:           "ocibundle edit DIR --set /root/path=rootfs names the bundle's own, where that is there",
	check.FindingMountLink:        "ocibundle edit DIR --set /mounts/N/destination=PATH names what the link leads to",
	check.FindingMountEscape:      "ocibundle edit DIR --set /mounts/N/destination=PATH names a place in the rootfs",
	check.FindingBindSource:       "make the source, or take the mount out: ocibundle edit DIR --remove /mounts/N",
	check.FindingDeviceLink:       "remove the link from the rootfs, or mount a tmpfs on /dev",
	check.FindingCwd:              "ocibundle edit DIR --workdir DIRECTORY",
	check.FindingNoPath:           "ocibundle edit DIR --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	check.FindingNotFound:         "ocibundle edit DIR -- COMMAND ARG... sets another command",
	check.FindingNotRunnable:      "ocibundle edit DIR --user root runs it as the container's root",
	check.FindingInterpreter:      "the interpreter must be in the rootfs: a dynamically linked program brings its loader and libraries along",
	check.FindingArchitecture:     "an image for several platforms has it for this one: --image --platform OS/ARCH",
	check.FindingNamespace:        "a namespace lives no longer than its process, unless it is mounted: ocibundle edit DIR --net private",
	check.FindingSecurity:         "ocibundle edit DIR --remove PTR takes it out",
	specedit.FindingRlimit:        "ocibundle edit DIR --ulimit NAME=SOFT:HARD sets a lower one",
	check.FindingHosts:            "ocibundle edit DIR -v /etc/hosts:/etc/hosts:ro takes the host's",
	check.FindingResolv:           "ocibundle edit DIR -v FILE:/etc/resolv.conf:ro, as of /etc/resolv.conf or /run/systemd/resolve/resolv.conf",
	check.FindingOwner:            "the ids on disk and the mapping in config.json are made together: extract it again with --remap or --uidmap",
	check.FindingParent:           "chmod o+x lets others through a directory",
	check.FindingForbidden:        "see user.max_user_namespaces and kernel.apparmor_restrict_unprivileged_userns in sysctl(8)",
	specedit.FindingMapping:       "a mapping is in /linux/uidMappings and /linux/gidMappings; the caller's ids are in /etc/subuid and /etc/subgid",
}

// explain says why there is no namespace in which what was forbidden would have been allowed, and
// in which there would be the ids that are missing.
func (p *program) explain(err error, ids userns.State) {
	if _, lacking := errors.AsType[*userns.Error](err); lacking || errors.Is(err, fs.ErrPermission) {
		p.warn(ids.Notes...)
	}
}
