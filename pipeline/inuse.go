package pipeline

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// RootInUse finds a process whose root directory is rootfs, or 0. Processes
// that the caller may not look at (ptrace(2), "Ptrace access mode checking")
// are passed over.
func RootInUse(rootfs *os.File) (pid int, err error) {
	var want unix.Stat_t
	if err := unix.Fstat(int(rootfs.Fd()), &want); err != nil {
		return 0, fmt.Errorf("stat %q: %w", rootfs.Name(), err)
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
		if unix.Stat("/proc/"+n+"/root", &st) == nil && st.Dev == want.Dev && st.Ino == want.Ino {
			return pid, nil
		}
	}
	return 0, nil
}
