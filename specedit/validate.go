package specedit

import (
	"fmt"
	"math/big"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// required lists the members that an object must have. Source: the "required"
// lists of the JSON schema of runtime-spec v1.3.0, for the parts that a Linux
// config can have; a test compares the two. process.args is required by the
// prose of config.md.
var required = map[reflect.Type][]string{
	reflect.TypeFor[specs.Spec]():                   {"ociVersion"},
	reflect.TypeFor[specs.Root]():                   {"path"},
	reflect.TypeFor[specs.Process]():                {"cwd"},
	reflect.TypeFor[specs.Box]():                    {"height", "width"},
	reflect.TypeFor[specs.LinuxIOPriority]():        {"class"},
	reflect.TypeFor[specs.Scheduler]():              {"policy"},
	reflect.TypeFor[specs.POSIXRlimit]():            {"type", "soft", "hard"},
	reflect.TypeFor[specs.Mount]():                  {"destination"},
	reflect.TypeFor[specs.Hook]():                   {"path"},
	reflect.TypeFor[specs.LinuxIDMapping]():         {"containerID", "hostID", "size"},
	reflect.TypeFor[specs.LinuxNamespace]():         {"type"},
	reflect.TypeFor[specs.LinuxDevice]():            {"type", "path"},
	reflect.TypeFor[specs.LinuxDeviceCgroup]():      {"allow"},
	reflect.TypeFor[specs.LinuxHugepageLimit]():     {"pageSize", "limit"},
	reflect.TypeFor[specs.LinuxInterfacePriority](): {"name", "priority"},
	reflect.TypeFor[specs.LinuxWeightDevice]():      {"major", "minor"},
	reflect.TypeFor[specs.LinuxThrottleDevice]():    {"major", "minor"},
	reflect.TypeFor[specs.LinuxPids]():              {"limit"},
	reflect.TypeFor[specs.LinuxSeccomp]():           {"defaultAction"},
	reflect.TypeFor[specs.LinuxSyscall]():           {"names", "action"},
	reflect.TypeFor[specs.LinuxSeccompArg]():        {"index", "value", "op"},
}

// choices lists the values that a string can have. Source: the enums of
// schema/defs-linux.json of runtime-spec v1.3.0.
var choices = map[reflect.Type][]string{
	reflect.TypeFor[specs.LinuxNamespaceType](): {"mount", "pid", "network", "uts", "ipc", "user", "cgroup", "time"},
	reflect.TypeFor[specs.LinuxSeccompAction](): {"SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
		"SCMP_ACT_TRAP", "SCMP_ACT_ERRNO", "SCMP_ACT_TRACE", "SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY"},
	reflect.TypeFor[specs.LinuxSeccompOperator](): {"SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ",
		"SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"},
	reflect.TypeFor[specs.LinuxSeccompFlag](): {"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG",
		"SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"},
	reflect.TypeFor[specs.Arch](): {"SCMP_ARCH_X86", "SCMP_ARCH_X86_64", "SCMP_ARCH_X32", "SCMP_ARCH_ARM",
		"SCMP_ARCH_AARCH64", "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_M68K", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64",
		"SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC",
		"SCMP_ARCH_PPC64", "SCMP_ARCH_PPC64LE", "SCMP_ARCH_S390", "SCMP_ARCH_S390X", "SCMP_ARCH_SH", "SCMP_ARCH_SHEB",
		"SCMP_ARCH_PARISC", "SCMP_ARCH_PARISC64", "SCMP_ARCH_RISCV64"},
	reflect.TypeFor[specs.IOPriorityClass](): {"IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"},
	reflect.TypeFor[specs.LinuxSchedulerPolicy](): {"SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH",
		"SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE"},
	reflect.TypeFor[specs.LinuxSchedulerFlag](): {"SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM",
		"SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_KEEP_POLICY", "SCHED_FLAG_KEEP_PARAMS", "SCHED_FLAG_UTIL_CLAMP_MIN",
		"SCHED_FLAG_UTIL_CLAMP_MAX"},
	reflect.TypeFor[specs.MemoryPolicyModeType](): {"MPOL_DEFAULT", "MPOL_BIND", "MPOL_INTERLEAVE",
		"MPOL_WEIGHTED_INTERLEAVE", "MPOL_PREFERRED", "MPOL_PREFERRED_MANY", "MPOL_LOCAL"},
	reflect.TypeFor[specs.MemoryPolicyFlagType]():   {"MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"},
	reflect.TypeFor[specs.LinuxPersonalityDomain](): {"LINUX", "LINUX32"},
}

// checker walks a document beside the specification's types and collects what
// is wrong with it.
type checker struct {
	base string // label of the document that the edits started from
	most int    // how many errors are enough
	errs []*EditError
}

// faults are the first errors of a document, most at most. What it means is
// looked at only where its types are right.
func faults(root *node, base string, most int) []*EditError {
	c := &checker{base: base, most: most}
	c.value(root, specType, nil, root.by)
	if len(c.errs) == 0 {
		c.meaning(root)
	}
	return c.errs
}

// check says whether a document is a valid config; the error is an *EditError
// that blames the edit which brought the fault in. base is what to blame for
// what no edit wrote.
func check(root *node, base string) error {
	if errs := faults(root, base, 1); len(errs) > 0 {
		return errs[0]
	}
	return nil
}

func (c *checker) done() bool { return len(c.errs) >= c.most }

// fail notes an error, unless there are enough, and returns it for what else
// there is to say.
func (c *checker) fail(path []string, by, format string, args ...any) *EditError {
	if c.done() {
		return &EditError{} // nobody reads it
	}
	if by == "" {
		by = c.base
	}
	err := &EditError{Label: by, Pointer: pointerOf(path...), Problem: fmt.Sprintf(format, args...)}
	c.errs = append(c.errs, err)
	return err
}

func (c *checker) value(n *node, t reflect.Type, path []string, by string) {
	if c.done() {
		return
	}
	if n.by != "" {
		by = n.by
	}
	if n.kind == kindNull {
		c.fail(path, by, "is null, %s is wanted", wanted(t))
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		if n.kind != kindObject {
			c.fail(path, by, "is %s, an object is wanted", shown(n))
			return
		}
		c.object(n, t, path, by)
	case reflect.Map:
		if n.kind != kindObject {
			c.fail(path, by, "is %s, an object is wanted", shown(n))
			return
		}
		for _, k := range n.keys {
			c.value(n.obj[k], indirect(t.Elem()), extend(path, k), by)
		}
	case reflect.Slice, reflect.Array:
		if n.kind != kindArray {
			c.fail(path, by, "is %s, an array is wanted", shown(n))
			return
		}
		for i, e := range n.list {
			c.value(e, indirect(t.Elem()), extend(path, strconv.Itoa(i)), by)
		}
	case reflect.String:
		if n.kind != kindString {
			err := c.fail(path, by, "is %s, a string is wanted", shown(n))
			if n.kind == kindNumber || n.kind == kindBool {
				err.Hint = fmt.Sprintf("a string that looks like JSON needs its own quotes: '%q'", n.text)
			}
			return
		}
		if list := choices[t]; list != nil && !slices.Contains(list, n.text) {
			suggestion := ""
			if s := nearest(n.text, list); s != "" {
				suggestion = fmt.Sprintf(": did you mean %q?", s)
			}
			c.fail(path, by, "is %q, which is none of %s%s", n.text, strings.Join(list, ", "), suggestion)
		}
	case reflect.Bool:
		if n.kind != kindBool {
			c.fail(path, by, "is %s, true or false is wanted", shown(n))
		}
	default:
		c.number(n, t, path, by)
	}
}

// number wants an integer of the size that the specification's type has.
func (c *checker) number(n *node, t reflect.Type, path []string, by string) {
	if n.kind != kindNumber {
		c.fail(path, by, "is %s, a number is wanted", shown(n))
		return
	}
	v, ok := new(big.Int).SetString(n.text, 10)
	if !ok {
		c.fail(path, by, "is %s, a whole number in digits is wanted", n.text)
		return
	}
	bits := t.Bits()
	low, high := new(big.Int), new(big.Int).Lsh(big.NewInt(1), uint(bits))
	switch t.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		high.Rsh(high, 1)
		low.Neg(high)
	}
	if v.Cmp(low) < 0 || v.Cmp(high) >= 0 {
		c.fail(path, by, "is %s, a number from %s to %s is wanted", n.text, low, high.Sub(high, big.NewInt(1)))
	}
}

