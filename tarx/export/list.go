package export

import (
	"bytes"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"

	"ocibundle/tarx/handle"
)

var (
	// listingMax is how many bytes one part of a listing may take, and listedMax all those that are
	// held at once. A directory with more names is read several times, and each time the next names
	// in order are kept.
	listingMax = 16 << 20
	listedMax  = 24 << 20
)

// listing is a part of a directory's listing, in the order of the stream, in which the names of
// directories end in a slash.
type listing struct {
	names   []byte // with that slash
	entries []span
	taken   int    // of entries
	last    []byte // the last name that was taken off it
	more    bool   // names may come behind the part
}

// span is where a name is in listing.names.
type span struct {
	off uint32
	len uint16
}

const spanSize = 8

func (l *listing) name(s span) []byte { return l.names[s.off:][:s.len] }

func (l *listing) empty() bool { return l.taken == len(l.entries) }

func (l *listing) size() int { return cap(l.names) + spanSize*cap(l.entries) }

// next takes the next name off.
func (l *listing) next() string {
	l.last = append(l.last[:0], l.name(l.entries[l.taken])...)
	l.taken++
	return string(bytes.TrimSuffix(l.last, []byte("/")))
}

// drop forgets what read has read.
func (l *listing) drop() { l.names, l.entries, l.taken, l.more = nil, nil, 0, true }

// read reads the part behind the last name that was taken off. At the end there is none.
func (l *listing) read(fd int, buf []byte) error {
	if !l.more {
		l.drop()
		l.more = false
		return nil
	}
	l.names, l.entries, l.taken, l.more = l.names[:0], l.entries[:0], 0, false
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return err
	}
	var bound []byte // the greatest name that is kept, where greater ones were not
	for {
		n, err := handle.Getdents(fd, buf)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		for rest := buf[:n]; len(rest) > 0; {
			var name []byte
			var kind uint8
			name, kind, rest = handle.NextDirent(rest)
			if handle.IsDot(name) {
				continue
			}
			if kind == unix.DT_UNKNOWN {
				var st unix.Stat_t
				if err := unix.Fstatat(fd, string(name), &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
					return &fs.PathError{Op: "stat", Path: string(name), Err: err}
				}
				kind = uint8(st.Mode & unix.S_IFMT >> 12)
			}
			l.add(name, kind == unix.DT_DIR, bound)
			if len(l.names)+spanSize*len(l.entries) > listingMax {
				bound = l.halve()
			}
		}
	}
	l.sort()
	return nil
}

// add adds a name, unless it is not behind the last one, or behind bound.
func (l *listing) add(name []byte, dir bool, bound []byte) {
	off := len(l.names)
	l.names = append(l.names, name...)
	if dir {
		l.names = append(l.names, '/')
	}
	full := l.names[off:]
	if len(l.last) > 0 && bytes.Compare(full, l.last) <= 0 || bound != nil && bytes.Compare(full, bound) > 0 {
		l.names = l.names[:off]
		return
	}
	l.entries = append(l.entries, span{uint32(off), uint16(len(full))})
}

func (l *listing) sort() {
	slices.SortFunc(l.entries, func(a, b span) int { return bytes.Compare(l.name(a), l.name(b)) })
}

// halve keeps the lesser half of the names, and returns the greatest of those.
func (l *listing) halve() (bound []byte) {
	l.sort()
	kept := listing{names: make([]byte, 0, cap(l.names)), entries: make([]span, 0, cap(l.entries))}
	for _, s := range l.entries[:len(l.entries)/2] {
		kept.entries = append(kept.entries, span{uint32(len(kept.names)), s.len})
		kept.names = append(kept.names, l.name(s)...)
	}
	l.names, l.entries, l.more = kept.names, kept.entries, true
	return bytes.Clone(l.name(l.entries[len(l.entries)-1]))
}
