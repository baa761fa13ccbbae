// Package observe takes down what a directory tree is, to the last bit that an extractor could have changed, and says
// how two such records differ. It goes down by directory handles, so that paths beyond PATH_MAX are no obstacle.
package observe

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"ocibundle/tests/hostile/tarscript"
)

// Node is one name in a tree and all that stat(2), listxattr(2) and its content say of the inode behind it.
type Node struct {
	Path   string // relative to the root of the record, "." for the root itself
	Stat   unix.Stat_t
	Target string // of a symlink
	Head   []byte // the first bytes of a regular file
	Sum    [sha256.Size]byte
	Xattrs map[string]string
}

// headSize bounds what a record keeps of each file's content.
const headSize = 4096

// Tree is a record of a directory and everything below it, by path.
type Tree map[string]*Node

// Options say what a record leaves out.
type Options struct {
	Skip        []string // paths not looked at, nor what is below them
	SkipContent bool
}

// Record takes down the tree at dir.
func Record(dir string, o Options) (Tree, error) {
	tree := Tree{}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", dir, err)
	}
	defer unix.Close(fd)
	return tree, tree.add(fd, ".", o)
}

// add takes down the inode behind the O_PATH handle fd.
func (t Tree) add(fd int, path string, o Options) error {
	n := &Node{Path: path}
	if err := unix.Fstat(fd, &n.Stat); err != nil {
		return fmt.Errorf("stat %q: %w", path, err)
	}
	var err error
	if n.Xattrs, err = xattrs(fd); err != nil {
		return fmt.Errorf("list xattrs of %q: %w", path, err)
	}
	t[path] = n
	switch n.Stat.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax+1)
		size, err := unix.Readlinkat(fd, "", buf)
		if err != nil {
			return fmt.Errorf("read link %q: %w", path, err)
		}
		n.Target = string(buf[:size])
	case unix.S_IFREG:
		if o.SkipContent {
			return nil
		}
		f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err != nil {
			return fmt.Errorf("open %q: %w", path, err)
		}
		defer f.Close()
		var head bytes.Buffer
		hash := sha256.New()
		if _, err := io.Copy(io.MultiWriter(hash, &limited{&head, headSize}), f); err != nil {
			return fmt.Errorf("read %q: %w", path, err)
		}
		n.Head = head.Bytes()
		copy(n.Sum[:], hash.Sum(nil))
	case unix.S_IFDIR:
		d, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err != nil {
			return fmt.Errorf("open %q: %w", path, err)
		}
		names, err := d.Readdirnames(-1)
		d.Close()
		if err != nil {
			return fmt.Errorf("list %q: %w", path, err)
		}
		for _, name := range names {
			below := name
			if path != "." {
				below = path + "/" + name
			}
			if slices.Contains(o.Skip, below) {
				continue
			}
			child, err := unix.Openat(fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("open %q: %w", below, err)
			}
			err = t.add(child, below, o)
			unix.Close(child)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(l.left, len(p))
	l.left -= n
	if _, err := l.w.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}

// xattrs reads the extended attributes of an O_PATH handle. The calls that take a descriptor refuse such a handle, and
// /proc/self/fd/N of a symlink is followed to the symlink itself, not beyond it.
func xattrs(fd int) (map[string]string, error) {
	path := fmt.Sprintf("/proc/self/fd/%d", fd)
	buf := make([]byte, 64<<10)
	size, err := unix.Listxattr(path, buf)
	if errors.Is(err, unix.ENOTSUP) || size == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	value := make([]byte, 64<<10)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:size]), "\x00"), "\x00") {
		n, err := unix.Getxattr(path, name, value)
		if err != nil {
			return nil, fmt.Errorf("read %q: %w", name, err)
		}
		all[name] = string(value[:n])
	}
	return all, nil
}

// Paths are the paths of the tree in bytewise order.
func (t Tree) Paths() []string {
	paths := make([]string, 0, len(t))
	for path := range t {
		paths = append(paths, path)
	}
	sort.Strings(paths)
	return paths
}

// Changes says what became of every path of before: one "PATH: WHAT" each, WHAT being gone, appeared, or the names of
// what changed among inode, type, content, target, mode, owner, size, mtime, ctime, links, device, xattrs.
func Changes(before, after Tree) []string {
	var changes []string
	for _, path := range before.Paths() {
		if after[path] == nil {
			changes = append(changes, path+": gone")
			continue
		}
		if what := before[path].changed(after[path]); len(what) > 0 {
			changes = append(changes, path+": "+strings.Join(what, ", "))
		}
	}
	for _, path := range after.Paths() {
		if before[path] == nil {
			changes = append(changes, path+": appeared")
		}
	}
	return changes
}

