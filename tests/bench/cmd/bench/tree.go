package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A model is the tree that a stream describes, as archive/tar reads it.
type model struct {
	data    []byte // the stream, mapped
	entries map[string]*want
}

type want struct {
	typ      byte
	implied  bool // a parent that the stream does not name: only its type counts
	mode     uint32
	uid, gid int
	size     int64
	off      int64 // of the content in the stream
	mtime    time.Time
	target   string
	dev      uint64
	xattrs   map[string]string
	first    string // the name whose inode this one is
	links    uint64 // names of that inode
}

// readModel maps the stream. A mapping costs the harness no memory of its own when the stream lies on a tmpfs.
func readModel(stream string) (*model, error) {
	f, err := os.Open(stream)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %q: %w", stream, err)
	}
	m := &model{data: data, entries: map[string]*want{}}
	src := bytes.NewReader(data)
	r := tar.NewReader(src)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return m, nil
		}
		if err != nil {
			m.close()
			return nil, fmt.Errorf("read %q: %w", stream, err)
		}
		name := strings.Trim(path.Clean("/"+h.Name), "/")
		if name == "" {
			continue
		}
		for p := path.Dir(name); p != "."; p = path.Dir(p) {
			if m.entries[p] == nil {
				m.entries[p] = &want{typ: tar.TypeDir, implied: true}
			}
		}
		if h.Typeflag == tar.TypeLink {
			first := m.entries[strings.Trim(path.Clean("/"+h.Linkname), "/")]
			if first == nil {
				m.close()
				return nil, fmt.Errorf("read %q: %q links to nothing", stream, h.Name)
			}
			first.links++
			m.entries[name] = first
			continue
		}
		w := &want{typ: h.Typeflag, mode: uint32(h.Mode) & 0o7777, uid: h.Uid, gid: h.Gid, size: h.Size, mtime: h.ModTime,
			target: h.Linkname, first: name, links: 1}
		w.off = int64(len(data) - src.Len())
		w.dev = unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
		for k, v := range h.PAXRecords {
			if x, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
				if w.xattrs == nil {
					w.xattrs = map[string]string{}
				}
				w.xattrs[x] = v
			}
		}
		m.entries[name] = w
	}
}

func (m *model) close() error { return unix.Munmap(m.data) }

// A view is how a tool was told to see the stream's ids.
type view struct {
	uid, gid  func(int) int // container id -> id on disk
	noDevices bool          // a user cannot make device nodes
}

func same(id int) int { return id }

// differences are counted by kind, with the first name of each.
type differences struct {
	total int
	kinds map[string]int
	first map[string]string
}

func (d *differences) add(kind, name, detail string) {
	d.total++
	if d.kinds == nil {
		d.kinds, d.first = map[string]int{}, map[string]string{}
	}
	if d.kinds[kind]++; d.kinds[kind] == 1 {
		d.first[kind] = strings.TrimSpace(fmt.Sprintf("%q %s", name, detail))
	}
}

func (d *differences) String() string {
	var s []string
	for k, n := range d.kinds {
		s = append(s, fmt.Sprintf("%s: %d (first %s)", k, n, d.first[k]))
	}
	slices.Sort(s)
	return strings.Join(s, "; ")
}

// compare holds a tree on disk against the model: type, mode, ids, size, content, mtime, link groups, xattrs. The root's
// own metadata is the tool's choice where the stream does not name it, and is left out.
func (m *model) compare(root string, v view) (*differences, error) {
	var d differences
	seen := 0
	inodes := map[string]uint64{} // of the first name of a link group
	err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		if name == "." {
			return nil
		}
		w := m.entries[name]
		if w == nil {
			d.add("stranger", name, "")
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		seen++
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		return m.compareOne(&d, inodes, p, name, w, &st, v)
	})
	if err != nil {
		return nil, err
	}
	if missing := len(m.entries) - seen; missing > 0 {
		for name, w := range m.entries {
			if _, err := os.Lstat(filepath.Join(root, name)); errors.Is(err, fs.ErrNotExist) {
				if v.noDevices && (w.typ == tar.TypeChar || w.typ == tar.TypeBlock) {
					continue
				}
				d.add("missing", name, "")
			}
		}
	}
	return &d, nil
}

