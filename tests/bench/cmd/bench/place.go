package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// privateEnv marks the harness inside its own mount namespace: what it mounts is seen by nobody else, and goes away with
// it, whatever it dies of.
const privateEnv = "OCIBUNDLE_BENCH_SCRATCH"

// enterPrivate runs the harness again in a mount namespace of its own and returns its exit status.
func enterPrivate() (int, error) {
	scratch, err := os.MkdirTemp("", "ocibundle-bench-")
	if err != nil {
		return 1, err
	}
	defer os.Remove(scratch)
	exe, err := os.Executable()
	if err != nil {
		return 1, err
	}
	cmd := exec.Command(exe, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), privateEnv+"="+scratch)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// mountTmpfs mounts an empty tmpfs of at most size GiB.
func mountTmpfs(dir string, size int) error {
	// The default limit of inodes is half of the pages in memory; a million entries shall fit in any case.
	if err := unix.Mount("bench", dir, "tmpfs", 0, fmt.Sprintf("mode=0755,size=%dg,nr_inodes=4m", size)); err != nil {
		return &os.PathError{Op: "mount tmpfs on", Path: dir, Err: err}
	}
	return nil
}

// A place is where one run writes. It is fresh for every run: nothing has been deleted in it.
type place struct {
	dir   string
	leave func() error
}

func tmpfsPlace(scratch string) (*place, error) {
	dir, err := os.MkdirTemp(scratch, "tmpfs-")
	if err != nil {
		return nil, err
	}
	if err := mountTmpfs(dir, 9); err != nil {
		return nil, err
	}
	return &place{dir, func() error {
		if err := unix.Unmount(dir, 0); err != nil {
			return &os.PathError{Op: "unmount", Path: dir, Err: err}
		}
		return os.Remove(dir)
	}}, nil
}

// ext4Place makes a new ext4 in a file on the scratch tmpfs and mounts it: no deletion, of ours or of anybody else's, has
// ever happened in it (after one, ext4 avoids the freed inodes for minutes), and no disk adds its noise.
func ext4Place(scratch string) (*place, error) {
	image, err := os.CreateTemp(scratch, "ext4-")
	if err != nil {
		return nil, err
	}
	image.Close()
	dir := image.Name() + ".mnt"
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.Truncate(image.Name(), 3<<30); err != nil {
		return nil, err
	}
	// Lazy initialization would write in the background while we measure.
	if err := command("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", image.Name()); err != nil {
		return nil, err
	}
	if err := command("mount", "-o", "loop", image.Name(), dir); err != nil {
		return nil, err
	}
	return &place{dir, func() error {
		if err := unix.Unmount(dir, 0); err != nil {
			return &os.PathError{Op: "unmount", Path: dir, Err: err}
		}
		return errors.Join(os.Remove(dir), os.Remove(image.Name()))
	}}, nil
}

// diskPlace is a fresh directory below the one given, for those who want a real disk. It stays until all runs are over.
func diskPlace(base string) (*place, error) {
	dir, err := os.MkdirTemp(base, "run-")
	if err != nil {
		return nil, err
	}
	unix.Sync()
	return &place{dir, func() error { return nil }}, os.Chmod(dir, 0o755)
}

const userPrefix = "ocibench"

// A guest is a throw-away user with subordinate ids.
type guest struct {
	name           string
	uid, gid       int
	subuid, subgid int // first ids of the ranges
}

func makeGuest() (*guest, error) {
	if err := need("newuidmap", "uidmap"); err != nil {
		return nil, err
	}
	g := &guest{name: fmt.Sprintf("%s%d", userPrefix, os.Getpid())}
	if err := command("useradd", "--no-create-home", "--user-group", "--shell", "/usr/sbin/nologin", g.name); err != nil {
		return nil, err
	}
	err := g.lookup()
	if err != nil {
		return nil, errors.Join(err, g.remove())
	}
	return g, nil
}

func (g *guest) remove() error { return command("userdel", g.name) }

func (g *guest) lookup() error {
	u, err := user.Lookup(g.name)
	if err != nil {
		return err
	}
	if g.uid, err = strconv.Atoi(u.Uid); err != nil {
		return err
	}
	if g.gid, err = strconv.Atoi(u.Gid); err != nil {
		return err
	}
	if g.subuid, err = subordinate("/etc/subuid", g.name); err != nil {
		return err
	}
	g.subgid, err = subordinate("/etc/subgid", g.name)
	return err
}

// subordinate is the first id of a user's first range in /etc/subuid or /etc/subgid (subuid(5)).
func subordinate(file, name string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) == 3 && f[0] == name {
			var first int
			_, err := fmt.Sscan(f[1], &first)
			return first, err
		}
	}
	return 0, fmt.Errorf("%s has no range for %s", file, name)
}

// scratchDir is a directory on the scratch tmpfs that every user may enter.
func scratchDir(scratch, name string) (string, error) {
	dir := filepath.Join(scratch, name)
	return dir, os.MkdirAll(dir, 0o755)
}
