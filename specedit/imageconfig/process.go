package imageconfig

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"ocibundle/specedit"
)

// process is what the container runs.
func (im *importer) process() {
	c := &im.d.config
	prefix := im.d.configName()

	args := slices.Concat(c.Entrypoint, c.Cmd)
	member := prefix + ".Cmd"
	if len(c.Cmd) == 0 {
		member = prefix + ".Entrypoint"
	}
	if im.d.container.Path != "" {
		// What the engine made of the two. Some versions of podman write the
		// entrypoint as one string, which this is not.
		args = append([]string{im.d.container.Path}, im.d.container.Args...)
		member = "Path"
		if im.d.kind == PodmanContainer && podmanInit(args) {
			args = args[2:]
		}
	}
	if len(args) > 0 {
		im.put(member, args, "process", "args")
	} else {
		im.notice(prefix+".Cmd", "the command", "", "there is none")
	}

	im.environment(prefix)
	im.workdir(prefix + ".WorkingDir")
	im.user(prefix)
	if c.Tty {
		im.edit(prefix+".Tty", func(label string) (specedit.Edit, error) { return specedit.TTY(label, specedit.SwitchOn) })
		if size := im.d.host.ConsoleSize; size[0] > 0 && size[1] > 0 {
			im.put("HostConfig.ConsoleSize", map[string]uint{"height": size[0], "width": size[1]}, "process", "consoleSize")
		}
	}
}

// podmanInit tells that podman's --init stands before the command.
func podmanInit(args []string) bool {
	return len(args) > 2 && args[1] == "--" && slices.Contains([]string{"/dev/init", "/run/podman-init"}, args[0])
}

// environment sets what the engine adds by itself, and then what the document has.
func (im *importer) environment(prefix string) {
	c := &im.d.config
	has := func(name string) bool {
		return slices.ContainsFunc(c.Env, func(e string) bool { n, _, _ := strings.Cut(e, "="); return n == name })
	}
	set := func(member, name, value string) {
		im.edit(member, func(label string) (specedit.Edit, error) { return specedit.Env(label, name+"="+value, nil) })
	}
	if im.d.isContainer() {
		if c.Hostname != "" && !has("HOSTNAME") {
			set(prefix+".Hostname", "HOSTNAME", c.Hostname)
		}
		if c.Tty && !has("TERM") {
			set(prefix+".Tty", "TERM", "xterm")
		}
	}
	for i, e := range c.Env {
		member := fmt.Sprintf("%s.Env[%d]", prefix, i)
		name, value, ok := strings.Cut(e, "=")
		switch {
		case e == "":
			// Engines drop it, too.
		case name == "":
			im.refuse(member, "%q has no name before the \"=\"", e)
		case ok:
			set(member, name, value)
		default:
			// docker run -e NAME, without NAME in its own environment: the engine
			// takes the variable away.
			im.edit(member, func(label string) (specedit.Edit, error) { return specedit.UnsetEnv(label, name) })
		}
	}
}

func (im *importer) workdir(member string) {
	dir := im.d.config.WorkingDir
	if dir == "" {
		return
	}
	// The engine reads a relative one from the root.
	if dir = path.Join("/", dir); specedit.ThroughProcess(dir) {
		im.refuse(member, "%q leads through a process, out of the container", im.d.config.WorkingDir)
		return
	}
	im.edit(member, func(label string) (specedit.Edit, error) { return specedit.Workdir(label, dir) })
}

func (im *importer) user(prefix string) {
	if user := im.d.config.User; user != "" {
		im.edit(prefix+".User", func(label string) (specedit.Edit, error) { return specedit.User(label, user) })
	}
	for i, group := range im.d.host.GroupAdd {
		if group == "keep-groups" && im.d.kind == PodmanContainer {
			im.notice("HostConfig.GroupAdd", "group", group, "")
			continue
		}
		member := fmt.Sprintf("HostConfig.GroupAdd[%d]", i)
		if im.o.Rootless {
			im.notice(member, "group", group, "an ordinary user's runtime cannot set groups")
			continue
		}
		im.edit(member, func(label string) (specedit.Edit, error) { return specedit.GroupAdd(label, group) })
	}
	umask := im.d.host.Umask
	member := "HostConfig.Umask"
	if text := im.d.config.Umask; text != "" {
		member = prefix + ".Umask"
		n, err := strconv.ParseUint(text, 8, 32)
		if err != nil || n > 0o777 {
			im.refuse(member, "%q is no octal umask", text)
			return
		}
		umask = new(uint32(n))
	}
	// 0022 is what runtimes set unasked. Older versions of the specification have no
	// member for it, so it is better left out.
	if umask != nil && *umask != 0o022 {
		im.put(member, *umask, "process", "user", "umask")
	}
}
