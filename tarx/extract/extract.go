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
	tarx.Engine
	root   *os.File
	aside  *openDir // see putAside; nil: not needed so far
	table  *dirTable
	dirs   *dirCache
	work   *workers
	cur    *batch
	big    *bigFile // whose body is being read
	src    *tarx.Source
	layer  bool         // the stream is a layer of an image
	layers int          // so far
	upper  bool         // and not the lowest one
	own    tarx.NameSet // what an upper layer has made so far
	fsuid  uint32
	fsgid  uint32

	room   handleRoom
	used   *usedNames
	key    uint64 // of the current entry's name
	fresh  bool   // nothing in the tree has that name
	serial bool   // for tests: leave nothing to do in parallel
	slow   func(*tarx.Source) bool

	// Scratch space, so that an entry costs no allocation.
	base, linkBase cname
	target         cname
	pathBuf        []byte
}

// New prepares the extraction below root.
func New(root *os.File, o tarx.Options) (_ *Extractor, err error) {
	defer tarx.CatchNoMemory(&err)
	x := &Extractor{Engine: tarx.NewEngine(o), root: root, table: newDirTable(), slow: (*tarx.Source).Slow}
	x.fsuid, x.fsgid = uint32(os.Geteuid()), uint32(os.Getegid())

	if x.Options.Workers <= 0 {
		x.Options.Workers = max(1, min(4, runtime.GOMAXPROCS(0)))
	}
	if x.room, err = newHandleRoom(x.Options.Workers + queueLength + 2); err != nil {
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
	if x.aside != nil {
		unix.Close(x.aside.fd)
	}
	x.table.free()
	x.own.Free()
	x.Free()
}

// Extract reads one stream to its end.
func (x *Extractor) Extract(ctx context.Context, r io.Reader) (err error) {
	old := unix.Umask(0)
	defer unix.Umask(old)

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	small := 0
	if x.Options.Feed != tarx.FeedNothing {
		small = x.Options.Workers / 2
	}
	x.work = startWorkers(x.Options.Workers, small, queueLength, x.room.jobs, &x.Losses)
	// A failing worker stops the reading, however long that would wait.
	go func(failed <-chan struct{}) {
		select {
		case <-failed:
			cancel(tarx.ErrStopped)
		case <-ctx.Done():
		}
	}(x.work.failed)
	source := tarx.NewSource
	if x.Options.Feed == tarx.FeedProcess {
		source = tarx.NewDirectSource
	}
	x.src = source(r, x.Options.Hash, ctx.Done())
	x.src.Leave = x.flush
	x.Read(x.src, x.layer)
	x.cur = x.work.take()

	err = x.src.Run(func() error { return x.Each(x.visit) })
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
	return cmp.Or(err, x.reap())
}

// earlier says that a is about an earlier entry than b.
func earlier(a, b error) bool {
	var ea, eb *tarx.EntryError
	return errors.As(a, &ea) && (!errors.As(b, &eb) || ea.Index < eb.Index)
}

// visit makes what one header describes, and closes directories that are done with.
func (x *Extractor) visit(h *tarx.Header) error {
	if x.work.broken() {
		return tarx.ErrStopped
	}
	if x.table.full() {
		return x.Refused(h, tarx.ErrTables)
	}
	if err := x.entry(h); err != nil {
		return err
	}
	if x.serial {
		x.settle()
	}
	if len(x.dirs.dead) > 0 {
		return x.reap()
	}
	return nil
}

// flush hands the current batch to the workers, with its chunk.
func (x *Extractor) flush(c *tarx.Chunk) {
	if len(x.cur.jobs) == 0 {
		return
	}
	c.Refs.Add(1)
	x.cur.chunk = c
	x.work.put(x.cur, x.slow(x.src))
	x.cur = x.work.take()
}

// entry makes what one header describes.
func (x *Extractor) entry(h *tarx.Header) error {
	if err := x.Normalize(h); err != nil {
		return err
	}
	if x.layer {
		if passed, err := x.passWhiteout(h); passed || err != nil {
			return err
		}
	}
	if x.Options.Exclude.Match(x.Full) {
		x.LeaveOut(h)
		return x.putAside(h)
	}
	parent, base, err := x.Place(h)
	if err != nil {
		return err
	}
	uid, gid, err := x.Owner.Disk(h.UID, h.GID)
	if err != nil {
		return x.Refused(h, err)
	}
	if tarx.Dots(base) {
		d, err := x.lookup(x.Full, true)
		if err != nil {
			return x.blame(h, err)
		}
		x.Report.Directories++
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
		x.Report.Directories++
		return x.directory(h, dir, x.Full, uid, gid)
	case tarx.TypeReg:
		x.Report.Files++
		x.Report.Bytes += h.Size
		return x.file(h, dir, uid, gid)
	case tarx.TypeSymlink:
		x.Report.Symlinks++
		return x.symlink(h, dir, uid, gid)
	case tarx.TypeLink:
		x.Report.Hardlinks++
		return x.hardlink(h, dir)
	case tarx.TypeFIFO:
		x.Report.FIFOs++
		return x.node(h, dir, unix.S_IFIFO, 0, uid, gid)
	default:
		x.Report.Devices++
		return x.device(h, dir, uid, gid)
	}
}
