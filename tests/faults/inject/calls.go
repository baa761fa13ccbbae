package inject

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// A Kind is a system call and how it can fail.
type Kind struct {
	Number int
	Name   string
	// Errnos are the errors that a healthy program meets on an unhealthy machine, or on a filesystem or kernel that lacks
	// something (section 2 of the manual). Not among them are errors of the caller, such as EFAULT. A call without any
	// does not fail.
	Errnos []syscall.Errno
	// args says what the arguments are: d a directory's descriptor, f a file's, p a path, n anything else.
	args string
}

// Errors that come from a disk, a limit or a lack of memory, whatever is asked.
var (
	disk  = []syscall.Errno{unix.EIO}
	write = []syscall.Errno{unix.EIO, unix.ENOSPC, unix.EDQUOT}
	limit = []syscall.Errno{unix.EMFILE, unix.ENFILE, unix.ENOMEM}
	space = []syscall.Errno{unix.ENOMEM}
	none  []syscall.Errno
)

func also(errnos []syscall.Errno, more ...syscall.Errno) []syscall.Errno {
	return append(errnos[:len(errnos):len(errnos)], more...)
}

// Kinds are the system calls that are known here. Those of the Go runtime that cannot fail but by a mistake of the
// runtime's own, or that the C library of no machine lets fail, are there to be told from unknown ones.
var Kinds = []Kind{
	// Names and descriptors.
	{unix.SYS_OPENAT, "openat", also(write, unix.EMFILE, unix.EACCES), "dp"},
	{unix.SYS_OPENAT2, "openat2", also(disk, unix.EMFILE, unix.EACCES, unix.ENOSYS, unix.EAGAIN), "dp"},
	{unix.SYS_CLOSE, "close", disk, "f"},
	{unix.SYS_FSTAT, "fstat", disk, "f"},
	{unix.SYS_NEWFSTATAT, "newfstatat", also(disk, unix.EACCES), "dp"},
	{unix.SYS_STATX, "statx", also(disk, unix.EACCES), "dp"},
	{unix.SYS_FACCESSAT, "faccessat", also(disk, unix.EACCES), "dp"},
	{unix.SYS_FACCESSAT2, "faccessat2", also(disk, unix.EACCES, unix.ENOSYS), "dp"},
	{unix.SYS_READLINKAT, "readlinkat", also(disk, unix.EACCES), "dp"},
	{unix.SYS_GETDENTS64, "getdents64", disk, "f"},
	{unix.SYS_MKDIRAT, "mkdirat", also(write, unix.EACCES, unix.EROFS), "dp"},
	{unix.SYS_MKNODAT, "mknodat", also(write, unix.EPERM), "dp"},
	{unix.SYS_SYMLINKAT, "symlinkat", also(write, unix.EPERM), "pdp"},
	{unix.SYS_LINKAT, "linkat", also(write, unix.EPERM, unix.EMLINK), "dpdp"},
	{unix.SYS_UNLINKAT, "unlinkat", also(disk, unix.EPERM, unix.EBUSY), "dp"},
	{unix.SYS_RENAMEAT, "renameat", also(write, unix.EACCES, unix.EBUSY), "dpdp"},
	{unix.SYS_RENAMEAT2, "renameat2", also(write, unix.EACCES, unix.EBUSY, unix.EINVAL, unix.ENOSYS), "dpdp"},
	{unix.SYS_GETCWD, "getcwd", []syscall.Errno{unix.ENOENT, unix.ENOMEM}, "n"},
	{unix.SYS_CHDIR, "chdir", also(disk, unix.EACCES), "p"},
	{unix.SYS_FCHDIR, "fchdir", also(disk, unix.EACCES), "f"},

	// What is in files.
	{unix.SYS_READ, "read", disk, "f"},
	{unix.SYS_PREAD64, "pread64", disk, "f"},
	{unix.SYS_READV, "readv", disk, "f"},
	{unix.SYS_WRITE, "write", also(write, unix.EPIPE), "f"},
	{unix.SYS_PWRITE64, "pwrite64", write, "f"},
	{unix.SYS_WRITEV, "writev", also(write, unix.EPIPE), "f"},
	{unix.SYS_PWRITEV, "pwritev", write, "f"},
	{unix.SYS_LSEEK, "lseek", also(disk, unix.EINVAL), "f"},
	{unix.SYS_FTRUNCATE, "ftruncate", also(write, unix.EFBIG), "f"},
	{unix.SYS_FALLOCATE, "fallocate", also(write, unix.EOPNOTSUPP), "f"},
	{unix.SYS_FADVISE64, "fadvise64", none, "f"},
	{unix.SYS_SPLICE, "splice", also(disk, unix.ENOMEM, unix.EINVAL), "f"},
	{unix.SYS_SENDFILE, "sendfile", also(disk, unix.ENOMEM, unix.EINVAL), "f"},
	{unix.SYS_COPY_FILE_RANGE, "copy_file_range", also(write, unix.EOPNOTSUPP, unix.EXDEV, unix.ENOSYS), "f"},
	{unix.SYS_FSYNC, "fsync", write, "f"},
	{unix.SYS_FDATASYNC, "fdatasync", write, "f"},
	{unix.SYS_SYNCFS, "syncfs", write, "f"},
	{unix.SYS_FLOCK, "flock", []syscall.Errno{unix.ENOLCK, unix.EINTR}, "f"},
	{unix.SYS_IOCTL, "ioctl", []syscall.Errno{unix.EIO, unix.ENOTTY}, "f"},

	// What is about files.
	{unix.SYS_FCHOWN, "fchown", also(disk, unix.EDQUOT, unix.EPERM), "f"},
	{unix.SYS_FCHOWNAT, "fchownat", also(disk, unix.EDQUOT, unix.EPERM), "dp"},
	{unix.SYS_FCHMOD, "fchmod", also(disk, unix.EPERM), "f"},
	{unix.SYS_FCHMODAT, "fchmodat", also(disk, unix.EPERM), "dp"},
	{unix.SYS_FCHMODAT2, "fchmodat2", also(disk, unix.EPERM, unix.ENOSYS), "dp"},
	{unix.SYS_UTIMENSAT, "utimensat", also(disk, unix.EPERM), "dp"},
	{unix.SYS_FSETXATTR, "fsetxattr", also(write, unix.EOPNOTSUPP, unix.EPERM), "f"},
	{unix.SYS_SETXATTR, "setxattr", also(write, unix.EOPNOTSUPP, unix.EPERM), "p"},
	{unix.SYS_LSETXATTR, "lsetxattr", also(write, unix.EOPNOTSUPP, unix.EPERM), "p"},
	{unix.SYS_FGETXATTR, "fgetxattr", also(disk, unix.EOPNOTSUPP), "f"},
	{unix.SYS_GETXATTR, "getxattr", also(disk, unix.EOPNOTSUPP), "p"},
	{unix.SYS_LGETXATTR, "lgetxattr", also(disk, unix.EOPNOTSUPP), "p"},
	{unix.SYS_FLISTXATTR, "flistxattr", disk, "f"},
	{unix.SYS_LISTXATTR, "listxattr", disk, "p"},
	{unix.SYS_LLISTXATTR, "llistxattr", disk, "p"},
	{unix.SYS_FREMOVEXATTR, "fremovexattr", also(disk, unix.EOPNOTSUPP), "f"},
	{unix.SYS_STATFS, "statfs", disk, "p"},
	{unix.SYS_FSTATFS, "fstatfs", disk, "f"},

	// Descriptors that are no files.
	{unix.SYS_PIPE2, "pipe2", limit, "n"},
	{unix.SYS_EVENTFD2, "eventfd2", limit, "n"},
	{unix.SYS_EPOLL_CREATE1, "epoll_create1", limit, "n"},
	{unix.SYS_EPOLL_CTL, "epoll_ctl", also(space, unix.ENOSPC), "nnf"},
	{unix.SYS_MEMFD_CREATE, "memfd_create", also(limit, unix.ENOSYS), "n"},
	{unix.SYS_DUP, "dup", []syscall.Errno{unix.EMFILE}, "f"},
	{unix.SYS_DUP3, "dup3", []syscall.Errno{unix.EMFILE}, "f"},
	{unix.SYS_FCNTL, "fcntl", []syscall.Errno{unix.EMFILE}, "f"},
	{unix.SYS_PIDFD_OPEN, "pidfd_open", also(limit, unix.ENOSYS), "n"},

	// A /proc of the program's own.
	{unix.SYS_FSOPEN, "fsopen", also(limit, unix.EPERM, unix.ENOSYS), "n"},
	{unix.SYS_FSCONFIG, "fsconfig", also(space, unix.EPERM, unix.EINVAL), "n"},
	{unix.SYS_FSMOUNT, "fsmount", also(limit, unix.EPERM), "n"},
	{unix.SYS_OPEN_TREE, "open_tree", also(limit, unix.EPERM, unix.ENOSYS), "dp"},

	// Memory.
	{unix.SYS_MMAP, "mmap", space, "n"},
	{unix.SYS_MPROTECT, "mprotect", space, "n"},
	{unix.SYS_MUNMAP, "munmap", none, "n"},
	{unix.SYS_MADVISE, "madvise", none, "n"},
	{unix.SYS_MINCORE, "mincore", none, "n"},
	{unix.SYS_BRK, "brk", none, "n"},

	// Processes. EPERM is what policies against user namespaces say.
	{unix.SYS_CLONE, "clone", []syscall.Errno{unix.EAGAIN, unix.ENOMEM, unix.EPERM, unix.ENOSPC}, "n"},
	{unix.SYS_CLONE3, "clone3", []syscall.Errno{unix.EAGAIN, unix.ENOMEM, unix.EPERM, unix.ENOSYS}, "n"},
	{unix.SYS_EXECVE, "execve", []syscall.Errno{unix.EIO, unix.ENOMEM, unix.EACCES, unix.EAGAIN}, "p"},
	{unix.SYS_WAIT4, "wait4", none, "n"},
	{unix.SYS_WAITID, "waitid", none, "n"},
	{unix.SYS_PIDFD_SEND_SIGNAL, "pidfd_send_signal", []syscall.Errno{unix.EPERM, unix.ENOSYS}, "n"},
	{unix.SYS_KILL, "kill", none, "n"},
	{unix.SYS_PRCTL, "prctl", []syscall.Errno{unix.EPERM}, "n"},
	{unix.SYS_CAPGET, "capget", none, "n"},
	{unix.SYS_CAPSET, "capset", []syscall.Errno{unix.EPERM}, "n"},
	{unix.SYS_UNSHARE, "unshare", []syscall.Errno{unix.EPERM, unix.ENOSPC}, "n"},
	{unix.SYS_SETGROUPS, "setgroups", []syscall.Errno{unix.EPERM, unix.ENOMEM}, "n"},
	{unix.SYS_PRLIMIT64, "prlimit64", []syscall.Errno{unix.EPERM}, "n"},
	{unix.SYS_GETRLIMIT, "getrlimit", none, "n"},
	{unix.SYS_GETRANDOM, "getrandom", []syscall.Errno{unix.ENOSYS}, "n"},
	{unix.SYS_UMASK, "umask", none, "n"},
	{unix.SYS_SCHED_GETAFFINITY, "sched_getaffinity", none, "n"},
	{unix.SYS_UNAME, "uname", none, "n"},
	{unix.SYS_SYSINFO, "sysinfo", none, "n"},
	{unix.SYS_GETPID, "getpid", none, "n"},
	{unix.SYS_GETPPID, "getppid", none, "n"},
	{unix.SYS_GETTID, "gettid", none, "n"},
	{unix.SYS_GETUID, "getuid", none, "n"},
	{unix.SYS_GETEUID, "geteuid", none, "n"},
	{unix.SYS_GETGID, "getgid", none, "n"},
	{unix.SYS_GETEGID, "getegid", none, "n"},
	{unix.SYS_GETGROUPS, "getgroups", none, "n"},
	{unix.SYS_SETPGID, "setpgid", none, "n"},
}

// quiet are the calls that are not even looked at: those of the Go runtime for its threads, timers and signals, which
// have no errors to speak of and are many.
var quiet = []int{
	unix.SYS_FUTEX, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_SCHED_YIELD,
	unix.SYS_EPOLL_PWAIT, unix.SYS_PPOLL, unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN,
	unix.SYS_SIGALTSTACK, unix.SYS_TGKILL, unix.SYS_RESTART_SYSCALL, unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
	unix.SYS_SET_ROBUST_LIST, unix.SYS_SET_TID_ADDRESS, unix.SYS_RSEQ, unix.SYS_GETTIMEOFDAY,
	unix.SYS_SETITIMER, unix.SYS_TIMER_CREATE, unix.SYS_TIMER_SETTIME, unix.SYS_TIMER_DELETE,
}

// KindOf returns the kind of a system call by its name.
func KindOf(name string) (Kind, bool) {
	for _, k := range Kinds {
		if k.Name == name {
			return k, true
		}
	}
	return Kind{}, false
}