func (c *checker) object(n *node, t reflect.Type, path []string, by string) {
	fields := fieldsOf(t)
	for _, k := range n.keys {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == k })
		if i < 0 {
			c.unknown(n, k, fields, path, by)
			continue
		}
		c.value(n.obj[k], fields[i].typ, extend(path, k), by)
	}
	for _, name := range required[t] {
		if n.obj[name] == nil {
			blamed := by
			if g := n.gone[name]; g != "" {
				blamed = g
			}
			c.fail(extend(path, name), blamed, "is required and missing")
		}
	}
}

func (c *checker) unknown(n *node, name string, fields []field, path []string, by string) {
	var names []string
	for _, f := range fields {
		names = append(names, f.name)
	}
	suggestion := ""
	if s := nearest(name, names); s != "" {
		suggestion = fmt.Sprintf(": did you mean %s?", pointerOf(extend(path, s)...))
	} else if s := elsewhere(name); s != "" {
		suggestion = fmt.Sprintf(": did you mean %s?", s)
	}
	if v := n.obj[name]; v.by != "" {
		by = v.by
	}
	c.fail(extend(path, name), by, "is no member that the runtime specification knows%s", suggestion)
}

func extend(path []string, name string) []string {
	return append(path[:len(path):len(path)], name)
}

