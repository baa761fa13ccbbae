package cli

import (
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"ocibundle/specedit"
	"ocibundle/specedit/jsontree"
)

// editInputs is what an edit can depend on besides its own argument.
type editInputs struct {
	files     *files
	cwd       string // for relative bind sources
	lookupEnv func(string) (string, bool)
	cdiDirs   []string // of --cdi-spec-dir
}

// makeEdit makes the edit of one use of a flag.
type makeEdit func(label, arg string, in *editInputs) (specedit.Edit, error)

const (
	catProcess  = "Process"
	catMounts   = "Mounts and devices"
	catIsolate  = "Namespaces"
	catLimits   = "Limits"
	catSecurity = "Security"
	catRaw      = "Any member of config.json"
)

// editFlags is every edit flag, in the order of the help text.
var editFlags = []*flagDef{
	{names: []string{"env", "e"}, value: "K[=V]", category: catProcess,
		usage: "set an environment variable; K alone takes the caller's value", make: withEnv(specedit.Env)},
	{names: []string{"env-file"}, value: "FILE", category: catProcess,
		usage: "set the variables of FILE, one K=V per line",
		make: func(label, arg string, in *editInputs) (specedit.Edit, error) {
			file, err := in.files.ReadFile("--env-file", arg)
			if err != nil {
				return specedit.Edit{}, err
			}
			return specedit.EnvFile(label, file, in.lookupEnv)
		}},
	{names: []string{"unsetenv"}, value: "K", category: catProcess,
		usage: "remove an environment variable", make: simple(specedit.UnsetEnv)},
	{names: []string{"workdir", "w"}, value: "DIR", category: catProcess,
		usage: "working directory, absolute in the container", make: simple(specedit.Workdir)},
	{names: []string{"user", "u"}, value: "NAME|UID[:GROUP|GID]", category: catProcess,
		usage: "user and group; names are looked up in the rootfs", make: simple(specedit.User)},
	{names: []string{"group-add"}, value: "GROUP|GID", category: catProcess,
		usage: "add a supplementary group", make: simple(specedit.GroupAdd)},
	{names: []string{"tty", "t"}, value: "BOOL", category: catProcess, optional: true,
		usage: "give the process a terminal, or with =false none", make: onOff(specedit.TTY)},
	{names: []string{"hostname"}, value: "NAME", category: catProcess,
		usage: "host name of the container", make: simple(specedit.Hostname)},
	{names: []string{"oom-score-adj"}, value: "N", category: catProcess,
		usage: "out-of-memory score adjustment, -1000 to 1000", make: simple(specedit.OOMScoreAdj)},
	{names: []string{"annotation"}, value: "K=V", category: catProcess,
		usage: "set an annotation", make: simple(specedit.Annotation)},

	{names: []string{"volume", "v"}, value: "SRC:DST[:OPTIONS]", category: catMounts,
		usage: "bind a file or directory of the host; OPTIONS: ro, rw, rprivate, rslave, rshared, idmap, ridmap", make: withDir(specedit.Volume)},
	{names: []string{"mount"}, value: "FIELDS", category: catMounts,
		usage: "type=bind,src=SRC,dst=DST[,ro] or type=tmpfs,dst=DST[,tmpfs-size=SIZE]", make: withDir(specedit.Mount)},
	{names: []string{"tmpfs"}, value: "DST[:OPTIONS]", category: catMounts,
		usage: "mount an empty filesystem in memory", make: simple(specedit.Tmpfs)},
	{names: []string{"shm-size"}, value: "SIZE", category: catMounts,
		usage: "size of /dev/shm", make: simple(specedit.ShmSize)},
	{names: []string{"device"}, value: "HOST[:CONTAINER[:rwm]]|CDI", category: catMounts,
		usage: "give the container a device of the host, or the CDI device vendor.com/class=name", make: device},
	{names: []string{"cdi-spec-dir"}, value: "DIR", category: catMounts,
		usage: "where CDI names are looked up, not /etc/cdi and /var/run/cdi; repeatable"},
	{names: []string{"read-only"}, value: "BOOL", category: catMounts, optional: true,
		usage: "make the rootfs read-only, or with =false writable", make: onOff(specedit.ReadOnly)},

	{names: []string{"net", "network"}, value: "private|host|PATH", category: catIsolate,
		usage: "network namespace: one of its own, the host's, or that at PATH", make: namespace(specs.NetworkNamespace)},
	{names: []string{"pid"}, value: "private|host|PATH", category: catIsolate,
		usage: "process id namespace", make: namespace(specs.PIDNamespace)},
	{names: []string{"ipc"}, value: "private|host|PATH", category: catIsolate,
		usage: "System V IPC namespace; host shares /dev/shm too", make: namespace(specs.IPCNamespace)},
	{names: []string{"uts"}, value: "private|host|PATH", category: catIsolate,
		usage: "host name namespace", make: namespace(specs.UTSNamespace)},
	{names: []string{"cgroupns"}, value: "private|host|PATH", category: catIsolate,
		usage: "control group namespace", make: namespace(specs.CgroupNamespace)},

	{names: []string{"ulimit"}, value: "NAME=SOFT[:HARD]", category: catLimits,
		usage: "resource limit, as nofile=1024:4096", make: simple(specedit.Ulimit)},
	{names: []string{"memory", "m"}, value: "SIZE", category: catLimits,
		usage: "memory limit; with swap it is twice that unless --memory-swap says otherwise", make: simple(specedit.Memory)},
	{names: []string{"memory-swap"}, value: "SIZE", category: catLimits,
		usage: "limit of memory and swap together; -1: none, 0: leave swap alone", make: simple(specedit.MemorySwap)},
	{names: []string{"cpus"}, value: "N", category: catLimits,
		usage: "CPU time in CPUs, as 1.5", make: simple(specedit.CPUs)},
	{names: []string{"cpu-shares"}, value: "N", category: catLimits,
		usage: "CPU weight relative to others, 1024 being the usual", make: simple(specedit.CPUShares)},
	{names: []string{"cpuset-cpus"}, value: "LIST", category: catLimits,
		usage: "CPUs to run on, as 0-3,7", make: simple(specedit.CPUSetCPUs)},
	{names: []string{"pids-limit"}, value: "N", category: catLimits,
		usage: "number of processes; -1: no limit", make: simple(specedit.PidsLimit)},
	{names: []string{"sysctl"}, value: "K=V", category: catLimits,
		usage: "kernel parameter of the container's namespaces", make: simple(specedit.Sysctl)},

	{names: []string{"cap-add"}, value: "CAP|ALL", category: catSecurity,
		usage: "add a capability", make: simple(specedit.CapAdd)},
	{names: []string{"cap-drop"}, value: "CAP|ALL", category: catSecurity,
		usage: "remove a capability", make: simple(specedit.CapDrop)},
	{names: []string{"security-opt"}, value: "OPTION", category: catSecurity,
		usage: "seccomp=default|unconfined|FILE, no-new-privileges[=false], apparmor=NAME", make: securityOpt},

	{names: []string{"set"}, value: "PTR=VALUE", category: catRaw,
		usage: "add or replace the value at a JSON pointer, parents included", make: pointerValue(specedit.Set)},
	{names: []string{"add"}, value: "PTR=VALUE", category: catRaw,
		usage: "RFC 6902 add: an array grows", make: pointerValue(specedit.Add)},
	{names: []string{"replace"}, value: "PTR=VALUE", category: catRaw,
		usage: "RFC 6902 replace: something must be there", make: pointerValue(specedit.Replace)},
	{names: []string{"remove"}, value: "PTR", category: catRaw,
		usage: "RFC 6902 remove",
		make: func(label, arg string, in *editInputs) (specedit.Edit, error) {
			if p, _, ok := jsontree.SplitPointer(arg); ok {
				return specedit.Edit{}, &specedit.EditError{Label: label, Problem: "expected a pointer without a value",
					Hint: fmt.Sprintf("--remove '%s', or in a name that has a \"=\": --patch '[{\"op\":\"remove\",\"path\":\"...\"}]'", p)}
			}
			return specedit.Remove(label, arg)
		}},
	{names: []string{"test"}, value: "PTR=VALUE", category: catRaw,
		usage: "RFC 6902 test: stop unless the value is there", make: pointerValue(specedit.Test)},
	{names: []string{"copy"}, value: "FROM=TO", category: catRaw,
		usage: "RFC 6902 copy", make: pointerPointer(specedit.Copy)},
	{names: []string{"move"}, value: "FROM=TO", category: catRaw,
		usage: "RFC 6902 move", make: pointerPointer(specedit.Move)},
	{names: []string{"patch"}, value: "FILE", category: catRaw,
		usage: "apply an RFC 6902 patch: FILE, or the JSON text itself", make: jsonFile("patch", specedit.Patch)},
	{names: []string{"merge-patch"}, value: "FILE", category: catRaw,
		usage: "apply an RFC 7386 merge patch: FILE, or the JSON text itself", make: jsonFile("merge-patch", specedit.MergePatch)},
}

