package testenv

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A janitor is a process that is told of everything to undo, reads until its stdin ends, which the
// kernel sees to however the test process dies, and then undoes what is still there, last thing
// first.
type janitor struct {
	mu    sync.Mutex
	cmd   *exec.Cmd
	stdin io.WriteCloser
}

var theJanitor janitor

const janitorName = "ocibundle-test-janitor"

func init() {
	if os.Args[0] == janitorName {
		os.Exit(sweep(os.Stdin))
	}
}

// register tells the janitor of a thing before it is made; kind is one of the cases of undo.
func (j *janitor) register(kind, value string) error {
	if strings.ContainsAny(value, "\t\n") {
		return fmt.Errorf("register %s %q for clean-up: tab or newline in it", kind, value)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.cmd == nil {
		cmd := exec.Command("/proc/self/exe")
		cmd.Args = []string{janitorName}
		cmd.Dir = "/"
		cmd.Stdout = os.Stderr
		cmd.Stderr = os.Stderr
		// A session of its own keeps it clear of the terminal's Ctrl-C.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		stdin, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("start the clean-up process: %w", err)
		}
		j.cmd, j.stdin = cmd, stdin
	}
	_, err := fmt.Fprintf(j.stdin, "%s\t%s\n", kind, value)
	return err
}

// Cleanup undoes everything testenv has made in this process and waits for it. It happens without
// being called, too, a moment after the process has ended; a TestMain that looks for leftovers
// calls it first.
func Cleanup() error {
	j := &theJanitor
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.cmd == nil {
		return nil
	}
	cmd := j.cmd
	j.cmd = nil
	if err := j.stdin.Close(); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("clean up after the tests: %w", err)
	}
	return nil
}

func sweep(r io.Reader) int {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	var lines []string
	for s := bufio.NewScanner(r); s.Scan(); {
		lines = append(lines, s.Text())
	}
	status := 0
	for _, line := range slices.Backward(lines) {
		kind, value, _ := strings.Cut(line, "\t")
		if err := undo(kind, value); err != nil {
			fmt.Fprintf(os.Stderr, "clean up after the tests: %s %s: %v\n", kind, value, err)
			status = 1
		}
	}
	return status
}

func undo(kind, value string) error {
	switch kind {
	case "dir":
		return removeDir(value)
	case "user":
		return removeUser(value)
	case "engine":
		return killEngine(value)
	case "cgroup":
		return removeCgroups(value)
	}
	return errors.New("nobody knows how")
}

// removeDir removes a directory and all below it, after unmounting what is mounted there. That it
// does not exist is fine.
func removeDir(dir string) error {
	if err := unmountBelow(dir); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		// A directory without u+w keeps an ordinary user from removing what is in it.
		_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if d != nil && d.IsDir() {
				_ = os.Chmod(path, 0o700)
			}
			return nil
		})
	}
	return os.RemoveAll(dir)
}

func unmountBelow(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var points []string
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 4 {
			// proc(5): blanks and backslashes in the mount point are octal escapes.
			point := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(fields[4])
			if point == dir || strings.HasPrefix(point, dir+"/") {
				points = append(points, point)
			}
		}
	}
	for _, point := range slices.Backward(points) {
		if err := syscall.Unmount(point, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("unmount %q: %w", point, err)
		}
	}
	return nil
}

// processID names a process so that a later process with the same number is not taken for it:
// "PID:START", the start time being field 22 of proc_pid_stat(5).
func processID(pid int) (string, error) {
	start, err := startTime(pid)
	return fmt.Sprintf("%d:%s", pid, start), err
}

func startTime(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// The command name, field 2, may hold anything but ends at the last parenthesis.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 {
		return "", fmt.Errorf("read the start time of process %d: short line", pid)
	}
	if fields[0] == "Z" {
		return "", syscall.ESRCH
	}
	return fields[19], nil
}

// killEngine kills the process that processID named, an unshare(1), and waits until it and all
// processes in the namespaces it made are gone.
func killEngine(id string) error {
	number, start, _ := strings.Cut(id, ":")
	pid, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	if now, err := startTime(pid); err != nil || now != start {
		return nil
	}
	// The first process of a pid namespace ends as the last one in it. Its parent must not end
	// before it, for then there would be no telling.
	if first := child(pid); first != 0 {
		start, err := startTime(first)
		if err == nil {
			err = kill(first, start)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return kill(pid, start)
}

// kill kills a process and waits until it is gone.
func kill(pid int, start string) error {
	return waitGone(func() (bool, error) {
		if now, err := startTime(pid); err != nil || now != start {
			return true, nil
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return false, err
		}
		return false, nil
	})
}

// waitGone calls gone until it says so. A killed process takes a moment to die; what does not die
// in ten seconds is reported, for it will not.
func waitGone(gone func() (bool, error)) error {
	for range 1000 {
		if ok, err := gone(); ok || err != nil {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New("it does not go away")
}

// removeCgroups removes the control groups that have tag in their path. A runtime that was killed
// leaves such groups behind.
func removeCgroups(tag string) error {
	if !strings.HasPrefix(tag, "obt") {
		return fmt.Errorf("%q is not a name of ours", tag)
	}
	groups := cgroups(tag)
	for _, group := range slices.Backward(groups) {
		err := waitGone(func() (bool, error) {
			err := syscall.Rmdir(group)
			// EBUSY: the last process of the group is still dying.
			if errors.Is(err, syscall.EBUSY) {
				return false, nil
			}
			return true, err
		})
		if err != nil && !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("remove control group %q: %w", group, err)
		}
	}
	return nil
}

// cgroups lists the control groups that have tag in their path, parents first.
func cgroups(tag string) []string {
	var groups []string
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil
		}
		if strings.Contains(path, tag) {
			groups = append(groups, path)
		}
		return nil
	})
	return groups
}
