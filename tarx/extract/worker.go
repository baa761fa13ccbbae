package extract

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"ocibundle/tarx"
)

// fileMeta is what goes onto a file once its contents are there, through its
// handle. chown(2) takes away setuid bits and capabilities, and so does
// writing: hence the order owner, capabilities, mode, times.
type fileMeta struct {
	size     int64
	sec      int64
	nsec     int32
	uid, gid uint32
	mode     uint16
	chown    bool
	chmod    bool
	capLen   uint8
	cap      [24]byte
}

// job is a piece of a file: all of it, or a part of a big one. Or it is a hard
// link to a file of an earlier job of the batch.
type job struct {
	fd   int
	dir  *openDir // not nil: the name is to be created in it
	from *openDir // not nil: as a link to a name in this one
	mode uint32   // to create the file with
	data []byte   // in the batch's chunk
	off  int64
	big  *bigFile // nil: the job is the whole file
	meta fileMeta
	// In the batch's names are the entry's name, for errors; the name in dir;
	// the name in from; and, for errors, the link's target.
	index                                       int64
	nameOff, nameEnd, baseEnd, fromEnd, linkEnd int
}

// bigFile is a file of several jobs, which may run in any order. The last one
// to finish finishes the file.
type bigFile struct {
	fd      int
	name    string
	index   int64
	pending atomic.Int32
	holes   atomic.Bool
	meta    fileMeta
	// One at a time writes to the file, as the kernel has it: there the second
	// would burn its time waiting.
	turn sync.Mutex
}

// batch is what a worker gets at once: jobs whose data lie in one chunk.
type batch struct {
	jobs  []job
	names []byte
	chunk *tarx.Chunk
	// keys are of the names to be created. They are the extractor's, while the
	// rest changes hands.
	keys []uint64
	busy atomic.Bool // not all is done
}

// workers are the goroutines that write file contents. They get open files, or
// names to create that nothing has in directories that are open.
//
// Some of them may be for small files alone. To write much is to copy it into
// fresh pages, which a second processor does little to speed up where it is
// needed for what makes the stream: the two then take the warm pages and the
// pipe from each other, and all three lose time. To create files is work that
// divides.
type workers struct {
	all    []*batch
	queue  chan *batch
	small  chan *batch // to those for small files, if one waits
	free   chan *batch
	queued sync.WaitGroup // batches
	wg     sync.WaitGroup
	failed chan struct{}

	mu     sync.Mutex
	err    error
	losses *tarx.Losses
}

// startWorkers starts n workers, of which the last few are for small files.
func startWorkers(n, small, queue, jobs int, l *tarx.Losses) *workers {
	w := &workers{
		all:    make([]*batch, n+queue+1),
		queue:  make(chan *batch, queue),
		small:  make(chan *batch),
		free:   make(chan *batch, n+queue+1),
		failed: make(chan struct{}),
		losses: l,
	}
	for i := range w.all {
		w.all[i] = &batch{jobs: make([]job, 0, jobs), keys: make([]uint64, 0, jobs)}
		w.free <- w.all[i]
	}
	w.wg.Add(n)
	for i := range n {
		from := w.queue
		if i >= n-small {
			from = w.small
		}
		go w.run(from)
	}
	return w
}

func (w *workers) run(from <-chan *batch) {
	defer w.wg.Done()
	var later []*job
	for b := range from {
		later = w.doAll(b, later)
	}
}

// doAll does the jobs of a batch. later is scratch space.
func (w *workers) doAll(b *batch, later []*job) []*job {
	for i := range b.jobs {
		j := &b.jobs[i]
		if j.big != nil && !j.big.turn.TryLock() {
			later = append(later, j)
			continue
		}
		w.do(b, j)
	}
	for _, j := range later {
		j.big.turn.Lock()
		w.do(b, j)
	}
	b.chunk.Release()
	b.reset()
	b.busy.Store(false)
	w.queued.Done()
	w.free <- b
	return later[:0]
}

// take gives the extractor an empty batch.
func (w *workers) take() *batch {
	b := <-w.free
	b.keys = b.keys[:0]
	b.busy.Store(true)
	return b
}

// put queues a batch, or does its jobs here. Where the stream is what takes the time, as that of an engine that makes it file by file, the
// extractor has time to spare, and does them itself: to wake a worker costs more than most jobs do.
func (w *workers) put(b *batch, here bool) {
	w.queued.Add(1)
	if here {
		w.doAll(b, nil)
		return
	}
	if len(b.jobs) >= manyJobs {
		select {
		case w.small <- b:
			return
		default:
		}
	}
	w.queue <- b
}

// manyJobs is how many jobs make a batch one of small files: of 8 KiB, where
// it is a whole chunk.
const manyJobs = 16

// settle waits until everything that is queued has been done.
func (w *workers) settle() { w.queued.Wait() }

// onItsWay says that the name with this key may not have been created yet.
func (w *workers) onItsWay(key uint64) bool {
	return slices.ContainsFunc(w.all, func(b *batch) bool { return b.busy.Load() && slices.Contains(b.keys, key) })
}

