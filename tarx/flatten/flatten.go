// Package flatten makes one tar stream of the layers of an image, without a disk.
//
// The layers are read twice. The first reading, from the lowest to the topmost, makes the tree
// that [ocibundle/tarx/extract] would make, but of names alone: which entry made what is there at
// the end. The second writes these entries, by names that lead through no symlink, and leaves out
// what a later layer hides or replaces. So nothing that was written has to be taken back. A file
// whose first name is hidden while a hard link to it is not is written by the link's name.
//
// Of a file the first reading keeps the hash of its name and its number, some forty bytes; of a
// directory, a symlink and a hard link the name or the target, too. All of that is limited.
package flatten

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"runtime/debug"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"ocibundle/tarx"
	"ocibundle/tarx/extract"
)

// Flattener makes one stream of several layers. First [Flattener.Whiteouts] and
// [Flattener.Layer] read each, then, after [Flattener.Resolve], [Flattener.Write] does.
type Flattener struct {
	// MaxEntries is the number of entries of all layers beyond which they are refused. 0
	// means no limit.
	MaxEntries int64
	// Losses counts what is in no stream.
	Losses tarx.Losses

	seed  maphash.Seed
	slots map[uint64]slot // by directory and name
	dirs  []directory     // a parent comes before what is in it
	cost  int64           // of all this, in bytes of memory

	// By the number of an entry, counted through all layers:
	first   uint32            // of the layer that is read
	places  []int32           // the directory that it names or makes a name in; noPlace for none
	targets map[uint32]string // of symlinks
	inodes  map[uint32]*inode // of files with several names
	links   []link            // hard links, in order

	newestSec  int64
	newestNsec int32

	there    []uint64 // bits: the name that an entry made is there at the end
	written  uint32   // entries that Write has come to
	nextLink int
	buf      []byte
}

// slot is a name in a directory.
type slot struct {
	entry uint32 // that made it
	node  int32  // the directory if not negative, else ^ of the entry that made the file
}

type directory struct {
	parent int32
	gone   bool
	named  bool   // by an entry
	entry  uint32 // the last one that named it
	name   string
}

// inode is what has several names.
type inode struct {
	base string // of its first name
	name *link  // the link by whose name it is written; nil: its first name
	lost bool   // no name is there at the end
}

type link struct {
	entry, inode uint32
	base         string
}

const (
	noPlace   = -1
	maxFollow = 40 // symlinks on the way, as in the kernel (path_resolution(7))
	maxCost   = 128 << 20
	muchCost  = 4 << 20
	slotCost  = 44
	nodeCost  = 80
)

var (
	errChanged = errors.New("the layers have changed while they were read")
	errCost    = fmt.Errorf("the names of the image take more than %d MiB of memory", maxCost>>20)
)

// New makes a Flattener.
func New(maxEntries int64) *Flattener {
	return &Flattener{
		MaxEntries: maxEntries, seed: maphash.MakeSeed(), slots: map[uint64]slot{}, dirs: make([]directory, 1),
		targets: map[uint32]string{}, inodes: map[uint32]*inode{},
	}
}

// scan reads a layer and calls visit for every entry with its normalized name.
func (f *Flattener) scan(ctx context.Context, r io.Reader, visit func(p *tarx.Parser, h *tarx.Header, full []byte) error) error {
	p := &tarx.Parser{Layer: true}
	var full []byte
	return tarx.Scan(ctx, r, p, func(h *tarx.Header) error {
		var escapes bool
		var err error
		if full, escapes, err = tarx.Normalize(full[:0], h.Name); err != nil {
			return entryError(p, h, tarx.ErrMalformed, err)
		}
		if escapes {
			return entryError(p, h, tarx.ErrRefused, tarx.ErrEscapes)
		}
		return visit(p, h, full)
	})
}

func entryError(p *tarx.Parser, h *tarx.Header, kind, err error) error {
	return &tarx.EntryError{Name: string(h.Name[:min(len(h.Name), unix.PathMax)]), Index: p.Index, Kind: kind, Err: err}
}

// Whiteouts reads a layer and takes away what it hides of those below. [Flattener.Layer] has to
// follow with the same bytes.
func (f *Flattener) Whiteouts(ctx context.Context, r io.Reader) error {
	return f.scan(ctx, r, func(p *tarx.Parser, h *tarx.Header, full []byte) error {
		if n := int64(len(f.places)) + p.Index; f.MaxEntries > 0 && n > f.MaxEntries {
			return &tarx.LimitError{What: "entries", Limit: f.MaxEntries}
		}
		dir, name, isWhiteout, isEntry, err := extract.LayerName(full)
		switch {
		case err != nil:
			return entryError(p, h, tarx.ErrMalformed, err)
		case isWhiteout && name != nil:
			f.hide(dir, name)
		case isWhiteout:
			f.hideAll(dir)
		case isEntry && h.Type == tarx.TypeDir:
			f.clearSymlink(full)
		}
		return nil
	})
}

