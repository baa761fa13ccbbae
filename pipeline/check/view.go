package check

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A view is the tree of files that a container will see: its rootfs with the mounts of its config on top.
//
// The kernel cannot be asked to resolve a path in it (openat2(2), RESOLVE_IN_ROOT), for nothing is mounted yet. So a path
// is walked as the kernel would, from one directory handle to one name in it (O_PATH and O_NOFOLLOW: nothing is opened for
// reading, nothing blocks), with the text of symbolic links put in front of what remains, and with the root of the view for
// a ceiling. Thus a walk never leaves the rootfs but for the source of a bind mount, nor that source but for the view.
type view struct {
	mounts []viewMount
	at     map[spot]int  // the mount that sits on a spot
	made   map[spot]bool // directories that the runtime makes for mount targets
}

// spot is a place in one of the view's filesystems, without symbolic links: "" is its root, anything else starts with "/".
type spot struct {
	mount int
	path  string
}

// viewMount is one of the view's filesystems; the first is the rootfs.
type viewMount struct {
	index    int      // in the config's mounts; -1: the rootfs
	target   string   // where it is in the view
	kind     string   // what is mounted, for messages
	root     *os.File // O_PATH; nil: there is nothing to look into
	unknown  bool     // what is in it shows only when the container runs
	readonly bool
	noexec   bool
}

// frame is a directory or file on the way of a walk.
type frame struct {
	spot
	name    string   // in the view
	file    *os.File // nil: made by the runtime, or unknown
	st      unix.Stat_t
	unknown bool
	keep    bool // the file belongs to the view
}

func (f *frame) isDir() bool { return f.file == nil || f.st.Mode&unix.S_IFMT == unix.S_IFDIR }

func (f *frame) close() {
	if f.file != nil && !f.keep {
		f.file.Close()
	}
}

// resolved is where a walk ended.
type resolved struct {
	frame
	dirs    []frame // the directories that were searched; their files are closed
	symlink bool    // the last component of the path that was asked for is a symbolic link
	clamped bool    // a ".." at the root of the view was met
	made    bool    // a directory has to be made
}

const (
	viewLinks = 40   // links in one walk, as the kernel's MAXSYMLINKS
	viewDepth = 512  // handles in one walk
	viewSteps = 8192 // components in one walk
)

// walkError is a walk that came to nothing.
type walkError struct {
	at    string // in the view
	mount int    // in which filesystem
	err   error
}

func (e *walkError) Error() string { return e.err.Error() }
func (e *walkError) Unwrap() error { return e.err }

var errDeep = errors.New("too many directories to look through")

type walkMode int

const (
	walkLook walkMode = iota
	walkMake          // directories that are missing are made, as a runtime does for mount targets
)

func newView(rootfs *os.File) *view {
	return &view{
		mounts: []viewMount{{index: -1, target: "/", kind: "rootfs", root: rootfs}},
		at:     map[spot]int{}, made: map[spot]bool{},
	}
}

func (v *view) close() {
	for _, m := range v.mounts[1:] {
		if m.root != nil {
			m.root.Close()
		}
	}
}

// mount puts a filesystem on what a walk ended at.
func (v *view) mount(on spot, m viewMount) {
	v.at[on] = len(v.mounts)
	v.mounts = append(v.mounts, m)
}

// top is the frame of what is on a spot: that of the mount which covers it, if one does.
func (v *view) top(f frame) (frame, error) {
	for {
		i, covered := v.at[f.spot]
		if !covered {
			return f, nil
		}
		f.close()
		m := &v.mounts[i]
		f = frame{spot: spot{mount: i}, name: f.name, file: m.root, keep: true, unknown: m.unknown}
		if m.root != nil {
			if err := unix.Fstat(int(m.root.Fd()), &f.st); err != nil {
				return f, err
			}
		}
	}
}

