package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

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

// sweep removes the stages for d whose makers are dead: nobody holds their
// locks. Only directories of our own are touched, for others could have made
// theirs for us to find in a directory like /tmp.
func sweep(d *destination) error {
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
			if strings.HasPrefix(n, prefix) {
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

func sweepOne(d *destination, name string) error {
	f, err := OpenAt(d.Parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return nil
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || int(st.Uid) != os.Geteuid() {
		return nil
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil // at work
	}
	return remove.All(int(d.Parent.Fd()), name)
}
