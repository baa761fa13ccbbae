package inject

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// targetName is what the process is called that becomes the program: this one, started anew.
const targetName = "ocibundle-test-target"

// listenerSocket is the descriptor by which the target hands out its listener.
const listenerSocket = 3

// target is what a process does to itself before it becomes the program.
type target struct {
	Path     string
	Args     []string
	Close    []int
	Ignored  []syscall.Signal
	Limits   map[int]uint64
	Cgroup   string
	UID, GID int
	// Calls are the numbers of those that are reported, or with Others those that are not.
	Calls  []int
	Others bool
}

func init() {
	if os.Args[0] == targetName {
		err := becomeProgram(os.Args[1])
		fmt.Fprintln(os.Stderr, targetName+":", err)
		os.Exit(127)
	}
}

// becomeProgram ends in execve(2). The filter belongs to the thread that installs it, and to the program; this
// process's other threads end with the execve.
func becomeProgram(text string) error {
	runtime.LockOSThread()
	var t target
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return err
	}
	unix.CloseOnExec(listenerSocket)
	if t.Cgroup != "" {
		if err := os.WriteFile(t.Cgroup+"/cgroup.procs", []byte("0"), 0); err != nil {
			return err
		}
	}
	// What is caught here has its default action after the execve, whatever this process was started with.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGPIPE)
	for _, s := range t.Ignored {
		signal.Ignore(s)
	}
	path, err := unix.BytePtrFromString(t.Path)
	if err != nil {
		return err
	}
	argv, err := syscall.SlicePtrFromStrings(t.Args)
	if err != nil {
		return err
	}
	envv, err := syscall.SlicePtrFromStrings(os.Environ())
	if err != nil {
		return err
	}
	for _, fd := range t.Close {
		unix.Close(fd)
	}
	if t.Calls != nil || t.Others {
		if err := listen(t.Calls, t.Others); err != nil {
			return err
		}
	}
	for resource, n := range t.Limits {
		if err := syscall.Setrlimit(resource, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
			return fmt.Errorf("set limit %d: %w", resource, err)
		}
	}
	// Of this thread alone: it is the one that becomes the program.
	if t.UID != 0 {
		for _, c := range [][4]uintptr{
			{unix.SYS_SETGROUPS, 0, 0, 0},
			{unix.SYS_SETRESGID, uintptr(t.GID), uintptr(t.GID), uintptr(t.GID)},
			{unix.SYS_SETRESUID, uintptr(t.UID), uintptr(t.UID), uintptr(t.UID)},
		} {
			if _, _, errno := unix.RawSyscall(c[0], c[1], c[2], c[3]); errno != 0 {
				return fmt.Errorf("become another user: %w", errno)
			}
		}
	}
	_, _, errno := unix.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envv[0])))
	return fmt.Errorf("execute %q: %w", t.Path, errno)
}

// listen installs the filter and sends its listener to the process that answers. Until then a call of a reported kind
// would wait for ever, so sendmsg(2) is not one to be reported.
func listen(calls []int, others bool) error {
	const loadCall = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS // the call's number is the first word of struct seccomp_data
	filter := []unix.SockFilter{{Code: loadCall}}
	listed, unlisted := uint32(unix.SECCOMP_RET_USER_NOTIF), uint32(unix.SECCOMP_RET_ALLOW)
	if others {
		listed, unlisted = unlisted, listed
		calls = append(calls, unix.SYS_SENDMSG, unix.SYS_EXECVEAT)
	}
	for i, nr := range calls {
		filter = append(filter, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: uint8(len(calls) - i), K: uint32(nr)})
	}
	filter = append(filter,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unlisted},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: listed})
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// A signal that does not kill waits until the call is answered: else the call would be counted twice.
	flags := uintptr(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("install the filter: %w", errno)
	}
	if err := unix.Sendmsg(listenerSocket, []byte{0}, unix.UnixRights(int(fd)), nil, 0); err != nil {
		return fmt.Errorf("send the listener: %w", err)
	}
	return nil
}
