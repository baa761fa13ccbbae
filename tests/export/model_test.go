package export

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
)

// node is what a stream says of one name. Names of one file have the same node but for Name.
type node struct {
	Name         string
	Type         byte
	Mode         int64
	UID, GID     int
	Size         int64
	Sum          [sha256.Size]byte
	Target       string // of a symbolic link
	Major, Minor int64
	MTime        string
	Xattrs       string
	Group        string // the first name, in bytewise order, of a file with several
}

type tree map[string]node

const layout = "2006-01-02T15:04:05.999999999"

// readTree reads a stream in which no name stands twice.
func readTree(t *testing.T, r io.Reader) tree {
	t.Helper()
	tr := tar.NewReader(r)
	all := tree{}
	first := map[string]string{} // of a link: the name that is the file
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal("read the stream:", err)
		}
		name := hdr.Name
		if name != "./" {
			name = strings.TrimPrefix(strings.TrimSuffix(name, "/"), "./")
		}
		if _, ok := all[name]; ok {
			t.Fatalf("%q stands twice in the stream", name)
		}
		if hdr.Typeflag == tar.TypeLink {
			hdr.Linkname = strings.TrimPrefix(hdr.Linkname, "./")
			target, ok := all[hdr.Linkname]
			if !ok {
				t.Fatalf("%q is a link to %q, which the stream does not have before it", name, hdr.Linkname)
			}
			target.Name = name
			all[name] = target
			first[name] = hdr.Linkname
			first[hdr.Linkname] = hdr.Linkname
			continue
		}
		n := node{Name: name, Type: hdr.Typeflag, Mode: hdr.Mode & 0o7777, UID: hdr.Uid, GID: hdr.Gid, Size: hdr.Size,
			Target: hdr.Linkname, Major: hdr.Devmajor, Minor: hdr.Devminor, MTime: hdr.ModTime.UTC().Format(layout)}
		if n.Type == tar.TypeSymlink {
			n.Mode = 0o777 // Linux knows no other
		}
		for _, k := range slices.Sorted(maps.Keys(hdr.PAXRecords)) {
			if x, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
				n.Xattrs += fmt.Sprintf("%q=%q ", x, hdr.PAXRecords[k])
			}
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, tr); err != nil {
			t.Fatal("read the stream:", err)
		}
		n.Sum = [sha256.Size]byte(sum.Sum(nil))
		all[name] = n
	}
	groups := map[string][]string{}
	for name, f := range first {
		groups[f] = append(groups[f], name)
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

func (n node) String() string {
	return fmt.Sprintf("%c %#o %d:%d %d bytes %x link=%q dev=%d:%d %s xattrs=%s group=%q", n.Type, n.Mode, n.UID, n.GID, n.Size,
		n.Sum[:4], n.Target, n.Major, n.Minor, n.MTime, n.Xattrs, n.Group)
}

// diff reports how got differs from want.
func diff(t *testing.T, what string, got, want tree) {
	t.Helper()
	reported := 0
	for _, name := range slices.Sorted(maps.Keys(want)) {
		g, ok := got[name]
		if ok && g == want[name] {
			continue
		}
		if reported++; reported > 10 {
			t.Errorf("%s: and more", what)
			return
		}
		if !ok {
			t.Errorf("%s: %q is missing", what, name)
		} else {
			t.Errorf("%s: %q is\n\t%v\nwant\n\t%v", what, name, g, want[name])
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: %q has come from nowhere", what, name)
		}
	}
}

// with applies f to a copy of every node. Nodes for which it reports false are left out.
func (t tree) with(f func(*node) bool) tree {
	out := tree{}
	for name, n := range t {
		if f(&n) {
			out[name] = n
		}
	}
	return out
}

// checkOrder checks the promised order of the entries: "./", then bytewise.
func checkOrder(t *testing.T, stream []byte) {
	t.Helper()
	tr := tar.NewReader(bytes.NewReader(stream))
	last := ""
	for i := 0; ; i++ {
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if hdr.Name != "./" {
				t.Errorf("the first entry is %q", hdr.Name)
			}
			continue
		}
		if hdr.Name <= last {
			t.Errorf("%q comes after %q", hdr.Name, last)
		}
		last = hdr.Name
	}
}
