package specedit

import (
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"

	"ocibundle/specedit/jsontree"
)

// required lists the members that an object must have. Source: the "required" lists of the JSON
// schema of runtime-spec v1.3.0, for the parts that a Linux config can have; a test compares the
// two. The prose of config.md requires root, but for Windows, and process.args.
var required = sync.OnceValue(func() map[reflect.Type][]string {
	return map[reflect.Type][]string{
		reflect.TypeFor[specs.Spec]():                   {"ociVersion", "root"},
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
})

// choices lists the values that a string can have. Source: the enums of schema/defs-linux.json of
// runtime-spec v1.3.0.
var choices = sync.OnceValue(func() map[reflect.Type][]string {
	return map[reflect.Type][]string{
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
})

// checker walks a document beside the specification's types and collects what is wrong with it.
type checker struct {
	base string // label of the document that the edits started from
	most int    // how many errors are enough
	errs []*EditError
}

// faults are the first errors of a document, most at most. The rules are looked at only where the
// types are right.
func faults(root *jsontree.Node, base string, most int) []*EditError {
	c := &checker{base: base, most: most}
	c.value(root, specType, nil, root.By)
	if len(c.errs) == 0 {
		c.rules(root)
	}
	return c.errs
}

// check reports whether a document is a valid config; the error is an *EditError that blames the
// edit which brought the fault in. base is what to blame for what no edit wrote.
func check(root *jsontree.Node, base string) error {
	if errs := faults(root, base, 1); len(errs) > 0 {
		return errs[0]
	}
	return nil
}

func (c *checker) done() bool { return len(c.errs) >= c.most }

// fail notes an error, unless there are enough, and returns it for what else there is to say.
func (c *checker) fail(path []string, by, format string, args ...any) *EditError {
	if c.done() {
		return &EditError{} // nobody reads it
	}
	if by == "" {
		by = c.base
	}
	err := &EditError{Label: by, Pointer: jsontree.Pointer(path...), Problem: fmt.Sprintf(format, args...)}
	c.errs = append(c.errs, err)
	return err
}

// value looks at one value. Nobody keeps its path, so the paths of what is in it are made in the same array.
func (c *checker) value(n *jsontree.Node, t reflect.Type, path []string, by string) {
	if c.done() {
		return
	}
	if n.By != "" {
		by = n.By
	}
	if n.Kind == jsontree.KindNull {
		c.fail(path, by, "is null, expected %s", wanted(t))
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		if n.Kind != jsontree.KindObject {
			c.fail(path, by, "is %s, expected an object", shown(n))
			return
		}
		c.object(n, t, path, by)
	case reflect.Map:
		if n.Kind != jsontree.KindObject {
			c.fail(path, by, "is %s, expected an object", shown(n))
			return
		}
		for _, k := range n.Keys {
			c.value(n.Obj[k], indirect(t.Elem()), append(path, k), by)
		}
	case reflect.Slice, reflect.Array:
		if n.Kind != jsontree.KindArray {
			c.fail(path, by, "is %s, expected an array", shown(n))
			return
		}
		for i, e := range n.List {
			c.value(e, indirect(t.Elem()), append(path, strconv.Itoa(i)), by)
		}
	case reflect.String:
		if n.Kind != jsontree.KindString {
			err := c.fail(path, by, "is %s, expected a string", shown(n))
			if n.Kind == jsontree.KindNumber || n.Kind == jsontree.KindBool {
				err.Hint = fmt.Sprintf("a string that looks like JSON needs its own quotes: '%q'", n.Text)
			}
			return
		}
		if list := choices()[t]; list != nil && !slices.Contains(list, n.Text) {
			c.fail(path, by, "is %q, which is none of %s%s", n.Text, strings.Join(list, ", "), suggest(n.Text, list))
		}
	case reflect.Bool:
		if n.Kind != jsontree.KindBool {
			c.fail(path, by, "is %s, expected true or false", shown(n))
		}
	default:
		c.number(n, t, path, by)
	}
}

// number wants an integer of the size that the specification's type has.
func (c *checker) number(n *jsontree.Node, t reflect.Type, path []string, by string) {
	if n.Kind != jsontree.KindNumber {
		c.fail(path, by, "is %s, expected a number", shown(n))
		return
	}
	v, ok := new(big.Int).SetString(n.Text, 10)
	if !ok {
		c.fail(path, by, "is %s, expected a whole number in digits", n.Text)
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
		c.fail(path, by, "is %s, expected a number from %s to %s", n.Text, low, high.Sub(high, big.NewInt(1)))
	}
}

func (c *checker) object(n *jsontree.Node, t reflect.Type, path []string, by string) {
	fields := fieldsOf(t)
	for _, k := range n.Keys {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == k })
		if i < 0 {
			c.unknown(n, k, fields, path, by)
			continue
		}
		c.value(n.Obj[k], fields[i].typ, append(path, k), by)
	}
	for _, name := range required()[t] {
		if n.Obj[name] == nil {
			blamed := by
			if g := n.Gone[name]; g != "" {
				blamed = g
			}
			c.fail(extend(path, name), blamed, "is required and missing")
		}
	}
}

func (c *checker) unknown(n *jsontree.Node, name string, fields []field, path []string, by string) {
	var names []string
	for _, f := range fields {
		names = append(names, f.name)
	}
	suggestion := ""
	if s := jsontree.Nearest(name, names); s != "" {
		suggestion = fmt.Sprintf(": did you mean %s?", jsontree.Pointer(extend(path, s)...))
	} else if s := elsewhere(name); s != "" {
		suggestion = fmt.Sprintf(": did you mean %s?", s)
	}
	if v := n.Obj[name]; v.By != "" {
		by = v.By
	}
	c.fail(extend(path, name), by, "is not a member of the runtime specification%s", suggestion)
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
func shown(n *jsontree.Node) string {
	switch n.Kind {
	case jsontree.KindString, jsontree.KindNumber, jsontree.KindBool:
		return n.Kind.String() + " (" + jsontree.Brief(n) + ")"
	}
	return n.Kind.String()
}
