package extract

import (
	"bytes"
	"hash/maphash"
	"os"
	"sync/atomic"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"

	"ocibundle/tarx/handle"
)

// pathMax is PATH_MAX: no path handed to the kernel may be longer, the NUL
// included.
const pathMax = unix.PathMax

const dirFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC

// openDir is an open directory of the tree.
type openDir struct {
	fd   int
	rec  int // its record in dirTable
	key  []byte
	hash uint64
	refs atomic.Int32 // jobs that will create something in it

	prev, next *openDir // by last use
}

// dirCache resolves directories and keeps the last ones open. A path that
// misses costs one openat2.
//
// An entry stays true until something that may be part of a path, a directory
// or a symlink, is removed: then forget throws everything out.
type dirCache struct {
	root    openDir
	table   *dirTable
	seed    maphash.Seed
	byHash  map[uint64]*openDir // by path; of two with the same hash, the later
	lru     openDir             // sentinel: next is the latest
	room    int
	dead    []*openDir // to be closed once nobody needs them
	spare   []*openDir
	path    cname
	openat2 bool
	rootDir *os.File
}

func newDirCache(root *os.File, table *dirTable, room int) *dirCache {
	c := &dirCache{
		root:    openDir{fd: int(root.Fd())},
		table:   table,
		seed:    maphash.MakeSeed(),
		byHash:  make(map[uint64]*openDir),
		room:    room,
		rootDir: root,
	}
	c.lru.prev, c.lru.next = &c.lru, &c.lru
	// Kernels before 5.6 have no openat2, and seccomp profiles older than it
	// answer EPERM.
	c.path.set([]byte{'.'})
	if fd, err := sysOpenat2(c.root.fd, c.path, dirFlags, unix.RESOLVE_IN_ROOT); err == nil {
		sysClose(fd)
		c.openat2 = true
	}
	return c
}

// resolve opens the directory at path as the kernel sees it from inside the
// root.
func (c *dirCache) resolve(path []byte) (int, error) {
	if len(path) >= pathMax {
		return -1, unix.ENAMETOOLONG
	}
	if len(path) == 0 {
		path = []byte{'.'}
	}
	if c.openat2 {
		c.path.set(path)
		return sysOpenat2(c.root.fd, c.path, dirFlags, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
	}
	h, err := pathrs.OpenatInRoot(c.rootDir, string(path))
	if err != nil {
		return -1, handle.Cause(err)
	}
	defer h.Close()
	c.path.set([]byte{'.'})
	return sysOpenat(int(h.Fd()), c.path, dirFlags, 0)
}

// get returns the open directory for path if it is in the cache.
func (c *dirCache) get(path []byte) *openDir {
	if len(path) == 0 {
		return &c.root
	}
	if d := c.lru.next; d != &c.lru && bytes.Equal(path, d.key) {
		return d
	}
	d := c.byHash[maphash.Bytes(c.seed, path)]
	if d == nil || !bytes.Equal(path, d.key) {
		return nil
	}
	c.unlink(d)
	c.push(d)
	return d
}

// add makes path's directory, open as fd, the latest one in the cache.
func (c *dirCache) add(path []byte, fd, rec int) *openDir {
	hash := maphash.Bytes(c.seed, path)
	old := c.byHash[hash]
	if old == nil && len(c.byHash) >= c.room {
		old = c.lru.prev
	}
	if old != nil {
		c.unlink(old)
		delete(c.byHash, old.hash)
		c.dead = append(c.dead, old)
	}
	var d *openDir
	if n := len(c.spare); n > 0 {
		d, c.spare = c.spare[n-1], c.spare[:n-1]
	} else {
		d = new(openDir)
	}
	d.fd, d.rec, d.hash = fd, rec, hash
	d.key = append(d.key[:0], path...)
	c.byHash[hash] = d
	c.push(d)
	return d
}

func (c *dirCache) unlink(d *openDir) { d.prev.next, d.next.prev = d.next, d.prev }

func (c *dirCache) push(d *openDir) {
	d.prev, d.next = &c.lru, c.lru.next
	d.prev.next, d.next.prev = d, d
}

// handles are those of the directories in the cache and of the root, by record.
func (c *dirCache) handles() map[int]int {
	m := make(map[int]int, len(c.byHash)+1)
	for _, d := range c.byHash {
		m[d.rec] = d.fd
	}
	m[c.root.rec] = c.root.fd
	return m
}

// forget drops all that is known of paths. What is open stays so until reap.
func (c *dirCache) forget() {
	for _, d := range c.byHash {
		c.dead = append(c.dead, d)
	}
	clear(c.byHash)
	c.lru.prev, c.lru.next = &c.lru, &c.lru
}

// reap closes what has left the cache, after done, unless a job needs it.
func (c *dirCache) reap(done func(*openDir) error) error {
	n := 0
	var err error
	// They leave about in the order in which their jobs were queued.
	for n < len(c.dead) && c.dead[n].refs.Load() == 0 && err == nil {
		d := c.dead[n]
		n++
		err = done(d)
		sysClose(d.fd)
		if len(c.spare) < maxSpare {
			c.spare = append(c.spare, d)
		}
	}
	if n > 0 {
		c.dead = append(c.dead[:0], c.dead[n:]...)
	}
	return err
}

const maxSpare = 64

// close closes all. No job is left.
func (c *dirCache) close() {
	c.forget()
	c.reap(func(*openDir) error { return nil })
}

// openReal opens a directory below the root by a path that has no symlinks
// and no "..": nothing is followed, wherever it leads.
func (c *dirCache) openReal(path []byte) (int, error) {
	if len(path) == 0 {
		path = []byte{'.'}
	}
	dir, owned := c.root.fd, false
	for {
		piece := path
		if limit := pathMax - 1; len(piece) > limit || !c.openat2 {
			// In steps: as much as fits a path, or one component.
			i := bytes.IndexByte(piece, '/')
			if c.openat2 {
				i = bytes.LastIndexByte(piece[:limit], '/')
			}
			if i >= 0 {
				piece = piece[:i]
			}
		}
		c.path.set(piece)
		var fd int
		var err error
		if c.openat2 {
			fd, err = sysOpenat2(dir, c.path, dirFlags,
				unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_XDEV)
		} else {
			fd, err = sysOpenat(dir, c.path, dirFlags|unix.O_NOFOLLOW, 0)
		}
		if owned {
			sysClose(dir)
		}
		if err != nil || len(piece) == len(path) {
			return fd, err
		}
		dir, owned = fd, true
		path = path[len(piece)+1:]
	}
}
