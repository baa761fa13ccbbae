package cli

import (
	"slices"
	"strings"
)

// dockerHints says what to write for flags of `docker run` that are no flags
// here, by name without dashes. See also habits.
var dockerHints = map[string]string{
	"publish-all":        "there is no port mapping without an engine: --net host, or --net PATH of a namespace that is set up",
	"expose":             "there is no port mapping without an engine: --net host, or --net PATH of a namespace that is set up",
	"interactive":        "stdin is the process's own under runc run; -t gives it a terminal",
	"l":                  "--annotation K=V",
	"label":              "--annotation K=V",
	"userns":             "--remap, --uidmap and --gidmap map users, on disk and in config.json",
	"dns":                "put a resolv.conf there: -v ./resolv.conf:/etc/resolv.conf:ro",
	"add-host":           "put a hosts file there: -v ./hosts:/etc/hosts:ro",
	"init":               "put an init into the rootfs and name it: -- /sbin/init ARG...",
	"volumes-from":       "-v SRC:DST for each directory",
	"cpu-quota":          "--cpus N, or --set /linux/resources/cpu/quota=N",
	"cpu-period":         "--cpus N, or --set /linux/resources/cpu/period=N",
	"cpuset-mems":        "--set /linux/resources/cpu/mems=LIST",
	"blkio-weight":       "--set /linux/resources/blockIO/weight=N",
	"cgroup-parent":      "--set /linux/cgroupsPath=PATH",
	"domainname":         "--set /domainname=NAME",
	"stop-signal":        "the signal is named when it is sent: runc kill NAME SIGNAL",
	"runtime":            "any runtime takes the bundle: run it with that one",
	"kernel-memory":      "kernels no longer have that limit",
	"memory-reservation": "--set /linux/resources/memory/reservation=BYTES",
	"memory-swappiness":  "--set /linux/resources/memory/swappiness=N",
	"oom-kill-disable":   "--set /linux/resources/memory/disableOOMKiller=true",
	"log-driver":         "the process's output is the runtime's own",
	"health-cmd":         "nobody checks health without an engine",
	"gpus":               "--device for each device node",
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
	switch {
	case p.rec.is("force"):
		e.hint("-f is --force here; -i FILE reads a file")
	case slices.Contains([]string{"-", "x", "xf", "-xf"}, arg):
		e.hint("standard input is read by itself")
	}
	return e.hint("a command for the container goes after --, as in: ocibundle -o DIR -- %s", arg).
		hint("the stream comes from standard input, or from -i FILE")
}

// habits are flags of docker and tar that this program does not have.
var habits = map[string]string{
	"p":          "ports are not published; --net host|PATH chooses the network",
	"publish":    "ports are not published; --net host|PATH chooses the network",
	"P":          "ports are not published; --net host|PATH chooses the network",
	"name":       "the name is the runtime's business: runc run --bundle DIR NAME",
	"d":          "running in the background is the runtime's business: runc run --detach",
	"detach":     "running in the background is the runtime's business: runc run --detach",
	"rm":         "removing the container is the runtime's business; ocibundle rm removes a bundle",
	"restart":    "restarting is the business of whatever runs the runtime",
	"entrypoint": "the whole command goes after --, as in: ocibundle -o DIR -- COMMAND ARG",
	"it":         "-t gives the container a terminal; its input is the runtime's business",
	"ti":         "-t gives the container a terminal; its input is the runtime's business",
	"privileged": "--cap-add ALL --security-opt seccomp=unconfined comes near it",
	"C":          "-o DIR names the bundle to create",
	"x":          "extracting is all it does; -o DIR names the bundle",
	"xf":         "-i FILE names the stream; extracting is all it does",
	"z":          "compression is detected",
	"j":          "compression is detected",
	"J":          "compression is detected",
}

// parseError turns what the flag parser says into an error of ours.
func parseError(err error) error {
	msg := err.Error()
	if name, ok := strings.CutPrefix(msg, "flag provided but not defined: -"); ok {
		name = strings.TrimLeft(name, "-")
		e := usagef("there is no flag %s", dashed(name))
		h, ok := habits[name]
		if !ok {
			h, ok = dockerHints[name]
		}
		if ok {
			return e.hint("%s", h)
		}
		if h, ok := dockerHints[name]; ok {
			return e.hint("%s", h)
		}
		if near := nearestFlag(name); near != "" {
			return e.hint("did you mean %s?", dashed(near))
		}
		return e.hint("ocibundle --help lists the flags")
	}
	if name, ok := strings.CutPrefix(msg, "flag needs an argument: -"); ok {
		return usagef("%s needs a value", dashed(strings.TrimLeft(name, "-")))
	}
	if msg, ok := strings.CutPrefix(msg, "invalid boolean value "); ok {
		return usagef("invalid value %s", msg)
	}
	return &usageError{msg: msg}
}

// nearestFlag is the flag whose name is a slip away from name.
func nearestFlag(name string) string {
	best, at := "", 3
	for _, d := range mainDefs() {
		for _, n := range d.names {
			if dist := editDistance(n, name); dist < at && dist < len(n) {
				best, at = n, dist
			}
		}
	}
	return best
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diag, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diag+cost)
		}
	}
	return row[len(b)]
}