func simple(f func(label, arg string) (specedit.Edit, error)) makeEdit {
	return func(label, arg string, in *editInputs) (specedit.Edit, error) { return f(label, arg) }
}

func withDir(f func(label, arg, dir string) (specedit.Edit, error)) makeEdit {
	return func(label, arg string, in *editInputs) (specedit.Edit, error) { return f(label, arg, in.cwd) }
}

func device(label, arg string, in *editInputs) (specedit.Edit, error) {
	if specedit.IsCDI(arg) {
		return specedit.CDI(label, arg, in.cdiDirs)
	}
	return specedit.Device(label, arg, in.cwd)
}

func withEnv(f func(label, arg string, lookup func(string) (string, bool)) (specedit.Edit, error)) makeEdit {
	return func(label, arg string, in *editInputs) (specedit.Edit, error) {
		return f(label, arg, in.lookupEnv)
	}
}

func onOff(f func(label string, s specedit.Switch) (specedit.Edit, error)) makeEdit {
	return func(label, arg string, in *editInputs) (specedit.Edit, error) {
		s, err := specedit.ParseSwitch(arg)
		if err != nil {
			return specedit.Edit{}, &specedit.EditError{Label: label, Problem: err.Error()}
		}
		return f(label, s)
	}
}

func namespace(kind specs.LinuxNamespaceType) makeEdit {
	return func(label, arg string, in *editInputs) (specedit.Edit, error) {
		return specedit.Namespace(label, kind, arg, in.cwd)
	}
}

