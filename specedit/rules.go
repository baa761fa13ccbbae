package specedit

import (
	"fmt"
	"math/big"
	"path"
	"slices"
	"strconv"
	"strings"

	"ocibundle/specedit/jsontree"
)

// rules checks what the types cannot say: the patterns and lengths of the JSON schema of
// runtime-spec v1.3.0 and what config.md says MUST be, as far as it can be seen in the document
// alone. A test tries the specification's own test vectors.
func (c *checker) rules(root *jsontree.Node) {
	if v := root.Member("ociVersion"); v != nil {
		if err := checkVersion(v.Text); err != nil {
			c.fail([]string{"ociVersion"}, v.By, "%v", err)
		}
	}
	c.process(root.Member("process"))
	if p := root.Member("root").Member("path"); p.Text == "" {
		c.fail([]string{"root", "path"}, p.By, "is empty")
	}
	for i, m := range jsontree.Elements(root.Member("mounts")) {
		if dst := m.Member("destination"); dst.Text == "" {
			c.fail([]string{"mounts", strconv.Itoa(i), "destination"}, dst.By, "is empty")
		}
	}
	if a := root.Member("annotations"); a != nil && a.Obj[""] != nil {
		c.fail([]string{"annotations", ""}, a.Obj[""].By, "is an annotation without a name")
	}
	if hooks := root.Member("hooks"); hooks != nil {
		for _, when := range hooks.Keys {
			for i, h := range jsontree.Elements(hooks.Obj[when]) {
				at := []string{"hooks", when, strconv.Itoa(i)}
				c.absolute(h.Member("path"), extend(at, "path"))
				if t := h.Member("timeout"); t != nil && (t.Text == "0" || strings.HasPrefix(t.Text, "-")) {
					c.fail(extend(at, "timeout"), t.By, "is %s, expected 1 or more", t.Text)
				}
			}
		}
	}
	c.linux(root.Member("linux"))
	namespaces := jsontree.Elements(root.Member("linux").Member("namespaces"))
	if h := root.Member("hostname"); h != nil && h.Text != "" && !slices.ContainsFunc(namespaces, func(e *jsontree.Node) bool {
		return e.Member("type").Text == "uts"
	}) {
		c.fail([]string{"hostname"}, h.By, "needs a uts namespace: without one it would be the host's name that changes")
	}
	c.mapped(root)
}

// process checks the process, which may be missing.
func (c *checker) process(p *jsontree.Node) {
	if p == nil {
		return
	}
	if args := p.Member("args"); args == nil || len(args.List) == 0 {
		by, what := p.By, "is required and missing"
		if args != nil {
			by, what = args.By, "is empty: there is no command to run"
		} else if g := p.Gone["args"]; g != "" {
			by = g
		}
		c.fail([]string{"process", "args"}, by, "%s", what)
	}
	if cwd := p.Member("cwd"); cwd != nil {
		c.absolute(cwd, []string{"process", "cwd"})
		if ThroughProcess(cwd.Text) {
			c.fail([]string{"process", "cwd"}, cwd.By, "is %q, which leads through a process, out of the container", cwd.Text)
		}
	}
	for i, e := range jsontree.Elements(p.Member("env")) {
		if k, _, ok := strings.Cut(e.Text, "="); !ok || k == "" {
			c.fail([]string{"process", "env", strconv.Itoa(i)}, e.By, "is %q, expected NAME=VALUE", e.Text)
		}
	}
	c.unique(p.Member("rlimits"), []string{"process", "rlimits"}, "type")
	for i, r := range jsontree.Elements(p.Member("rlimits")) {
		soft, ok1 := new(big.Int).SetString(r.Member("soft").Text, 10)
		hard, ok2 := new(big.Int).SetString(r.Member("hard").Text, 10)
		if ok1 && ok2 && soft.Cmp(hard) > 0 {
			c.fail([]string{"process", "rlimits", strconv.Itoa(i)}, r.By, "has a soft limit (%s) above the hard one (%s)", soft, hard)
		}
		if t := r.Member("type"); !slices.Contains(rlimitTypes, t.Text) {
			c.fail([]string{"process", "rlimits", strconv.Itoa(i), "type"}, t.By, "is %q, which is not a limit of getrlimit(2)%s", t.Text, suggest(t.Text, rlimitTypes))
		}
	}
	if caps := p.Member("capabilities"); caps != nil {
		for _, set := range caps.Keys {
			for i, e := range caps.Obj[set].List {
				if !slices.Contains(capabilityNames, e.Text) {
					c.fail([]string{"process", "capabilities", set, strconv.Itoa(i)}, e.By, "is %q, which is not a capability of capabilities(7)%s", e.Text, suggest(e.Text, capabilityNames))
				}
			}
		}
	}
	if a := p.Member("execCPUAffinity"); a != nil {
		for _, when := range a.Keys {
			if list := a.Obj[when]; strings.Trim(list.Text, "0123456789, -") != "" {
				c.fail([]string{"process", "execCPUAffinity", when}, list.By, "is %q, expected a list of CPUs, as 0-3,7", list.Text)
			}
		}
	}
}

