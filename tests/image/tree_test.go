package image

import (
	"archive/tar"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// node is what is known of one name in a filesystem. Names of one file have the same
// node.
type node struct {
	Type     byte // as in a tar header
	Mode     int64
	UID, GID int
	Sum      [sha256.Size]byte
	Target   string // of a symlink
	Dev      uint64
	MTime    int64 // seconds: engines write no more
	Xattrs   string
	Group    string // the first name of a file with several
}

func (n node) String() string {
	return fmt.Sprintf("%c %#o %d:%d %x link=%q dev=%#x mtime=%d xattrs=%s group=%q", n.Type, n.Mode, n.UID, n.GID, n.Sum[:4],
		n.Target, n.Dev, n.MTime, n.Xattrs, n.Group)
}

// tree is a filesystem, by name relative to its root, which is ".".
type tree map[string]node

// diskTree reads what is below dir.
func diskTree(t *testing.T, dir string) tree {
	t.Helper()
	all := tree{}
	groups := map[uint64][]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		n := node{Mode: int64(st.Mode & 0o7777), UID: int(st.Uid), GID: int(st.Gid), MTime: st.Mtim.Sec, Xattrs: diskXattrs(t, path)}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			n.Type = tar.TypeDir
		case unix.S_IFLNK:
			n.Type = tar.TypeSymlink
			if n.Target, err = os.Readlink(path); err != nil {
				return err
			}
		case unix.S_IFIFO:
			n.Type = tar.TypeFifo
		case unix.S_IFCHR:
			n.Type, n.Dev = tar.TypeChar, st.Rdev
		case unix.S_IFBLK:
			n.Type, n.Dev = tar.TypeBlock, st.Rdev
		case unix.S_IFREG:
			n.Type = tar.TypeReg
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			n.Sum = sha256.Sum256(data)
		default:
			return fmt.Errorf("%q has mode %#o", path, st.Mode)
		}
		if n.Type != tar.TypeDir && st.Nlink > 1 {
			groups[st.Ino] = append(groups[st.Ino], name)
		}
		all[name] = n
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, names := range groups {
		for _, name := range names {
			n := all[name]
			n.Group = slices.Min(names)
			all[name] = n
		}
	}
	return all
}

func diskXattrs(t *testing.T, path string) string {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for name := range strings.SplitSeq(strings.TrimRight(string(buf[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%s=%x", name, value[:n]))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// streamTree reads what `docker export` writes.
func streamTree(t *testing.T, r io.Reader) tree {
	t.Helper()
	all := tree{}
	link := map[string]string{}
	for tr := tar.NewReader(r); ; {
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal("read the stream:", err)
		}
		name := filepath.Clean(hdr.Name)
		if hdr.Typeflag == tar.TypeLink {
			target := filepath.Clean(hdr.Linkname)
			all[name] = all[target]
			link[name], link[target] = target, target
			continue
		}
		n := node{Type: hdr.Typeflag, Mode: hdr.Mode & 0o7777, UID: hdr.Uid, GID: hdr.Gid, MTime: hdr.ModTime.Unix()}
		var xattrs []string
		for _, key := range slices.Sorted(maps.Keys(hdr.PAXRecords)) {
			if x, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
				xattrs = append(xattrs, fmt.Sprintf("%s=%x", x, hdr.PAXRecords[key]))
			}
		}
		n.Xattrs = strings.Join(xattrs, " ")
		switch n.Type {
		case tar.TypeSymlink:
			n.Mode, n.Target = 0o777, hdr.Linkname
		case tar.TypeChar, tar.TypeBlock:
			n.Dev = unix.Mkdev(uint32(hdr.Devmajor), uint32(hdr.Devminor))
		case tar.TypeReg:
			h := sha256.New()
			if _, err := io.Copy(h, tr); err != nil {
				t.Fatal("read the stream:", err)
			}
			n.Sum = [sha256.Size]byte(h.Sum(nil))
		}
		all[name] = n
	}
	groups := map[string][]string{}
	for name, target := range link {
		groups[target] = append(groups[target], name)
	}
	for _, names := range groups {
		for _, name := range names {
			n := all[name]
			n.Group = slices.Min(names)
			all[name] = n
		}
	}
	return all
}

// compare says where two trees differ. Differences that explain names are left out,
// and each of those has to be there: an explanation that explains nothing is wrong.
func compare(t *testing.T, got, want tree, explain map[string]func(got, want *node) bool) {
	t.Helper()
	names := map[string]bool{}
	for name := range got {
		names[name] = true
	}
	for name := range want {
		names[name] = true
	}
	used := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		var g, w *node
		if n, ok := got[name]; ok {
			g = &n
		}
		if n, ok := want[name]; ok {
			w = &n
		}
		if g != nil && w != nil && *g == *w {
			continue
		}
		if f := explain[name]; f != nil && f(g, w) {
			used[name] = true
			continue
		}
		t.Errorf("%s:\n got %v\nwant %v", name, g, w)
	}
	for name := range explain {
		if !used[name] {
			t.Errorf("%s does not differ as explained", name)
		}
	}
}