// walk resolves an absolute path. The caller closes what it gets. Errors are a *walkError.
func (v *view) walk(name string, mode walkMode) (_ *resolved, err error) {
	var stack []frame
	defer func() {
		for i := range stack {
			stack[i].close()
		}
	}()
	root := frame{name: "/", file: v.mounts[0].root, keep: true}
	if err := unix.Fstat(int(root.file.Fd()), &root.st); err != nil {
		return nil, &walkError{"/", 0, err}
	}
	if root, err = v.top(root); err != nil {
		return nil, &walkError{"/", 0, err}
	}
	stack = append(stack, root)

	r := &resolved{}
	rest := components(name)
	linked := 0 // how many of rest come from links
	for links, steps := 0, 0; len(rest) > 0; steps++ {
		dir := &stack[len(stack)-1]
		next, own := rest[0], linked == 0
		rest, linked = rest[1:], max(linked-1, 0)
		at := path.Join(dir.name, next)
		fail := func(err error) (*resolved, error) { return nil, &walkError{at, dir.mount, err} }
		switch {
		case steps >= viewSteps || len(stack) >= viewDepth:
			return fail(errDeep)
		case !dir.isDir():
			return fail(unix.ENOTDIR)
		case next == ".":
			continue
		case next == "..":
			if len(stack) == 1 {
				r.clamped = true
				continue
			}
			dir.close()
			stack = stack[:len(stack)-1]
			continue
		}
		searched := *dir
		searched.file = nil
		if dir.file != nil {
			r.dirs = append(r.dirs, searched)
		}
		child := frame{spot: spot{dir.mount, dir.path + "/" + next}, name: at}
		if _, covered := v.at[child.spot]; covered {
			if child, err = v.top(child); err != nil {
				return fail(err)
			}
			stack = append(stack, child)
			continue
		}
		if dir.unknown {
			child.unknown = true
			stack = append(stack, child)
			continue
		}
		var fd int
		err := error(unix.ENOENT)
		if dir.file != nil {
			fd, err = unix.Openat(int(dir.file.Fd()), next, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		}
		if err == unix.ENOENT && (v.made[child.spot] || mode == walkMake) {
			if !v.made[child.spot] {
				r.made = true
				v.made[child.spot] = true
			}
			stack = append(stack, child)
			continue
		}
		if err != nil {
			return fail(err)
		}
		child.file = os.NewFile(uintptr(fd), at)
		if err := unix.Fstat(fd, &child.st); err != nil {
			child.close()
			return fail(err)
		}
		if child.st.Mode&unix.S_IFMT != unix.S_IFLNK {
			stack = append(stack, child)
			continue
		}
		r.symlink = r.symlink || own && len(rest) == 0
		text, err := readlink(fd)
		child.close()
		if err != nil {
			return fail(err)
		}
		if links++; links > viewLinks {
			return fail(unix.ELOOP)
		}
		if strings.HasPrefix(text, "/") {
			for i := range stack[1:] {
				stack[1+i].close()
			}
			stack = stack[:1]
		}
		parts := components(text)
		rest, linked = append(parts, rest...), linked+len(parts)
	}
	r.frame = stack[len(stack)-1]
	stack = stack[:len(stack)-1]
	return r, nil
}

// components splits a path. What ends in a slash is a directory.
func components(name string) []string {
	parts := slices.DeleteFunc(strings.Split(name, "/"), func(s string) bool { return s == "" })
	if strings.HasSuffix(name, "/") {
		parts = append(parts, ".")
	}
	return parts
}

// readlink reads the link that an O_PATH handle is open on.
func readlink(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	return string(buf[:max(n, 0)]), err
}

// openFile opens a regular file that a walk has ended at for reading. It is the same file, whatever has its name by now.
func (f *frame) openFile() (*os.File, error) {
	if f.st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.New("it is not a regular file")
	}
	fd, err := unix.Open(procFD(f.file), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.name), nil
}

// openSource opens the source of a bind mount as a runtime finds it: on the host, and relative to the bundle.
func openSource(bundle *os.File, source string) (*os.File, error) {
	fd, err := unix.Openat(int(bundle.Fd()), filepath.Clean(source), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), source), nil
}

// isBind tells whether a mount of a config is a bind mount, whatever its type says.
func isBind(m specs.Mount) bool {
	return m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
}

// lastOption tells which of two options that exclude each other has the last word; the second one is the default.
func lastOption(m specs.Mount, yes, no string) bool {
	on := false
	for _, o := range m.Options {
		switch o {
		case yes:
			on = true
		case no:
			on = false
		}
	}
	return on
}
