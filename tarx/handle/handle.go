// Package handle does with directory handles what paths cannot do safely: every
// call goes from an open directory to one name in it.
package handle

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Path is a path that the kernel takes for what fd is open on, for calls that have no form with a
// descriptor.
func Path(fd int) string {
	return "/proc/self/fd/" + strconv.Itoa(fd)
}

// Reopen opens what h is open on once more, with flags. With a handle of O_PATH that has been
// looked at, what is opened is what was looked at, whatever has its name by now.
func Reopen(h, flags int) (int, error) {
	for {
		fd, err := unix.Open(Path(h), flags|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// OwnerMapped tells whether the owner of what h is open on, a regular file or a directory, has an
// id in this user namespace. Privilege over a file does not reach those whose ids the namespace
// lacks: O_NOATIME is refused (EPERM, open(2)), or before that reading, where the file's mode
// forbids it (EACCES, user_namespaces(7), "Capabilities").
func OwnerMapped(h int) bool {
	again, err := Reopen(h, unix.O_RDONLY|unix.O_NOATIME|unix.O_NONBLOCK)
	if err == nil {
		unix.Close(again)
	}
	return err != unix.EPERM && err != unix.EACCES
}

// Chmod changes the mode of what h, opened with O_PATH, is open on. fchmod(2) refuses such handles,
// and fchmodat2(2) is too new to count on (Linux 6.6).
func Chmod(h int, mode uint32) error {
	return unix.Fchmodat(unix.AT_FDCWD, Path(h), mode, 0)
}

// OpenSameMount opens the entry name of the directory dirfd, a single component, unless that is
// a mount point (EXDEV) or, even without O_NOFOLLOW, a symbolic link (ELOOP). Kernels before 5.6
// and strict seccomp profiles lack openat2(2); there the filesystem, and the mount where statx(2)
// tells it, are compared.
func OpenSameMount(dirfd int, name string, flags int) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags),
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH,
	}
	for {
		fd, err := unix.Openat2(dirfd, name, &how)
		switch err {
		case unix.EINTR, unix.EAGAIN:
			continue
		case unix.ENOSYS, unix.EPERM:
			return openWithoutOpenat2(dirfd, name, flags)
		}
		return fd, err
	}
}

func openWithoutOpenat2(dirfd int, name string, flags int) (int, error) {
	h, err := Openat(dirfd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC|flags&unix.O_DIRECTORY)
	if err != nil {
		return -1, err
	}
	st, err := Look(h, "")
	up, uperr := Look(dirfd, "")
	switch {
	case err != nil:
	case uperr != nil:
		err = uperr
	case !SameMount(&up, &st):
		err = unix.EXDEV
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		err = unix.ELOOP
	case flags&unix.O_PATH != 0:
		return h, nil
	}
	defer unix.Close(h)
	if err != nil {
		return -1, err
	}
	return Reopen(h, flags&^unix.O_NOFOLLOW)
}

// Look says what the entry name of the directory dirfd is, or with an empty name what dirfd is open
// on, as far as the kernel knows without asking anybody: a filesystem in user space or on the
// network whose server hangs does not hold it up (statx(2), AT_STATX_DONT_SYNC). A symbolic link is
// not followed.
func Look(dirfd int, name string) (unix.Statx_t, error) {
	var st unix.Statx_t
	const flags = unix.AT_EMPTY_PATH | unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT | unix.AT_STATX_DONT_SYNC
	for {
		err := unix.Statx(dirfd, name, flags, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &st)
		if err != unix.EINTR {
			return st, err
		}
	}
}

// SameMount says whether two files are on the same mount, or where the kernel does not tell (before
// Linux 5.8), on the same filesystem.
func SameMount(a, b *unix.Statx_t) bool {
	if a.Dev_major != b.Dev_major || a.Dev_minor != b.Dev_minor {
		return false
	}
	return a.Mask&b.Mask&unix.STATX_MNT_ID == 0 || a.Mnt_id == b.Mnt_id
}

// SameFile says whether dirfd's entry name is what fd is open on. Where there is no such entry, the
// error is ENOENT.
func SameFile(fd, dirfd int, name string) (bool, error) {
	is, err := Look(dirfd, name)
	if err != nil {
		return false, err
	}
	want, err := Look(fd, "")
	return Same(&is, &want), err
}

// Same says whether two looks were at the same file.
func Same(a, b *unix.Statx_t) bool {
	return a.Dev_major == b.Dev_major && a.Dev_minor == b.Dev_minor && a.Ino == b.Ino
}

// Openat is openat(2) of what exists.
func Openat(dirfd int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dirfd, name, flags, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// Unlinkat is unlinkat(2).
func Unlinkat(dirfd int, name string, flags int) error {
	for {
		if err := unix.Unlinkat(dirfd, name, flags); err != unix.EINTR {
			return err
		}
	}
}

// Getdents is getdents64(2).
func Getdents(fd int, buf []byte) (int, error) {
	for {
		n, err := unix.Getdents(fd, buf)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// NextDirent takes the first record off what getdents64(2) wrote to buf, a part of which name is.
func NextDirent(buf []byte) (name []byte, kind uint8, rest []byte) {
	var d unix.Dirent
	const start = unsafe.Offsetof(d.Name)
	length := *(*uint16)(unsafe.Pointer(&buf[unsafe.Offsetof(d.Reclen)]))
	name = buf[start:length]
	if i := bytes.IndexByte(name, 0); i >= 0 {
		name = name[:i]
	}
	return name, buf[unsafe.Offsetof(d.Type)], buf[length:]
}

// IsDot says whether a name is that of the directory itself or of the one above, which every
// listing has.
func IsDot(name []byte) bool { return string(name) == "." || string(name) == ".." }

// Cause is the system's own answer in an error, without the operations and paths that the message
// has already.
func Cause(err error) error {
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		return errno
	}
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Err
	}
	return err
}
