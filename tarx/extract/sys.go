package extract

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls made for every entry take a name as bytes with a NUL at the end,
// so that no entry costs an allocation for each call.
//
// They are raw: the Go runtime is not told of them. They take microseconds, and
// telling it costs as much as some of them, for it then takes the processor
// away from the goroutine and wakes a thread for another. The price is that on
// a disk that hangs the goroutine keeps its processor; it could not be stopped
// or cleaned up after there in any case. What may take long by its nature,
// reading, writing much and walking a path, is an ordinary call.

// rawBytes is how much a file may hold for its contents to be written, and it to
// be closed, by raw calls.
const rawBytes = 16 << 10

type cname []byte

// setCname makes c hold name, which has no NUL in it.
func (c *cname) set(name []byte) {
	*c = append(append((*c)[:0], name...), 0)
}

func (c cname) String() string { return string(c[:len(c)-1]) }

func sysOpenat(dir int, name cname, flags int, mode uint32) (int, error) {
	for {
		fd, _, errno := unix.RawSyscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(&name[0])),
			uintptr(flags|unix.O_LARGEFILE), uintptr(mode), 0, 0)
		if errno == 0 {
			return int(fd), nil
		}
		if errno != unix.EINTR {
			return -1, errno
		}
	}
}

// sysClose closes a handle to which little or nothing was written. An
// interrupted close has closed it (close(2)).
func sysClose(fd int) error {
	_, _, errno := unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
	if errno == unix.EINTR {
		return nil
	}
	return sysError(errno)
}

func sysPwrite(fd int, b []byte, off int64) (int, error) {
	if len(b) > rawBytes || len(b) == 0 {
		return unix.Pwrite(fd, b, off)
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_PWRITE64, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
		uintptr(off), 0, 0)
	return int(n), sysError(errno)
}

func sysMkdirat(dir int, name cname, mode uint32) error {
	_, _, errno := unix.RawSyscall(unix.SYS_MKDIRAT, uintptr(dir), uintptr(unsafe.Pointer(&name[0])), uintptr(mode))
	return sysError(errno)
}

func sysUnlinkat(dir int, name cname, flags int) error {
	_, _, errno := unix.RawSyscall(unix.SYS_UNLINKAT, uintptr(dir), uintptr(unsafe.Pointer(&name[0])), uintptr(flags))
	return sysError(errno)
}

func sysMknodat(dir int, name cname, mode uint32, dev uint64) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_MKNODAT, uintptr(dir), uintptr(unsafe.Pointer(&name[0])), uintptr(mode),
		uintptr(dev), 0, 0)
	return sysError(errno)
}

func sysSymlinkat(target cname, dir int, name cname) error {
	_, _, errno := unix.RawSyscall(unix.SYS_SYMLINKAT, uintptr(unsafe.Pointer(&target[0])), uintptr(dir),
		uintptr(unsafe.Pointer(&name[0])))
	return sysError(errno)
}

func sysLinkat(oldDir int, oldName cname, newDir int, newName cname) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_LINKAT, uintptr(oldDir), uintptr(unsafe.Pointer(&oldName[0])), uintptr(newDir),
		uintptr(unsafe.Pointer(&newName[0])), 0, 0)
	return sysError(errno)
}

// sysUtimes sets access and modification time, both to the same value: of the
// entry name of dir, which is not followed, or, with a nil name, of what dir is
// open on.
func sysUtimes(dir int, name cname, sec int64, nsec int32) error {
	ts := [2]unix.Timespec{{Sec: sec, Nsec: int64(nsec)}, {Sec: sec, Nsec: int64(nsec)}}
	var errno unix.Errno
	if name == nil {
		_, _, errno = unix.RawSyscall6(unix.SYS_UTIMENSAT, uintptr(dir), 0, uintptr(unsafe.Pointer(&ts[0])), 0, 0, 0)
	} else {
		_, _, errno = unix.RawSyscall6(unix.SYS_UTIMENSAT, uintptr(dir), uintptr(unsafe.Pointer(&name[0])),
			uintptr(unsafe.Pointer(&ts[0])), unix.AT_SYMLINK_NOFOLLOW, 0, 0)
	}
	return sysError(errno)
}

// sysOpenat2 is openat2(2) with a NUL-terminated path.
func sysOpenat2(dir int, path cname, flags, resolve uint64) (int, error) {
	how := unix.OpenHow{Flags: flags, Resolve: resolve}
	// EAGAIN is what a rename somewhere gives a lookup with ".." in it. An
	// attacker who renames all the time must not keep us here for ever.
	var errno unix.Errno
	for range 1000 {
		var fd uintptr
		fd, _, errno = unix.Syscall6(unix.SYS_OPENAT2, uintptr(dir), uintptr(unsafe.Pointer(&path[0])),
			uintptr(unsafe.Pointer(&how)), unix.SizeofOpenHow, 0, 0)
		if errno == 0 {
			return int(fd), nil
		}
		if errno != unix.EAGAIN && errno != unix.EINTR {
			break
		}
	}
	return -1, errno
}

func sysError(errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}
