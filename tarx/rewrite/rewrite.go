// Package rewrite turns a tar stream into the stream of what extraction would make of it, without a
// disk.
package rewrite

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"golang.org/x/sys/unix"

	"ocibundle/tarx"
)

// ErrReplaced is in the chain, beside ErrRefused, where a later entry removes what earlier ones
// made: a directory with something in it, what a device that is left out would replace, and a
// symlink whose place a directory or a file takes, which many readers would follow. On a disk that
// can be done, and what a stream has said cannot be taken back.
var ErrReplaced = errors.New("it removes what has been written already")

// ErrExcluded is in the chain, beside ErrRefused, where a hard link is to a file that is left out:
// the link is the file then, and its content has passed.
var ErrExcluded = errors.New("its content has been left out")

// ErrLongPath is in the chain, beside ErrRefused, where a path has PATH_MAX bytes or more. An
// [Extractor] makes such, but programs that unpack a stream take names as they stand in it, which
// the kernel then refuses.
var ErrLongPath = errors.New("its path in the bundle is longer than what unpacks a stream can make")

// Rewriter writes what an [Extractor] would put onto a disk as a tar stream instead, entry by entry
// as it comes in: no disk, no privilege, and memory for the names only (see below). What a program
// that unpacks the result as root gets is what the Extractor makes.
//
// # What it promises
//
// It refuses what an Extractor refuses, an entry that would leave the root first of all. No name
// that it writes has a "..", is absolute, or leads through a symlink: paths are resolved the way
// the kernel would below the root, among the names that have passed, and written as what they
// resolve to. So a program that unpacks into an empty directory needs no care of its own. Every
// directory is written before what is in it. Those that the stream does not name come with the mode
// and owner that an Extractor gives them, and again at the end with their modification time, which
// is not known before.
//
// Ids in the headers are those on the disk; no user or group is named.
//
// # What it does not promise
//
// Neither a directory that is not empty nor, by a directory or a file, a symlink can be replaced
// (ErrReplaced). Other entries that replace one are written like all, for the reader to do the
// same. Devices can be had without privilege here, and so [tarx.DevicesAuto] keeps them all. Beyond
// some four million files, whether a hard link's target exists, and whether a parent is not a file,
// is for the reader to find out. Directories and symlinks whose names take more than
// [tarx.MaxTables] are refused, and so are paths that are too long to be unpacked (ErrLongPath).
//
// # What a failure leaves
//
// What was written so far, and after [Rewriter.Abort] an end that every reader takes for a cut.
type Rewriter struct {
	tarx.Engine
	prefix string
	out    *bufio.Writer
	werr   error // of out; nothing can be written any more
	owed   int64 // bytes of the current body and its padding, yet to be written
	buf    []byte

	src     *tarx.Source
	names   *names
	started bool // the root was written
	kept    map[string]*keptFile

	name, linkName []byte // as written
	xattrs         []tarx.Xattr
}

// New makes a Rewriter that writes to w. prefix, which ends in a slash, comes before all names.
// keep names files for [Rewriter.ReadFile].
//
// Of the options, Mapping and CapRootID are about the ids in the headers. With OwnerRootless every
// entry has the owner that Mapping gives to 0:0, and the mapping needs no other id. Workers means
// nothing.
func New(w io.Writer, prefix string, keep []string, o tarx.Options) *Rewriter {
	r := &Rewriter{
		Engine: tarx.NewEngine(o), prefix: prefix, out: bufio.NewWriterSize(w, outBuffer), names: newNames(), kept: map[string]*keptFile{},
	}
	for _, name := range keep {
		r.kept[name] = nil
	}
	runtime.AddCleanup(r, (*names).free, r.names)
	return r
}

// Rewrite reads one tar stream to its end and writes all of it but an end marker. Errors are those
// of [Extract], and of writing.
func (r *Rewriter) Rewrite(ctx context.Context, in io.Reader) (err error) {
	defer tarx.CatchNoMemory(&err)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.src = tarx.NewSource(in, nil, ctx.Done())
	r.Read(r.src, false)
	if r.names.nodes.Len() == 0 {
		r.names.nodes.Add(nameNode{flags: nodeImplied}) // the root
	}
	if err = r.Each(r.entry); err == nil {
		err = r.repeatImplied()
	}
	if errors.Is(err, tarx.ErrStopped) {
		err = context.Cause(ctx)
	}
	return err
}

// Has says that there is something called name in the root.
func (r *Rewriter) Has(name string) bool {
	_, node := r.names.node(0, []byte(name))
	leaf, _ := r.names.leaf(0, []byte(name))
	return node || leaf
}

