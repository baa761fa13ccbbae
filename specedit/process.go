package specedit

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/moby/sys/user"

	"ocibundle/specedit/jsontree"
)

// Args sets the whole command, process.args.
func Args(args []string) Edit {
	args = slices.Clone(args)
	return NewEdit("-- "+strings.Join(args, " "), func(d *Doc) error { return d.Put(args, "process", "args") })
}

// Env sets an environment variable, K=V. A K alone is taken from the caller's environment, and
// unset if it has none, as `docker run --env` does.
func Env(label, arg string, lookup func(string) (string, bool)) (Edit, error) {
	k, v, ok := strings.Cut(arg, "=")
	if err := envName(k); err != nil {
		return Edit{}, Blame(label, err)
	}
	if !ok {
		if v, ok = lookup(k); !ok {
			return UnsetEnv(label, k)
		}
	}
	if err := text("the value of "+k, v); err != nil {
		return Edit{}, Blame(label, err)
	}
	return NewEdit(label, func(d *Doc) error { return d.setenv(k, v) }), nil
}

// UnsetEnv removes an environment variable. One that is not there is no error.
func UnsetEnv(label, name string) (Edit, error) {
	if err := envName(name); err != nil {
		return Edit{}, Blame(label, err)
	}
	return NewEdit(label, func(d *Doc) error {
		env := d.Get("process", "env")
		env.RemoveKeyed(func(e *jsontree.Node) bool { return envKey(e) == name })
		return nil
	}), nil
}

// EnvFile sets the variables of a file in the form that `docker run --env-file` reads: K=V taken as
// it stands, K from the caller's environment, lines that start with # are comments.
func EnvFile(label string, file []byte, lookup func(string) (string, bool)) (Edit, error) {
	var edits []Edit
	n := 0
	for raw := range bytes.Lines(bytes.TrimPrefix(file, []byte("\xef\xbb\xbf"))) {
		n++
		line := strings.TrimLeft(strings.TrimRight(string(raw), "\r\n"), " \t")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		k, v, ok := strings.Cut(line, "=")
		if strings.ContainsAny(k, " \t") {
			return reject(label, "line %d: the variable name %q has a blank in it", n, k)
		}
		if err := envName(k); err != nil {
			return reject(label, "line %d: %v", n, err)
		}
		if !ok {
			// Unlike --env, a name that is not set here changes nothing.
			if v, ok = lookup(k); !ok {
				continue
			}
		}
		if err := text("the value of "+k, v); err != nil {
			return reject(label, "line %d: %v", n, err)
		}
		edits = append(edits, NewEdit("", func(d *Doc) error { return d.setenv(k, v) }))
	}
	return Join(label, edits...), nil
}

func envName(k string) error {
	if k == "" {
		return &EditError{Problem: "the name of the variable is missing: expected NAME=VALUE or NAME"}
	}
	return text("the name", k)
}

// text wants what JSON and the kernel can carry: UTF-8 without a NUL.
func text(what, s string) error {
	if !utf8.ValidString(s) {
		return &EditError{Problem: fmt.Sprintf("%s is not valid UTF-8, which a JSON file cannot hold: %q", what, s)}
	}
	if strings.ContainsRune(s, 0) {
		return &EditError{Problem: fmt.Sprintf("%s has a NUL byte in it: %q", what, s)}
	}
	return nil
}

func envKey(e *jsontree.Node) string {
	s, _ := e.Str()
	k, _, _ := strings.Cut(s, "=")
	return k
}

func (d *Doc) setenv(k, v string) error {
	env, err := d.Array("process", "env")
	if err != nil {
		return err
	}
	env.ReplaceKeyed(jsontree.NewString(k+"="+v, d.By), func(e *jsontree.Node) bool { return envKey(e) == k })
	return nil
}

// Workdir sets the working directory, which must be absolute.
func Workdir(label, dir string) (Edit, error) {
	if err := text("the directory", dir); err != nil {
		return Edit{}, Blame(label, err)
	}
	if !path.IsAbs(dir) {
		return reject(label, "%q is not an absolute path in the container", dir)
	}
	return NewEdit(label, func(d *Doc) error { return d.Put(dir, "process", "cwd") }), nil
}

