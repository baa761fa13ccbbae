package extract

import (
	"errors"
	"hash/maphash"
)

// usedNames knows which names the stream has used so far, each in its
// directory. A name that is certainly new needs no look at the disk, and
// creating it can be left to a worker: nothing that happens to other names
// makes a difference to it.
//
// They are Bloom filters, each with all the bits of a name in one cache line: a
// small one first, and when that is full a large one besides, which takes some
// 2 % of new names for used ones after two million. That costs time, no more.
type usedNames struct {
	seed  maphash.Seed
	small usedFilter
	large usedFilter
	count int
}

type usedFilter [][8]uint64

const (
	usedSmall  = 12 // bits of a line's number: 256 KiB
	usedLarge  = 15 // 2 MiB
	usedProbes = 4
	usedFull   = 200_000 // names in the small one; 2 % there
)

func newUsedNames() *usedNames {
	return &usedNames{seed: maphash.MakeSeed(), small: make(usedFilter, 1<<usedSmall)}
}

// key stands for the name base in directory dir among the names of one run.
func (u *usedNames) key(dir int, base []byte) uint64 {
	k := maphash.Bytes(u.seed, base) + uint64(dir)*0x9e3779b97f4a7c15
	k ^= k >> 32
	k *= 0xd6e8feb86659fd93
	return k ^ k>>32
}

// note takes a name for used. fresh says that it certainly was not.
func (u *usedNames) note(k uint64) (fresh bool) {
	if u.count < usedFull {
		fresh = u.small.set(k>>(64-usedSmall), k, true)
	} else {
		if u.large == nil {
			u.large = make(usedFilter, 1<<usedLarge)
		}
		fresh = u.large.set(k>>(64-usedLarge), k, true) && u.small.set(k>>(64-usedSmall), k, false)
	}
	if fresh {
		u.count++
	}
	return fresh
}

// set says whether a key is new to a line, and adds it.
func (f usedFilter) set(line, k uint64, add bool) (fresh bool) {
	l := &f[line]
	for i := range usedProbes {
		bit := k >> (9 * i)
		word, mask := &l[bit>>6&7], uint64(1)<<(bit&63)
		if *word&mask == 0 {
			fresh = true
			if !add {
				return true
			}
			*word |= mask
		}
	}
	return fresh
}

// maxOwn bounds the names noted of an upper layer. What it makes beyond them is taken for a lower
// layer's.
const maxOwn = 4 << 20

// errFolded: Linux has filesystems that do not tell upper from lower case, or
// spellings of one character. One of the two files would be lost there.
var errFolded = errors.New("the filesystem takes its name for an earlier entry's")

// claim notes the name of the current entry. A file on its way to that name is
// waited for.
func (x *Extractor) claim(dir *openDir, base []byte) {
	x.key = x.used.key(dir.rec, base)
	x.fresh = x.used.note(x.key)
	if x.upper && x.own.Len() < maxOwn {
		x.own.Add(int32(dir.rec), base)
	}
	if !x.fresh && x.work.onItsWay(x.key) {
		x.settle()
	}
}

// settle waits until the tree is as the entries so far make it.
func (x *Extractor) settle() {
	x.flush(x.src.Cur)
	x.work.settle()
}
