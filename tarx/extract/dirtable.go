package extract

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
