package host

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// What a run needs beside what the process has when it starts. A user namespace takes a second process, and the helpers
// that write its maps.
const (
	needFiles   = 16
	needThreads = 16
	needMemory  = 192 << 20
)

// plentyOfMemory is what the runtime's heap has at most before garbage is collected more often than is fast. It keeps what
// any input makes of it below 256 MiB, unless more than this is really in use.
const plentyOfMemory = 192 << 20

// The Go runtime ends the process with a dump of its stacks where it cannot have a thread, a file of its own or memory, and
// whatever was half made stays. So this is found out beforehand, as far as it can be: others may take the room meanwhile.

// RoomError is a limit that leaves too little for a run.
type RoomError struct {
	What       string // "open files", "threads", "bytes of memory"
	Free, Need uint64
	Errno      unix.Errno // what the kernel would say: EMFILE, EAGAIN or ENOMEM
}

func (e *RoomError) Error() string {
	return fmt.Sprintf("the limits of this process allow %d more %s, and %d are needed", e.Free, e.What, e.Need)
}

// Unwrap gives the kernel's error.
func (e *RoomError) Unwrap() error { return e.Errno }

// CheckRoom says whether the limits of this process, setrlimit(2)'s and those of its control group, leave room for a run.
// Where they are narrow it makes the Go runtime modest; fewThreads says that others may come to take those that a run
// needs: see [TakeThreads]. Where a limit is too low the error is a *RoomError. It costs some reads of small files.
func CheckRoom() (fewThreads bool, err error) {
	if free := freeFiles(); free < needFiles {
		return false, &RoomError{"open files", free, needFiles, unix.EMFILE}
	}
	free := min(threadsOfGroups(), threadsOfUser())
	if free < uint64(needThreads+runtime.GOMAXPROCS(0)) {
		runtime.GOMAXPROCS(2) // the garbage collector alone has a thread for every processor
	}
	if free < needThreads {
		return false, &RoomError{"threads", free, needThreads, unix.EAGAIN}
	}
	memory := freeMemory()
	if memory < needMemory {
		return false, &RoomError{"bytes of memory", memory, needMemory, unix.ENOMEM}
	}
	debug.SetMemoryLimit(int64(min(memory-needMemory/2, plentyOfMemory))) // rather collect garbage than run out
	return free < plentyOfThreads, tryPoller()
}

// tryPoller makes what the runtime's network poller is made of, which cannot fail without ending the program either
// (netpollinit in runtime/netpoll_epoll.go). Others than this process's limits are at fault there: those of the whole
// system, and fs.epoll.max_user_watches.
func tryPoller() error {
	poller, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make an epoll instance: %w", err)
	}
	defer unix.Close(poller)
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("make an event descriptor: %w", err)
	}
	defer unix.Close(event)
	if err := unix.EpollCtl(poller, unix.EPOLL_CTL_ADD, event, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(event)}); err != nil {
		return fmt.Errorf("watch an event descriptor: %w", err)
	}
	return nil
}

// plentyOfThreads are more than others come to take during a run. To make threads that a run may not need takes longer than
// a config does.
const plentyOfThreads = 1024

// ownThreads is how many threads a run comes to at most, beside those that the runtime starts with.
const ownThreads = 10

// TakeThreads makes the threads that a run needs, which the runtime keeps for goroutines that need one. A process that
// starts another one, and only waits for it, leaves them to that.
func TakeThreads() {
	var all, done sync.WaitGroup
	all.Add(ownThreads)
	for range ownThreads {
		done.Go(func() {
			runtime.LockOSThread()
			all.Done()
			all.Wait()
			runtime.UnlockOSThread()
		})
	}
	done.Wait()
}

// IsFault tells whether an error is one of this process's limits or of the disk: it says nothing about what was looked at.
func IsFault(err error) bool {
	return slices.ContainsFunc([]unix.Errno{unix.EIO, unix.EMFILE, unix.ENFILE, unix.ENOMEM}, func(fault unix.Errno) bool { return errors.Is(err, fault) })
}

// limit is the soft limit of a resource; MaxUint64: none.
func limit(resource int) uint64 {
	var l unix.Rlimit
	if unix.Getrlimit(resource, &l) != nil {
		return math.MaxUint64
	}
	return l.Cur
}

// less is what is left of a limit.
func less(limit, used uint64) uint64 {
	if limit == math.MaxUint64 {
		return limit
	}
	return limit - min(used, limit)
}

func freeFiles() uint64 {
	n := limit(unix.RLIMIT_NOFILE)
	const plenty = 1024
	if n >= plenty {
		return plenty
	}
	open, err := os.ReadDir("/proc/self/fd")
	if errors.Is(err, unix.EMFILE) {
		return 0
	}
	return less(n, uint64(len(open)))
}

// threadsOfGroups is how many more threads the control groups allow, the process's own and those above it
// (Documentation/admin-guide/cgroup-v2.rst, "PID"; cgroup-v1/pids.rst).
func threadsOfGroups() uint64 {
	free := uint64(math.MaxUint64)
	for _, dir := range Cgroups("pids") {
		if most, ok := readNumber(filepath.Join(dir, "pids.max")); ok {
			used, _ := readNumber(filepath.Join(dir, "pids.current"))
			free = min(free, less(most, used))
		}
	}
	return free
}

// threadsOfUser is how many more threads RLIMIT_NPROC allows the caller, all of whose processes it is for. The host's root
// may have more. What is counted takes as long as there are processes, so it is left out where the limit is not a low one.
func threadsOfUser() uint64 {
	const low = 1024
	n := limit(unix.RLIMIT_NPROC)
	if n >= low || hostRoot() {
		return math.MaxUint64
	}
	list, err := os.ReadDir("/proc")
	if err != nil {
		return math.MaxUint64
	}
	used := uint64(0)
	for _, e := range list {
		var st unix.Stat_t
		dir := "/proc/" + e.Name()
		if _, err := strconv.Atoi(e.Name()); err != nil || unix.Stat(dir, &st) != nil || int(st.Uid) != os.Getuid() {
			continue
		}
		// task has a link for every thread (proc(5)).
		if unix.Stat(dir+"/task", &st) == nil {
			used += uint64(st.Nlink) - 2
		}
	}
	return less(n, used)
}

// hostRoot tells whether this process is root with all the ids there are, and not that of a user namespace.
func hostRoot() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	f := strings.Fields(string(text))
	return os.Getuid() == 0 && (err != nil || len(f) == 3 && f[1] == "0" && f[2] == "4294967295")
}

// freeMemory is how many bytes RLIMIT_AS and RLIMIT_DATA leave (getrlimit(2), /proc/PID/statm in proc(5)).
func freeMemory() uint64 {
	space, data := limit(unix.RLIMIT_AS), limit(unix.RLIMIT_DATA)
	if space == math.MaxUint64 && data == math.MaxUint64 {
		return math.MaxUint64
	}
	text, _ := os.ReadFile("/proc/self/statm")
	f := strings.Fields(string(text))
	pages := func(i int) uint64 {
		if i >= len(f) {
			return 0
		}
		n, _ := strconv.ParseUint(f[i], 10, 64)
		return n * uint64(os.Getpagesize())
	}
	return min(less(space, pages(0)), less(data, pages(5)))
}

// readNumber reads a file that holds one number; not ok: there is none, or no limit.
func readNumber(name string) (uint64, bool) {
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil
}