// linux checks the section of that name, which may be missing.
func (c *checker) linux(linux *jsontree.Node) {
	c.unique(linux.Member("namespaces"), []string{"linux", "namespaces"}, "type")
	for i, ns := range jsontree.Elements(linux.Member("namespaces")) {
		c.absolute(ns.Member("path"), []string{"linux", "namespaces", strconv.Itoa(i), "path"})
	}
	for _, list := range []string{"maskedPaths", "readonlyPaths"} {
		for i, p := range jsontree.Elements(linux.Member(list)) {
			c.absolute(p, []string{"linux", list, strconv.Itoa(i)})
		}
	}
	// Runtimes have the recursive forms, too, which the schema lacks.
	if p := linux.Member("rootfsPropagation"); p != nil && p.Text != "" && !slices.Contains(append(propagations, "unbindable", "runbindable"), p.Text) {
		c.fail([]string{"linux", "rootfsPropagation"}, p.By, "is %q, which is none of %s, unbindable, runbindable", p.Text, strings.Join(propagations, ", "))
	}
	for i, dev := range jsontree.Elements(linux.Member("devices")) {
		at := []string{"linux", "devices", strconv.Itoa(i)}
		if t := dev.Member("type"); !slices.Contains([]string{"c", "b", "u", "p"}, t.Text) {
			c.fail(extend(at, "type"), t.By, "is %q, expected one of c, b, u, p", t.Text)
		}
		c.absolute(dev.Member("path"), extend(at, "path"))
	}
	for i, call := range jsontree.Elements(linux.Member("seccomp").Member("syscalls")) {
		at := []string{"linux", "seccomp", "syscalls", strconv.Itoa(i), "names"}
		names := call.Member("names")
		if len(names.List) == 0 {
			c.fail(at, names.By, "is empty: expected the name of a system call")
		}
		for j, name := range names.List {
			if name.Text == "" {
				c.fail(extend(at, strconv.Itoa(j)), name.By, "is empty: expected the name of a system call")
			}
		}
	}
	if s := linux.Member("intelRdt").Member("memBwSchema"); s != nil && (!strings.HasPrefix(s.Text, "MB:") || strings.Contains(s.Text, "\n")) {
		c.fail([]string{"linux", "intelRdt", "memBwSchema"}, s.By, "is %q, expected one line that begins with MB:", s.Text)
	}
	c.resources(linux.Member("resources"))
}

// resources checks the limits, which may be missing.
func (c *checker) resources(r *jsontree.Node) {
	for i, limit := range jsontree.Elements(r.Member("hugepageLimits")) {
		size := limit.Member("pageSize")
		digits := strings.TrimRight(size.Text, "KMGB")
		_, err := strconv.ParseUint(digits, 10, 64)
		unit := size.Text[len(digits):]
		if err != nil || digits[0] == '0' || digits[0] == '+' || !slices.Contains([]string{"KB", "MB", "GB"}, unit) {
			c.fail([]string{"linux", "resources", "hugepageLimits", strconv.Itoa(i), "pageSize"}, size.By, "is %q, expected a size such as 64KB, 2MB or 1GB", size.Text)
		}
	}
	memory := r.Member("memory")
	if limit, swap := memory.Member("limit"), memory.Member("swap"); limit != nil && swap != nil {
		l, _ := strconv.ParseInt(limit.Text, 10, 64)
		s, _ := strconv.ParseInt(swap.Text, 10, 64)
		if s > 0 && s < l {
			c.fail([]string{"linux", "resources", "memory", "swap"}, swap.By, "is %d, less than the memory limit (%d): it counts memory and swap together", s, l)
		}
	}
}

