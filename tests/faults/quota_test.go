package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"ocibundle/tests/faults/inject"
	"ocibundle/tests/testenv"
)

// quotas are the trials with a quota that leaves so much room beside what is there, and no more. That of btrfs holds for
// root, too, and for names and metadata as well as for data. That of ext4 has a limit of inodes, and one for each user;
// root, who has CAP_SYS_RESOURCE, it lets pass. Not every kernel is built with it, and where it is not, errors of single
// calls stand in for it (see inject.Kinds).
func quotas(t *testing.T, w *world) (trials []*trial) {
	testenv.NeedTool(t, "mount", "mkfs.btrfs", "btrfs", "mkfs.ext4")
	probe, err := w.set(w.who[0], &commands[0], "ext4 quota")
	if err == nil {
		err = probe.remove()
	} else {
		t.Logf("quotas of btrfs alone: %v", err)
	}
	add := func(who *identity, c *command, ref *reference, fs, what string, n int, limit func(s *scene) error) {
		trials = append(trials, &trial{who: who, c: c, ref: ref, kind: fs + " " + what, fault: fmt.Sprintf("quota/%s/%d", what, n), fs: fs,
			arrange: func(s *scene, _ *inject.Command) (func(), error) { return nil, limit(s) },
			expect:  func(*inject.Result) expectation { return expectation{codes: []int{1}, says: unix.EDQUOT.Error()} },
		})
	}
	const steps = 80 // a little more than any command needs
	w.every(func(who *identity, c *command, ref *reference) {
		for n := 0; n < steps && c.does != looks; n++ {
			add(who, c, ref, "btrfs", "bytes", n, func(s *scene) error { return s.limitAll(uint64(n) * 32 << 10) })
			if err != nil || who.uid == 0 {
				continue
			}
			add(who, c, ref, "ext4 quota", "blocks", n, func(s *scene) error { return s.limitUser(uint64(n)*12+1, 1<<20) })
			add(who, c, ref, "ext4 quota", "inodes", n, func(s *scene) error { return s.limitUser(1<<20, uint64(n/2)) })
		}
	})
	return trials
}

// limitAll leaves so many bytes in the scene's filesystem, a btrfs.
func (s *scene) limitAll(room uint64) error {
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

// limitUser leaves the scene's user so many blocks of 1024 bytes and inodes more, in an ext4.
func (s *scene) limitUser(blocks, inodes uint64) error {
	dir, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	// Struct if_dqblk and the commands of linux/quota.h, for a user (0).
	var q struct {
		blockHard, blockSoft, space, inodeHard, inodeSoft, inodes, blockTime, inodeTime uint64
		valid                                                                           uint32
	}
	const get, set, limits = 0x800007 << 8, 0x800008 << 8, 1 | 4
	quotactl := func(command uintptr) error {
		_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, dir.Fd(), command, uintptr(s.who.uid), uintptr(unsafe.Pointer(&q)), 0, 0)
		if errno != 0 {
			return fmt.Errorf("set a quota: %w", errno)
		}
		return nil
	}
	// Blocks are counted when they are allotted, which takes a while.
	if err := errors.Join(unix.Syncfs(int(dir.Fd())), quotactl(get)); err != nil {
		return err
	}
	q.blockHard, q.inodeHard, q.valid = q.space>>10+blocks, max(1, q.inodes+inodes), limits
	return quotactl(set)
}
