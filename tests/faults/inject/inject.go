// Package inject runs a program and makes one of its system calls fail, or sends it a signal at one.
//
// Calls are counted by kind over all threads of the program and all processes that execute it, which a tracer that counts
// per thread cannot do. The kernel stops each call of that kind before it takes effect and asks here what is to become
// of it (SECCOMP_RET_USER_NOTIF in seccomp(2)). That takes root, and Linux 5.19.
//
// A program that uses this package is started anew as the process that becomes the one under test: its init does that.
package inject

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Command is a run of a program.
type Command struct {
	Path           string
	Args           []string // without the program's name
	Dir            string
	Env            []string
	UID, GID       int
	Stdin          []byte        // by a pipe, whose end comes behind it
	Pause          time.Duration // in the middle of Stdin
	Stdout, Stderr *os.File      // nil: a pipe, see Result
	Close          []int         // descriptors to be closed: 0, 1 or 2
	Ignored        []syscall.Signal
	Limits         map[int]uint64 // setrlimit(2)
	Cgroup         string         // directory of the control group to run in
	Patience       time.Duration  // how long the run may take before it counts as hung
	Grace          time.Duration  // how long after it its processes may be there before they count as left

	// Record reports every call but those of the runtime for itself. Without it and without a Fault nothing is reported.
	Record bool
	Fault  *Fault
	// After sends Signal so long after the program's execve(2), where it is not 0, or calls Do.
	After  time.Duration
	Signal syscall.Signal
	Do     func()
	// Group sends signals to the process group, as a terminal does, and else to the process that was started.
	Group bool
}

// Fault is what becomes of a call.
type Fault struct {
	Kind  Kind
	Nth   int // from 1
	Errno syscall.Errno
	// On lets all later calls of the kind fail, too. With EMFILE the process may have no more descriptors than it has at the
	// call, so that one can be opened where another was closed.
	On bool
	// Signal is sent instead, or Do called, and the call goes on.
	Signal syscall.Signal
	Do     func()
}

// Call is one that was reported.
type Call struct {
	Kind Kind // Name is empty where it is not known
	Args string
	FD   int // the first argument, where it is a file's descriptor; else -1
	// UserNamespace: it makes a process in a user namespace of its own.
	UserNamespace bool
	// Early: the Go runtime of the process was still starting, or initializing packages, and main had not run. Only signals
	// and what the runtime needs for itself, memory and threads, are looked at.
	Early bool
}

func (c Call) String() string { return c.Kind.Name + "(" + c.Args + ")" }

// Result is what came of a run.
type Result struct {
	Code           int            // exit status; 128 + the signal's number where one ended it
	Signal         syscall.Signal // that ended it
	Stdout, Stderr []byte
	Hung           bool // it was killed for not ending
	Left           bool // processes of it were there after its end, and were killed
	Hit            *Call
	Calls          []Call // with Record
	Took           time.Duration
}

// Run runs the command to its end. Its error is one of the tests' machine, not of the program.
func Run(c Command) (*Result, error) {
	r := &run{command: c, started: map[int]int{}}
	if err := r.start(); err != nil {
		return nil, fmt.Errorf("run %s under control: %w", c.Path, err)
	}
	return r.wait()
}

type run struct {
	command  Command
	path     string // of the program, as /proc has it
	cmd      *exec.Cmd
	result   Result
	listener int // -1: none
	ended    atomic.Bool
	answered sync.WaitGroup
	piped    sync.WaitGroup
	began    time.Time
	count    int
	started  map[int]int // how often each process has made one of the calls firstOwn
}

// firstOwn are the first calls that are not the Go runtime's: package os asks for the limit of open files when it is
// initialized, and main for the room that limits leave when it has begun to watch signals. Which of the two it takes,
// depends on the architecture.
var firstOwn = []int{unix.SYS_PRLIMIT64, unix.SYS_GETRLIMIT}

// process is the process that a thread belongs to.
func process(thread uint32) int {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", thread))
	_, after, _ := bytes.Cut(status, []byte("\nTgid:"))
	line, _, _ := bytes.Cut(after, []byte("\n"))
	pid, _ := strconv.Atoi(string(bytes.TrimSpace(line)))
	return pid
}