// blame makes err one of this entry, unless it is of writing.
func (r *Rewriter) blame(h *tarx.Header, err error) error {
	var named *tarx.NameError
	switch {
	case r.werr != nil:
		return err
	case errors.As(err, &named), errors.Is(err, tarx.ErrHeaderSize), errors.Is(err, unix.ENAMETOOLONG):
		return r.Malformed(h, err)
	}
	return r.Refused(h, err)
}

// entry writes one entry.
func (r *Rewriter) entry(h *tarx.Header) error {
	if err := r.Normalize(h); err != nil {
		return err
	}
	if r.Options.Exclude.Match(r.Full) {
		r.LeaveOut(h)
		return r.Parser.SkipBody()
	}
	parent, base, err := r.Place(h)
	if err != nil {
		return err
	}
	o := tarx.OutHeader{Type: h.Type, Mode: h.Mode, Sec: h.Sec, Nsec: h.Nsec}
	if r.Options.Owner == tarx.OwnerRootless {
		o.UID, o.GID, err = r.Owner.Disk(0, 0)
	} else {
		o.UID, o.GID, err = r.Owner.Disk(h.UID, h.GID)
	}
	if err != nil {
		return r.Refused(h, err)
	}
	if tarx.Dots(base) {
		dir, err := r.names.walk(r.Full, r.addImplied)
		if err != nil {
			return r.blame(h, err)
		}
		return r.directory(h, &o, dir)
	}
	dir, err := r.names.walk(parent, r.addImplied)
	if err == nil && len(base) > unix.NAME_MAX {
		err = unix.ENAMETOOLONG
	}
	if err == nil {
		err = r.start()
	}
	if err != nil {
		return r.blame(h, err)
	}
	r.name = append(r.names.path(append(r.name[:0], r.prefix...), dir), base...)
	o.Name = string(r.name)
	switch h.Type {
	case tarx.TypeDir:
		return r.newDirectory(h, &o, dir, base)
	case tarx.TypeLink:
		return r.hardlink(h, &o, dir, base)
	}
	n, isNode := r.names.node(dir, base)
	device := h.Type == tarx.TypeChar || h.Type == tarx.TypeBlock
	if leaf, _ := r.names.leaf(dir, base); device && r.Options.Devices == tarx.DevicesSkip && (leaf || isNode) ||
		h.Type == tarx.TypeReg && isNode && !r.names.isDir(n) {
		return r.Refused(h, ErrReplaced)
	}
	if err := r.clear(dir, base); err != nil {
		return r.Refused(h, err)
	}
	switch h.Type {
	case tarx.TypeSymlink:
		return r.symlink(h, &o, dir, base)
	case tarx.TypeReg:
		return r.file(h, &o, dir, base)
	}
	return r.node(h, &o, dir, base)
}

// newDirectory writes a directory that may be there already.
func (r *Rewriter) newDirectory(h *tarx.Header, o *tarx.OutHeader, dir int32, base []byte) error {
	n, isNode := r.names.node(dir, base)
	switch {
	case !isNode:
		var err error
		if n, err = r.names.add(dir, base, nil, 0); err != nil {
			return r.blame(h, err)
		}
	case !r.names.isDir(n):
		return r.Refused(h, ErrReplaced)
	}
	return r.directory(h, o, n)
}

// node writes a FIFO or a device.
func (r *Rewriter) node(h *tarx.Header, o *tarx.OutHeader, dir int32, base []byte) error {
	if h.Type == tarx.TypeFIFO {
		r.Report.FIFOs++
	} else {
		r.Report.Devices++
		if err := r.CheckDevice(h); err != nil {
			return err
		}
		if r.Options.Devices == tarx.DevicesSkip {
			return r.SkipDevice(h)
		}
		o.Major, o.Minor = h.Major, h.Minor
	}
	r.names.addLeaf(dir, base)
	r.forget(dir, base, "it is a "+tarx.TypeName(h.Type))
	r.nameMeta(h, o)
	return r.put(h, o)
}

// clear frees a name for what is not a directory.
func (r *Rewriter) clear(dir int32, base []byte) error {
	n, ok := r.names.node(dir, base)
	if !ok {
		return nil
	}
	if r.names.isDir(n) && r.names.at(n).flags&nodeFilled != 0 {
		return ErrReplaced
	}
	r.names.drop(n)
	return nil
}

// start writes the root directory before anything else.
func (r *Rewriter) start() error {
	if r.started {
		return nil
	}
	r.started = true
	return r.writeImplied(0)
}

