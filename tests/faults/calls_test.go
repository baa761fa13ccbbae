package faults

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/tests/faults/inject"
)

// calls are the trials in which a system call fails: every one of every command, one at a time, with each error that it
// can have. Errors that stay come once more, for that call and all later ones of its kind.
func calls(t *testing.T, w *world) (trials []*trial) {
	w.every(func(who *identity, c *command, ref *reference) {
		seen := map[string]int{}
		for _, call := range ref.calls {
			for _, errno := range call.Kind.Errnos {
				if !call.Fits(errno) || errno == unix.EPIPE && call.FD != 1 && call.FD != 2 {
					continue // only readers go away
				}
				name := call.Kind.Name + unix.ErrnoName(errno)
				seen[name]++
				if process.MatchString(call.Args) {
					what := name + process.ReplaceAllString(call.Args, "")
					if seen[what]++; seen[what] > 2 {
						continue // the processes of this machine, looked at one after the other
					}
				}
				fault := inject.Fault{Kind: call.Kind, Nth: seen[name], Errno: errno}
				trials = append(trials, failing(who, c, ref, fault))
				if stays(errno) {
					fault.On = true
					trials = append(trials, failing(who, c, ref, fault))
				}
			}
		}
	})
	return trials
}

// process is a process's directory in /proc.
var process = regexp.MustCompile(`/proc/\d+/`)

// idMap is what gives a user namespace its ids.
var idMap = regexp.MustCompile(`^/proc/\d+/(setgroups|[ug]id_map)$`)

// stays says that who meets the error is likely to meet it again.
func stays(errno syscall.Errno) bool {
	return slices.Contains([]syscall.Errno{unix.ENOSPC, unix.EMFILE, unix.EROFS, unix.EPIPE}, errno)
}

func failing(who *identity, c *command, ref *reference, fault inject.Fault) *trial {
	on := ""
	if fault.On {
		on = "+"
	}
	errno := unix.ErrnoName(fault.Errno)
	return &trial{who: who, c: c, ref: ref, kind: fault.Kind.Name + " " + errno,
		fault: fmt.Sprintf("%s/%d%s/%s", fault.Kind.Name, fault.Nth, on, errno),
		arrange: func(_ *scene, cmd *inject.Command) (func(), error) {
			cmd.Fault = &fault
			return nil, nil
		},
		must:   func(res *inject.Result) bool { return res.Hit != nil },
		expect: func(res *inject.Result) expectation { return expectFailure(c, ref, &fault, res.Hit) },
	}
}

// expectFailure says what may come of a call that fails.
func expectFailure(c *command, ref *reference, fault *inject.Fault, hit *inject.Call) expectation {
	errno := fault.Errno
	e := expectation{codes: []int{1}, says: errno.Error(), early: hit.Early, beyond: ofRuntime(fault.Kind.Name)}
	if !isIO(errno) {
		e.codes, e.lossy = append(e.codes, 2), true
		switch {
		case c.name == "check":
			e.codes = append(e.codes, 3)
		case c.does == makes, c.does == removes && errno == unix.EBUSY:
			e.codes = append(e.codes, 5)
		}
		if errno != unix.EACCES && errno != unix.EPERM {
			e.says = "" // what it means is said instead
		}
	}
	switch {
	case c.name == "check" && (slices.Contains([]string{"execve", "capset", "fchown", "fsetxattr", "prctl"}, fault.Kind.Name) || idMap.MatchString(hit.Args)):
		e.says = "" // check makes them for a user namespace alone: a finding that there is none to be had
	case hit.UserNamespace:
		e.codes, e.says, e.lossy = append(e.codes, 2), "", true
		if c.name == "check" {
			e.codes = append(e.codes, 3) // that there is none to be had is a finding
		}
	case !strings.HasPrefix(fault.Kind.Name, "write"):
	case hit.FD == 2:
		e.codes, e.mute = []int{ref.code}, true
	case hit.FD == 1 && c.does != looks:
		e.codes, e.deaf = []int{0}, true // "once the bundle is there the exit is 0"
	case hit.FD == 1 && errno == unix.EPIPE:
		e.codes, e.says, e.silent = append(e.codes, 128+int(unix.SIGPIPE)), "", true
	}
	if fault.On && strings.HasPrefix(fault.Kind.Name, "write") {
		e.mute, e.deaf = true, c.does != looks // what is written to stderr and stdout fails as well
	}
	if fault.Kind.Name == "fsetxattr" && errno == unix.ENOSPC {
		e.lossy = true // on a disk that is not full: the inode has no room for it (see tarx.XattrTooLarge)
	}
	if errno == unix.EACCES && slices.Contains([]string{"/etc/hosts", "/etc/resolv.conf"}, hit.Args) {
		e.adapts = true // a hosts or resolv.conf that cannot be seen is none
	}
	if strings.HasPrefix(hit.Args, "pipe:") && hit.FD > 2 {
		e.says = "" // between two processes of the program: the one that fails cannot say why
	}
	return e
}

// ofRuntime says that a call is one that the Go runtime makes for itself, at a moment of its own choice, and cannot do
// without. The program sees to it beforehand that there is room (see host.CheckRoom); a kernel that refuses a thread
// without any limit is out of memory.
func ofRuntime(call string) bool {
	return slices.Contains([]string{"mmap", "mprotect", "clone", "epoll_create1", "eventfd2", "epoll_ctl"}, call)
}

// isIO says that an error comes from a device or a limit, and means nothing else.
func isIO(errno syscall.Errno) bool {
	return slices.Contains([]syscall.Errno{unix.EIO, unix.ENOSPC, unix.EDQUOT, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EROFS,
		unix.ENOLCK, unix.EFBIG, unix.EAGAIN}, errno)
}
