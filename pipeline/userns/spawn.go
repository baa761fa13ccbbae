package userns

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// The inner process knows itself by this variable: "PPID:STATEFD:ANSWERFD". It is gone before main starts.
const marker = "_OCIBUNDLE_USERNS"

// neededCaps are the capabilities that the inner process works with. They are made ambient (capabilities(7)), because
// the program is executed before its ids are mapped, and only ambient ones outlive that. A second execve, after the maps
// are written, would give them too, but not to a caller with no_new_privs.
var neededCaps = []uintptr{
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_SETFCAP,
}

// answer is what the inner process says: an empty one when it is there, and one about whether the namespace serves when
// its ids are mapped.
type answer struct {
	Errno  syscall.Errno // of the operation that was refused
	Failed string        // what was tried; empty: nothing failed
}

// spawn runs this program again in a user namespace with the ids s.Namespace, and waits for it. It returns *Exited, or
// an *Error where the namespace could not be had, in which case the inner process has done nothing.
func spawn(ctx context.Context, c caller, s State) error {
	// The death signal of the child comes when the thread that made it ends (prctl(2), PR_SET_PDEATHSIG).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	stateR, stateW, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	defer stateR.Close()
	defer stateW.Close()
	answerR, answerW, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	defer answerR.Close()
	defer answerW.Close()

	cmd := exec.Command("/proc/self/exe")
	cmd.Args = os.Args
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// Not through ExtraFiles: the pipes keep their numbers, since 3 and up may be files of the user's (`-i /dev/fd/3`).
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d:%d:%d", marker, os.Getpid(), stateR.Fd(), answerW.Fd()))
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		AmbientCaps: neededCaps,
		Pdeathsig:   syscall.SIGKILL,
	}

	// From here on no signal may end this process without the child: the inner one decides.
	signals := make(chan os.Signal, 16)
	forwarded := slices.DeleteFunc(slices.Clone(forwardable), signal.Ignored) // nohup(1) stays in force, for both
	signal.Notify(signals, forwarded...)
	defer signal.Stop(signals)

	if err := startWith(cmd, stateR, answerW); err != nil {
		return forbidden(err)
	}
	stateR.Close()
	answerW.Close()
	abandon := func(err error) error {
		cmd.Process.Kill()
		cmd.Wait()
		signal.Stop(signals) // what has arrived is delivered now
		select {
		case sig := <-signals: // a terminal sends it to a helper too, which then fails
			number := sig.(syscall.Signal)
			return &Exited{Code: 128 + int(number), Signal: number}
		default:
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	answers := json.NewDecoder(answerR)
	var a answer
	if err := answers.Decode(&a); err != nil { // its files in /proc are ours now
		return abandon(fmt.Errorf("start inner process: %w", err))
	}
	if err := writeMaps(ctx, c, cmd.Process.Pid, s.Namespace); err != nil {
		return abandon(err)
	}
	if err := json.NewEncoder(stateW).Encode(s); err != nil {
		return abandon(fmt.Errorf("send state to inner process: %w", err))
	}
	stateW.Close()
	if err := answers.Decode(&a); err != nil {
		return abandon(fmt.Errorf("start inner process: %w", err))
	}
	if a.Failed != "" {
		return abandon(forbidden(fmt.Errorf("%s: %w", a.Failed, a.Errno)))
	}
	return wait(ctx, cmd, signals, forwarded)
}

// forwardable are the signals that end or steer a filter. Those that a terminal sends reach the inner process twice,
// since both processes are in the foreground group.
var forwardable = []os.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGTERM, syscall.SIGXCPU, syscall.SIGUSR1,
	syscall.SIGUSR2, syscall.SIGALRM,
}

// startWith starts cmd with the files inherited at the numbers they have. So would any other process that is started
// meanwhile, which is one reason why Enter wants nothing else to run.
func startWith(cmd *exec.Cmd, files ...*os.File) error {
	for _, f := range files {
		unix.FcntlInt(f.Fd(), unix.F_SETFD, 0)
	}
	defer func() {
		for _, f := range files {
			unix.CloseOnExec(int(f.Fd()))
		}
	}()
	return cmd.Start()
}