func (n *Node) changed(other *Node) []string {
	a, b := &n.Stat, &other.Stat
	var what []string
	for _, check := range []struct {
		name    string
		differs bool
	}{
		{"inode", a.Ino != b.Ino || a.Dev != b.Dev},
		{"type", a.Mode&unix.S_IFMT != b.Mode&unix.S_IFMT},
		{"content", n.Sum != other.Sum},
		{"target", n.Target != other.Target},
		{"mode", a.Mode&0o7777 != b.Mode&0o7777},
		{"owner", a.Uid != b.Uid || a.Gid != b.Gid},
		{"size", a.Size != b.Size},
		{"mtime", a.Mtim != b.Mtim},
		{"ctime", a.Ctim != b.Ctim},
		{"links", a.Nlink != b.Nlink},
		{"device", a.Rdev != b.Rdev},
		{"xattrs", !sameXattrs(n.Xattrs, other.Xattrs)},
	} {
		if check.differs {
			what = append(what, check.name)
		}
	}
	return what
}

func sameXattrs(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for name, value := range a {
		if other, ok := b[name]; !ok || other != value {
			return false
		}
	}
	return true
}

var fileTypes = map[string]uint32{
	"file": unix.S_IFREG, "dir": unix.S_IFDIR, "sym": unix.S_IFLNK, "fifo": unix.S_IFIFO,
	"char": unix.S_IFCHR, "block": unix.S_IFBLK, "hard": unix.S_IFREG,
}

// Verb is the word of tarscript for the node's type.
func (n *Node) Verb() string {
	for _, verb := range []string{"file", "dir", "sym", "fifo", "char", "block"} {
		if fileTypes[verb] == n.Stat.Mode&unix.S_IFMT {
			return verb
		}
	}
	return fmt.Sprintf("type %o", n.Stat.Mode&unix.S_IFMT)
}

// Compare holds a tree against its declaration in tarscript's words: the names are exactly these, each has the type and the
// content or target declared, and those of mode, uid, gid, mtime, dev, size and xattr.NAME that its line gives (xattr.NAME
// with nothing behind the = must be absent); "hard A => B" says that A and B are one inode. The root, which is ".", and the
// directories that a declared name lies in need no line.
func (t Tree) Compare(declaration []tarscript.Entry) []string {
	var wrong []string
	seen := map[string]bool{".": true}
	for _, e := range declaration {
		seen[e.Name] = true
		for i, c := range e.Name {
			if c == '/' {
				seen[e.Name[:i]] = true
			}
		}
		n := t[e.Name]
		if n == nil {
			wrong = append(wrong, fmt.Sprintf("%q: missing", e.Name))
			continue
		}
		for _, w := range t.compare(n, e) {
			wrong = append(wrong, fmt.Sprintf("%q: %s", e.Name, w))
		}
	}
	for _, path := range t.Paths() {
		if !seen[path] {
			wrong = append(wrong, fmt.Sprintf("%q: not declared, a %s", path, t[path].Verb()))
		}
	}
	return wrong
}

func (t Tree) compare(n *Node, e tarscript.Entry) []string {
	if e.Verb == "hard" {
		other := t[e.Target]
		if other == nil || other.Stat.Ino != n.Stat.Ino {
			return []string{fmt.Sprintf("is not one inode with %q", e.Target)}
		}
		return nil
	}
	if n.Verb() != e.Verb {
		return []string{fmt.Sprintf("is a %s, want a %s", n.Verb(), e.Verb)}
	}
	var wrong []string
	check := func(what string, got, want any) {
		if fmt.Sprint(got) != fmt.Sprint(want) {
			wrong = append(wrong, fmt.Sprintf("%s %q, want %q", what, fmt.Sprint(got), fmt.Sprint(want)))
		}
	}
	switch e.Verb {
	case "file":
		if sha256.Sum256(e.Body) != n.Sum {
			wrong = append(wrong, fmt.Sprintf("%d bytes %.40q, want %d bytes %.40q", n.Stat.Size, n.Head, len(e.Body), e.Body))
		}
	case "sym":
		check("target", n.Target, e.Target)
	}
	for _, a := range e.Attrs {
		switch name, isXattr := strings.CutPrefix(a.Key, "xattr."); {
		case isXattr:
			check("xattr "+name, n.Xattrs[name], a.Value)
		case a.Key == "mode":
			check("mode", fmt.Sprintf("%04o", n.Stat.Mode&0o7777), a.Value)
		case a.Key == "uid":
			check("uid", n.Stat.Uid, a.Value)
		case a.Key == "gid":
			check("gid", n.Stat.Gid, a.Value)
		case a.Key == "size":
			check("size", n.Stat.Size, a.Value)
		case a.Key == "mtime":
			check("mtime", MtimeString(n), a.Value)
		case a.Key == "dev":
			check("dev", fmt.Sprintf("%d:%d", unix.Major(n.Stat.Rdev), unix.Minor(n.Stat.Rdev)), a.Value)
		case a.Key == "links":
			check("links", n.Stat.Nlink, a.Value)
		default:
			wrong = append(wrong, fmt.Sprintf("attribute %q means nothing in a tree", a.Key))
		}
	}
	return wrong
}

// MtimeString is the mtime in seconds, with the nanoseconds behind a point where there are any.
func MtimeString(n *Node) string {
	if n.Stat.Mtim.Nsec == 0 {
		return fmt.Sprint(n.Stat.Mtim.Sec)
	}
	return strings.TrimRight(fmt.Sprintf("%d.%09d", n.Stat.Mtim.Sec, n.Stat.Mtim.Nsec), "0")
}
