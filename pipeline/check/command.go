package check

import (
	"debug/elf"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"ocibundle/tarx"
)

// checkCommand finds the command as a runtime does, in the container's own PATH, and looks at what it needs.
func (k *checker) checkCommand(p *specs.Process) {
	const where = "/process/args/0"
	name := p.Args[0]
	switch {
	case name == "":
		k.at(FindingNotFound, where, "is empty")
	case len(name) >= unix.PathMax:
		k.at(FindingNotFound, where, "is a name of %d bytes: %v", len(name), unix.ENAMETOOLONG)
	case strings.Contains(name, "/"):
		k.checkPath(p, name, where)
	default:
		k.searchPath(p, name, where)
	}
}

// checkPath looks at a command that is named by its path.
func (k *checker) checkPath(p *specs.Process, name, where string) {
	if !strings.HasPrefix(name, "/") && k.cwd == "" {
		return // said of the working directory
	}
	r, err := k.view.walk(k.absolute(name), walkLook)
	if err != nil {
		k.at(FindingNotFound, where, "is %q: %s", name, k.whyNot(k.absolute(name), err))
		return
	}
	defer r.close()
	if r.unknown {
		return
	}
	if err := k.executable(p, r); err != nil {
		k.at(codeOf(err), where, "is %q: %v", name, err)
		return
	}
	k.checkProgram(p, r, where)
}

// searchPath looks a command up in PATH.
func (k *checker) searchPath(p *specs.Process, name, where string) {
	search := ""
	for _, e := range p.Env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			search = v
		}
	}
	if search == "" {
		k.at(FindingNoPath, where, "is %q, and /process/env has no PATH to look it up in", name)
		return
	}
	var miss, reason error
	missed := ""
	for dir := range strings.SplitSeq(search, ":") {
		if k.view.next() != nil {
			return
		}
		if !strings.HasPrefix(dir, "/") || len(dir) >= unix.PathMax {
			continue // what is found relative to the working directory is not executed (os/exec.ErrDot)
		}
		candidate := dir + "/" + name
		r, err := k.view.walk(candidate, walkLook)
		if err != nil {
			if why := k.coveredBy(candidate, err); why != "" && reason == nil {
				reason = errors.New(why)
			}
			continue
		}
		err = k.executable(p, r)
		if !r.unknown && err == nil {
			k.checkProgram(p, r, where)
		}
		r.close()
		switch {
		case r.unknown || err == nil:
			return
		case miss == nil:
			miss, missed = err, candidate
		}
	}
	shown := search
	if len(shown) > unix.PathMax {
		shown = shown[:unix.PathMax] + "..."
	}
	switch {
	case miss != nil:
		k.at(codeOf(miss), where, "is %q, and %s: %v", name, missed, miss)
	case reason != nil:
		k.at(FindingNotFound, where, "is %q, which is in no directory of PATH (%s): %v", name, shown, reason)
	default:
		k.at(FindingNotFound, where, "is %q, which is in no directory of PATH (%s)", name, shown)
	}
}

// absolute is a path of the container as seen from its working directory.
func (k *checker) absolute(name string) string {
	if strings.HasPrefix(name, "/") {
		return name
	}
	return strings.TrimSuffix(k.cwd, "/") + "/" + name
}

// whyNot says why a path is not found.
func (k *checker) whyNot(name string, err error) string {
	if why := k.coveredBy(name, err); why != "" {
		return why
	}
	if we, ok := errors.AsType[*walkError](err); ok && we.at != path.Clean(name) {
		return fmt.Sprintf("%s: %v", we.at, err)
	}
	return err.Error()
}

// coveredBy names the mount that hides a path of the rootfs.
func (k *checker) coveredBy(name string, err error) string {
	we, ok := errors.AsType[*walkError](err)
	if !ok || we.mount == 0 {
		return ""
	}
	bare, err := newView(k.rootfs, k.view.lookups).walk(name, walkLook)
	if err != nil {
		return ""
	}
	bare.close()
	m := k.view.mounts[we.mount]
	return fmt.Sprintf("the mount of %s on %s (%s) covers it", m.kind, m.target, pointer("mounts", m.index))
}

// permissionError is a file that is there and may not be executed.
type permissionError struct{ code, text string }

func (e *permissionError) Error() string { return e.text }

func codeOf(err error) string {
	if pe, ok := errors.AsType[*permissionError](err); ok {
		return pe.code
	}
	return FindingNotRunnable
}

