package testenv

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// A Range is a range of subordinate ids as subuid(5) has it.
type Range struct {
	Start, Count uint32
}

// UserOptions says what a [TempUser] has. The zero value is a user without subordinate ids.
type UserOptions struct {
	// SubIDs, if not 0, is the size of the one range of subordinate user ids and the one of group
	// ids that the system allots, as it does for a new user (65536).
	SubIDs uint32
	// SubUIDs and SubGIDs are ranges to be added as they are.
	SubUIDs, SubGIDs []Range
}

// A User is an ordinary user made for a test.
type User struct {
	Name     string
	UID, GID uint32
	// Home is the user's own directory. Everybody may enter it, also a container's mapped root. It
	// is the place for the test's files: the user cannot enter t.TempDir().
	Home string
	// SubUIDs and SubGIDs are the user's lines in /etc/subuid and /etc/subgid.
	SubUIDs, SubGIDs []Range
}

// TempUser makes an ordinary user. At the end of the test the user is removed with its processes,
// its files and its subordinate ids.
func TempUser(t testing.TB, o UserOptions) *User {
	t.Helper()
	NeedRoot(t)
	NeedTool(t, "useradd", "usermod", "userdel")
	u := &User{Name: Name()}
	home, err := sharedDir()
	if err != nil {
		t.Fatal(err)
	}
	u.Home = home
	if err := theJanitor.register("user", u.Name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := removeUser(u.Name); err != nil {
			t.Errorf("remove user %s: %v", u.Name, err)
		}
		if err := removeDir(home); err != nil {
			t.Errorf("remove the home of user %s: %v", u.Name, err)
		}
	})
	if err := u.create(o); err != nil {
		t.Fatalf("create user %s: %v", u.Name, err)
	}
	return u
}

func (u *User) create(o UserOptions) error {
	unlock, err := lockUsers()
	if err != nil {
		return err
	}
	defer unlock()
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		// useradd allots ranges only where the files exist.
		f, err := os.OpenFile(file, os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			return err
		}
		f.Close()
	}
	args := []string{"--no-create-home", "--user-group", "--home-dir", u.Home, "--shell", "/bin/sh",
		"--key", fmt.Sprintf("SUB_UID_COUNT=%d", o.SubIDs), "--key", fmt.Sprintf("SUB_GID_COUNT=%d", o.SubIDs), u.Name}
	if err := admin("useradd", args...); err != nil {
		return err
	}
	for flag, ranges := range map[string][]Range{"--add-subuids": o.SubUIDs, "--add-subgids": o.SubGIDs} {
		for _, r := range ranges {
			if err := admin("usermod", flag, fmt.Sprintf("%d-%d", r.Start, r.Start+r.Count-1), u.Name); err != nil {
				return err
			}
		}
	}
	entry, err := user.Lookup(u.Name)
	if err != nil {
		return err
	}
	if u.UID, err = parseID(entry.Uid); err != nil {
		return err
	}
	if u.GID, err = parseID(entry.Gid); err != nil {
		return err
	}
	if u.SubUIDs, err = subordinate("/etc/subuid", u.Name); err != nil {
		return err
	}
	if u.SubGIDs, err = subordinate("/etc/subgid", u.Name); err != nil {
		return err
	}
	run := filepath.Join(u.Home, "run")
	if err := os.Mkdir(run, 0o700); err != nil {
		return err
	}
	for _, dir := range []string{run, u.Home} {
		if err := os.Chown(dir, int(u.UID), int(u.GID)); err != nil {
			return err
		}
	}
	return nil
}

// Command makes a command that runs as the user, in its home, with an environment of its own. The
// test process's own environment is not handed on.
func (u *User) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if path, err := lookTool(name); err == nil {
		name = path
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = u.Home
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + u.Home, "USER=" + u.Name, "LOGNAME=" + u.Name, "SHELL=/bin/sh", "LANG=C.UTF-8",
		"XDG_RUNTIME_DIR=" + filepath.Join(u.Home, "run"),
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: []uint32{u.GID}},
	}
	return cmd
}

// RunAs runs a command as the user and returns its stdout; see [User.Command] and [Output].
func RunAs(t testing.TB, u *User, name string, args ...string) string {
	t.Helper()
	return Output(t, u.Command(t.Context(), name, args...))
}

func admin(name string, args ...string) error {
	path, err := lookTool(name)
	if err != nil {
		return err
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return nil
}

// lockUsers keeps the test processes from changing the user database at the same time: useradd
// gives up where it would have to wait. The lock is on the directory, so that no lock file is left
// behind.
func lockUsers() (unlock func(), err error) {
	etc, err := os.Open("/etc")
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(etc.Fd()), syscall.LOCK_EX); err != nil {
		etc.Close()
		return nil, fmt.Errorf("lock the user database: %w", err)
	}
	return func() { etc.Close() }, nil
}

func removeUser(name string) error {
	if !strings.HasPrefix(name, "obt") {
		return fmt.Errorf("%q is not a user of ours", name)
	}
	entry, err := user.Lookup(name)
	if errors.As(err, new(user.UnknownUserError)) {
		return nil
	}
	if err != nil {
		return err
	}
	uid, err := parseID(entry.Uid)
	if err != nil {
		return err
	}
	// A container's processes run under the subordinate ids.
	ranges, err := subordinate("/etc/subuid", name)
	if err != nil {
		return err
	}
	ranges = append(ranges, Range{uid, 1})
	if err := waitGone(func() (bool, error) { return killUsers(ranges) }); err != nil {
		return fmt.Errorf("end the processes of the user: %w", err)
	}
	unlock, err := lockUsers()
	if err != nil {
		return err
	}
	defer unlock()
	return admin("userdel", name)
}

// killUsers kills every process that has a user id within the ranges and reports whether there was
// none.
func killUsers(ranges []Range) (none bool, err error) {
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return false, err
	}
	none = true
	for _, proc := range procs {
		status, err := os.ReadFile(filepath.Join(proc, "status"))
		if err != nil || bytes.Contains(status, []byte("\nState:\tZ")) {
			continue
		}
		_, after, _ := bytes.Cut(status, []byte("\nUid:"))
		line, _, _ := bytes.Cut(after, []byte("\n"))
		for _, field := range strings.Fields(string(line)) {
			id, err := parseID(field)
			if err != nil {
				return false, err
			}
			if !within(id, ranges) {
				continue
			}
			pid, err := strconv.Atoi(filepath.Base(proc))
			if err != nil {
				return false, err
			}
			none = false
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return false, err
			}
			break
		}
	}
	return none, nil
}

func within(id uint32, ranges []Range) bool {
	for _, r := range ranges {
		if id >= r.Start && id-r.Start < r.Count {
			return true
		}
	}
	return false
}

// subordinate reads a user's lines of /etc/subuid or /etc/subgid.
func subordinate(file, name string) ([]Range, error) {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var ranges []Range
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) != 3 || fields[0] != name {
			continue
		}
		start, err := parseID(fields[1])
		if err != nil {
			return nil, err
		}
		count, err := parseID(fields[2])
		if err != nil {
			return nil, err
		}
		ranges = append(ranges, Range{start, count})
	}
	return ranges, lines.Err()
}

func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}