func (r *run) start() error {
	c := &r.command
	var err error
	if r.path, err = filepath.EvalSymlinks(c.Path); err != nil {
		return err
	}
	t := target{Path: c.Path, Args: append([]string{"ocibundle"}, c.Args...), Close: c.Close, Ignored: c.Ignored,
		Limits: c.Limits, Cgroup: c.Cgroup, UID: c.UID, GID: c.GID}
	switch {
	case c.Record:
		t.Calls, t.Others = quiet, true
	case c.Fault != nil:
		t.Calls = append([]int{c.Fault.Kind.Number}, firstOwn...)
	}
	text, err := json.Marshal(t)
	if err != nil {
		return err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "listener"), os.NewFile(uintptr(pair[1]), "listener")
	defer ours.Close()
	defer theirs.Close()
	r.cmd = &exec.Cmd{Path: "/proc/self/exe", Args: []string{targetName, string(text)}, Dir: c.Dir, Env: c.Env,
		ExtraFiles: []*os.File{theirs}, SysProcAttr: &syscall.SysProcAttr{Setpgid: true}}
	closeTheirs, err := r.pipes()
	if err != nil {
		return err
	}
	r.began = time.Now()
	err = r.cmd.Start()
	closeTheirs()
	if err != nil {
		return err
	}
	theirs.Close()
	r.listener = -1
	if t.Calls != nil {
		if r.listener, err = receive(ours); err != nil {
			r.cmd.Wait()
			r.piped.Wait()
			return fmt.Errorf("%w: %s", err, r.result.Stderr)
		}
		r.answered.Add(1)
		go r.answer()
	}
	if c.After != 0 {
		ours.Read(make([]byte, 1)) // its other end closes with the execve: what is sent before would be lost
	}
	return nil
}

// pipes makes the program's standard files. What it returns closes its ends.
func (r *run) pipes() (closeTheirs func(), err error) {
	var theirs []*os.File
	closeTheirs = func() {
		for _, f := range theirs {
			f.Close()
		}
	}
	in, feed, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	theirs = append(theirs, in)
	r.cmd.Stdin = in
	r.piped.Add(1)
	go func() {
		defer r.piped.Done()
		defer feed.Close()
		half := len(r.command.Stdin) / 2
		feed.Write(r.command.Stdin[:half]) // who does not read it has a reason
		time.Sleep(r.command.Pause)
		feed.Write(r.command.Stdin[half:])
	}()
	out := func(given *os.File, to *[]byte) (io.Writer, error) {
		if given != nil {
			return given, nil
		}
		read, write, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		theirs = append(theirs, write)
		r.piped.Add(1)
		go func() {
			defer r.piped.Done()
			*to, _ = io.ReadAll(read)
			read.Close()
		}()
		return write, nil
	}
	if r.cmd.Stdout, err = out(r.command.Stdout, &r.result.Stdout); err == nil {
		r.cmd.Stderr, err = out(r.command.Stderr, &r.result.Stderr)
	}
	if err != nil {
		closeTheirs()
		return nil, err
	}
	return closeTheirs, nil
}

// receive takes the listener from the target.
func receive(socket *os.File) (int, error) {
	space := make([]byte, unix.CmsgSpace(4))
	for {
		_, n, _, _, err := unix.Recvmsg(int(socket.Fd()), make([]byte, 1), space, unix.MSG_CMSG_CLOEXEC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return -1, err
		}
		messages, err := unix.ParseSocketControlMessage(space[:n])
		if err != nil || len(messages) == 0 {
			return -1, errors.New("the target ended early")
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil {
			return -1, err
		}
		return fds[0], nil
	}
}

// wait waits for the end of the program and of all that it started.
func (r *run) wait() (*Result, error) {
	c, pid := &r.command, r.cmd.Process.Pid
	ended := make(chan error, 1)
	go func() { ended <- r.cmd.Wait() }()
	signal := make(<-chan time.Time)
	if c.After != 0 {
		signal = time.After(c.After)
	}
	var err error
	patience := time.NewTimer(c.Patience)
	defer patience.Stop()
	for running := true; running; {
		select {
		case err = <-ended:
			running = false
		case <-signal:
			r.send(c.Signal, c.Do)
		case <-patience.C:
			r.result.Hung = true
			unix.Kill(-pid, unix.SIGKILL)
		}
	}
	r.result.Took = time.Since(r.began)
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		return nil, err
	}
	r.result.Left = !gone(pid, c.Grace)
	r.ended.Store(true)
	r.answered.Wait()
	r.piped.Wait()
	status := r.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		r.result.Signal, r.result.Code = status.Signal(), 128+int(status.Signal())
	} else {
		r.result.Code = status.ExitStatus()
	}
	return &r.result, nil
}

