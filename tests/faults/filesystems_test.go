package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// filesystems are those that a scene can have in a file, and how they are made: each as small as it can be, the ext4
// with inodes that have room for attributes and nanoseconds, which small ones lack where mke2fs.conf says so.
var filesystems = map[string]struct{ make, options string }{
	// Where ext4 does not look after those who rename without a flush, as others do not (auto_da_alloc in ext4(5)).
	"ext4":  {"mkfs.ext4 -q -I 256 -J size=4", "noauto_da_alloc"},
	"xfs":   {"mkfs.xfs -q", ""},
	"btrfs": {"mkfs.btrfs -q", ""},
}

// image is the file that the scene's filesystem is in.
func (s *scene) image() string { return s.dir + ".img" }

// format gives the scene an empty filesystem: tmpfs, or one of filesystems.
func (s *scene) format() error {
	if s.fs == "tmpfs" {
		if err := unix.Mount("tmpfs", s.dir, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount a filesystem: %w", err)
		}
		return nil
	}
	f, err := os.Create(s.image())
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(320 << 20); err != nil {
		return err
	}
	if err := call(append(strings.Fields(filesystems[s.fs].make), s.image())...); err != nil {
		return err
	}
	if err := s.mount(); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(s.dir, "lost+found"))
}

// mount mounts the scene's filesystem. The kernel gives the loop device back when nothing is mounted from it any more,
// also where that comes about by the janitor.
func (s *scene) mount() error {
	return call("mount", "-t", s.fs, "-o", "loop,"+filesystems[s.fs].options, s.image(), s.dir)
}

// remount unmounts the scene's filesystem and mounts it again. A process that another trial has just forked has a
// descriptor in it until it executes. And mount(8) would take a loop device that is about to go, and lose it.
func (s *scene) remount() error {
	if err := eventually(func() bool { return unix.Unmount(s.dir, 0) != unix.EBUSY }); err != nil {
		return fmt.Errorf("unmount a filesystem: %w", err)
	}
	if err := eventually(func() bool { return !s.attached() }); err != nil {
		return fmt.Errorf("give back a loop device: %w", err)
	}
	return s.mount()
}

func eventually(done func() bool) error {
	for start := time.Now(); !done(); time.Sleep(time.Millisecond) {
		if time.Since(start) > patience {
			return errors.New("it is kept")
		}
	}
	return nil
}

// attached says that there is a loop device of the scene's file.
func (s *scene) attached() bool {
	devices, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	return slices.ContainsFunc(devices, func(path string) bool {
		name, _ := os.ReadFile(path)
		return strings.TrimSpace(string(name)) == s.image()
	})
}

func call(command ...string) error {
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, out)
	}
	return nil
}
