package tarx

import (
	"bytes"
	"errors"
	"hash/maphash"
	"os"
	"sync/atomic"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"
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
	if c.openat2 {
		c.path.set(path)
		return sysOpenat2(c.root.fd, c.path, dirFlags, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
	}
	h, err := pathrs.OpenatInRoot(c.rootDir, string(path))
	if err != nil {
		return -1, errnoOf(err)
	}
	defer h.Close()
	c.path.set([]byte{'.'})
	return sysOpenat(int(h.Fd()), c.path, dirFlags, 0)
}

// errnoOf finds the kernel's answer in an error.
func errnoOf(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
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

// dirMeta is what goes onto a directory when everything in it is there.
type dirMeta struct {
	mode     uint16
	uid, gid uint32
	sec      int64
	nsec     int32
}

// dirRecord remembers a directory until the end, in 32 bytes. The inode number
// says whether what is found under the name then is still the same.
type dirRecord struct {
	ino    uint64
	sec    int64
	nsec   int32
	parent uint32
	name   uint32 // offset in names
	mode   uint16
	length uint8 // of the name, at most unix.NAME_MAX
	flags  uint8
}

// dirSlab holds records. Most directories of a stream have one owner, the one
// that came first: others take more memory.
type dirSlab struct {
	records [1 << slabBits]dirRecord
	owners  *[1 << slabBits]uint32 // index in dirTable.owners; nil: all 0
}

const (
	dirImplied uint8 = 1 << iota // no entry named it
	dirChmod                     // its mode on disk is not mode
	dirChown                     // its owner on disk is not owner
	dirACL                       // it has access control lists in acls
	dirNamed                     // an entry named it
	dirAgain                     // it was opened again
	dirDone                      // it has its metadata
)

const (
	slabBits = 10
	nameSlab = 64 << 10
)

// dirTable holds a record for every directory, in slabs, so that growing never
// copies, and an index by inode number.
type dirTable struct {
	slabs []*dirSlab
	count int
	names [][]byte
	index []uint32 // open addressing; record number plus one
	used  int

	owners   [][2]uint32
	ownerIdx map[[2]uint32]uint32

	acls     map[int][]deferredXattr
	aclBytes int
}

type deferredXattr struct {
	name  string
	value []byte
	index int64 // of the entry
	entry string
}

func newDirTable() *dirTable {
	return &dirTable{ownerIdx: make(map[[2]uint32]uint32), acls: make(map[int][]deferredXattr)}
}

func (t *dirTable) at(i int) *dirRecord { return &t.slabs[i>>slabBits].records[i&(1<<slabBits-1)] }

// add makes a record for a directory that has just been created or opened as
// name in parent.
func (t *dirTable) add(parent int, name []byte, ino uint64) int {
	i := t.count
	if i>>slabBits == len(t.slabs) {
		t.slabs = append(t.slabs, new(dirSlab))
	}
	t.count++
	n := len(t.names)
	if n == 0 || len(t.names[n-1])+len(name) > nameSlab {
		t.names = append(t.names, make([]byte, 0, nameSlab))
		n++
	}
	s := &t.names[n-1]
	off := uint32(n-1)*nameSlab + uint32(len(*s))
	*s = append(*s, name...)
	*t.at(i) = dirRecord{ino: ino, parent: uint32(parent), name: off, length: uint8(len(name))}
	t.indexAdd(i, ino)
	return i
}

func (t *dirTable) name(r *dirRecord) []byte {
	s := t.names[r.name/nameSlab]
	off := r.name % nameSlab
	return s[off : off+uint32(r.length)]
}

func hashIno(ino uint64) uint64 {
	ino ^= ino >> 31
	return ino * 0x9e3779b97f4a7c15
}

// indexAdd makes ino lead to record i. An inode number that was seen before
// belonged to a directory that is gone.
func (t *dirTable) indexAdd(i int, ino uint64) {
	if t.used*8 >= len(t.index)*7 {
		old := t.index
		t.index = make([]uint32, max(256, 2*len(old)))
		t.used = 0
		for _, e := range old {
			if e != 0 {
				t.indexPut(int(e-1), t.at(int(e-1)).ino)
			}
		}
	}
	t.indexPut(i, ino)
}

func (t *dirTable) indexPut(i int, ino uint64) {
	mask := uint64(len(t.index) - 1)
	for at := hashIno(ino) >> 20 & mask; ; at = (at + 1) & mask {
		e := t.index[at]
		if e == 0 {
			t.used++
		} else if t.at(int(e-1)).ino != ino {
			continue
		}
		t.index[at] = uint32(i + 1)
		return
	}
}

// find returns the record of the directory with this inode number.
func (t *dirTable) find(ino uint64) (int, bool) {
	if len(t.index) == 0 {
		return 0, false
	}
	mask := uint64(len(t.index) - 1)
	for at := hashIno(ino) >> 20 & mask; t.index[at] != 0; at = (at + 1) & mask {
		if i := int(t.index[at] - 1); t.at(i).ino == ino {
			return i, true
		}
	}
	return 0, false
}

// reopened says that directory i may change once more.
func (t *dirTable) reopened(i int) {
	if r := t.at(i); r.flags&dirDone != 0 {
		// Next time it is left for the end, lest it be done over and over.
		r.flags = r.flags&^dirDone | dirAgain
	}
}

// setOwner notes who is to own directory i on disk.
func (t *dirTable) setOwner(i int, uid, gid uint32) {
	k := [2]uint32{uid, gid}
	o, ok := t.ownerIdx[k]
	if !ok {
		o = uint32(len(t.owners))
		t.owners = append(t.owners, k)
		t.ownerIdx[k] = o
	}
	s := t.slabs[i>>slabBits]
	if s.owners == nil {
		if o == 0 {
			return
		}
		s.owners = new([1 << slabBits]uint32)
	}
	s.owners[i&(1<<slabBits-1)] = o
}

// owner is who is to own directory i, which an entry has named.
func (t *dirTable) owner(i int) (uid, gid uint32) {
	var o uint32
	if s := t.slabs[i>>slabBits]; s.owners != nil {
		o = s.owners[i&(1<<slabBits-1)]
	}
	return t.owners[o][0], t.owners[o][1]
}

// path appends the path of record i, relative to the root, to b.
func (t *dirTable) path(b []byte, i int) []byte {
	var chain [64]uint32
	list := chain[:0]
	for ; i != 0; i = int(t.at(i).parent) {
		list = append(list, uint32(i))
	}
	for n := len(list) - 1; n >= 0; n-- {
		if len(b) > 0 {
			b = append(b, '/')
		}
		b = append(b, t.name(t.at(int(list[n])))...)
	}
	return b
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