// gone waits until the process group is empty. What is there after the given time is killed.
func gone(group int, patience time.Duration) bool {
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		if unix.Kill(-group, 0) == unix.ESRCH {
			return true
		}
		if time.Since(start) > patience {
			unix.Kill(-group, unix.SIGKILL)
			return false
		}
	}
}

// send sends a signal, or does what is to be done instead.
func (r *run) send(s syscall.Signal, do func()) {
	if do != nil {
		do()
		return
	}
	pid := r.cmd.Process.Pid
	if r.command.Group {
		pid = -pid
	}
	unix.Kill(pid, s)
}

// notification and response are struct seccomp_notif and seccomp_notif_resp of linux/seccomp.h.
type notification struct {
	id         uint64
	pid, flags uint32
	call       int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type response struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// answer decides about every call that is reported, until no process is left that could make one.
func (r *run) answer() {
	defer r.answered.Done()
	defer unix.Close(r.listener)
	poll := []unix.PollFd{{Fd: int32(r.listener), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(poll, 20); err != nil && err != unix.EINTR {
			return
		}
		switch {
		case poll[0].Revents&unix.POLLIN != 0:
			var n notification
			if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(r.listener), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); errno != 0 {
				continue // who asked has been killed
			}
			answer := response{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
			if errno := r.decide(&n); errno != 0 {
				answer.flags, answer.errno = 0, -int32(errno)
			}
			unix.Syscall(unix.SYS_IOCTL, uintptr(r.listener), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&answer)))
		case poll[0].Revents&unix.POLLHUP != 0, r.ended.Load():
			return
		}
	}
}

// decide returns the error for a call, or 0 to let it be.
func (r *run) decide(n *notification) syscall.Errno {
	c := &r.command
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", n.pid)); err != nil || exe != r.path {
		return 0 // a helper program's, or the target's own
	}
	if c.Record {
		r.result.Calls = append(r.result.Calls, describe(n))
		return 0
	}
	if slices.Contains(firstOwn, int(n.call)) && int(n.call) != c.Fault.Kind.Number {
		if n.call == unix.SYS_GETRLIMIT || n.args[2] == 0 { // it asks, and sets none
			r.started[process(n.pid)]++
		}
		return 0
	}
	call := describe(n)
	if errno := c.Fault.Errno; errno != 0 && !call.Fits(errno) {
		return 0
	}
	r.count++
	if r.count < c.Fault.Nth || r.count > c.Fault.Nth && !c.Fault.On {
		return 0
	}
	if r.count == c.Fault.Nth {
		switch {
		case c.Fault.Signal != 0, n.call == unix.SYS_MMAP, n.call == unix.SYS_MPROTECT, n.call == unix.SYS_CLONE:
			call.Early = r.started[process(n.pid)] < mainRuns
		}
		r.result.Hit = &call
	}
	if c.Fault.Signal != 0 || c.Fault.Do != nil {
		r.send(c.Fault.Signal, c.Fault.Do)
	}
	if c.Fault.On && c.Fault.Errno == unix.EMFILE {
		if r.count == c.Fault.Nth {
			limitFiles(int(n.pid))
		}
		return 0 // the kernel says it
	}
	return c.Fault.Errno
}

// mainRuns is how often a process has made one of the calls firstOwn when main runs in it.
const mainRuns = 2

