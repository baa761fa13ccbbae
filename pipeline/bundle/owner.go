package bundle

import (
	"fmt"
	"path/filepath"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"ocibundle/pipeline/userns"
)

// foreignRoot says that the container's root may not be the caller. In a
// namespace the caller is id 0.
func foreignRoot(ids userns.State) bool {
	if ids.Mode != userns.ModeExplicit {
		return false
	}
	uid, gid := ids.Disk.RootPair()
	return !ids.InNamespace || uid != 0 || gid != 0
}

// Unreachable warns of what keeps the container's root from its bundle when it
// is another user on the host: directories on the way that it may not search,
// and a runtime that has no right to give it anything.
func Unreachable(output string, ids userns.State) (warnings []string) {
	if !foreignRoot(ids) {
		return nil
	}
	if ids.InNamespace {
		warnings = append(warnings, "the container's root is not the caller, and an ordinary user's crun accepts that, runc does not")
	}
	uid, gid := ids.Disk.RootPair()
	if dir := Unsearchable(filepath.Dir(output), uid, gid, ids.Disk); dir != "" {
		host, _ := ids.Host.RootPair()
		warnings = append(warnings, fmt.Sprintf("the container's root (uid %d on the host) may not search %q, so the bundle will not start", host, dir))
	}
	return warnings
}

// Unsearchable finds a directory that a container's root, with the ids uid and gid on disk, may not
// search: dir, or one above it. Empty: there is none.
func Unsearchable(dir string, uid, gid int, disk user.IdentityMapping) string {
	for ; ; dir = filepath.Dir(dir) {
		var st unix.Stat_t
		if unix.Stat(dir, &st) == nil {
			search := uint32(0o001)
			switch {
			case int(st.Uid) == uid:
				search = 0o100
			case int(st.Gid) == gid:
				search = 0o010
			}
			// Where both ids are the container's, its root has every right
			// (user_namespaces(7), "Capabilities").
			_, _, foreign := disk.ToContainer(int(st.Uid), int(st.Gid))
			if st.Mode&search == 0 && foreign != nil {
				return dir
			}
		}
		if dir == "/" {
			return ""
		}
	}
}
