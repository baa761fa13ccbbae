package extract

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"ocibundle/tarx"
)

// maxACLBytes bounds the access control lists kept for directories until the
// end: a default list must not reach the children made meanwhile.
const maxACLBytes = 4 << 20

// Stream reads one tar stream from r to its end and makes the tree that it
// describes below root, an empty directory that the caller owns and nobody
// else reaches. It sets the process's umask to 0 while it runs.
//
// Errors have ErrMalformed or ErrRefused in their chain, else they are of
// reading or writing. After a cancelled ctx the error is its cause. A Read of
// r that is under way then is not waited for.
func Stream(ctx context.Context, r io.Reader, root *os.File, o tarx.Options) (*tarx.Report, error) {
	x, err := New(root, o)
	if err != nil {
		return nil, err
	}
	defer x.Close()
	if err := x.Extract(ctx, r); err != nil {
		return nil, err
	}
	return x.Finish(ctx)
}

// Extractor makes one tree of one stream or, for the layers of an image, of
// several, each on top of those before it.
type Extractor struct {
	opts    tarx.Options
	root    *os.File
	table   *dirTable
	dirs    *dirCache
	work    *workers
	cur     *batch
	big     *bigFile // whose body is being read
	src     *tarx.Source
	p       *tarx.Parser
	report  tarx.Report
	losses  tarx.Losses
	owner   tarx.OwnerMap
	shifted bool // ids on disk are not the container's
	layer   bool // the stream is a layer of an image
	fsuid   uint32
	fsgid   uint32

	newestSec  int64
	newestNsec int32
	haveNewest bool

	room    handleRoom
	used    *usedNames
	key     uint64 // of the current entry's name
	fresh   bool   // nothing in the tree has that name
	serial  bool   // for tests: leave nothing to do in parallel
	skipped map[string]struct{}

	// Scratch space, so that an entry costs no allocation.
	full, linkFull []byte
	base, linkBase cname
	target         cname
	pathBuf        []byte
}

// New prepares the extraction below root.
func New(root *os.File, o tarx.Options) (*Extractor, error) {
	x := &Extractor{opts: o, root: root, table: newDirTable()}
	x.owner = tarx.OwnerMap{Mapping: o.Mapping}
	x.shifted = tarx.Shifts(o.Mapping.UIDMaps) || tarx.Shifts(o.Mapping.GIDMaps)
	x.fsuid, x.fsgid = uint32(os.Geteuid()), uint32(os.Getegid())

	if x.opts.Workers <= 0 {
		x.opts.Workers = max(1, min(4, runtime.GOMAXPROCS(0)))
	}
	var err error
	if x.room, err = newHandleRoom(x.opts.Workers + queueLength + 2); err != nil {
		return nil, err
	}
	x.dirs = newDirCache(root, x.table, x.room.early)
	x.used = newUsedNames()

	var st unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &st); err != nil {
		return nil, fmt.Errorf("stat the root directory: %w", err)
	}
	// A root made below a setgid directory would hand its group on to all that
	// is made in it.
	if err := unix.Fchmod(int(root.Fd()), 0o700); err != nil {
		return nil, fmt.Errorf("change the mode of the root directory: %w", err)
	}
	if st.Gid != x.fsgid {
		if err := unix.Fchown(int(root.Fd()), -1, int(x.fsgid)); err != nil {
			return nil, fmt.Errorf("change the group of the root directory: %w", err)
		}
	}
	x.dirs.root.rec = x.table.add(0, nil, st.Ino)
	r := x.table.at(0)
	r.flags |= dirImplied | dirChmod | dirChown
	return x, nil
}

// queueLength is how many batches wait for a worker at most.
const queueLength = 4

// Close gives back what the extractor holds. The root stays open.
func (x *Extractor) Close() {
	x.dirs.close()
	x.room.close()
}

// Extract reads one stream to its end.
func (x *Extractor) Extract(ctx context.Context, r io.Reader) (err error) {
	old := unix.Umask(0)
	defer unix.Umask(old)

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	small := 0
	if x.opts.Feed != tarx.FeedNothing {
		small = x.opts.Workers / 2
	}
	x.work = startWorkers(x.opts.Workers, small, queueLength, x.room.jobs, &x.losses)
	// A failing worker stops the reading, however long that would wait.
	go func(failed <-chan struct{}) {
		select {
		case <-failed:
			cancel(tarx.ErrStopped)
		case <-ctx.Done():
		}
	}(x.work.failed)
	source := tarx.NewSource
	if x.opts.Feed == tarx.FeedProcess {
		source = tarx.NewDirectSource
	}
	x.src = source(r, x.opts.Hash, ctx.Done())
	x.src.Leave = x.flush
	x.p = &tarx.Parser{Src: x.src, Layer: x.layer}
	x.cur = x.work.take()

	err = x.src.Run(x.entries)
	if x.src.Cur != nil {
		x.flush(x.src.Cur)
	}
	if err == nil {
		x.src.Hasher.Wait()
	}
	if x.big != nil { // the source went away within its body
		x.work.unref(x.big)
		x.big = nil
	}
	werr := x.work.stop()
	switch {
	case werr != nil && (err == nil || errors.Is(err, tarx.ErrStopped) || earlier(werr, err)):
		err = werr
	case errors.Is(err, tarx.ErrStopped):
		err = context.Cause(ctx)
	}
	if x.p.Globals > 0 {
		x.losses.Add(tarx.LossGlobalHeader, x.p.GlobalDetail, 0, "")
	}
	return cmp.Or(err, x.reap())
}

