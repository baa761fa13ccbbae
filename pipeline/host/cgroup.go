package host

import (
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// CgroupRoot is where control groups are mounted.
const CgroupRoot = "/sys/fs/cgroup"

// UnifiedCgroups reports whether the host has the unified hierarchy alone.
func UnifiedCgroups() bool {
	var st unix.Statfs_t
	return unix.Statfs(CgroupRoot, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// Cgroups are the directories of the control group that this process is in, and of those above it, for a controller of
// version 1, or in the unified hierarchy where that has it (cgroups(7)).
func Cgroups(controller string) []string {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	var dirs []string
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 {
			continue
		}
		root := CgroupRoot
		if f[0] != "0" {
			if !slices.Contains(strings.Split(f[1], ","), controller) {
				continue
			}
			root = path.Join(CgroupRoot, controller)
		} else if !UnifiedCgroups() {
			continue
		}
		for group := path.Clean("/" + f[2]); ; group = path.Dir(group) {
			dirs = append(dirs, path.Join(root, group))
			if group == "/" {
				break
			}
		}
	}
	return dirs
}
