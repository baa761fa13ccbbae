package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	nsutil "github.com/moby/sys/userns"
	"golang.org/x/sys/unix"

	"ocibundle/tarx/handle"
	"ocibundle/tarx/remove"
)

// stagePrefix is what the names of all stages for a destination start with.
func stagePrefix(base string) string {
	const room = 180 // of the 255 bytes that a name may have
	if len(base) > room {
		sum := sha256.Sum256([]byte(base))
		base = base[:room] + "-" + hex.EncodeToString(sum[:8])
	}
	return "." + base + ".ocibundle-"
}

// hasRandom says whether name is prefix and what randomHex makes.
func hasRandom(name, prefix string) bool {
	random, ok := strings.CutPrefix(name, prefix)
	return ok && len(random) == 16 && strings.Trim(random, "0123456789abcdef") == ""
}

// overflowID is what an id outside this user namespace looks like: the default of the sysctl
// kernel.overflowuid.
const overflowID = 65534

// othersRename says whether somebody else than the caller and root may rename what is in a
// directory: another owner, or where the sticky bit does not forbid it, whoever may write there. In
// a user namespace all other owners look alike; there that of a sticky directory, such as /tmp, is
// taken for root.
func othersRename(dir *os.File) bool {
	var st unix.Stat_t
	if unix.Fstat(int(dir.Fd()), &st) != nil {
		return true
	}
	sticky := st.Mode&unix.S_ISVTX != 0
	if st.Mode&0o022 != 0 && !sticky {
		return true
	}
	root := st.Uid == 0 || st.Uid == overflowID && sticky && nsutil.RunningInUserNS()
	return !root && int(st.Uid) != os.Geteuid()
}

// sweep removes the stages for d whose makers are dead: nobody holds their locks. In a directory in
// which others may rename things nothing is swept: they could have given a stage's name to
// something of the caller's.
func sweep(d *Destination) error {
	if othersRename(d.Parent) {
		return nil
	}
	// A handle of its own: the directory's offset is shared.
	dir, err := OpenAt(d.Parent, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil // not readable: then there is nothing to find
	}
	defer dir.Close()
	prefix := stagePrefix(d.base)
	for {
		names, err := dir.Readdirnames(1024)
		for _, n := range names {
			if hasRandom(n, prefix) {
				if err := sweepOne(d, n); err != nil {
					return fmt.Errorf("remove %q, which an earlier run left: %w", n, err)
				}
			}
		}
		if err != nil || len(names) == 0 {
			return nil
		}
	}
}

// sweepOne removes the directory name if it is a stale stage. A mount point is left alone without
// being looked at: the filesystem may be one that hangs.
func sweepOne(d *Destination, name string) error {
	fd, err := handle.OpenSameMount(int(d.Parent.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || int(st.Uid) != os.Geteuid() || st.Mode&0o077&^0o010 != 0 {
		return nil
	}
	if tryLock(fd) != nil || !isStage(f) {
		return nil // at work, or something else
	}
	if err := remove.Children(fd); err != nil && err != unix.ENOENT { // its maker has removed it meanwhile
		return err
	}
	return d.removeEmpty(f, name)
}

// isStage says whether a directory holds what a stage does at some time, or a bundle whose removal
// has begun.
func isStage(f *os.File) bool {
	ours, err := holdsOnly(f, func(n string) bool { return n == rootfsName || n == configName || n == spoolName })
	if ours || err != nil {
		return ours
	}
	c, err := inspect(f, f.Name())
	if err != nil {
		return false
	}
	c.Close()
	return true
}
