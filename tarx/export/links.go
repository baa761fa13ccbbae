package export

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// dirName is the name of a directory: what it adds to that of the one above, so that names of any
// depth share what they begin with.
type dirName struct {
	up   *dirName
	name string // ending in a slash; empty for the root
	kept bool   // by a hard-link group, and counted
}

func (d *dirName) join(base string) string {
	parts := []string{base}
	for ; d != nil; d = d.up {
		parts = append(parts, d.name)
	}
	slices.Reverse(parts)
	return strings.Join(parts, "")
}

type inode struct{ dev, ino uint64 }

// linkGroup is a file with several names of which not all have been met. The first is base in dir.
type linkGroup struct {
	dir  *dirName
	base string
	left uint64
}

// linkMemory is how many bytes the incomplete hard-link groups may take: some 900,000 of them.
var linkMemory = 96 << 20

// links are the hard-link groups that are incomplete so far.
type links struct {
	groups map[inode]linkGroup
	bytes  int
}

const linkCost = 96 // of a group without its name, as the map has it

var errLinks = errors.New("too many files have another name that was not met yet")

// link gives the first name of a file that has been written under another one.
func (e *exporter) link(base string, st *unix.Stat_t) (string, error) {
	if st.Nlink < 2 {
		return "", nil
	}
	l := &e.links
	id := inode{st.Dev, st.Ino}
	g, ok := l.groups[id]
	if !ok {
		dir := e.stack.Current().Data.dir
		l.bytes += linkCost + len(base)
		for d := dir; d != nil && !d.kept; d = d.up {
			d.kept = true
			l.bytes += linkCost + len(d.name)
		}
		if l.bytes > linkMemory {
			return "", refused(errLinks)
		}
		l.groups[id] = linkGroup{dir: dir, base: base, left: uint64(st.Nlink) - 1}
		return "", nil
	}
	if g.left--; g.left == 0 {
		delete(l.groups, id)
		l.bytes -= linkCost + len(g.base)
	} else {
		l.groups[id] = g
	}
	return g.dir.join(g.base), nil
}
