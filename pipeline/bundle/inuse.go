package bundle

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"ocibundle/tarx/handle"
)

// RootInUse finds a process whose root directory is rootfs, or 0. A process
// that the caller may not look into (ptrace(2), "Ptrace access mode checking"),
// as one in a user namespace beside the caller's, is found if its root is a
// mount, which a container's is.
func RootInUse(rootfs *os.File) (pid int, err error) {
	var want unix.Stat_t
	if err := unix.Fstat(int(rootfs.Fd()), &want); err != nil {
		return 0, fmt.Errorf("stat %q: %w", rootfs.Name(), err)
	}
	at, err := placeOf(rootfs)
	if err != nil {
		return 0, err
	}
	proc, err := os.Open("/proc")
	if err != nil {
		return 0, fmt.Errorf("list the processes: %w", err)
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return 0, fmt.Errorf("list the processes: %w", err)
	}
	for _, n := range names {
		pid, err := strconv.Atoi(n)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		switch err := unix.Stat("/proc/"+n+"/root", &st); err {
		case nil:
			if st.Dev == want.Dev && st.Ino == want.Ino {
				return pid, nil
			}
		case unix.EACCES, unix.EPERM:
			var root place
			err := eachMount(n, func(m mount) {
				if m.point == "/" { // the last one covers the others
					root = m.place
				}
			})
			if err == nil && root == at && at != (place{}) {
				return pid, nil
			}
		}
	}
	return 0, nil
}

// place is a directory as the kernel names it in every mount namespace alike.
type place struct {
	device string // major:minor
	path   string // from the filesystem's own root
}

// mount is a line of proc_pid_mountinfo(5).
type mount struct {
	id    string
	place place
	point string
}

func eachMount(process string, visit func(mount)) error {
	list, err := os.Open("/proc/" + process + "/mountinfo")
	if err != nil {
		return fmt.Errorf("list the mounts: %w", err)
	}
	defer list.Close()
	lines := bufio.NewScanner(list)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if f := strings.Fields(lines.Text()); len(f) >= 5 {
			visit(mount{f[0], place{f[2], unescapeMount(f[3])}, unescapeMount(f[4])})
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("list the mounts: %w", err)
	}
	return nil
}

// placeOf finds a directory's place; none where it is on a mount that cannot be
// seen.
func placeOf(dir *os.File) (place, error) {
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", dir.Fd()))
	if err != nil {
		return place{}, fmt.Errorf("find the mount of %q: %w", dir.Name(), handle.Cause(err))
	}
	var id string
	for line := range strings.Lines(string(info)) {
		if v, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			id = strings.TrimSpace(v)
		}
	}
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()))
	if err != nil {
		return place{}, fmt.Errorf("find the path of %q: %w", dir.Name(), handle.Cause(err))
	}
	var at place
	err = eachMount("self", func(m mount) {
		if rel, err := filepath.Rel(m.point, path); m.id == id && err == nil {
			at = place{m.place.device, filepath.Join(m.place.path, rel)}
		}
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return place{}, err
	}
	return at, nil
}

// CheckInUse looks for running processes that have one of the bundles as their root. It says nothing of directories that
// are no bundles. A user's containers run in user namespaces that only a process outside of any of the user's others may
// look into, so this is for before [userns.Enter], and Remove's own look does not replace it.
func CheckInUse(dirs ...string) error {
	for _, dir := range dirs {
		rootfs, err := os.OpenFile(filepath.Join(dir, "rootfs"), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			continue // for Remove to judge
		}
		pid, err := RootInUse(rootfs)
		rootfs.Close()
		if err != nil {
			return err
		}
		if pid != 0 {
			return &Error{Kind: InUse, Dir: dir, PID: pid}
		}
	}
	return nil
}

// notMounted says whether something is mounted on f, which the user calls dir, or below it (proc_pid_mountinfo(5)).
func notMounted(dir string, f *os.File) error {
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return fmt.Errorf("find the path of %q: %w", dir, handle.Cause(err))
	}
	var point string
	err = eachMount("self", func(m mount) {
		if m.point == path || strings.HasPrefix(m.point, path+"/") {
			point = m.point
		}
	})
	if err != nil {
		return err
	}
	if point != "" {
		return &Error{Kind: Mounted, Dir: dir, Detail: point}
	}
	return nil
}

// unescapeMount undoes the kernel's escapes of space, tab, newline and backslash: three octal digits.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
