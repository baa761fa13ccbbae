package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/tests/faults/inject"
	"ocibundle/tests/testenv"
)

// quotas are the trials with a quota that leaves so much room beside what is there, and no more. It is that of btrfs,
// which holds for root, too, and for names and metadata as well as for data. Limits of inodes it has not: errors of single
// calls stand in for them (see inject.Kinds).
func quotas(t *testing.T, w *world) (trials []*trial) {
	testenv.NeedTool(t, "mount", "mkfs.btrfs", "btrfs")
	const steps = 80 // a little more than any command needs
	w.every(func(who *identity, c *command, ref *reference) {
		for n := 0; n < steps && c.does != looks; n++ {
			trials = append(trials, &trial{who: who, c: c, ref: ref, kind: "quota", fault: fmt.Sprintf("quota/%d", n), fs: "btrfs",
				arrange: func(s *scene, _ *inject.Command) (func(), error) { return nil, s.limit(uint64(n) * 32 << 10) },
				expect:  func(*inject.Result) expectation { return expectation{codes: []int{1}, says: unix.EDQUOT.Error()} },
			})
		}
	})
	return trials
}

// limit leaves so many bytes in the scene's filesystem, a btrfs.
func (s *scene) limit(room uint64) error {
	dir, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := errors.Join(unix.Syncfs(int(dir.Fd())), call("btrfs", "quota", "enable", s.dir), call("btrfs", "quota", "rescan", "-w", s.dir)); err != nil {
		return err
	}
	out, err := exec.Command("btrfs", "qgroup", "show", "--raw", s.dir).Output()
	if err != nil {
		return err
	}
	// The last line is of all there is: its name, and the bytes in use.
	_, list, _ := strings.Cut(string(out), "\n0/5 ")
	used, err := strconv.ParseUint(strings.Fields(list + " -")[0], 10, 64)
	if err != nil {
		return fmt.Errorf("how much is in use: %w: %s", err, out)
	}
	return call("btrfs", "qgroup", "limit", fmt.Sprint(used+room), s.dir)
}
