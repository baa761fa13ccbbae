package tarx

import (
	"errors"
	"fmt"
	"hash/maphash"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The tables below hold what has to be kept of every entry. Their memory comes from the kernel and
// not from Go's heap: the collector, which lets a heap grow to twice what lives in it, does not
// count it, and growing leaves no copy behind. What an entry costs is what its record has in bytes.

// MaxTables is how many bytes an engine keeps at most of all entries of a stream.
const MaxTables = 96 << 20

// ErrTables is the refusal of a stream that would take more than [MaxTables].
var ErrTables = errors.New("the names of its directories, symlinks and devices take more than 96 MiB of memory")

// noMemory is what the tables panic with where the kernel gives no memory, for all who add to them
// to end by [CatchNoMemory].
type noMemory struct{ err error }

// CatchNoMemory, deferred by who adds to tables, makes an error of there being no memory for them.
func CatchNoMemory(err *error) {
	switch r := recover().(type) {
	case nil:
	case noMemory:
		*err = fmt.Errorf("get memory for the names of the stream: %w", r.err)
	default:
		panic(r)
	}
}

// allocate gets memory for n values, which must not hold pointers.
func allocate[T any](n int) []T {
	var v T
	p, err := unix.MmapPtr(-1, 0, nil, uintptr(n)*unsafe.Sizeof(v), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		panic(noMemory{err})
	}
	return unsafe.Slice((*T)(p), n)
}

// release gives back what allocate got.
func release[T any](s []T) {
	if len(s) > 0 {
		unix.MunmapPtr(unsafe.Pointer(&s[0]), uintptr(len(s))*unsafe.Sizeof(s[0]))
	}
}

const (
	tableBits = 13 // of a slab's length
	textSlab  = 64 << 10
)

// Table is a list of values without pointers. Growing moves none of them.
type Table[T any] struct {
	slabs [][]T
	count int
}

// Len is the number of values.
func (t *Table[T]) Len() int { return t.count }

// At is the value with number i.
func (t *Table[T]) At(i int) *T { return &t.slabs[i>>tableBits][i&(1<<tableBits-1)] }

// Add appends a value and returns its number.
func (t *Table[T]) Add(v T) int {
	i := t.count
	if i>>tableBits == len(t.slabs) {
		t.slabs = append(t.slabs, allocate[T](1<<tableBits))
	}
	t.count++
	*t.At(i) = v
	return i
}

// Grow appends zero values until there are n.
func (t *Table[T]) Grow(n int) {
	for t.count < n {
		var v T
		t.Add(v)
	}
}

// Bytes is how much memory it takes.
func (t *Table[T]) Bytes() int64 {
	var v T
	return int64(len(t.slabs)) << tableBits * int64(unsafe.Sizeof(v))
}

// Free gives the memory back.
func (t *Table[T]) Free() {
	for _, s := range t.slabs {
		release(s)
	}
	*t = Table[T]{}
}

// Texts holds names, one behind the other.
type Texts struct {
	slabs [][]byte
	used  int // of the last one
}

// Add puts one text behind another and returns where they begin. They have at most 64 KiB.
func (t *Texts) Add(a, b []byte) uint32 {
	if len(t.slabs) == 0 || t.used+len(a)+len(b) > textSlab {
		t.slabs = append(t.slabs, allocate[byte](textSlab))
		t.used = 0
	}
	n := len(t.slabs) - 1
	at := t.used
	t.used += copy(t.slabs[n][at:], a)
	t.used += copy(t.slabs[n][t.used:], b)
	return uint32(n*textSlab + at)
}

// At is the text of n bytes that begins at off.
func (t *Texts) At(off uint32, n int) []byte {
	return t.slabs[off/textSlab][off%textSlab:][:n]
}

// Bytes is how much memory it takes.
func (t *Texts) Bytes() int64 { return int64(len(t.slabs)) * textSlab }

// Free gives the memory back.
func (t *Texts) Free() {
	for _, s := range t.slabs {
		release(s)
	}
	*t = Texts{}
}

// Index finds the numbers of a table's values by their hashes.
type Index struct {
	slots []uint32 // open addressing; a number plus one
	used  int
}

// Find returns the number with this hash for which same is true. Where there is none, -1.
func (x *Index) Find(hash uint64, same func(i int) bool) int {
	if len(x.slots) == 0 {
		return -1
	}
	for at := x.home(hash); x.slots[at] != 0; at = x.next(at) {
		if i := int(x.slots[at] - 1); same(i) {
			return i
		}
	}
	return -1
}

// Put makes hash lead to number i, in the place of the number for which same is true. rehash
// gives the hash of a number that is in the index.
func (x *Index) Put(hash uint64, i int, same func(i int) bool, rehash func(i int) uint64) {
	if x.used*8 >= len(x.slots)*7 {
		old := x.slots
		// By half, so that a third at most is not in use.
		*x = Index{slots: allocate[uint32](max(1024, len(old)/2*3)), used: x.used}
		for _, e := range old {
			if e != 0 {
				x.slots[x.empty(rehash(int(e-1)))] = e
			}
		}
		release(old)
	}
	at := x.home(hash)
	for x.slots[at] != 0 && !same(int(x.slots[at]-1)) {
		at = x.next(at)
	}
	if x.slots[at] == 0 {
		x.used++
	}
	x.slots[at] = uint32(i + 1)
}

func (x *Index) empty(hash uint64) int {
	at := x.home(hash)
	for x.slots[at] != 0 {
		at = x.next(at)
	}
	return at
}

func (x *Index) home(hash uint64) int { return int(hash >> 32 * uint64(len(x.slots)) >> 32) }

func (x *Index) next(at int) int {
	if at++; at == len(x.slots) {
		return 0
	}
	return at
}

// Bytes is how much memory it takes.
func (x *Index) Bytes() int64 { return 4 * int64(len(x.slots)) }

// Free gives the memory back.
func (x *Index) Free() {
	release(x.slots)
	*x = Index{}
}

// NameSet remembers names, of each a hash of 64 bits with a key that is made anew in every run, so
// that nobody can look for two names that share one: among a million, a name that was not added
// is taken for one of them once in 10^13 times.
type NameSet struct {
	seed  maphash.Seed
	slots []uint64
	used  int
}

// Len is the number of names.
func (s *NameSet) Len() int { return s.used }

// Add adds the name called name in dir.
func (s *NameSet) Add(dir int32, name []byte) {
	if len(s.slots) == 0 {
		s.seed = maphash.MakeSeed()
	}
	if s.used*8 >= len(s.slots)*7 {
		old := s.slots
		s.slots, s.used = allocate[uint64](max(1024, len(old)/2*3)), 0
		for _, h := range old {
			if h != 0 {
				s.put(h)
			}
		}
		release(old)
	}
	s.put(s.hash(dir, name))
}

func (s *NameSet) put(h uint64) {
	for at := s.home(h); ; {
		switch s.slots[at] {
		case 0:
			s.slots[at] = h
			s.used++
			return
		case h:
			return
		}
		if at++; at == len(s.slots) {
			at = 0
		}
	}
}

// Has says whether the name called name in dir was added.
func (s *NameSet) Has(dir int32, name []byte) bool {
	if len(s.slots) == 0 {
		return false
	}
	h := s.hash(dir, name)
	for at := s.home(h); s.slots[at] != 0; {
		if s.slots[at] == h {
			return true
		}
		if at++; at == len(s.slots) {
			at = 0
		}
	}
	return false
}

func (s *NameSet) home(h uint64) int { return int(h >> 32 * uint64(len(s.slots)) >> 32) }

func (s *NameSet) hash(dir int32, name []byte) uint64 {
	h := maphash.Bytes(s.seed, name) + uint64(dir)*0x9e3779b97f4a7c15
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return max(1, h^h>>32)
}

// Bytes is how much memory it takes.
func (s *NameSet) Bytes() int64 { return 8 * int64(len(s.slots)) }

// Free gives the memory back.
func (s *NameSet) Free() {
	release(s.slots)
	*s = NameSet{}
}