func wait(ctx context.Context, cmd *exec.Cmd, signals chan os.Signal, forwarded []os.Signal) error {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	done := ctx.Done()
	for {
		select {
		case sig := <-signals:
			cmd.Process.Signal(sig)
			done = nil // a second signal could overtake this one
		case <-done:
			done = nil
			// The caller's context often ends by the very signal that is forwarded here. After Stop none is under way.
			signal.Stop(signals)
			if len(signals) == 0 {
				cmd.Process.Signal(signalOf(context.Cause(ctx)))
			}
			signal.Notify(signals, forwarded...)
		case err := <-ended:
			if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
				return fmt.Errorf("wait for inner process: %w", err)
			}
			status := cmd.ProcessState.Sys().(syscall.WaitStatus)
			if status.Signaled() {
				return &Exited{Code: 128 + int(status.Signal()), Signal: status.Signal()}
			}
			return &Exited{Code: status.ExitStatus()}
		}
	}
}

// signalOf is the signal that err, the end of a context, tells of: one that came before they were forwarded.
func signalOf(err error) syscall.Signal {
	type signalled interface {
		error
		Signal() syscall.Signal
	}
	if s, ok := errors.AsType[signalled](err); ok {
		return s.Signal()
	}
	return syscall.SIGTERM
}

// writeMaps gives the namespace of pid its ids. A map of one line, the caller's own, needs no helper; setgroups(2) has
// to be given up for it first (user_namespaces(7)).
func writeMaps(ctx context.Context, c caller, pid int, ns user.IdentityMapping) error {
	if len(ns.UIDMaps) == 1 && len(ns.GIDMaps) == 1 {
		dir := fmt.Sprintf("/proc/%d/", pid)
		for _, w := range []struct{ file, text string }{
			{"setgroups", "deny"}, {"uid_map", mapLine(ns.UIDMaps[0])}, {"gid_map", mapLine(ns.GIDMaps[0])},
		} {
			err := os.WriteFile(dir+w.file, []byte(w.text), 0)
			if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
				return forbidden(err)
			}
			if err != nil {
				return fmt.Errorf("write id maps: %w", err)
			}
		}
		return nil
	}
	// Neither needs the other, and each takes its time.
	gids := make(chan error, 1)
	go func() { gids <- runHelper(ctx, "newgidmap", c.newgidmap, pid, ns.GIDMaps) }()
	err := runHelper(ctx, "newuidmap", c.newuidmap, pid, ns.UIDMaps)
	return cmp.Or(err, <-gids)
}

func runHelper(ctx context.Context, name, path string, pid int, maps []user.IDMap) error {
	args := []string{strconv.Itoa(pid)}
	for _, m := range maps {
		args = append(args, strconv.FormatInt(m.ID, 10), strconv.FormatInt(m.ParentID, 10), strconv.FormatInt(m.Count, 10))
	}
	cmd := exec.CommandContext(ctx, path, args...)
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		return nil
	case !ranOrMayNotRun(err): // the helper is not at fault
		return fmt.Errorf("run %s: %w", name, err)
	default:
		said := strings.Join(strings.Fields(string(bytes.ToValidUTF8(out, []byte("?")))), " ")
		said = strings.TrimPrefix(said, name+": ")
		if set, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err == nil && set == 1 {
			said += " (no_new_privs is set, so it has no privilege)"
		}
		return &Error{Kind: KindRefused, Subject: name, Detail: said, Err: err}
	}
}

// ranOrMayNotRun tells whether a command has said no, or is a file that this caller cannot execute (execve(2)).
func ranOrMayNotRun(err error) bool {
	_, ran := errors.AsType[*exec.ExitError](err)
	return ran || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOEXEC)
}

// forbidden names the likeliest reason why the kernel refused a user namespace.
func forbidden(err error) error {
	e := &Error{Kind: KindForbidden, Err: err}
	if pe, ok := errors.AsType[*os.PathError](err); ok && pe.Op == "fork/exec" { // the program is not at fault
		e.Err = pe.Err
	}
	sysctl := func(name, bad, why string) bool {
		v, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
		if err != nil || strings.TrimSpace(string(v)) != bad {
			return false
		}
		e.Subject, e.Detail = name, fmt.Sprintf("%s is %s%s", name, bad, why)
		return true
	}
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EUSERS):
		if !sysctl("user.max_user_namespaces", "0", "") {
			e.Subject, e.Detail = "user.max_user_namespaces", "too many user namespaces, or too deep"
		}
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		e.Subject, e.Detail = "kernel", "the kernel has no user namespaces"
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		if sysctl("kernel.unprivileged_userns_clone", "0", "") || sysctl("kernel.apparmor_restrict_unprivileged_userns", "1", "") {
			break
		}
		if status, err := os.ReadFile("/proc/self/status"); err == nil && bytes.Contains(status, []byte("\nSeccomp:\t2\n")) {
			e.Subject, e.Detail = "seccomp", "a seccomp filter is in force, as in a container"
			break
		}
		e.Detail = "a chroot or a security module can be the reason"
	default:
		return fmt.Errorf("start inner process: %w", err)
	}
	return e
}