func (f *Flattener) hide(dir, name []byte) {
	if d, ok := f.walk(0, dir, new(int)); ok {
		f.drop(f.key(d, name))
	}
}

// hideAll empties a directory, to which no symlink leads: it takes the place of the one that was.
func (f *Flattener) hideAll(dir []byte) {
	parent, base := tarx.SplitPath(dir)
	if len(dir) == 0 {
		clear(f.slots)
		for i := range f.dirs[1:] {
			f.dirs[1+i].gone = true
		}
		return
	}
	d, ok := f.walk(0, parent, new(int))
	if !ok {
		return
	}
	key := f.key(d, base)
	s, ok := f.slots[key]
	if !ok || s.node < 0 {
		return
	}
	empty := f.dirs[s.node]
	f.dirs[s.node].gone = true
	s.node = int32(len(f.dirs))
	f.dirs = append(f.dirs, empty)
	f.slots[key] = s
	if empty.named {
		f.places[empty.entry] = s.node
	}
}

// clearSymlink takes away a lower layer's symlink where this layer has a directory.
func (f *Flattener) clearSymlink(full []byte) {
	parent, base := tarx.SplitPath(full)
	if tarx.Dots(base) {
		return
	}
	if d, ok := f.walk(0, parent, new(int)); ok {
		if s, ok := f.slots[f.key(d, base)]; ok && s.node < 0 && f.targets[uint32(^s.node)] != "" {
			delete(f.slots, f.key(d, base))
		}
	}
}

func (f *Flattener) drop(key uint64) {
	if s, ok := f.slots[key]; ok && s.node >= 0 {
		f.dirs[s.node].gone = true
	}
	delete(f.slots, key)
}

// key stands for a name in a directory. That two of millions share one is improbable.
func (f *Flattener) key(dir int32, name []byte) uint64 {
	return maphash.Bytes(f.seed, name) ^ maphash.Comparable(f.seed, dir)
}

// walk resolves a normalized path from dir as the kernel would below the root.
func (f *Flattener) walk(dir int32, path []byte, follow *int) (int32, bool) {
	for part := range bytes.SplitSeq(path, []byte{'/'}) {
		var ok bool
		if dir, ok = f.step(dir, part, follow); !ok {
			return 0, false
		}
	}
	return dir, true
}

// step resolves one component.
func (f *Flattener) step(dir int32, part []byte, follow *int) (int32, bool) {
	switch string(part) {
	case "", ".":
		return dir, true
	case "..":
		return f.dirs[dir].parent, true // the root's is the root
	}
	s, ok := f.slots[f.key(dir, part)]
	if !ok || s.node >= 0 {
		return s.node, ok
	}
	target := f.targets[uint32(^s.node)]
	if *follow++; target == "" || *follow > maxFollow {
		return 0, false
	}
	if target[0] == '/' {
		dir = 0
	}
	return f.walk(dir, []byte(target), follow)
}

// make resolves a path and makes what is missing. A file of a lower layer on the way, or a symlink
// that leads nowhere, gives way to a directory; one of this layer is in the way, as in any stream.
func (f *Flattener) make(path []byte) (int32, error) {
	var dir int32
	follow, at := 0, 0
	for part := range bytes.SplitSeq(path, []byte{'/'}) {
		if len(part) > unix.NAME_MAX {
			return 0, unix.ENAMETOOLONG
		}
		at += len(part) + 1
		next, ok := f.step(dir, part, &follow)
		if !ok {
			if s, there := f.slots[f.key(dir, part)]; there && s.entry >= f.first {
				if f.targets[uint32(^s.node)] != "" {
					return 0, tarx.LeadsNowhere(path[:at-1])
				}
				return 0, tarx.NotDirectory(path[:at-1])
			}
			next = f.addDirectory(dir, part)
			f.slots[f.key(dir, part)] = slot{node: next}
		}
		dir = next
	}
	return dir, nil
}

func (f *Flattener) addDirectory(parent int32, name []byte) int32 {
	f.cost += nodeCost + int64(len(name))
	f.dirs = append(f.dirs, directory{parent: parent, name: string(name)})
	return int32(len(f.dirs) - 1)
}

// Layer reads a layer and makes the names of its entries.
func (f *Flattener) Layer(ctx context.Context, r io.Reader) error {
	f.first = uint32(len(f.places))
	return f.scan(ctx, r, func(p *tarx.Parser, h *tarx.Header, full []byte) error {
		f.places = append(f.places, noPlace)
		if f.MaxEntries > 0 && int64(len(f.places)) > f.MaxEntries {
			return &tarx.LimitError{What: "entries", Limit: f.MaxEntries}
		}
		_, _, isWhiteout, isEntry, err := extract.LayerName(full)
		switch {
		case err != nil:
			return entryError(p, h, tarx.ErrMalformed, err)
		case isWhiteout:
			return nil
		case !isEntry:
			f.Losses.Add(tarx.LossAufs, h.Name, p.Index, "")
			return nil
		}
		if h.Sec > f.newestSec || h.Sec == f.newestSec && h.Nsec > f.newestNsec || f.cost == 0 {
			f.newestSec, f.newestNsec = h.Sec, h.Nsec
		}
		if f.cost += slotCost; f.cost > maxCost {
			return entryError(p, h, tarx.ErrRefused, errCost)
		}
		if err := f.entry(h, full); err != nil {
			return entryError(p, h, tarx.ErrMalformed, err)
		}
		return nil
	})
}

