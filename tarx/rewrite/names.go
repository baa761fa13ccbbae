package rewrite

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"slices"

	"ocibundle/tarx"
)

// names is what a stream's entries have made so far, for a program that makes nothing itself:
// directories and symlinks by name, so that a path can be resolved as the kernel would below the
// root, and of everything else that it is there. Directories and symlinks take some 20 bytes and
// their names, as much as [tarx.MaxTables] allows; the others some ten, and from maxLeaves on they
// are no longer noted.
type names struct {
	nodes  tarx.Table[nameNode]
	texts  tarx.Texts
	index  tarx.Index
	leaves tarx.NameSet
	seed   maphash.Seed
}

// nameNode is a directory or symlink. Its name is in texts, and the target of a symlink behind
// that.
type nameNode struct {
	parent int32
	text   uint32
	target uint16 // length; 0: a directory
	length uint8  // of the name, at most unix.NAME_MAX
	flags  uint8
}

const (
	nodeImplied uint8 = 1 << iota // no entry has named it
	nodeFilled                    // something was made in it
	nodeOwned                     // its real ids are in an attribute
	nodeGone                      // something else took its place
)

const (
	maxLeaves = 4 << 20
	maxFollow = 40 // symlinks on the way, as in the kernel (path_resolution(7))
)

func newNames() *names {
	return &names{seed: maphash.MakeSeed()}
}

// free gives the memory back.
func (t *names) free() {
	t.nodes.Free()
	t.texts.Free()
	t.index.Free()
	t.leaves.Free()
}

func (t *names) at(n int32) *nameNode { return t.nodes.At(int(n)) }

func (t *names) name(n *nameNode) []byte { return t.texts.At(n.text, int(n.length)) }

// target is that of a symlink.
func (t *names) target(n *nameNode) []byte {
	return t.texts.At(n.text, int(n.length)+int(n.target))[n.length:]
}

func (t *names) hash(dir int32, name []byte) uint64 {
	return maphash.Bytes(t.seed, name) ^ hashDir(dir)
}

func hashDir(dir int32) uint64 { return (uint64(dir) + 1) * 0x9e3779b97f4a7c15 }

// find finds what was called name in dir, also where it is gone.
func (t *names) find(dir int32, name []byte) int {
	return t.index.Find(t.hash(dir, name), func(i int) bool {
		n := t.nodes.At(i)
		return n.parent == dir && bytes.Equal(t.name(n), name)
	})
}

// node finds the directory or symlink called name in dir.
func (t *names) node(dir int32, name []byte) (int32, bool) {
	i := t.find(dir, name)
	return int32(i), i >= 0 && t.nodes.At(i).flags&nodeGone == 0
}

func (t *names) isDir(n int32) bool { return t.at(n).target == 0 }

// add makes a directory or, with a target, a symlink.
func (t *names) add(dir int32, name []byte, target []byte, flags uint8) (int32, error) {
	if t.nodes.Bytes()+t.texts.Bytes()+t.index.Bytes() > tarx.MaxTables {
		return 0, tarx.ErrTables
	}
	t.at(dir).flags |= nodeFilled
	n := nameNode{parent: dir, text: t.texts.Add(name, target), target: uint16(len(target)), length: uint8(len(name)), flags: flags}
	i := t.find(dir, name)
	if i >= 0 {
		*t.nodes.At(i) = n
		return int32(i), nil
	}
	i = t.nodes.Add(n)
	t.index.Put(t.hash(dir, name), i, func(int) bool { return false }, func(i int) uint64 {
		n := t.nodes.At(i)
		return t.hash(n.parent, t.name(n))
	})
	return int32(i), nil
}

// drop takes a directory or symlink away.
func (t *names) drop(n int32) { t.at(n).flags = nodeGone }

// addLeaf notes something that is neither directory nor symlink.
func (t *names) addLeaf(dir int32, name []byte) {
	t.at(dir).flags |= nodeFilled
	if t.leaves.Len() < maxLeaves {
		t.leaves.Add(dir, name)
	}
}

// leaf says that something else than a directory or symlink is there, if node finds none of those.
// Where not all were noted, known is false for those that may or may not be. That two of millions
// share a hash is improbable, and would only leave an error to be found by whoever reads what is
// written.
func (t *names) leaf(dir int32, name []byte) (there, known bool) {
	there = t.leaves.Has(dir, name)
	return there, there || t.leaves.Len() < maxLeaves
}

// walk resolves a normalized path to a directory. What is missing is made by addImplied, except
// where a symlink leads to it; without addImplied it is an error.
func (t *names) walk(path []byte, addImplied func(dir int32, name []byte) (int32, error)) (int32, error) {
	var dir int32
	follow := 0
	var linked, part []byte // linked is the rest of a symlink's target
	for rest := path; len(linked) > 0 || len(rest) > 0; {
		fromLink := len(linked) > 0
		if fromLink {
			part, linked, _ = bytes.Cut(linked, []byte{'/'})
		} else {
			part, rest, _ = bytes.Cut(rest, []byte{'/'})
		}
		switch string(part) {
		case "", ".":
			continue
		case "..":
			dir = t.at(dir).parent // the root's is the root
			continue
		}
		n, ok := t.node(dir, part)
		if !ok {
			there, _ := t.leaf(dir, part)
			switch {
			case there:
				return 0, &tarx.NameError{Msg: fmt.Sprintf("%q, or what leads to it, is not a directory", tarx.Clip(path))}
			case addImplied == nil:
				return 0, &tarx.NameError{Msg: fmt.Sprintf("there is no directory %q", tarx.Clip(path))}
			case fromLink:
				return 0, tarx.LeadsNowhere(path)
			}
			var err error
			if n, err = addImplied(dir, part); err != nil {
				return 0, err
			}
		}
		if t.isDir(n) {
			dir = n
			continue
		}
		if follow++; follow > maxFollow {
			return 0, &tarx.NameError{Msg: fmt.Sprintf("%q is a loop of symlinks", tarx.Clip(path))}
		}
		target := t.target(t.at(n))
		if target[0] == '/' {
			dir = 0
		}
		// At most maxFollow targets are in it, each shorter than PATH_MAX.
		linked = slices.Concat(target, []byte{'/'}, linked)
	}
	return dir, nil
}

// path appends the path of a directory, each component with a slash behind it.
func (t *names) path(b []byte, dir int32) []byte {
	start := len(b)
	for n := t.at(dir); dir != 0; n = t.at(dir) {
		b = append(b, '/')
		b = append(b, t.name(n)...)
		slices.Reverse(b[len(b)-int(n.length):])
		dir = n.parent
	}
	slices.Reverse(b[start:])
	return b
}
