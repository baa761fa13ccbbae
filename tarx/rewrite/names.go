package rewrite

import (
	"bytes"
	"fmt"
	"hash/maphash"

	"ocibundle/tarx"
)

// names is what a stream's entries have made so far, for a program that makes
// nothing itself: directories and symlinks by name, so that a path can be
// resolved as the kernel would below the root, and of everything else that it is
// there. Directories and symlinks cost some hundred bytes each and are limited;
// the others cost some twenty, and from maxLeaves on they are no longer noted.
type names struct {
	nodes  []nameNode
	byName map[nameKey]int32
	leaves map[uint64]struct{}
	seed   maphash.Seed
	cost   int64
}

type nameKey struct {
	dir  int32
	name string
}

type nameNode struct {
	parent int32
	flags  uint8
	name   string
	link   string // the target of a symlink; empty: a directory
}

const (
	nodeImplied uint8 = 1 << iota // no entry has named it
	nodeFilled                    // something was made in it
	nodeOwned                     // its real ids are in an attribute
)

const (
	maxLeaves    = 8 << 20
	maxNamesCost = 512 << 20
	nodeCost     = 160 // bytes of memory for a directory or symlink, its name aside
	maxFollow    = 40  // symlinks on the way, as in the kernel (path_resolution(7))
)

func newNames() *names {
	return &names{
		nodes:  []nameNode{{flags: nodeImplied}},
		byName: map[nameKey]int32{},
		leaves: map[uint64]struct{}{},
		seed:   maphash.MakeSeed(),
	}
}

// node finds the directory or symlink called name in dir.
func (t *names) node(dir int32, name []byte) (int32, bool) {
	n, ok := t.byName[nameKey{dir, string(name)}]
	return n, ok
}

func (t *names) isDir(n int32) bool { return t.nodes[n].link == "" }

// add makes a directory or, with a link, a symlink.
func (t *names) add(dir int32, name []byte, link []byte, flags uint8) (int32, error) {
	if t.cost += nodeCost + int64(len(name)+len(link)); t.cost > maxNamesCost {
		return 0, fmt.Errorf("the directories and symlinks so far take more than %d MiB of memory", maxNamesCost>>20)
	}
	n := int32(len(t.nodes))
	key := nameKey{dir, string(name)}
	t.nodes = append(t.nodes, nameNode{parent: dir, name: key.name, link: string(link), flags: flags})
	t.byName[key] = n
	delete(t.leaves, t.hash(dir, name))
	t.nodes[dir].flags |= nodeFilled
	return n, nil
}

// drop takes a directory or symlink away.
func (t *names) drop(dir int32, name []byte) {
	key := nameKey{dir, string(name)}
	t.nodes[t.byName[key]].flags = 0
	delete(t.byName, key)
}

// hash stands for the name of something that is neither directory nor symlink.
// That two of millions share one is improbable, and would only leave an error to
// be found by whoever reads what is written.
func (t *names) hash(dir int32, name []byte) uint64 {
	return maphash.Bytes(t.seed, name) ^ maphash.Comparable(t.seed, dir)
}

func (t *names) addLeaf(dir int32, name []byte) {
	t.nodes[dir].flags |= nodeFilled
	if len(t.leaves) < maxLeaves {
		t.leaves[t.hash(dir, name)] = struct{}{}
	}
}

// leaf says that something else than a directory or symlink is there. Where not
// all were noted, known is false for those that may or may not be.
func (t *names) leaf(dir int32, name []byte) (there, known bool) {
	_, there = t.leaves[t.hash(dir, name)]
	return there, there || len(t.leaves) < maxLeaves
}

// walk resolves a normalized path to a directory. What is missing is made by
// imply, except where a symlink leads to it; without imply it is an error.
func (t *names) walk(path []byte, imply func(dir int32, name []byte) (int32, error)) (int32, error) {
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
			dir = t.nodes[dir].parent // the root's is the root
			continue
		}
		n, ok := t.node(dir, part)
		if !ok {
			there, _ := t.leaf(dir, part)
			switch {
			case there:
				return 0, &tarx.NameError{Msg: fmt.Sprintf("%q, or what leads to it, is not a directory", tarx.Clip(path))}
			case imply == nil:
				return 0, &tarx.NameError{Msg: fmt.Sprintf("there is no directory %q", tarx.Clip(path))}
			case fromLink:
				return 0, &tarx.NameError{Msg: fmt.Sprintf("%q is a symlink that leads nowhere", tarx.Clip(path))}
			}
			var err error
			if n, err = imply(dir, part); err != nil {
				return 0, err
			}
		}
		if t.isDir(n) {
			dir = n
			continue
		}
		if follow++; follow > maxFollow {
			return 0, &tarx.NameError{Msg: fmt.Sprintf("%q goes round in symlinks", tarx.Clip(path))}
		}
		link := t.nodes[n].link
		if link[0] == '/' {
			dir = 0
		}
		// At most maxFollow targets are in it, each shorter than PATH_MAX.
		linked = append([]byte(link+"/"), linked...)
	}
	return dir, nil
}

// path appends the path of a directory, each component with a slash behind it.
func (t *names) path(b []byte, dir int32) []byte {
	start := len(b)
	for n := dir; n != 0; n = t.nodes[n].parent {
		b = append(append(b, '/'), reversed(t.nodes[n].name)...)
	}
	for i, j := start, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return b
}

func reversed(s string) []byte {
	b := []byte(s)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return b
}