// executable says why the user of the process cannot execute what a walk has ended at, if so.
func (k *checker) executable(p *specs.Process, r *resolved) error {
	if r.st.Mode&unix.S_IFMT != unix.S_IFREG || r.file == nil {
		return &permissionError{FindingNotFound, "it is not a regular file"}
	}
	for _, d := range r.dirs {
		if !k.allowed(p, &d.st) {
			return &permissionError{FindingNotRunnable, fmt.Sprintf("uid %d may not search %s (mode %04o)", p.User.UID, d.name, d.st.Mode&0o7777)}
		}
	}
	if !k.allowed(p, &r.st) {
		return &permissionError{FindingNotRunnable, fmt.Sprintf("uid %d may not execute it (mode %04o)", p.User.UID, r.st.Mode&0o7777)}
	}
	if m := k.view.mounts[r.mount]; m.noexec {
		if m.index < 0 {
			return &permissionError{FindingNoExec, "the bundle is on a filesystem that is mounted noexec"}
		}
		return &permissionError{FindingNoExec, fmt.Sprintf("%s is mounted noexec (%s)", m.target, pointer("mounts", m.index))}
	}
	return nil
}

// allowed tells whether the process may execute a file or search a directory (path_resolution(7), "Permissions").
// Access control lists are not looked at.
func (k *checker) allowed(p *specs.Process, st *unix.Stat_t) bool {
	dir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if !k.mapped {
		return dir || st.Mode&0o111 != 0
	}
	uid, ok := tarx.ToContainer(k.mapping.UIDMaps, st.Uid)
	gid, inGroup := tarx.ToContainer(k.mapping.GIDMaps, st.Gid)
	bit := uint32(0o001)
	switch {
	case ok && uint32(uid) == p.User.UID:
		bit = 0o100
	case inGroup && (uint32(gid) == p.User.GID || slices.Contains(p.User.AdditionalGids, uint32(gid))):
		bit = 0o010
	}
	if st.Mode&bit != 0 {
		return true
	}
	if !ok || !inGroup || p.Capabilities == nil || !dir && st.Mode&0o111 == 0 {
		return false
	}
	caps := p.Capabilities.Effective
	return slices.Contains(caps, "CAP_DAC_OVERRIDE") || dir && slices.Contains(caps, "CAP_DAC_READ_SEARCH")
}

// interpreterDepth is how many scripts may name each other as interpreters (fs/exec.c).
const interpreterDepth = 5

// checkProgram looks at what the kernel would find in the command.
func (k *checker) checkProgram(p *specs.Process, r *resolved, where string) {
	at, shown := r, r.name
	for depth := 0; ; depth++ {
		prog, err := k.read(at)
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
			return // to be executed is not to be read
		}
		if prog == nil {
			k.file(FindingUnreadable, shown, "cannot be read: %v", err)
			return
		}
		if err != nil && emulated(prog.head) {
			return
		}
		if err != nil {
			k.file(FindingFormat, shown, "cannot be executed: %v", err)
			return
		}
		if prog.machine != elf.EM_NONE && !slices.Contains(machines(), prog.machine) {
			if !emulated(prog.head) {
				k.file(FindingArchitecture, shown, "is a program for %s, and this host is %s", machineName(prog.machine), machineName(machines()[0]))
			}
			return
		}
		if prog.interpreter == "" {
			return
		}
		if depth == interpreterDepth {
			k.file(FindingInterpreter, shown, "is a script whose interpreters are scripts, too many of them")
			return
		}
		name := prog.interpreter
		if !strings.HasPrefix(name, "/") {
			if k.cwd == "" {
				return
			}
			name = k.absolute(name)
		}
		next, err := k.view.walk(name, walkLook)
		if err != nil {
			k.file(FindingInterpreter, shown, "needs the interpreter %q: %s", prog.interpreter, k.whyNot(name, err))
			return
		}
		defer next.close()
		if next.unknown {
			return
		}
		if err := k.executable(p, next); err != nil {
			k.file(FindingInterpreter, shown, "needs the interpreter %q: %v", prog.interpreter, err)
			return
		}
		if !prog.script {
			k.checkLoader(next, shown, prog)
			return
		}
		at, shown = next, next.name
	}
}

// checkLoader looks at the dynamic loader of an ELF program, which must be for the same machine.
func (k *checker) checkLoader(r *resolved, shown string, of *program) {
	prog, err := k.read(r)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return
	}
	if err == nil && prog.script {
		err = errFormat
	}
	switch {
	case err != nil:
		k.file(FindingInterpreter, shown, "needs the interpreter %q: %v", of.interpreter, err)
	case prog.machine != of.machine:
		k.file(FindingArchitecture, shown, "is a program for %s, and its interpreter %q is one for %s", machineName(of.machine), of.interpreter, machineName(prog.machine))
	}
}

// read reads the program that a walk has ended at.
func (k *checker) read(r *resolved) (p *program, err error) {
	defer func() { k.lookups.note(r.name, err) }()
	f, err := r.openFile()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readProgram(f)
}

func machineName(m elf.Machine) string {
	switch m {
	case elf.EM_X86_64:
		return "x86-64"
	case elf.EM_AARCH64:
		return "arm64"
	}
	return strings.TrimPrefix(m.String(), "EM_")
}