// User sets the user, NAME|UID[:GROUP|GID]. As `docker run --user` does, it takes either half as
// root's or the user's own where it is empty ("1000:", ":www"), the group from the rootfs's passwd
// where none is given, and the supplementary groups from its group file; the primary group is
// listed among them, so that no negative group permission is evaded (CVE-2022-36109). Groups that
// GroupAdd added stay. In the rootless form, which has no right to set groups, there are none but
// those.
func User(label, spec string) (Edit, error) {
	if err := text("the user", spec); err != nil {
		return Edit{}, Blame(label, err)
	}
	if spec == "" {
		return reject(label, "the user is missing: expected NAME|UID[:GROUP|GID]")
	}
	if _, err := (standIn{}).User(spec); err != nil {
		return Edit{}, Blame(label, err)
	}
	return NewEdit(label, func(d *Doc) error {
		u, err := d.users.User(spec)
		if _, unreadable := errors.AsType[*FileError](err); unreadable {
			return err
		}
		if err != nil {
			// A later edit may name another user: an image's config, say, has one that the rootfs
			// lacks, and --user 0 follows.
			d.unresolved.err = Blame(d.By, err)
			u = user.ExecUser{}
		}
		if err := d.Put(u.Uid, "process", "user", "uid"); err != nil {
			return err
		}
		if err != nil {
			d.unresolved.uid = d.Get("process", "user", "uid")
		}
		if err := d.Put(u.Gid, "process", "user", "gid"); err != nil {
			return err
		}
		d.Drop("process", "user", "additionalGids")
		if !d.host.Rootless {
			if err := d.addGroups(append([]int{u.Gid}, u.Sgids...)...); err != nil {
				return err
			}
		} else if len(u.Sgids) > 0 {
			d.note("`%s`: the user's %s of the rootfs's /etc/group left out: a rootless container cannot set groups", label, jsontree.Count(len(u.Sgids), "supplementary group"))
		}
		return d.addGroups(d.groups...)
	}), nil
}

// GroupAdd adds a supplementary group, by name or id.
func GroupAdd(label, group string) (Edit, error) {
	if err := text("the group", group); err != nil {
		return Edit{}, Blame(label, err)
	}
	if group == "" {
		return reject(label, "the name or id of a group is missing")
	}
	if _, err := (standIn{}).Group(group); err != nil {
		return Edit{}, Blame(label, err)
	}
	return NewEdit(label, func(d *Doc) error {
		gid, err := d.users.Group(group)
		if err != nil {
			return err
		}
		d.groups = append(d.groups, gid)
		return d.addGroups(gid)
	}), nil
}

// checkUser says that the user is still one that could not be resolved.
func (d *Doc) checkUser() error {
	if d.unresolved.uid != nil && d.unresolved.uid == d.Get("process", "user", "uid") {
		return d.unresolved.err
	}
	return nil
}

// addGroups adds the groups that the process does not have yet.
func (d *Doc) addGroups(gids ...int) error {
	if len(gids) == 0 {
		return nil
	}
	list, err := d.Array("process", "user", "additionalGids")
	if err != nil {
		return err
	}
	have := map[string]bool{}
	for _, e := range list.List {
		have[e.Text] = true
	}
	for _, gid := range gids {
		text := strconv.Itoa(gid)
		if !have[text] {
			list.List = append(list.List, &jsontree.Node{Kind: jsontree.KindNumber, Text: text, By: d.By})
		}
		have[text] = true
	}
	return nil
}

// Hostname sets the container's host name.
func Hostname(label, name string) (Edit, error) {
	if err := text("the name", name); err != nil {
		return Edit{}, Blame(label, err)
	}
	// sethostname(2): 64 bytes at most.
	if name == "" || len(name) > 64 || strings.ContainsAny(name, " \t\n/") {
		return reject(label, "%q is not a host name", name)
	}
	return NewEdit(label, func(d *Doc) error { return d.Put(name, "hostname") }), nil
}

// Switch is the value of a flag that turns something on or off.
type Switch string

// The values of a Switch. A flag without a value means SwitchOn.
const (
	SwitchOn  Switch = "true"
	SwitchOff Switch = "false"
)

// ParseSwitch reads true and false in the spellings of strconv.ParseBool; "" is SwitchOn.
func ParseSwitch(s string) (Switch, error) {
	if s == "" {
		return SwitchOn, nil
	}
	v, err := strconv.ParseBool(s)
	if err != nil {
		return "", fmt.Errorf("%q is neither true nor false", s)
	}
	if v {
		return SwitchOn, nil
	}
	return SwitchOff, nil
}

// set writes true at a path of member names, or takes the member away.
func (s Switch) set(d *Doc, path ...string) error {
	if s == SwitchOff {
		d.Drop(path...)
		return nil
	}
	return d.Put(true, path...)
}

// TTY gives the process a terminal or none. With one, TERM is set unless it is already, as `docker
// run -t` does.
func TTY(label string, s Switch) (Edit, error) {
	return NewEdit(label, func(d *Doc) error {
		if err := s.set(d, "process", "terminal"); err != nil || s == SwitchOff {
			return err
		}
		if slices.ContainsFunc(jsontree.Elements(d.Get("process", "env")), func(e *jsontree.Node) bool { return envKey(e) == "TERM" }) {
			return nil
		}
		return d.setenv("TERM", "xterm")
	}), nil
}

// ReadOnly makes the rootfs read-only or writable.
func ReadOnly(label string, s Switch) (Edit, error) {
	return NewEdit(label, func(d *Doc) error { return s.set(d, "root", "readonly") }), nil
}

// OOMScoreAdj sets the out-of-memory score adjustment, -1000 to 1000.
func OOMScoreAdj(label, value string) (Edit, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < -1000 || n > 1000 {
		return reject(label, "%q is not a number from -1000 to 1000", value)
	}
	return NewEdit(label, func(d *Doc) error { return d.Put(n, "process", "oomScoreAdj") }), nil
}