// absolute demands an absolute path of a string, which may be missing.
func (c *checker) absolute(n *jsontree.Node, at []string) {
	if n != nil && !path.IsAbs(n.Text) {
		c.fail(at, n.By, "is %q, expected an absolute path", n.Text)
	}
}

// ThroughProcess reports whether an absolute path leads through a process's descriptors, root or
// working directory: one that the runtime has left open leads to the host (CVE-2024-21626). /dev/fd
// is a link to /proc/self/fd.
func ThroughProcess(p string) bool {
	parts := strings.Split(strings.TrimPrefix(path.Clean(p), "/"), "/")
	if len(parts) > 1 && parts[0] == "dev" && parts[1] == "fd" {
		return true
	}
	if len(parts) < 3 || parts[0] != "proc" {
		return false
	}
	if _, err := strconv.Atoi(parts[1]); err != nil && parts[1] != "self" && parts[1] != "thread-self" {
		return false
	}
	parts = parts[2:]
	if len(parts) > 2 && parts[0] == "task" {
		parts = parts[2:]
	}
	return slices.Contains([]string{"fd", "fdinfo", "cwd", "root", "exe", "map_files"}, parts[0])
}

// suggest is the end of an error about a name that is none of those known.
func suggest(name string, known []string) string {
	if s := jsontree.Nearest(name, known); s != "" {
		return fmt.Sprintf(": did you mean %q?", s)
	}
	return ""
}

// rlimitTypes are the limits of getrlimit(2), which config.md refers to.
var rlimitTypes = []string{"RLIMIT_AS", "RLIMIT_CORE", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_LOCKS",
	"RLIMIT_MEMLOCK", "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_RSS", "RLIMIT_RTPRIO",
	"RLIMIT_RTTIME", "RLIMIT_SIGPENDING", "RLIMIT_STACK"}

// unique demands that no two elements have the same value of a member.
func (c *checker) unique(n *jsontree.Node, path []string, key string) {
	seen := map[string]int{}
	for i, e := range jsontree.Elements(n) {
		v := e.Member(key).Text
		if first, twice := seen[v]; twice {
			c.fail(extend(path, strconv.Itoa(i)), e.By, "has the same %s, %q, as %s", key, v, jsontree.Pointer(extend(path, strconv.Itoa(first))...))
		}
		seen[v] = i
	}
}

// mapped wants the ids of the process in the config's own id mappings.
func (c *checker) mapped(root *jsontree.Node) {
	linux := root.Member("linux")
	inUser := slices.ContainsFunc(jsontree.Elements(linux.Member("namespaces")), func(e *jsontree.Node) bool {
		return e.Member("type").Text == "user" && e.Member("path") == nil
	})
	if !inUser {
		return
	}
	user := root.Member("process").Member("user")
	for _, k := range []struct {
		what, member, mapping string
	}{{"user", "uid", "uidMappings"}, {"group", "gid", "gidMappings"}, {"group", "additionalGids", "gidMappings"}} {
		n := user.Member(k.member)
		if n == nil {
			continue
		}
		ids := []*jsontree.Node{n}
		if n.Kind == jsontree.KindArray {
			ids = n.List
		}
		for _, id := range ids {
			if c.done() {
				return
			}
			ranges := jsontree.Elements(linux.Member(k.mapping))
			v, _ := strconv.ParseInt(id.Text, 10, 64)
			if len(ranges) > 0 && !slices.ContainsFunc(ranges, func(e *jsontree.Node) bool { return inRange(e, v) }) {
				c.fail([]string{"process", "user", k.member}, id.By, "is %s id %d, which the mapping lacks (%s)", k.what, v, describeMapping(ranges)).Err = ErrUnmapped
			}
		}
	}
}

func describeMapping(ranges []*jsontree.Node) string {
	var parts []string
	for _, r := range ranges {
		parts = append(parts, r.Member("containerID").Text+":"+r.Member("hostID").Text+":"+r.Member("size").Text)
	}
	return strings.Join(parts, " ")
}