// pending says that some name may not have been created yet.
func (w *workers) pending() bool {
	return slices.ContainsFunc(w.all, func(b *batch) bool { return b.busy.Load() && len(b.keys) > 0 })
}

func (b *batch) reset() {
	clear(b.jobs)
	b.jobs, b.names, b.chunk = b.jobs[:0], b.names[:0], nil
}

// stop lets the workers finish what is queued.
func (w *workers) stop() error {
	close(w.queue)
	close(w.small)
	w.wg.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// fail keeps the error of the earliest entry and stops everything.
func (w *workers) fail(name string, index int64, err error) {
	w.failAs(nil, name, index, err)
}

func (w *workers) failAs(kind error, name string, index int64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var old *tarx.EntryError
	if w.err == nil {
		close(w.failed)
	} else if errors.As(w.err, &old) && old.Index <= index {
		return
	}
	w.err = &tarx.EntryError{Name: name, Index: index, Kind: kind, Err: err}
}

func (w *workers) broken() bool {
	select {
	case <-w.failed:
		return true
	default:
		return false
	}
}

// do does one job; for a part of a big file, whose turn it is then, the worker
// has locked that.
func (w *workers) do(b *batch, j *job) {
	name := func() string {
		if j.big != nil {
			return j.big.name
		}
		return tarx.ClipName(b.names[j.nameOff:j.nameEnd])
	}
	// After a failure what is queued is only closed.
	ok := !w.broken()
	if j.dir != nil {
		if ok && j.from == nil {
			ok = w.create(b, j, name)
		} else if ok {
			w.link(b, j, name)
		}
		j.dir.refs.Add(-1)
		if j.from != nil {
			j.from.refs.Add(-1)
			return
		}
		if !ok {
			return
		}
	}
	holes := false
	if ok && len(j.data) > 0 {
		var err error
		if holes, err = writeData(j.fd, j.data, j.off); err != nil {
			w.fail(name(), j.index, opError("write", err))
			ok = false
		}
	}
	if j.big == nil {
		w.finish(j.fd, &j.meta, holes, name, j.index, ok)
		return
	}
	j.big.turn.Unlock()
	if holes {
		j.big.holes.Store(true)
	}
	w.unref(j.big)
}

// createFlags are for a file that must be new. An existing one, a symlink too,
// is EEXIST.
const createFlags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC

// create makes the job's file.
func (w *workers) create(b *batch, j *job, name func() string) bool {
	fd, err := sysOpenat(j.dir.fd, cname(b.names[j.nameEnd:j.baseEnd]), createFlags, j.mode)
	switch err {
	case nil:
		j.fd = fd
		return true
	case unix.EEXIST:
		err = errFolded
	}
	w.failAs(tarx.NameErrorKind(err), name(), j.index, opError("create", err))
	return false
}

// link makes the job's link. The same worker has created the target.
func (w *workers) link(b *batch, j *job, name func() string) {
	err := sysLinkat(j.from.fd, cname(b.names[j.baseEnd:j.fromEnd]), j.dir.fd, cname(b.names[j.nameEnd:j.baseEnd]))
	if err == unix.EEXIST {
		err = errFolded
	}
	if err != nil {
		w.failAs(tarx.NameErrorKind(err), name(), j.index, linkError(b.names[j.fromEnd:j.linkEnd], err))
	}
}

// unref drops one claim on a big file and finishes it with the last.
func (w *workers) unref(f *bigFile) {
	if f.pending.Add(-1) == 0 {
		w.finish(f.fd, &f.meta, f.holes.Load(), func() string { return f.name }, f.index, !w.broken())
	}
}

// finish puts the metadata onto a file and closes it.
func (w *workers) finish(fd int, m *fileMeta, holes bool, name func() string, index int64, ok bool) {
	if ok {
		if op, err := w.applyMeta(fd, m, holes, name, index); err != nil {
			w.fail(name(), index, opError(op, err))
		}
	}
	// Some filesystems report a write that found no room only now.
	closing := unix.Close
	if m.size <= rawBytes {
		closing = sysClose
	}
	if err := closing(fd); err != nil && err != unix.EINTR && ok {
		w.fail(name(), index, opError("close", err))
	}
}

func (w *workers) applyMeta(fd int, m *fileMeta, holes bool, name func() string, index int64) (string, error) {
	if holes {
		if err := unix.Ftruncate(fd, m.size); err != nil {
			return "set the size of", err
		}
	}
	if m.chown {
		if err := unix.Fchown(fd, int(m.uid), int(m.gid)); err != nil {
			return "change the owner of", err
		}
	}
	if m.capLen > 0 {
		if err := unix.Fsetxattr(fd, tarx.XattrCapability, m.cap[:m.capLen], 0); err != nil {
			if !refused(fd, err) {
				return "set the capabilities of", err
			}
			w.losses.Add(tarx.LossCapability, []byte(name()), index, err.Error())
		}
	}
	if m.chmod {
		if err := unix.Fchmod(fd, uint32(m.mode)); err != nil {
			return "change the mode of", err
		}
	}
	if err := sysUtimes(fd, nil, m.sec, m.nsec); err != nil {
		return "set the times of", err
	}
	return "", nil
}
