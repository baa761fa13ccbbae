package bundle

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"ocibundle/tarx/handle"
)

// place is a directory as the kernel names it in every mount namespace alike.
type place struct {
	device string // major:minor
	path   string // from the filesystem's own root
}

// mount is a line of proc_pid_mountinfo(5).
type mount struct {
	id    string
	place place
	point string
}

const (
	// mountsOfOthers is how much of another process's list of mounts is read, which may be as long
	// as its user likes. A container's root is at its beginning.
	mountsOfOthers = 1 << 20
	// mountLine bounds one line. The options of an overlay with hundreds of layers are longer than
	// what moby/sys/mountinfo takes.
	mountLine = 1 << 20
)

// eachMount goes through the first limit bytes of a process's list of mounts.
func eachMount(process string, limit int64, visit func(mount)) error {
	list, err := os.Open("/proc/" + process + "/mountinfo")
	if err != nil {
		return fmt.Errorf("list the mounts: %w", err)
	}
	defer list.Close()
	lines := bufio.NewScanner(io.LimitReader(list, limit))
	lines.Buffer(nil, mountLine)
	for lines.Scan() {
		if f := strings.Fields(lines.Text()); len(f) >= 5 {
			visit(mount{f[0], place{f[2], unescapeMount(f[3])}, unescapeMount(f[4])})
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("list the mounts: %w", err)
	}
	return nil
}

// rootMount is what a process's root directory shows.
func rootMount(process string) (root place, err error) {
	err = eachMount(process, mountsOfOthers, func(m mount) {
		if m.point == "/" { // the last one covers the others
			root = m.place
		}
	})
	return root, err
}

const ownMounts = 1 << 62 // all of them

// placeOf finds a directory's place; none where it is on a mount that cannot be seen.
func placeOf(dir *os.File) (place, error) {
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", dir.Fd()))
	if err != nil {
		return place{}, fmt.Errorf("find the mount of %q: %w", dir.Name(), handle.Cause(err))
	}
	var id string
	for line := range strings.Lines(string(info)) {
		if v, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			id = strings.TrimSpace(v)
		}
	}
	path, err := os.Readlink(handle.Path(int(dir.Fd())))
	if err != nil {
		return place{}, fmt.Errorf("find the path of %q: %w", dir.Name(), handle.Cause(err))
	}
	var at place
	err = eachMount("self", ownMounts, func(m mount) {
		if rel, err := filepath.Rel(m.point, path); m.id == id && err == nil {
			at = place{m.place.device, filepath.Join(m.place.path, rel)}
		}
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return place{}, err
	}
	return at, nil
}

// notMounted says whether something is mounted on f, which the user calls dir, or below it.
func notMounted(dir string, f *os.File) error {
	path, err := os.Readlink(handle.Path(int(f.Fd())))
	if err != nil {
		return fmt.Errorf("find the path of %q: %w", dir, handle.Cause(err))
	}
	var point string
	err = eachMount("self", ownMounts, func(m mount) {
		if m.point == path || strings.HasPrefix(m.point, path+"/") {
			point = m.point
		}
	})
	if err != nil {
		return err
	}
	if point != "" {
		return &Error{Kind: Mounted, Dir: dir, Detail: point}
	}
	return nil
}

// unescapeMount undoes the kernel's escapes of space, tab, newline and backslash: three octal
// digits.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
