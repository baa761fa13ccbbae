package check

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"ocibundle/pipeline/host"
	"ocibundle/tarx/handle"
)

// A view is the tree of files that a container will see: its rootfs with the mounts of its config on top.
//
// The kernel cannot be asked to resolve a path in it (openat2(2), RESOLVE_IN_ROOT), for nothing is mounted yet. So a path
// is walked as the kernel would, from one directory handle to one name in it (O_PATH and O_NOFOLLOW: nothing is opened for
// reading, nothing blocks), with the text of symbolic links put in front of what remains, and with the root of the view for
// a ceiling. Thus a walk never leaves the rootfs but for the source of a bind mount, nor that source but for the view.
type view struct {
	*lookups
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

// The limits of one walk. The kernel's own are 40 links (MAXSYMLINKS) and PATH_MAX bytes of a path; what a walk comes
// through is kept, so the way there has limits, too.
const (
	walkLinks = 40
	walkDepth = 512  // handles
	walkSteps = 4096 // components
)

// maxLookups bounds the names that are looked up for one bundle, and the mounts among them, however many the author of
// the bundle asks for. A bundle of a container with a hundred mounts takes some thousand.
const maxLookups = 20000

// lookups is what is left of maxLookups.
type lookups struct {
	ctx  context.Context
	left int
	// err ends the check: the context's cause, or a fault of this process or of a disk, which says nothing about the bundle.
	err error
}

var errTooMany = fmt.Errorf("more than %d names would have to be looked up", maxLookups)

// next takes one off.
func (l *lookups) next() error {
	if l.err == nil && l.ctx.Err() != nil {
		l.err = context.Cause(l.ctx)
	}
	if l.err != nil {
		return l.err
	}
	if l.left == 0 {
		return errTooMany
	}
	l.left--
	return nil
}

// note keeps an error that says nothing about the bundle.
func (l *lookups) note(at string, err error) {
	if l.err == nil && host.IsFault(err) {
		l.err = fmt.Errorf("look at %q: %w", at, err)
	}
}

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

func newView(rootfs *os.File, l *lookups) *view {
	return &view{
		lookups: l,
		mounts:  []viewMount{{index: -1, target: "/", kind: "rootfs", root: rootfs}},
		at:      map[spot]int{}, made: map[spot]bool{},
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
	start := f.spot
	for {
		i, covered := v.at[f.spot]
		if !covered {
			return f, nil
		}
		v.at[start] = i // so that many mounts on one spot are not gone through each time
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

// A walk is a path on the way through the view.
type walk struct {
	view   *view
	mode   walkMode
	stack  []frame
	rest   []string // what is still to be looked up
	linked int      // how many of rest come from links
	links  int
	steps  int
	end    resolved
}

// walk resolves an absolute path. The caller closes what it gets. Errors are a *walkError.
func (v *view) walk(name string, mode walkMode) (*resolved, error) {
	w := walk{view: v, mode: mode}
	defer func() {
		for i := range w.stack {
			w.stack[i].close()
		}
	}()
	if len(name) >= unix.PathMax {
		return nil, &walkError{"/", 0, unix.ENAMETOOLONG}
	}
	root := frame{name: "/", file: v.mounts[0].root, keep: true}
	err := unix.Fstat(int(root.file.Fd()), &root.st)
	if err == nil {
		root, err = v.top(root)
	}
	if err != nil {
		v.note("/", err)
		return nil, &walkError{"/", 0, err}
	}
	w.stack, w.rest = append(w.stack, root), components(name)
	for len(w.rest) > 0 {
		dir := w.stack[len(w.stack)-1]
		at := path.Join(dir.name, w.rest[0])
		if err := w.step(&dir, at); err != nil {
			v.note(at, err)
			return nil, &walkError{at, dir.mount, err}
		}
	}
	w.end.frame = w.stack[len(w.stack)-1]
	w.stack = w.stack[:len(w.stack)-1]
	return &w.end, nil
}

// step takes the next component, which is called at in the view, from a directory.
func (w *walk) step(dir *frame, at string) error {
	if err := w.view.next(); err != nil {
		return err
	}
	next, own := w.rest[0], w.linked == 0
	w.rest, w.linked = w.rest[1:], max(w.linked-1, 0)
	w.steps++
	switch {
	case w.steps > walkSteps || len(w.stack) >= walkDepth || len(at) >= unix.PathMax:
		return errDeep
	case !dir.isDir():
		return unix.ENOTDIR
	case next == ".":
		return nil
	case next == ".." && len(w.stack) == 1:
		w.end.clamped = true
		return nil
	case next == "..":
		dir.close()
		w.stack = w.stack[:len(w.stack)-1]
		return nil
	}
	if dir.file != nil {
		searched := *dir
		searched.file = nil
		w.end.dirs = append(w.end.dirs, searched)
	}
	child, err := w.child(dir, next, at)
	if err != nil {
		return err
	}
	if child.file == nil || child.st.Mode&unix.S_IFMT != unix.S_IFLNK {
		w.stack = append(w.stack, child)
		return nil
	}
	defer child.close()
	w.end.symlink = w.end.symlink || own && len(w.rest) == 0
	return w.follow(&child)
}

// child is what a directory has under a name.
func (w *walk) child(dir *frame, name, at string) (child frame, err error) {
	v := w.view
	child = frame{spot: spot{dir.mount, dir.path + "/" + name}, name: at, unknown: dir.unknown}
	if _, covered := v.at[child.spot]; covered {
		return v.top(child)
	}
	if dir.unknown {
		return child, nil
	}
	fd, err := -1, error(unix.ENOENT)
	if dir.file != nil {
		fd, err = unix.Openat(int(dir.file.Fd()), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	if err == unix.ENOENT && (v.made[child.spot] || w.mode == walkMake) {
		if !v.made[child.spot] {
			w.end.made = true
			v.made[child.spot] = true
		}
		return child, nil
	}
	if err != nil {
		return child, err
	}
	child.file = os.NewFile(uintptr(fd), at)
	if err := unix.Fstat(fd, &child.st); err != nil {
		child.close()
		return child, err
	}
	return child, nil
}

// follow puts the text of a symbolic link in front of what remains.
func (w *walk) follow(link *frame) error {
	text, err := readlink(int(link.file.Fd()))
	if err != nil {
		return err
	}
	if w.links++; w.links > walkLinks {
		return unix.ELOOP
	}
	if strings.HasPrefix(text, "/") {
		for i := range w.stack[1:] {
			w.stack[1+i].close()
		}
		w.stack = w.stack[:1]
	}
	parts := components(text)
	w.rest, w.linked = append(parts, w.rest...), w.linked+len(parts)
	return nil
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
	fd, err := handle.Reopen(int(f.file.Fd()), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
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