var modeOf = map[byte]uint32{
	tar.TypeReg: unix.S_IFREG, tar.TypeDir: unix.S_IFDIR, tar.TypeSymlink: unix.S_IFLNK, tar.TypeFifo: unix.S_IFIFO,
	tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK,
}

func (m *model) compareOne(d *differences, inodes map[string]uint64, p, name string, w *want, st *unix.Stat_t, v view) error {
	if st.Mode&unix.S_IFMT != modeOf[w.typ] {
		d.add("type", name, fmt.Sprintf("%o", st.Mode&unix.S_IFMT))
		return nil
	}
	if w.implied {
		return nil
	}
	if w.typ != tar.TypeSymlink && st.Mode&0o7777 != w.mode {
		d.add("mode", name, fmt.Sprintf("%o, not %o", st.Mode&0o7777, w.mode))
	}
	if uid, gid := v.uid(w.uid), v.gid(w.gid); int(st.Uid) != uid || int(st.Gid) != gid {
		d.add("owner", name, fmt.Sprintf("%d:%d, not %d:%d", st.Uid, st.Gid, uid, gid))
	}
	if got := time.Unix(st.Mtim.Unix()); !got.Equal(w.mtime) {
		d.add("mtime", name, fmt.Sprintf("%s, not %s", got.UTC().Format(time.RFC3339Nano), w.mtime.UTC().Format(time.RFC3339Nano)))
	}
	if w.typ != tar.TypeDir {
		if st.Nlink != w.links {
			d.add("links", name, fmt.Sprintf("%d, not %d", st.Nlink, w.links))
		}
		if w.links > 1 {
			if ino, ok := inodes[w.first]; ok && ino != st.Ino {
				d.add("links", name, "is another inode")
			}
			inodes[w.first] = st.Ino
		}
	}
	switch w.typ {
	case tar.TypeReg:
		if st.Size != w.size {
			d.add("size", name, fmt.Sprintf("%d, not %d", st.Size, w.size))
			break
		}
		same, err := sameContent(p, m.data[w.off:w.off+w.size])
		if err != nil {
			return err
		}
		if !same {
			d.add("content", name, "")
		}
	case tar.TypeSymlink:
		target, err := os.Readlink(p)
		if err != nil {
			return err
		}
		if target != w.target {
			d.add("target", name, fmt.Sprintf("%q, not %q", target, w.target))
		}
	case tar.TypeChar, tar.TypeBlock:
		if st.Rdev != w.dev {
			d.add("device", name, fmt.Sprintf("%x, not %x", st.Rdev, w.dev))
		}
	}
	return compareXattrs(d, p, name, w)
}

func compareXattrs(d *differences, p, name string, w *want) error {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(p, buf)
	if err != nil && !errors.Is(err, unix.ENOTSUP) {
		return &fs.PathError{Op: "list xattrs of", Path: p, Err: err}
	}
	got := map[string]bool{}
	for x := range strings.SplitSeq(strings.TrimRight(string(buf[:max(n, 0)]), "\x00"), "\x00") {
		if x == "" || x == "security.selinux" {
			continue
		}
		got[x] = true
		if _, ok := w.xattrs[x]; !ok {
			d.add("xattr", name, x+" is a stranger")
		}
	}
	for x, value := range w.xattrs {
		if !got[x] {
			d.add("xattr", name, x+" is missing")
			continue
		}
		n, err := unix.Lgetxattr(p, x, buf)
		if err != nil {
			return &fs.PathError{Op: "get xattr of", Path: p, Err: err}
		}
		if string(buf[:n]) != value {
			d.add("xattr", name, x+" has another value")
		}
	}
	return nil
}

func sameContent(p string, want []byte) (bool, error) {
	f, err := os.Open(p)
	if err != nil {
		return false, err
	}
	defer f.Close()
	buf := make([]byte, min(len(want)+1, 1<<20))
	for {
		n, err := f.Read(buf)
		if n > len(want) || !bytes.Equal(buf[:n], want[:n]) {
			return false, nil
		}
		want = want[n:]
		if err == io.EOF {
			return len(want) == 0, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// memfd is a file in memory, for what a process prints.
func memfd(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, &os.SyscallError{Syscall: "memfd_create", Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}