// addImplied makes a directory that no entry has named.
func (r *Rewriter) addImplied(dir int32, name []byte) (int32, error) {
	if len(name) > unix.NAME_MAX {
		return 0, unix.ENAMETOOLONG
	}
	if err := r.start(); err != nil {
		return 0, err
	}
	n, err := r.names.add(dir, name, nil, nodeImplied)
	if err != nil {
		return 0, err
	}
	return n, r.writeImplied(n)
}

// writeImplied writes a directory that no entry has named.
func (r *Rewriter) writeImplied(dir int32) error {
	uid, gid, err := r.Owner.Disk(0, 0)
	if err != nil {
		return err
	}
	name := r.names.path([]byte(r.prefix), dir)
	return r.header(&tarx.OutHeader{Type: tarx.TypeDir, Name: string(name), Mode: tarx.ImpliedMode, UID: uid, GID: gid, Sec: r.NewestSec, Nsec: r.NewestNsec})
}

// repeatImplied repeats the directories that no entry has named, now that the newest time in the
// stream is known.
func (r *Rewriter) repeatImplied() error {
	for n := range int32(r.names.nodes.Len()) {
		if r.names.at(n).flags&nodeImplied == 0 {
			continue
		}
		if err := r.writeImplied(n); err != nil {
			return err
		}
	}
	return nil
}

func (r *Rewriter) directory(h *tarx.Header, o *tarx.OutHeader, dir int32) error {
	r.Report.Directories++
	r.started = r.started || dir == 0
	o.Name = string(r.names.path(append(r.name[:0], r.prefix...), dir))
	node := r.names.at(dir)
	node.flags &^= nodeImplied
	r.setXattrs(h, o)
	switch {
	case r.Options.Owner != tarx.OwnerRootless:
	case r.NotesOwner(h):
		node.flags |= nodeOwned
		o.Xattrs = append(o.Xattrs, tarx.Xattr{Name: []byte(tarx.XattrRootless), Value: tarx.RootlessValue(h.UID, h.GID)})
	case node.flags&nodeOwned != 0:
		// An entry before this one gave it ids, and an attribute cannot be taken away: it says 0
		// and 0, field by field.
		o.Xattrs = append(o.Xattrs, tarx.Xattr{Name: []byte(tarx.XattrRootless), Value: []byte{1 << 3, 0, 2 << 3, 0}})
	}
	return r.put(h, o)
}

func (r *Rewriter) file(h *tarx.Header, o *tarx.OutHeader, dir int32, base []byte) error {
	r.Report.Files++
	r.Report.Bytes += h.Size
	r.names.addLeaf(dir, base)
	r.setXattrs(h, o)
	if r.NotesOwner(h) {
		o.Xattrs = append(o.Xattrs, tarx.Xattr{Name: []byte(tarx.XattrRootless), Value: tarx.RootlessValue(h.UID, h.GID)})
	}
	var kept *keptFile
	if name := r.keptHere(dir, base); name != "" {
		kept = &keptFile{dir: dir}
		switch {
		case h.Sparse != nil:
			kept.err = errors.New("it is a sparse file")
		case h.Size > maxKept:
			kept.err = fmt.Errorf("it has %d bytes, more than the %d that are read", h.Size, maxKept)
		}
		r.kept[name] = kept
	}
	o.Size, o.Sparse = h.Size, h.Sparse
	if err := r.put(h, o); err != nil {
		return err
	}
	if h.Stored == 0 {
		return r.Parser.EndBody()
	}
	// The header lies in a chunk that may be gone once the body was read.
	name, index := tarx.ClipName(h.Name), r.Parser.Index
	cut := func(err error) error {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return &tarx.EntryError{Name: name, Index: index, Kind: tarx.ErrMalformed, Err: tarx.ErrTruncated}
		}
		return err
	}
	for left := h.Stored; left > 0; {
		data, err := r.src.Piece(left)
		if err != nil {
			return cut(err)
		}
		left -= int64(len(data))
		if kept != nil && kept.err == nil {
			kept.data = append(kept.data, data...)
		}
		if err := r.write(data); err != nil {
			return err
		}
	}
	if err := r.src.Skip(r.Parser.Pad); err != nil {
		return cut(err)
	}
	return r.write(tarx.ZeroBlock[:r.owed])
}