// earlier says that a is about an earlier entry than b.
func earlier(a, b error) bool {
	var ea, eb *tarx.EntryError
	return errors.As(a, &ea) && (!errors.As(b, &eb) || ea.Index < eb.Index)
}

func (x *Extractor) entries() error {
	for {
		h, err := x.p.NextBelow(x.opts.StripPrefix)
		if err == io.EOF {
			return x.end()
		}
		if err != nil {
			return err
		}
		if x.work.broken() {
			return tarx.ErrStopped
		}
		x.report.Entries++
		if x.opts.MaxEntries > 0 && x.report.Entries > x.opts.MaxEntries {
			return &tarx.LimitError{What: "entries", Limit: x.opts.MaxEntries}
		}
		if err := x.entry(h); err != nil {
			return err
		}
		if x.serial {
			x.settle()
		}
		if len(x.dirs.dead) > 0 {
			if err := x.reap(); err != nil {
				return err
			}
		}
	}
}

// end checks that nothing but zeros follows.
func (x *Extractor) end() error {
	err := x.src.DrainZeros()
	if err == tarx.ErrTrailing {
		return x.p.Broken(err)
	}
	return err
}

// flush hands the current batch to the workers, with its chunk.
func (x *Extractor) flush(c *tarx.Chunk) {
	if len(x.cur.jobs) == 0 {
		return
	}
	c.Refs.Add(1)
	x.cur.chunk = c
	x.work.put(x.cur)
	x.cur = x.work.take()
}

// entry makes what one header describes.
func (x *Extractor) entry(h *tarx.Header) error {
	full, escapes, err := tarx.Normalize(x.full[:0], h.Name)
	x.full = full
	if err != nil {
		return x.malformed(h, err)
	}
	if escapes {
		return x.refused(h, tarx.ErrEscapes)
	}
	if x.layer {
		if passed, err := x.passWhiteout(h, full); passed || err != nil {
			return err
		}
	}
	if h.Sec > x.newestSec || h.Sec == x.newestSec && h.Nsec > x.newestNsec || !x.haveNewest {
		x.newestSec, x.newestNsec, x.haveNewest = h.Sec, h.Nsec, true
	}
	parent, base := tarx.SplitPath(full)
	if tarx.Dots(base) && h.Type != tarx.TypeDir {
		if len(full) == 0 {
			return x.malformed(h, fmt.Errorf("the root directory cannot be a %s", tarx.TypeName(h.Type)))
		}
		return x.malformed(h, fmt.Errorf("a %s cannot be called %q", tarx.TypeName(h.Type), base))
	}
	uid, gid, err := x.owner.Disk(h.UID, h.GID)
	if err != nil {
		return x.refused(h, err)
	}
	if tarx.Dots(base) {
		d, err := x.lookup(full, true)
		if err != nil {
			return x.blame(h, err)
		}
		x.report.Directories++
		x.table.at(d.rec).flags |= dirChmod
		return x.nameDirectory(h, d, uid, gid)
	}
	dir, err := x.lookup(parent, true)
	if err != nil {
		return x.blame(h, err)
	}
	x.base.set(base)
	x.claim(dir, base)
	switch h.Type {
	case tarx.TypeDir:
		x.report.Directories++
		return x.directory(h, dir, full, uid, gid)
	case tarx.TypeReg:
		x.report.Files++
		x.report.Bytes += h.Size
		return x.file(h, dir, uid, gid)
	case tarx.TypeSymlink:
		x.report.Symlinks++
		return x.symlink(h, dir, uid, gid)
	case tarx.TypeLink:
		x.report.Hardlinks++
		return x.hardlink(h, dir)
	case tarx.TypeFIFO:
		x.report.FIFOs++
		return x.node(h, dir, unix.S_IFIFO, 0, uid, gid)
	default:
		x.report.Devices++
		return x.device(h, dir, uid, gid)
	}
}
