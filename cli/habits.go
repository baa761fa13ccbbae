package cli

import (
	"slices"
	"strings"

	"ocibundle/specedit/jsontree"
)

// habits says what to write for flags of docker and tar that this program does not have, by name
// without dashes.
var habits = map[string]string{
	"p":                  "there is no port mapping without an engine: --net host, or --net PATH of a namespace that is set up",
	"publish":            "there is no port mapping without an engine: --net host, or --net PATH of a namespace that is set up",
	"P":                  "there is no port mapping without an engine: --net host, or --net PATH of a namespace that is set up",
	"name":               "the container gets its name when it is run: runc run --bundle DIR NAME",
	"d":                  "the runtime runs it in the background: runc run --detach --bundle DIR NAME",
	"detach":             "the runtime runs it in the background: runc run --detach --bundle DIR NAME",
	"rm":                 "the runtime removes the container when it ends; ocibundle rm DIR removes the bundle",
	"restart":            "ocibundle unit DIR prints a service that restarts it: --annotation ocibundle.restart=always",
	"entrypoint":         "the whole command goes after --, as in: ocibundle -o DIR -- COMMAND ARG",
	"it":                 "-t gives the container a terminal; its input is the runtime's own",
	"ti":                 "-t gives the container a terminal; its input is the runtime's own",
	"privileged":         "--cap-add ALL --security-opt seccomp=unconfined is the closest there is",
	"C":                  "-o DIR names the bundle to create",
	"x":                  "extracting is all it does; -o DIR names the bundle",
	"xf":                 "-i FILE names the stream; extracting is all it does",
	"z":                  "compression is detected",
	"j":                  "compression is detected",
	"J":                  "compression is detected",
	"publish-all":        "there is no port mapping without an engine: --net host, or --net PATH of a namespace that is set up",
	"expose":             "there is no port mapping without an engine: --net host, or --net PATH of a namespace that is set up",
	"interactive":        "stdin is the process's own under runc run; -t gives it a terminal",
	"l":                  "--annotation K=V",
	"label":              "--annotation K=V",
	"userns":             "--remap, --uidmap and --gidmap map users, on disk and in config.json",
	"dns":                "--resolv FILE takes a resolv.conf",
	"add-host":           "put a hosts file there: -v ./hosts:/etc/hosts:ro",
	"init":               "put an init into the rootfs and name it: -- /sbin/init ARG...",
	"volumes-from":       "-v SRC:DST for each directory",
	"cpu-quota":          "--cpus N, or --set /linux/resources/cpu/quota=N",
	"cpu-period":         "--cpus N, or --set /linux/resources/cpu/period=N",
	"cpuset-mems":        "--set /linux/resources/cpu/mems=LIST",
	"blkio-weight":       "--set /linux/resources/blockIO/weight=N",
	"cgroup-parent":      "--set /linux/cgroupsPath=PATH",
	"domainname":         "--set /domainname=NAME",
	"stop-signal":        "--annotation org.opencontainers.image.stopSignal=SIGNAL, which ocibundle unit DIR reads",
	"runtime":            "any runtime takes the bundle: run it with that one",
	"kernel-memory":      "kernels no longer have that limit",
	"memory-reservation": "--set /linux/resources/memory/reservation=BYTES",
	"memory-swappiness":  "--set /linux/resources/memory/swappiness=N",
	"oom-kill-disable":   "--set /linux/resources/memory/disableOOMKiller=true",
	"log-driver":         "the process's output is the runtime's own",
	"health-cmd":         "nobody checks health without an engine",
	"gpus":               "--device nvidia.com/gpu=all, where the host has CDI files for it, or --device for each node",
	"device-cgroup-rule": "--add '/linux/resources/devices/-={\"allow\":true,...}'",
	"storage-opt":        "the rootfs is a directory: its filesystem has the limits",
	"mac-address":        "set it in the network namespace that --net PATH names",
	"ip":                 "set it in the network namespace that --net PATH names",
	"link":               "there are no networks without an engine: --net PATH",
	"network-alias":      "there are no networks without an engine: --net PATH",
	"cidfile":            "the container is named when it is run; runc run --pid-file writes its pid",
	"pull":               "images come on stdin: docker save IMAGE | ocibundle --image -o DIR",
}

