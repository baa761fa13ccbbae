package pipeline

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
		return place{}, fmt.Errorf("find the mount of %q: %w", dir.Name(), cause(err))
	}
	var id string
	for line := range strings.Lines(string(info)) {
		if v, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			id = strings.TrimSpace(v)
		}
	}
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()))
	if err != nil {
		return place{}, fmt.Errorf("find the path of %q: %w", dir.Name(), cause(err))
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
