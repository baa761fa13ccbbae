package check

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"ocibundle/pipeline/bundle"
	"ocibundle/specedit"
	"ocibundle/tarx"
	"ocibundle/tarx/handle"
)

// readMapping takes the mapping of the config's own user namespace.
func (k *checker) readMapping() {
	k.mapped = true
	var own bool
	for _, n := range namespaces(k.spec) {
		if n.Type == specs.UserNamespace {
			own, k.mapped = n.Path == "", n.Path == ""
		}
	}
	if !own {
		return
	}
	if k.ordinary && !k.ids.InNamespace {
		k.at(FindingForbidden, "/linux/namespaces", "a user namespace is among them, and this host lets an ordinary user make none")
	}
	host := user.IdentityMapping{UIDMaps: bundle.IDMaps(k.spec.Linux.UIDMappings), GIDMaps: bundle.IDMaps(k.spec.Linux.GIDMappings)}
	if len(host.UIDMaps) == 0 || len(host.GIDMaps) == 0 {
		k.mapped = false // said by specedit
		return
	}
	var err error
	if k.mapping, err = k.ids.ToDisk(host); err != nil {
		k.mapped = false
		why := err.Error()
		if len(k.ids.Notes) > 0 {
			why = k.ids.Notes[0] // why there are fewer ids than the caller could have
		}
		k.at(specedit.FindingMapping, "/linux/uidMappings", "the caller cannot have the mapping: %s", why)
	}
}

// checkParents looks at the directories on the way to the rootfs, which the container's root must be able to search where
// it is another user on the host.
func (k *checker) checkParents() {
	if !k.mapped || k.mapping.Empty() {
		return
	}
	uid, gid := k.mapping.RootPair()
	if uid < 0 || gid < 0 {
		return // said by specedit
	}
	if k.ids.InNamespace && uid == 0 && gid == 0 {
		return // the caller, who has just been there
	}
	path, err := os.Readlink(handle.Path(int(k.dir.Fd())))
	if err != nil {
		return
	}
	if dir := bundle.Unsearchable(path, uid, gid, k.mapping); dir != "" {
		host := uid
		if len(k.spec.Linux.UIDMappings) > 0 {
			host, _ = user.IdentityMapping{UIDMaps: bundle.IDMaps(k.spec.Linux.UIDMappings), GIDMaps: bundle.IDMaps(k.spec.Linux.GIDMappings)}.RootPair()
		}
		k.file(FindingParent, dir, "cannot be searched by the container's root, which is uid %d on the host", host)
	}
}

// checkOwners compares the owners of all files with the mapping.
func (k *checker) checkOwners(ctx context.Context) error {
	if !k.mapped {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(k.rootfs.Fd()), &st); err != nil {
		return fmt.Errorf("stat the rootfs: %w", err)
	}
	if k.mapping.Empty() {
		// No image has such ids: they come from a mapping that the config has not.
		if st.Uid >= 1<<16 && !k.ids.Rootless {
			k.file(FindingOwner, "rootfs", "belongs to uid %d, and the config has no user namespace that makes it a container's id", st.Uid)
		}
		return nil
	}
	if !mapsTo(k.mapping.UIDMaps, st.Uid) || !mapsTo(k.mapping.GIDMaps, st.Gid) {
		k.file(FindingOwner, "rootfs", "belongs to %d:%d on disk, which the mapping lacks (%s)", st.Uid, st.Gid, ranges(k.mapping.UIDMaps))
	}
	w := ownerWalk{mapping: k.mapping, inNamespace: k.ids.InNamespace}
	o, err := w.run(ctx, k.rootfs)
	if err != nil {
		return fmt.Errorf("look through the rootfs: %w", err)
	}
	if o.outside > 0 {
		who := fmt.Sprintf("%s %d on disk", o.what, o.id)
		if o.hidden {
			who = "an id that the caller does not have"
		}
		maps := k.mapping.UIDMaps
		if o.what == "gid" {
			maps = k.mapping.GIDMaps
		}
		n := "file belongs"
		if o.outside > 1 {
			n = "files belong"
		}
		k.file(FindingOwner, "/"+o.first, "%d %s to ids that the mapping lacks (%s), this one to %s: the container sees them as nobody's", o.outside, n, ranges(maps), who)
	}
	if o.skipped > 0 {
		more := ""
		if o.skipped > 1 {
			more = fmt.Sprintf(", the first of %d directories", o.skipped)
		}
		k.file(FindingUnreadable, "/"+o.unread, "could not be looked at: %v%s", handle.Cause(o.why), more)
	}
	return nil
}

// ranges shows the ids on disk of a mapping.
func ranges(maps []user.IDMap) string {
	var parts []string
	for i, m := range maps {
		if i == 4 {
			parts = append(parts, "...")
			break
		}
		parts = append(parts, fmt.Sprintf("%d-%d", m.ParentID, m.ParentID+m.Count-1))
	}
	return strings.Join(parts, ", ")
}

// overflowID is what stands for an id that a user namespace lacks: the default of the sysctl kernel.overflowuid.
const overflowID = 65534

// ownerMapped tells whether a file that seems to be the overflow id's is. Only regular files and directories can be asked.
func ownerMapped(dirfd int, name string, st *unix.Stat_t) bool {
	if k := st.Mode & unix.S_IFMT; k != unix.S_IFREG && k != unix.S_IFDIR {
		return true
	}
	h, err := handle.OpenSameMount(dirfd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if err != nil {
		return true // somebody else's by now
	}
	defer unix.Close(h)
	var now unix.Stat_t
	if unix.Fstat(h, &now) != nil || now.Mode&unix.S_IFMT != st.Mode&unix.S_IFMT {
		return true
	}
	return handle.OwnerMapped(h)
}

// mapsTo tells whether an id on disk is some id of the container's.
func mapsTo(maps []user.IDMap, id uint32) bool {
	_, ok := tarx.ToContainer(maps, id)
	return ok
}