func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	}
	return "a number"
}

// shown names a wrong value in an error: scalars as they are, the rest by type.
func shown(n *node) string {
	switch n.kind {
	case kindString, kindNumber, kindBool:
		return n.kind.String() + " (" + brief(n) + ")"
	}
	return n.kind.String()
}

// meaning checks what the types cannot say but config.md does, as far as it
// can be seen in the document alone.
func (c *checker) meaning(root *node) {
	if v := root.member("ociVersion"); v != nil {
		if _, _, err := parseVersion(v.text); err != nil {
			c.fail([]string{"ociVersion"}, v.by, "%v", err)
		}
	}
	if p := root.member("process"); p != nil {
		if args := p.member("args"); args == nil || len(args.list) == 0 {
			by, what := p.by, "is required and missing"
			if args != nil {
				by, what = args.by, "is empty: there is no command to run"
			} else if g := p.gone["args"]; g != "" {
				by = g
			}
			c.fail([]string{"process", "args"}, by, "%s", what)
		}
		if cwd := p.member("cwd"); cwd != nil && !strings.HasPrefix(cwd.text, "/") {
			c.fail([]string{"process", "cwd"}, cwd.by, "is %q, an absolute path is wanted", cwd.text)
		}
		if cwd := p.member("cwd"); cwd != nil && descriptorPath(cwd.text) {
			// A descriptor that leaked into the container leads out of it: CVE-2024-21626.
			c.fail([]string{"process", "cwd"}, cwd.by, "is %q, a directory behind a file descriptor", cwd.text)
		}
		if env := p.member("env"); env != nil {
			for i, e := range env.list {
				if k, _, ok := strings.Cut(e.text, "="); !ok || k == "" {
					c.fail([]string{"process", "env", strconv.Itoa(i)}, e.by, "is %q, NAME=VALUE is wanted", e.text)
				}
			}
		}
		c.unique(p.member("rlimits"), []string{"process", "rlimits"}, "type")
		for i, r := range list(p.member("rlimits")) {
			soft, ok1 := new(big.Int).SetString(r.member("soft").text, 10)
			hard, ok2 := new(big.Int).SetString(r.member("hard").text, 10)
			if ok1 && ok2 && soft.Cmp(hard) > 0 {
				c.fail([]string{"process", "rlimits", strconv.Itoa(i)}, r.by, "has a soft limit (%s) above the hard one (%s)", soft, hard)
			}
			if t := r.member("type").text; !slices.Contains(rlimitTypes, t) {
				suggestion := ""
				if s := nearest(t, rlimitTypes); s != "" {
					suggestion = fmt.Sprintf(": did you mean %q?", s)
				}
				c.fail([]string{"process", "rlimits", strconv.Itoa(i), "type"}, r.member("type").by, "is %q, which is no limit that getrlimit(2) knows%s", t, suggestion)
			}
		}
		c.capabilities(p.member("capabilities"))
	}
	if r := root.member("root").member("path"); r != nil && r.text == "" {
		c.fail([]string{"root", "path"}, r.by, "is empty")
	}
	for i, m := range list(root.member("mounts")) {
		if dst := m.member("destination"); dst.text == "" {
			c.fail([]string{"mounts", strconv.Itoa(i), "destination"}, dst.by, "is empty")
		}
	}
	c.unique(root.member("linux").member("namespaces"), []string{"linux", "namespaces"}, "type")
	for i, dev := range list(root.member("linux").member("devices")) {
		if t := dev.member("type"); !slices.Contains([]string{"c", "b", "u", "p"}, t.text) {
			c.fail([]string{"linux", "devices", strconv.Itoa(i), "type"}, t.by, "is %q, one of c, b, u, p is wanted", t.text)
		}
	}
	if h := root.member("hostname"); h != nil && h.text != "" && !slices.ContainsFunc(list(root.member("linux").member("namespaces")), func(e *node) bool {
		return e.member("type").text == "uts"
	}) {
		c.fail([]string{"hostname"}, h.by, "needs a uts namespace: without one it would be the host's name that changes")
	}
	memory := root.member("linux").member("resources").member("memory")
	if limit, swap := memory.member("limit"), memory.member("swap"); limit != nil && swap != nil {
		l, _ := strconv.ParseInt(limit.text, 10, 64)
		s, _ := strconv.ParseInt(swap.text, 10, 64)
		if s > 0 && s < l {
			c.fail([]string{"linux", "resources", "memory", "swap"}, swap.by, "is %d, less than the memory limit (%d): it counts memory and swap together", s, l)
		}
	}
	c.mapped(root)
}