// entry makes the name of an entry.
func (f *Flattener) entry(h *tarx.Header, full []byte) error {
	n := uint32(len(f.places) - 1)
	parent, base := tarx.SplitPath(full)
	if tarx.Dots(base) {
		if h.Type != tarx.TypeDir {
			return fmt.Errorf("the root directory cannot be a %s", tarx.TypeName(h.Type))
		}
		parent, base = full, nil
	}
	dir, err := f.make(parent)
	if err != nil {
		return err
	}
	if len(base) > unix.NAME_MAX {
		return unix.ENAMETOOLONG
	}
	key := f.key(dir, base)
	s, ok := f.slots[key]
	switch {
	case base == nil:
	case h.Type == tarx.TypeDir:
		if !ok || s.node < 0 {
			s.node = f.addDirectory(dir, base)
			f.slots[key] = s
		}
		dir = s.node
	case h.Type == tarx.TypeLink:
		made, err := f.link(h, dir, base, n)
		if err != nil || !made {
			return err
		}
	default:
		f.drop(key)
		f.slots[key] = slot{n, ^int32(n)}
		if h.Type == tarx.TypeSymlink {
			f.cost += nodeCost + int64(len(h.Link))
			f.targets[n] = string(h.Link)
		}
	}
	f.places[n] = dir
	if h.Type == tarx.TypeDir {
		f.dirs[dir].named, f.dirs[dir].entry = true, n
	}
	return nil
}

// link makes another name for a file; made is false for what has this name already.
func (f *Flattener) link(h *tarx.Header, dir int32, base []byte, n uint32) (made bool, err error) {
	full, escapes, err := tarx.Normalize(nil, h.Link)
	if err != nil {
		return false, fmt.Errorf("hard link target: %w", err)
	}
	missing := &tarx.NameError{Msg: fmt.Sprintf("the hard link's target %q does not exist", tarx.Clip(h.Link))}
	parent, last := tarx.SplitPath(full)
	from, ok := f.walk(0, parent, new(int))
	if escapes || !ok {
		return false, missing
	}
	target, key := f.key(from, last), f.key(dir, base)
	s, ok := f.slots[target]
	switch {
	case ok && target == key:
		return false, nil
	case tarx.Dots(last) || ok && s.node >= 0:
		return false, fmt.Errorf("the hard link's target %q is a directory", tarx.Clip(h.Link))
	case !ok:
		return false, missing
	}
	old, taken := f.slots[key]
	if taken && old.node == s.node {
		return false, nil
	}
	f.drop(key)
	if taken && old.node >= 0 {
		if _, ok := f.walk(0, parent, new(int)); !ok { // it was in the directory that had the name
			return false, missing
		}
	}
	f.slots[key] = slot{n, s.node}
	file := uint32(^s.node)
	if f.inodes[file] == nil {
		f.inodes[file] = &inode{base: string(last)}
	}
	f.cost += nodeCost + int64(len(base)+len(last))
	f.links = append(f.links, link{n, file, string(base)})
	return true, nil
}

// Resolve ends the first reading.
func (f *Flattener) Resolve() {
	for i := range f.dirs {
		f.dirs[i].gone = f.dirs[i].gone || f.dirs[f.dirs[i].parent].gone
	}
	f.there = make([]uint64, (len(f.places)+63)/64)
	for _, s := range f.slots {
		if s.node < 0 && !f.dirs[f.places[s.entry]].gone {
			f.there[s.entry/64] |= 1 << (s.entry % 64)
		}
	}
	f.slots, f.targets = nil, nil
	if f.cost > muchCost {
		debug.FreeOSMemory() // or the names that are written would take theirs besides
	}
	for n, i := range f.inodes {
		i.lost = !f.isThere(n)
	}
	for i := range f.links {
		l := &f.links[i]
		if n := f.inodes[l.inode]; n.lost && f.isThere(l.entry) {
			n.name, n.lost = l, false
		}
	}
}

func (f *Flattener) isThere(n uint32) bool { return f.there[n/64]&(1<<(n%64)) != 0 }

// path is the name of what is in a directory, or of the directory itself.
func (f *Flattener) path(dir int32, base string) string {
	parts := []string{base}
	for ; dir != 0; dir = f.dirs[dir].parent {
		parts = append(parts, f.dirs[dir].name)
	}
	slices.Reverse(parts)
	return strings.Join(parts, "/")
}

// fileName is the name by which a file with several names is written.
func (f *Flattener) fileName(n uint32, i *inode) string {
	if i.name != nil {
		return f.path(f.places[i.name.entry], i.name.base)
	}
	return f.path(f.places[n], i.base)
}
