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

// Path is a path that the kernel takes for what fd is open on, for calls that have no form with a descriptor.
func Path(fd int) string {
	return "/proc/self/fd/" + strconv.Itoa(fd)
}

// OwnerMapped tells whether the owner of what fd is open on has an id in this user namespace: the privilege over such files
// that O_NOATIME takes does not reach others (open(2)).
func OwnerMapped(fd int) bool {
	again, err := unix.Open(Path(fd), unix.O_RDONLY|unix.O_NOATIME|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(again)
	}
	return err != unix.EPERM
}

// ReopenParent opens the directory above fd, if it is still the one that it was.
func ReopenParent(fd int, dev, ino uint64) (int, error) {
	up, err := Openat(fd, "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(up, &st); err != nil {
		unix.Close(up)
		return -1, err
	}
	if st.Dev != dev || st.Ino != ino {
		unix.Close(up)
		return -1, errors.New("the directory was moved meanwhile")
	}
	return up, nil
}

// Chmod changes the mode of what h, opened with O_PATH, is open on. fchmod(2) refuses such handles, and
// fchmodat2(2) is too new to count on (Linux 6.6).
func Chmod(h int, mode uint32) error {
	return unix.Fchmodat(unix.AT_FDCWD, Path(h), mode, 0)
}

// OpenSameMount opens the entry name of the directory dirfd, whose name is no path, unless that is a mount point (EXDEV) or,
// even without O_NOFOLLOW, a symbolic link (ELOOP). Kernels before 5.6 and strict seccomp profiles lack openat2(2); there
// the filesystem, and the mount where statx(2) tells it, are compared.
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
			return OpenWithoutOpenat2(dirfd, name, flags)
		}
		return fd, err
	}
}

func OpenWithoutOpenat2(dirfd int, name string, flags int) (int, error) {
	fd, err := Openat(dirfd, name, flags|unix.O_NOFOLLOW)
	if err != nil {
		return -1, err
	}
	same, err := sameMount(dirfd, fd)
	if err == nil && !same {
		err = unix.EXDEV
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func sameMount(a, b int) (bool, error) {
	var sa, sb unix.Stat_t
	if err := unix.Fstat(a, &sa); err != nil {
		return false, err
	}
	if err := unix.Fstat(b, &sb); err != nil {
		return false, err
	}
	if sa.Dev != sb.Dev {
		return false, nil
	}
	var xa, xb unix.Statx_t
	const flags = unix.AT_EMPTY_PATH | unix.AT_STATX_DONT_SYNC
	if unix.Statx(a, "", flags, unix.STATX_MNT_ID, &xa) != nil || unix.Statx(b, "", flags, unix.STATX_MNT_ID, &xb) != nil {
		return true, nil
	}
	if xa.Mask&xb.Mask&unix.STATX_MNT_ID == 0 {
		return true, nil
	}
	return xa.Mnt_id == xb.Mnt_id, nil
}

func Openat(dirfd int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dirfd, name, flags, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func Unlinkat(dirfd int, name string, flags int) error {
	for {
		if err := unix.Unlinkat(dirfd, name, flags); err != unix.EINTR {
			return err
		}
	}
}

func Getdents(fd int, buf []byte) (int, error) {
	for {
		n, err := unix.Getdents(fd, buf)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// NextDirent takes the first record off what getdents64(2) wrote. The name is a copy.
func NextDirent(buf []byte) (name string, kind uint8, rest []byte) {
	var d unix.Dirent
	const start = unsafe.Offsetof(d.Name)
	length := *(*uint16)(unsafe.Pointer(&buf[unsafe.Offsetof(d.Reclen)]))
	raw := buf[start:length]
	if i := bytes.IndexByte(raw, 0); i >= 0 {
		raw = raw[:i]
	}
	return string(raw), buf[unsafe.Offsetof(d.Type)], buf[length:]
}

// Cause takes the operation and path, which the message has already, off an
// error.
func Cause(err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Err
	}
	return err
}
