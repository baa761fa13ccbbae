package extract

import (
	"math"

	"ocibundle/tarx"
)

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

const (
	dirImplied uint8 = 1 << iota // no entry named it
	dirChmod                     // its mode on disk is not mode
	dirChown                     // its owner on disk is not owner
	dirACL                       // it has access control lists in acls
	dirNamed                     // an entry named it
	dirAgain                     // it was opened again
	dirDone                      // it has its metadata
)

// dirTable holds a record for every directory and finds it by its inode number.
// Records of directories that were replaced stay: the limit of the table counts
// them, too.
type dirTable struct {
	dirs   tarx.Table[dirRecord]
	names  tarx.Texts
	index  tarx.Index
	owners tarx.Table[uint16] // of each directory, from the first one on that is not root's: a number in ids, plus one
	ids    tarx.Table[[2]uint32]
	idsIdx tarx.Index

	// Access control lists that directories get at the end: a default one must
	// not reach the children made meanwhile.
	acls     tarx.Table[[2]uint32] // access and default list of each directory: a number in values, plus one
	values   []string
	valueIdx map[string]uint32
	size     int64 // of values
}

const (
	// maxACLBytes bounds the access control lists that differ from each other.
	maxACLBytes = 16 << 20
	aclCost     = 100 // bytes that a list takes besides its value
)

func newDirTable() *dirTable { return &dirTable{valueIdx: make(map[string]uint32)} }

func (t *dirTable) at(i int) *dirRecord { return t.dirs.At(i) }

// full says that the table has reached its limit.
func (t *dirTable) full() bool {
	return t.dirs.Bytes()+t.names.Bytes()+t.index.Bytes()+t.owners.Bytes()+t.acls.Bytes() > tarx.MaxTables
}

// add makes a record for a directory that has just been created or opened as
// name in parent. A record with that inode number is of a directory that is gone.
func (t *dirTable) add(parent int, name []byte, ino uint64) int {
	i := t.dirs.Add(dirRecord{ino: ino, parent: uint32(parent), name: t.names.Add(name, nil), length: uint8(len(name))})
	t.index.Put(hashIno(ino), i, func(i int) bool { return t.at(i).ino == ino },
		func(i int) uint64 { return hashIno(t.at(i).ino) })
	return i
}

func (t *dirTable) name(r *dirRecord) []byte { return t.names.At(r.name, int(r.length)) }

func hashIno(ino uint64) uint64 {
	ino ^= ino >> 31
	return ino * 0x9e3779b97f4a7c15
}

// find returns the record of the directory with this inode number.
func (t *dirTable) find(ino uint64) (int, bool) {
	i := t.index.Find(hashIno(ino), func(i int) bool { return t.at(i).ino == ino })
	return i, i >= 0
}

// reopened says that directory i may change once more.
func (t *dirTable) reopened(i int) {
	if r := t.at(i); r.flags&dirDone != 0 {
		// Next time it is left for the end, lest it be done over and over.
		r.flags = r.flags&^dirDone | dirAgain
	}
}

// setOwner notes who is to own directory i on disk. Where all belong to root, that
// takes no memory. ok says that there was room.
func (t *dirTable) setOwner(i int, uid, gid uint32) (ok bool) {
	n := 0
	if k := [2]uint32{uid, gid}; k != [2]uint32{} {
		if n = t.idNumber(k) + 1; n > math.MaxUint16 {
			return false
		}
	}
	if n != 0 || i < t.owners.Len() {
		t.owners.Grow(i + 1)
		*t.owners.At(i) = uint16(n)
	}
	return true
}

// idNumber is the number of a pair of ids, which is given one if it has none.
func (t *dirTable) idNumber(k [2]uint32) int {
	hash := func(k [2]uint32) uint64 { return hashIno(uint64(k[0])<<32 | uint64(k[1])) }
	same := func(i int) bool { return *t.ids.At(i) == k }
	n := t.idsIdx.Find(hash(k), same)
	if n < 0 {
		n = t.ids.Add(k)
		t.idsIdx.Put(hash(k), n, same, func(i int) uint64 { return hash(*t.ids.At(i)) })
	}
	return n
}

// owner is who is to own directory i, which an entry has named.
func (t *dirTable) owner(i int) (uid, gid uint32) {
	if i >= t.owners.Len() {
		return 0, 0
	}
	n := *t.owners.At(i)
	if n == 0 {
		return 0, 0
	}
	id := t.ids.At(int(n) - 1)
	return id[0], id[1]
}

// deferACL keeps an access control list for directory i until the end, in the
// place of an earlier one of its kind. ok says that there was room.
func (t *dirTable) deferACL(i int, name string, value []byte) (ok bool) {
	n, known := t.valueIdx[string(value)]
	if !known {
		if t.size += aclCost + int64(len(value)); t.size > maxACLBytes {
			return false
		}
		v := string(value)
		t.values = append(t.values, v)
		n = uint32(len(t.values))
		t.valueIdx[v] = n
	}
	t.acls.Grow(i + 1)
	t.acls.At(i)[aclKind(name)] = n
	t.at(i).flags |= dirACL
	return true
}

var aclNames = [...]string{tarx.XattrACLAccess, tarx.XattrACLDefault}

func aclKind(name string) int {
	if name == tarx.XattrACLDefault {
		return 1
	}
	return 0
}

// dropACLs forgets the lists that an earlier entry gave directory i.
func (t *dirTable) dropACLs(i int) {
	if r := t.at(i); r.flags&dirACL != 0 {
		r.flags &^= dirACL
		*t.acls.At(i) = [2]uint32{}
	}
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

// free gives the memory back.
func (t *dirTable) free() {
	t.dirs.Free()
	t.names.Free()
	t.index.Free()
	t.owners.Free()
	t.ids.Free()
	t.idsIdx.Free()
	t.acls.Free()
}