// inner is the State of a process that spawn started; nil in every other.
var inner *State

// quit keeps SIGQUIT in the inner process until main takes it: the Go runtime would answer it with its stacks.
var quit = make(chan os.Signal, 1)

// init stops a process that spawn started until its ids are mapped, before main or anything else can act: what it would
// do before then it would do as nobody. It runs on the first thread, which the Go runtime never ends, so the death
// signal set here, which belongs to a thread, stays.
func init() {
	value, ok := os.LookupEnv(marker)
	if !ok {
		return
	}
	os.Unsetenv(marker)
	var parent, stateFD, answerFD int
	if n, err := fmt.Sscanf(value, "%d:%d:%d", &parent, &stateFD, &answerFD); n != 3 || err != nil {
		return // somebody else's variable
	}
	// Without its parent this process has no one to report to: it ends as the kernel would have ended it.
	die := func() { unix.Kill(unix.Getpid(), unix.SIGKILL) }
	if !signal.Ignored(unix.SIGQUIT) {
		signal.Notify(quit, unix.SIGQUIT)
	}
	if !isPipe(stateFD) || !isPipe(answerFD) {
		if unix.Getppid() == parent {
			die() // spawn made this process, and what it made for it does not work: never act as the outer one
		}
		return // a variable that somebody has kept
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil || unix.Getppid() != parent {
		die()
	}
	name, _ := unix.BytePtrFromString(filepath.Base(os.Args[0])) // ps(1) would show "exe"
	unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(name)), 0, 0, 0)
	unix.CloseOnExec(stateFD)
	unix.CloseOnExec(answerFD)
	stateR, answerW := os.NewFile(uintptr(stateFD), "state"), os.NewFile(uintptr(answerFD), "answer")
	defer stateR.Close()
	defer answerW.Close()
	answers := json.NewEncoder(answerW)
	// /proc/PID/uid_map of a program that its user may run but not read is root's, unless the program says otherwise
	// (PR_SET_DUMPABLE in prctl(2)).
	if err := errors.Join(unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0), answers.Encode(answer{})); err != nil {
		die()
	}
	text, err := io.ReadAll(stateR)
	if err != nil {
		die()
	}
	s := new(State)
	if err := json.Unmarshal(text, s); err != nil {
		die() // the outer process gave up, or is gone
	}
	a := probe(*s)
	if err := answers.Encode(a); err != nil || a.Failed != "" {
		die()
	}
	inner = s
}

func isPipe(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO
}

// probe tries what the namespace is for. Some policies let anybody make a user namespace and then deny every capability
// in it (Ubuntu's kernel.apparmor_restrict_unprivileged_userns).
func probe(s State) answer {
	if os.Geteuid() != 0 || os.Getegid() != 0 {
		return answer{Failed: "become root of the user namespace", Errno: unix.EPERM}
	}
	fd, err := unix.MemfdCreate("probe", unix.MFD_CLOEXEC)
	if err != nil {
		return answer{} // no file to try it on says nothing
	}
	defer unix.Close(fd)
	failed := func(what string, err error) (answer, bool) {
		errno, _ := errors.AsType[syscall.Errno](err)
		return answer{Failed: what, Errno: errno}, errno == unix.EPERM || errno == unix.EACCES
	}
	if uids := s.Namespace.UIDMaps; len(uids) > 1 {
		if a, denied := failed("change owner in the user namespace", unix.Fchown(fd, int(uids[1].ID), -1)); denied {
			return a
		}
		unix.Fchown(fd, 0, -1)
	}
	if a, denied := failed("set file capability in the user namespace", unix.Fsetxattr(fd, "security.capability", emptyCaps, 0)); denied {
		return a
	}
	return answer{}
}

// emptyCaps is a security.capability of version 2 that grants nothing (struct vfs_cap_data in linux/capability.h).
var emptyCaps = append([]byte{0, 0, 0, 2}, make([]byte, 16)...)