// descriptorPath tells paths through the file descriptors of a process.
func descriptorPath(p string) bool {
	parts := strings.Split(path.Clean(p), "/")
	if len(parts) > 3 && parts[1] == "proc" && parts[3] == "task" && len(parts) > 5 {
		parts = append(parts[:3:3], parts[5:]...)
	}
	return len(parts) > 3 && parts[1] == "proc" && parts[3] == "fd" || len(parts) > 2 && parts[1] == "dev" && parts[2] == "fd"
}

// rlimitTypes are the limits of getrlimit(2), which config.md refers to.
var rlimitTypes = []string{"RLIMIT_AS", "RLIMIT_CORE", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_LOCKS",
	"RLIMIT_MEMLOCK", "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_RSS", "RLIMIT_RTPRIO",
	"RLIMIT_RTTIME", "RLIMIT_SIGPENDING", "RLIMIT_STACK"}

func list(n *node) []*node {
	if n == nil {
		return nil
	}
	return n.list
}

// unique wants no two elements with the same value of a member.
func (c *checker) unique(n *node, path []string, key string) {
	seen := map[string]int{}
	for i, e := range list(n) {
		v := e.member(key).text
		if first, twice := seen[v]; twice {
			c.fail(extend(path, strconv.Itoa(i)), e.by, "has the same %s, %q, as %s", key, v, pointerOf(extend(path, strconv.Itoa(first))...))
		}
		seen[v] = i
	}
}

func (c *checker) capabilities(n *node) {
	if n == nil {
		return
	}
	for _, set := range n.keys {
		for i, e := range n.obj[set].list {
			if slices.Contains(capabilityNames, e.text) {
				continue
			}
			suggestion := ""
			if s := nearest(e.text, capabilityNames); s != "" {
				suggestion = fmt.Sprintf(": did you mean %q?", s)
			}
			c.fail([]string{"process", "capabilities", set, strconv.Itoa(i)}, e.by, "is %q, which is no capability of capabilities(7)%s", e.text, suggestion)
		}
	}
}

// mapped wants the ids of the process in the config's own id mappings.
func (c *checker) mapped(root *node) {
	linux := root.member("linux")
	inUser := slices.ContainsFunc(list(linux.member("namespaces")), func(e *node) bool {
		return e.member("type").text == "user" && e.member("path") == nil
	})
	if !inUser {
		return
	}
	user := root.member("process").member("user")
	for _, k := range []struct {
		what, member, mapping string
	}{{"user", "uid", "uidMappings"}, {"group", "gid", "gidMappings"}, {"group", "additionalGids", "gidMappings"}} {
		n := user.member(k.member)
		if n == nil {
			continue
		}
		ids := []*node{n}
		if n.kind == kindArray {
			ids = n.list
		}
		for _, id := range ids {
			ranges := list(linux.member(k.mapping))
			v, _ := strconv.ParseInt(id.text, 10, 64)
			if len(ranges) > 0 && !slices.ContainsFunc(ranges, func(e *node) bool { return inRange(e, v) }) {
				c.fail([]string{"process", "user", k.member}, id.by, "is %s id %d, which the mapping lacks (%s)", k.what, v, describeMapping(ranges)).Err = ErrUnmapped
			}
		}
	}
}

func describeMapping(ranges []*node) string {
	var parts []string
	for _, r := range ranges {
		parts = append(parts, r.member("containerID").text+":"+r.member("hostID").text+":"+r.member("size").text)
	}
	return strings.Join(parts, " ")
}
