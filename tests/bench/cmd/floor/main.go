// Floor builds the tree of a tar stream with as few system calls as the kernel's interface allows, and prints how many
// nanoseconds that took. It is the yardstick of the benchmarks: what no extractor can beat by much.
//
// Everything that an extractor has to pay for besides the tree is left out: the stream is mapped into memory and parsed
// before the clock starts, nothing is checked, nothing is cleaned up on errors, and the order of the stream is ignored,
// so that two threads hardly ever wait for each other. It is not an extractor: it trusts the stream blindly.
//
//	floor [-threads N] STREAM DIR
package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	threads := flag.Int("threads", 2, "threads that create files")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: floor [-threads N] STREAM DIR")
		os.Exit(2)
	}
	took, err := run(flag.Arg(0), flag.Arg(1), *threads)
	if err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
	fmt.Println(took.Nanoseconds())
}

// A node is one entry. Names are kept NUL-terminated, as the kernel takes them.
type node struct {
	name     []byte
	typ      byte
	mode     uint32
	uid, gid int
	dev      int
	target   []byte // of a symlink
	body     []byte
	times    [2]unix.Timespec
	listed   bool // the stream names it; a directory may only be implied
	xattrs   map[string]string
	subdirs  []*node
	files    []*node
	byName   map[string]*node
	weight   int64
}

type link struct{ from, to string }

type tree struct {
	root  *node
	links []link
	late  []string // directories whose times a hard link spoils
}

func run(stream, dir string, threads int) (time.Duration, error) {
	data, err := mapFile(stream)
	if err != nil {
		return 0, err
	}
	t, err := parse(data)
	if err != nil {
		return 0, err
	}
	unix.Umask(0)
	rootfd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open %q: %w", dir, err)
	}
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) == nil {
		lim.Cur = lim.Max
		unix.Setrlimit(unix.RLIMIT_NOFILE, &lim)
	}
	weigh(t.root)
	runtime.GC()

	start := time.Now()
	err = build(t, rootfd, threads)
	return time.Since(start), err
}

// mapFile maps a file with its pages present, so that no page fault falls into the time measured.
func mapFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map %q: %w", name, err)
	}
	return data, nil
}

func parse(data []byte) (*tree, error) {
	t := &tree{root: &node{typ: tar.TypeDir, byName: map[string]*node{}}}
	src := bytes.NewReader(data)
	r := tar.NewReader(src)
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		name := strings.Trim(path.Clean("/"+h.Name), "/")
		if name == "" {
			continue
		}
		if h.Typeflag == tar.TypeLink {
			t.links = append(t.links, link{strings.Trim(path.Clean("/"+h.Linkname), "/"), name})
			t.late = append(t.late, path.Dir(name))
			continue
		}
		parent := t.dir(path.Dir(name))
		base := path.Base(name)
		n := parent.byName[base]
		if n == nil {
			n = &node{name: append([]byte(base), 0)}
			if h.Typeflag == tar.TypeDir {
				n.byName = map[string]*node{}
				parent.subdirs = append(parent.subdirs, n)
				parent.byName[base] = n
			} else {
				parent.files = append(parent.files, n)
			}
		}
		n.listed = true
		n.typ = h.Typeflag
		n.mode = uint32(h.Mode) & 0o7777
		n.uid, n.gid = h.Uid, h.Gid
		ts := unix.NsecToTimespec(h.ModTime.UnixNano())
		n.times = [2]unix.Timespec{ts, ts}
		for k, v := range h.PAXRecords {
			if x, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
				if n.xattrs == nil {
					n.xattrs = map[string]string{}
				}
				n.xattrs[x] = v
			}
		}
		switch h.Typeflag {
		case tar.TypeReg:
			off := len(data) - src.Len()
			n.body = data[off : off+int(h.Size) : off+int(h.Size)]
		case tar.TypeSymlink:
			n.target = append([]byte(h.Linkname), 0)
		case tar.TypeChar, tar.TypeBlock:
			n.dev = int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
		case tar.TypeDir, tar.TypeFifo:
		default:
			return nil, fmt.Errorf("%q has type %q", h.Name, h.Typeflag)
		}
	}
	slices.Sort(t.late)
	t.late = slices.Compact(t.late)
	return t, nil
}

