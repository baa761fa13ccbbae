package export

import (
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"ocibundle/tarx/handle"
)

type dirEntry struct {
	name string
	kind uint8
}

// readSorted lists a directory in the order of the stream, in which the names of directories end in a slash.
func readSorted(fd int, buf []byte) ([]dirEntry, error) {
	var list []dirEntry
	for {
		n, err := handle.Getdents(fd, buf)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		for rest := buf[:n]; len(rest) > 0; {
			var d dirEntry
			d.name, d.kind, rest = handle.NextDirent(rest)
			if d.name == "." || d.name == ".." {
				continue
			}
			if d.kind == unix.DT_UNKNOWN {
				var st unix.Stat_t
				if err := unix.Fstatat(fd, d.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
					return nil, &fs.PathError{Op: "stat", Path: d.name, Err: err}
				}
				d.kind = uint8(st.Mode & unix.S_IFMT >> 12)
			}
			list = append(list, d)
		}
	}
	slices.SortFunc(list, compareEntries)
	return list, nil
}

func compareEntries(a, b dirEntry) int {
	n := min(len(a.name), len(b.name))
	if c := strings.Compare(a.name[:n], b.name[:n]); c != 0 {
		return c
	}
	return a.at(n) - b.at(n)
}

// at gives the byte at i, which is at most the name's length, of the name in the stream.
func (d dirEntry) at(i int) int {
	switch {
	case i < len(d.name):
		return int(d.name[i])
	case d.kind == unix.DT_DIR:
		return '/'
	default:
		return -1
	}
}