// Annotation sets an annotation, K=V.
func Annotation(label, arg string) (Edit, error) {
	k, v, ok := strings.Cut(arg, "=")
	if !ok || k == "" {
		return reject(label, "%q is not an annotation: expected KEY=VALUE", arg)
	}
	if err := text("the annotation", arg); err != nil {
		return Edit{}, Blame(label, err)
	}
	return NewEdit(label, func(d *Doc) error { return d.Put(v, "annotations", k) }), nil
}

// Ulimit sets a resource limit, NAME=SOFT[:HARD]; -1 and "unlimited" are no limit. NAME is as in
// `docker run --ulimit` (nofile) or in the specification (RLIMIT_NOFILE).
func Ulimit(label, arg string) (Edit, error) {
	name, limits, ok := strings.Cut(arg, "=")
	if !ok {
		return reject(label, "%q is not a limit: expected NAME=SOFT[:HARD]", arg)
	}
	kind := "RLIMIT_" + strings.TrimPrefix(strings.ToUpper(name), "RLIMIT_")
	if !slices.Contains(rlimitTypes, kind) {
		var short []string
		for _, t := range rlimitTypes {
			short = append(short, strings.ToLower(strings.TrimPrefix(t, "RLIMIT_")))
		}
		return reject(label, "%q is not a limit of getrlimit(2)%s", name, suggest(name, short))
	}
	softText, hardText, both := strings.Cut(limits, ":")
	if !both {
		hardText = softText
	}
	soft, err1 := rlimit(softText)
	hard, err2 := rlimit(hardText)
	if err1 != nil || err2 != nil {
		return reject(label, "%q is not a limit: expected NAME=SOFT[:HARD] in whole numbers, or unlimited", arg)
	}
	if soft > hard {
		return reject(label, "the soft limit (%s) is above the hard one (%s)", softText, hardText)
	}
	return NewEdit(label, func(d *Doc) error {
		return d.Upsert("type", rlimitEntry{kind, hard, soft}, "process", "rlimits")
	}), nil
}

type rlimitEntry struct {
	Type string `json:"type"`
	Hard uint64 `json:"hard"`
	Soft uint64 `json:"soft"`
}

func rlimit(s string) (uint64, error) {
	if s == "-1" || s == "unlimited" {
		return 1<<64 - 1, nil // RLIM_INFINITY
	}
	return strconv.ParseUint(s, 10, 64)
}

// CapAdd adds a capability to the bounding, effective and permitted sets, and to the ambient set
// where the config has one. ALL adds every one. The prefix CAP_ may be left out.
func CapAdd(label, name string) (Edit, error) {
	names, err := Capabilities(name)
	if err != nil {
		return Edit{}, Blame(label, err)
	}
	return NewEdit(label, func(d *Doc) error {
		sets := []string{"bounding", "effective", "permitted"}
		if d.Get("process", "capabilities", "ambient") != nil {
			sets = append(sets, "ambient")
		}
		for _, set := range sets {
			list, err := d.Array("process", "capabilities", set)
			if err != nil {
				return err
			}
			for _, c := range names {
				if !slices.ContainsFunc(list.List, func(e *jsontree.Node) bool { return e.Text == c }) {
					list.List = append(list.List, jsontree.NewString(c, d.By))
				}
			}
		}
		return nil
	}), nil
}

// CapDrop removes a capability, or ALL, from every set.
func CapDrop(label, name string) (Edit, error) {
	names, err := Capabilities(name)
	if err != nil {
		return Edit{}, Blame(label, err)
	}
	return NewEdit(label, func(d *Doc) error {
		caps, err := d.Object("process", "capabilities")
		if err != nil {
			return err
		}
		for _, set := range caps.Keys {
			caps.Obj[set].RemoveKeyed(func(e *jsontree.Node) bool { return slices.Contains(names, e.Text) })
		}
		return nil
	}), nil
}

// Capabilities returns the capability of a name, with or without CAP_ and in any case, or all of
// them for ALL.
func Capabilities(name string) ([]string, error) {
	upper := strings.ToUpper(name)
	if upper == "ALL" {
		return capabilityNames, nil
	}
	full := "CAP_" + strings.TrimPrefix(upper, "CAP_")
	if slices.Contains(capabilityNames, full) {
		return []string{full}, nil
	}
	e := &EditError{Problem: fmt.Sprintf("%q is not a capability of capabilities(7)", name)}
	if s := jsontree.Nearest(full, capabilityNames); s != "" {
		e.Problem += fmt.Sprintf(": did you mean %s?", strings.TrimPrefix(s, "CAP_"))
	}
	return nil, e
}

// NoNewPrivileges sets or clears process.noNewPrivileges.
func NoNewPrivileges(label string, s Switch) (Edit, error) {
	return NewEdit(label, func(d *Doc) error { return s.set(d, "process", "noNewPrivileges") }), nil
}

// AppArmor sets the AppArmor profile.
func AppArmor(label, profile string) (Edit, error) {
	if profile == "" {
		return reject(label, "the name of the profile is missing")
	}
	if err := text("the profile", profile); err != nil {
		return Edit{}, Blame(label, err)
	}
	return NewEdit(label, func(d *Doc) error { return d.Put(profile, "process", "apparmorProfile") }), nil
}