func (r *Rewriter) symlink(h *tarx.Header, o *tarx.OutHeader, dir int32, base []byte) error {
	r.Report.Symlinks++
	if err := r.CheckSymlink(h); err != nil {
		return err
	}
	if len(h.Link) >= unix.PathMax {
		return r.Malformed(h, fmt.Errorf("the symlink's target has %d bytes, more than the kernel takes", len(h.Link)))
	}
	if _, err := r.names.add(dir, base, h.Link, 0); err != nil {
		return r.blame(h, err)
	}
	o.Link = string(h.Link)
	r.nameMeta(h, o)
	return r.put(h, o)
}

// hardlink writes another name for what an earlier entry made. Like the Extractor, it gives no
// metadata to a link; but some readers change the owner through every name, which takes the
// capabilities away, and so those of the entry are kept.
func (r *Rewriter) hardlink(h *tarx.Header, o *tarx.OutHeader, dir int32, base []byte) error {
	r.Report.Hardlinks++
	parent, last, err := r.LinkTarget(h)
	if err != nil {
		return err
	}
	if r.Options.Exclude.Match(r.LinkFull) {
		if r.MissingTarget(h) {
			return nil
		}
		return r.Refused(h, fmt.Errorf("%w: it is a hard link to %q", ErrExcluded, tarx.Clip(h.Link)))
	}
	from, err := r.names.walk(parent, nil)
	if err != nil {
		if r.MissingTarget(h) {
			return nil
		}
		return r.blame(h, err)
	}
	r.linkName = append(r.names.path(append(r.linkName[:0], r.prefix...), from), last...)
	node, isNode := r.names.node(from, last)
	leaf, known := r.names.leaf(from, last)
	switch {
	case !isNode && !leaf && known:
		if r.MissingTarget(h) {
			return nil
		}
		return r.blame(h, tarx.LinkToNothing(h))
	case bytes.Equal(r.linkName, r.name):
		return nil // its own target
	case isNode && r.names.isDir(node):
		return r.LinkToDirectory(h)
	}
	if err := r.clear(dir, base); err != nil {
		return r.Refused(h, err)
	}
	if isNode {
		// A symlink, which has two names now.
		if _, err := r.names.add(dir, base, r.names.target(r.names.at(node)), 0); err != nil {
			return r.blame(h, err)
		}
	} else {
		r.names.addLeaf(dir, base)
		if name := r.keptHere(dir, base); name != "" {
			k := &keptFile{dir: dir, err: errors.New("it is a hard link to a file that has passed")}
			if other := r.kept[r.keptHere(from, last)]; other != nil {
				k.data, k.err = other.data, other.err
			}
			r.kept[name] = k
		}
	}
	o.Link = string(r.linkName)
	for _, a := range h.Xattrs {
		if string(a.Name) == tarx.XattrCapability {
			r.capability(h, o, a)
		}
	}
	return r.put(h, o)
}

// nameMeta is for an entry that is neither file nor directory: the kernel lets such have no user
// attributes, so that a reader could not set what OwnerRootless needs.
func (r *Rewriter) nameMeta(h *tarx.Header, o *tarx.OutHeader) {
	if r.NotesOwner(h) {
		r.Lose(h, tarx.LossOwner, fmt.Sprintf("%d:%d", h.UID, h.GID))
	}
	r.setXattrs(h, o)
}

// setXattrs takes over the attributes that may be kept.
func (r *Rewriter) setXattrs(h *tarx.Header, o *tarx.OutHeader) {
	o.Xattrs = r.xattrs[:0]
	for _, a := range h.Xattrs {
		switch class, loss := r.ClassifyXattr(string(a.Name)); {
		case class == tarx.XattrCap && h.Type == tarx.TypeReg:
			r.capability(h, o, a)
		case class == tarx.XattrCap:
			r.Lose(h, loss, "not a file")
		case class == tarx.XattrSkip, h.Type != tarx.TypeReg && h.Type != tarx.TypeDir && bytes.HasPrefix(a.Name, []byte("user.")):
			r.Lose(h, loss, string(a.Name))
		default:
			o.Xattrs = append(o.Xattrs, a)
		}
	}
	r.xattrs = o.Xattrs
}

func (r *Rewriter) capability(h *tarx.Header, o *tarx.OutHeader, a tarx.Xattr) {
	v, n, ok := tarx.ConvertCapability(a.Value, r.Options.CapRootID)
	if !ok {
		r.Lose(h, tarx.LossCapability, fmt.Sprintf("a value of %d bytes", len(a.Value)))
		return
	}
	o.Xattrs = append(o.Xattrs, tarx.Xattr{Name: a.Name, Value: bytes.Clone(v[:n])})
}