// strayArgument explains a word that stands where none belongs.
func (p *program) strayArgument(arg string) error {
	e := usagef("unexpected argument %q", arg)
	if near := p.nearestCommand(arg); near != "" {
		e.hint("did you mean ocibundle %s?", near)
	}
	switch {
	case arg == "version":
		e.hint("--version prints it")
	case p.rec.is("force"):
		e.hint("-f is --force here; -i FILE reads a file")
	case slices.Contains([]string{"-", "x", "xf", "-xf"}, arg):
		e.hint("standard input is read by default")
	}
	return e.hint("a command for the container goes after --, as in: ocibundle -o DIR -- %s", arg).
		hint("the stream comes from standard input, or from -i FILE")
}

// strayBool is the error for a word that was meant as the value of the flag before it.
func (p *program) strayBool(arg string) error {
	if n := len(p.rec.uses); n > 0 && p.rec.uses[n-1].bare && p.rec.uses[n-1].def.optional && (arg == "true" || arg == "false") {
		flag := p.rec.uses[n-1].given
		return usagef("unexpected argument %q", arg).hint("the value of %s follows an equals sign: %s=%s", flag, flag, arg)
	}
	return nil
}

// parseError turns what the flag parser says of args into an error of ours. defs are the flags that
// there are.
func parseError(err error, args []string, defs []*flagDef) error {
	msg := err.Error()
	if name, ok := strings.CutPrefix(msg, "flag provided but not defined: -"); ok {
		return unknownFlag(typed(strings.TrimLeft(name, "-"), args), defs)
	}
	if name, ok := strings.CutPrefix(msg, "flag needs an argument: -"); ok {
		return usagef("%s needs a value", typed(strings.TrimLeft(name, "-"), args))
	}
	if msg, ok := strings.CutPrefix(msg, "invalid boolean value "); ok {
		return usagef("invalid value %s", msg)
	}
	return &usageError{msg: msg}
}

// unknownFlag says what to write in place of a flag that there is not, as it was typed.
func unknownFlag(given string, defs []*flagDef) error {
	e := usagef("there is no flag %s", given)
	name := strings.TrimLeft(given, "-")
	if slices.Contains([]string{"o", "output"}, name) {
		return e.hint("%s is a flag of the main job; what a command prints goes into a file with > FILE", given)
	}
	if slices.ContainsFunc(mainDefs(), func(d *flagDef) bool { return slices.Contains(d.names, name) }) {
		return e.hint("%s is a flag of the main job: docker export CONTAINER | ocibundle -o DIR %s", dashed(name), dashed(name))
	}
	if h, ok := habits[name]; ok {
		return e.hint("%s", h)
	}
	var names []string
	apart := "" // flags of one letter
	for _, d := range defs {
		for _, n := range d.names {
			if len(n) > 1 {
				names = append(names, n)
			} else if rest, ok := strings.CutPrefix(given, "-"+n); ok && d.value == "" {
				apart = "-" + n + " -" + rest
			} else if ok {
				apart = "-" + n + " " + rest
			}
		}
	}
	if near := jsontree.Nearest(name, names); near != "" {
		return e.hint("did you mean --%s?", near)
	}
	if apart != "" {
		return e.hint("flags of one letter stand by themselves: %s", apart)
	}
	return e.hint("--help lists the flags")
}

// typed is the flag as it stands in args.
func typed(name string, args []string) string {
	for _, arg := range args {
		given, _, _ := strings.Cut(arg, "=")
		if strings.HasPrefix(given, "-") && strings.TrimLeft(given, "-") == name {
			return given
		}
	}
	return dashed(name)
}