// dir finds the node of a directory, and makes the ones the stream has not named.
func (t *tree) dir(name string) *node {
	n := t.root
	if name == "." {
		return n
	}
	for part := range strings.SplitSeq(name, "/") {
		next := n.byName[part]
		if next == nil {
			next = &node{name: append([]byte(part), 0), typ: tar.TypeDir, mode: 0o755, byName: map[string]*node{}}
			n.subdirs = append(n.subdirs, next)
			n.byName[part] = next
		}
		n = next
	}
	return n
}

// weigh estimates the cost of a subtree, in bytes copied; an entry costs about as much as 16 KiB.
func weigh(n *node) int64 {
	n.weight = 16 << 10
	for _, f := range n.files {
		n.weight += 16<<10 + int64(len(f.body))
	}
	for _, d := range n.subdirs {
		n.weight += weigh(d)
	}
	n.byName = nil
	return n.weight
}

// A unit is what one thread does alone: a whole subtree, or some files of one directory.
type unit struct {
	weight int64
	dirfd  int
	dir    *node   // a subtree to make in dirfd, or nil
	files  []*node // files to make in dirfd
}

// An upper directory is too big for one unit. It is made first and finished last.
type upper struct {
	n  *node
	fd int
}

func build(t *tree, rootfd, threads int) error {
	var units []unit
	var uppers []upper
	grain := t.root.weight/int64(threads*16) + 1
	var split func(n *node, fd int) error
	split = func(n *node, fd int) error {
		for _, d := range n.subdirs {
			if d.weight <= grain {
				units = append(units, unit{d.weight, fd, d, nil})
				continue
			}
			dfd, err := makeDir(fd, d)
			if err != nil {
				return err
			}
			uppers = append(uppers, upper{d, dfd})
			if err := split(d, dfd); err != nil {
				return err
			}
		}
		var u unit
		for _, f := range n.files {
			u.files = append(u.files, f)
			u.dirfd = fd
			u.weight += 16<<10 + int64(len(f.body))
			if u.weight > grain {
				units = append(units, u)
				u = unit{}
			}
		}
		if len(u.files) > 0 {
			units = append(units, u)
		}
		return nil
	}
	if err := split(t.root, rootfd); err != nil {
		return err
	}
	// Files of one directory wait for its lock: heavy units first, so that the threads end together.
	slices.SortStableFunc(units, func(a, b unit) int { return cmp.Compare(b.weight, a.weight) })

	var next atomic.Int64
	errs := make([]error, threads)
	var wg sync.WaitGroup
	for i := range threads {
		wg.Go(func() {
			runtime.LockOSThread()
			for {
				k := int(next.Add(1)) - 1
				if k >= len(units) {
					return
				}
				u := units[k]
				var err error
				if u.dir != nil {
					err = makeTree(u.dirfd, u.dir)
				} else {
					err = makeFiles(u.dirfd, u.files)
				}
				if err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, l := range t.links {
		if err := unix.Linkat(rootfd, l.from, rootfd, l.to, 0); err != nil {
			return fmt.Errorf("link %q to %q: %w", l.to, l.from, err)
		}
	}
	for _, u := range slices.Backward(uppers) {
		if err := finishDir(u.fd, u.n); err != nil {
			return err
		}
	}
	return t.touchLate(rootfd)
}

// touchLate sets the times of the directories that got a hard link after they had been finished.
func (t *tree) touchLate(rootfd int) error {
	for _, name := range t.late {
		n := t.root
		if name != "." {
			for part := range strings.SplitSeq(name, "/") {
				i := slices.IndexFunc(n.subdirs, func(d *node) bool { return string(d.name[:len(d.name)-1]) == part })
				n = n.subdirs[i]
			}
		}
		if n.listed {
			if err := unix.UtimesNanoAt(rootfd, name, n.times[:], unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return err
			}
		}
	}
	return nil
}

func makeTree(parent int, n *node) error {
	fd, err := makeDir(parent, n)
	if err != nil {
		return err
	}
	if err := makeFiles(fd, n.files); err != nil {
		return err
	}
	for _, d := range n.subdirs {
		if err := makeTree(fd, d); err != nil {
			return err
		}
	}
	return finishDir(fd, n)
}

func makeDir(parent int, n *node) (int, error) {
	// mkdir drops the setuid and setgid bits, chown may: finishDir sets them.
	if _, _, e := unix.RawSyscall(unix.SYS_MKDIRAT, uintptr(parent), ptr(n.name), uintptr(n.mode&0o1777)); e != 0 {
		return 0, named(n, e)
	}
	fd, _, e := unix.RawSyscall6(unix.SYS_OPENAT, uintptr(parent), ptr(n.name), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0, 0, 0)
	if e != 0 {
		return 0, named(n, e)
	}
	return int(fd), nil
}

func finishDir(fd int, n *node) error {
	if n.uid != 0 || n.gid != 0 {
		if err := unix.Fchown(fd, n.uid, n.gid); err != nil {
			return err
		}
	}
	if n.mode&0o6000 != 0 {
		if err := unix.Fchmod(fd, n.mode); err != nil {
			return err
		}
	}
	return finish(fd, n)
}

// finish sets what a handle still lacks after owner and mode, and closes it.
func finish(fd int, n *node) error {
	for k, v := range n.xattrs {
		if err := unix.Fsetxattr(fd, k, []byte(v), 0); err != nil {
			return fmt.Errorf("set %q on %q: %w", k, n.name, err)
		}
	}
	if n.listed {
		if _, _, e := unix.RawSyscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&n.times)), 0, 0, 0); e != 0 {
			return named(n, e)
		}
	}
	if _, _, e := unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0); e != 0 {
		return named(n, e)
	}
	return nil
}