// limitFiles leaves a process no more descriptors than it has.
func limitFiles(pid int) {
	l := unix.Rlimit{Cur: 3} // a stream that has been closed leaves room
	for {                    // to the first that is not in use
		if _, err := os.Lstat(fmt.Sprintf("/proc/%d/fd/%d", pid, l.Cur)); err != nil {
			break
		}
		l.Cur++
	}
	var now unix.Rlimit
	if unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &now) == nil {
		l.Max = now.Max
		unix.Prlimit(pid, unix.RLIMIT_NOFILE, &l, nil)
	}
}

// Fits says that a call can fail with an error: one that its kind has, unless it belongs to other operations of that kind.
// A descriptor that only the runtime knows has no errors.
func (c Call) Fits(errno syscall.Errno) bool {
	if strings.HasPrefix(c.Args, "pipe:") && (c.Kind.Name == "close" || c.Kind.Name == "read" && c.FD > 2) {
		// The injected call does not close, and who reads would wait for ever. Reading fails for no pipe; if it did,
		// syscall.forkExec would wait for the child, which waits for its parent.
		return false
	}
	return slices.Contains(c.Kind.Errnos, errno) && !strings.HasPrefix(c.Args, "anon_inode:")
}

// errnos are the errors of a call's operation, where not all of its kind's are.
func errnos(k Kind, n *notification) []syscall.Errno {
	operation, all := n.args[1], k.Errnos
	switch n.call {
	case unix.SYS_OPENAT:
		if n.args[2]&unix.O_CREAT == 0 {
			return slices.DeleteFunc(slices.Clone(all), func(e syscall.Errno) bool { return e == unix.ENOSPC || e == unix.EDQUOT })
		}
	case unix.SYS_FCNTL:
		if operation != unix.F_DUPFD && operation != unix.F_DUPFD_CLOEXEC {
			return nil
		}
	case unix.SYS_EPOLL_CTL:
		if operation != unix.EPOLL_CTL_ADD {
			return nil
		}
	case unix.SYS_PRLIMIT64:
		if asks := n.args[2] == 0; asks {
			return nil
		}
	case unix.SYS_PRCTL:
		if n.args[0] != unix.PR_CAP_AMBIENT {
			return nil
		}
	case unix.SYS_CLONE, unix.SYS_CLONE3:
		if !userNamespace(n) {
			return []syscall.Errno{unix.EAGAIN, unix.ENOMEM}
		}
	}
	return all
}

func userNamespace(n *notification) bool {
	return n.call == unix.SYS_CLONE && n.args[0]&unix.CLONE_NEWUSER != 0
}

// describe reads a call's arguments out of the process that makes it.
func describe(n *notification) Call {
	c := Call{Kind: Kind{Number: int(n.call)}, FD: -1}
	for _, k := range Kinds {
		if k.Number == int(n.call) {
			c.Kind = k
		}
	}
	c.Kind.Errnos = errnos(c.Kind, n)
	var words []string
	for i, a := range c.Kind.args {
		switch a {
		case 'f':
			c.FD = int(int32(n.args[i]))
			link, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", n.pid, int32(n.args[i])))
			words = append(words, link)
		case 'd':
			if link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", n.pid, int32(n.args[i]))); err == nil {
				words = append(words, link+"/")
			} else {
				words = append(words, "")
			}
		case 'p':
			path := text(int(n.pid), uintptr(n.args[i]))
			if i > 0 && c.Kind.args[i-1] == 'd' {
				if !strings.HasPrefix(path, "/") {
					path = words[len(words)-1] + path
				}
				words = words[:len(words)-1]
			}
			words = append(words, path)
		}
	}
	c.Args = strings.Join(words, ", ")
	switch {
	case userNamespace(n):
		c.UserNamespace, c.Args = true, "process in a user namespace"
	case n.call == unix.SYS_CLONE && n.args[0]&unix.CLONE_THREAD == 0:
		c.Args = "process"
	}
	return c
}

// text reads a string that ends with a NUL out of a process.
func text(pid int, at uintptr) string {
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return ""
	}
	defer mem.Close()
	buf := make([]byte, unix.PathMax)
	n, _ := mem.ReadAt(buf, int64(at))
	s, _, _ := bytes.Cut(buf[:n], []byte{0})
	return string(s)
}