func pointerValue(f func(label, pointer, value string) (specedit.Edit, error)) makeEdit {
	return func(label, arg string, in *editInputs) (specedit.Edit, error) {
		pointer, value, ok := jsontree.SplitPointer(arg)
		if !ok {
			return specedit.Edit{}, &specedit.EditError{Label: label, Problem: "expected PTR=VALUE, as in /process/cwd=/data"}
		}
		return f(label, pointer, value)
	}
}

func pointerPointer(f func(label, from, to string) (specedit.Edit, error)) makeEdit {
	return func(label, arg string, in *editInputs) (specedit.Edit, error) {
		from, to, ok := jsontree.SplitPointer(arg)
		if !ok {
			return specedit.Edit{}, &specedit.EditError{Label: label, Problem: "expected two pointers, FROM=TO"}
		}
		return f(label, from, to)
	}
}

func jsonFile(name string, f func(label string, text []byte) (specedit.Edit, error)) makeEdit {
	return func(label, arg string, in *editInputs) (specedit.Edit, error) {
		text, err := jsonArgument("--"+name, arg, in.files)
		if err != nil {
			return specedit.Edit{}, err
		}
		return f(label, text)
	}
}

// jsonArgument is the JSON text that a flag gives: itself where it starts as JSON does, else the
// content of the file it names.
func jsonArgument(flag, arg string, files *files) ([]byte, error) {
	if trimmed := strings.TrimLeft(arg, " \t\r\n"); strings.HasPrefix(trimmed, "[") || strings.HasPrefix(trimmed, "{") {
		return []byte(arg), nil
	}
	return files.ReadFile(flag, arg)
}

// securityOpt is `docker run --security-opt`, as far as a config has it.
func securityOpt(label, arg string, in *editInputs) (specedit.Edit, error) {
	fail := func(hint, format string, a ...any) (specedit.Edit, error) {
		return specedit.Edit{}, &specedit.EditError{Label: label, Problem: fmt.Sprintf(format, a...), Hint: hint}
	}
	// Docker's older spelling has a colon.
	key, value, valued := arg, "", false
	if i := strings.IndexAny(arg, "=:"); i >= 0 {
		key, value, valued = arg[:i], arg[i+1:], true
	}
	switch key {
	case "no-new-privileges":
		s, err := specedit.ParseSwitch(value)
		if err != nil {
			return fail("", "%v", err)
		}
		return specedit.NoNewPrivileges(label, s)
	case "apparmor":
		return specedit.AppArmor(label, value)
	case "seccomp":
		switch value {
		case "":
			return fail("", "expected seccomp=default, seccomp=unconfined or seccomp=FILE")
		case "default", "builtin":
			return specedit.SeccompDefault(label), nil
		case "unconfined":
			return specedit.SeccompUnconfined(label), nil
		}
		profile, err := jsonArgument("--security-opt", value, in.files)
		if err != nil {
			return specedit.Edit{}, err
		}
		return specedit.SeccompProfile(label, profile)
	case "systempaths":
		if valued && value == "unconfined" {
			return fail("--set /linux/maskedPaths=[] --set /linux/readonlyPaths=[]", "systempaths is not supported")
		}
	case "label":
		return fail("--set /process/selinuxLabel=LABEL and --set /linux/mountLabel=LABEL", "SELinux labels are given whole, not in parts")
	}
	return fail("", "not supported: seccomp=, no-new-privileges and apparmor= are")
}
