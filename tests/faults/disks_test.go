package faults

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/tests/faults/inject"
)

// disks are the trials on filesystems that have so much room beside what is there, and no more: in pages, and in inodes.
func disks(t *testing.T, w *world) (trials []*trial) {
	const pages, inodes = 300, 40 // a little more than any command needs
	w.every(func(who *identity, c *command, ref *reference) {
		if c.does == looks {
			return
		}
		for n := 0; n < pages; n += 2 {
			trials = append(trials, full(who, c, ref, "pages", n))
		}
		for n := range inodes {
			trials = append(trials, full(who, c, ref, "inodes", n))
		}
	})
	return trials
}

func full(who *identity, c *command, ref *reference, what string, n int) *trial {
	return &trial{who: who, c: c, ref: ref, kind: "few " + what, fault: fmt.Sprintf("%s/%d", what, n), fs: "tmpfs",
		arrange: func(s *scene, _ *inject.Command) (func(), error) {
			var fs unix.Statfs_t
			if err := unix.Statfs(s.dir, &fs); err != nil {
				return nil, err
			}
			// 0 means no limit; a tmpfs counts in pages, however large they are.
			option := fmt.Sprintf("nr_inodes=%d", fs.Files-fs.Ffree+uint64(n))
			if what == "pages" {
				option = fmt.Sprintf("nr_blocks=%d", max(1, fs.Blocks-fs.Bfree+uint64(n)))
			}
			return nil, unix.Mount("tmpfs", s.dir, "tmpfs", unix.MS_REMOUNT, option)
		},
		expect: func(*inject.Result) expectation {
			return expectation{codes: []int{1}, says: unix.ENOSPC.Error()}
		},
	}
}