func makeFiles(dir int, files []*node) error {
	for _, n := range files {
		if n.typ == tar.TypeReg {
			if err := makeFile(dir, n); err != nil {
				return err
			}
			continue
		}
		var e unix.Errno
		switch n.typ {
		case tar.TypeSymlink:
			_, _, e = unix.RawSyscall(unix.SYS_SYMLINKAT, ptr(n.target), uintptr(dir), ptr(n.name))
		case tar.TypeFifo:
			_, _, e = unix.RawSyscall6(unix.SYS_MKNODAT, uintptr(dir), ptr(n.name), uintptr(n.mode|unix.S_IFIFO), 0, 0, 0)
		case tar.TypeChar:
			_, _, e = unix.RawSyscall6(unix.SYS_MKNODAT, uintptr(dir), ptr(n.name), uintptr(n.mode|unix.S_IFCHR), uintptr(n.dev), 0, 0)
		case tar.TypeBlock:
			_, _, e = unix.RawSyscall6(unix.SYS_MKNODAT, uintptr(dir), ptr(n.name), uintptr(n.mode|unix.S_IFBLK), uintptr(n.dev), 0, 0)
		}
		if e != 0 {
			return named(n, e)
		}
		if n.uid != 0 || n.gid != 0 {
			_, _, e = unix.RawSyscall6(unix.SYS_FCHOWNAT, uintptr(dir), ptr(n.name), uintptr(n.uid), uintptr(n.gid), unix.AT_SYMLINK_NOFOLLOW, 0)
			if e != 0 {
				return named(n, e)
			}
		}
		_, _, e = unix.RawSyscall6(unix.SYS_UTIMENSAT, uintptr(dir), ptr(n.name), uintptr(unsafe.Pointer(&n.times)), unix.AT_SYMLINK_NOFOLLOW, 0, 0)
		if e != 0 {
			return named(n, e)
		}
	}
	return nil
}

func makeFile(dir int, n *node) error {
	r, _, e := unix.RawSyscall6(unix.SYS_OPENAT, uintptr(dir), ptr(n.name),
		unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, uintptr(n.mode), 0, 0)
	if e != 0 {
		return named(n, e)
	}
	fd := int(r)
	for body := n.body; len(body) > 0; {
		part := body[:min(len(body), math.MaxInt32&^4095)]
		w, _, e := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(part))), uintptr(len(part)))
		if e != 0 {
			return named(n, e)
		}
		body = body[w:]
	}
	if n.uid != 0 || n.gid != 0 {
		if err := unix.Fchown(fd, n.uid, n.gid); err != nil {
			return err
		}
		if n.mode&0o6000 != 0 {
			if err := unix.Fchmod(fd, n.mode); err != nil {
				return err
			}
		}
	}
	return finish(fd, n)
}

func ptr(s []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(s))) }

func named(n *node, e unix.Errno) error {
	return fmt.Errorf("%q: %w", n.name[:len(n.name)-1], e)
}
