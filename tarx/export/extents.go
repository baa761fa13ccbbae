package export

import (
	"golang.org/x/sys/unix"

	"ocibundle/tarx"
)

// maxExtents keeps the map of a sparse file well below the mebibyte at which readers refuse it.
const maxExtents = 1 << 14

// extents finds the parts of a file that hold data (lseek(2), SEEK_DATA and SEEK_HOLE). Of a file
// with more than limit, the smallest holes are taken for data.
func extents(fd int, size int64, limit int) ([]tarx.Extent, error) {
	parts := []tarx.Extent{} // not nil: a file that is one hole has none
	gap := int64(0)
	for off := int64(0); off < size; {
		start, err := seek(fd, off, unix.SEEK_DATA)
		if err == unix.ENXIO { // nothing but a hole from here on
			break
		}
		if err != nil {
			return nil, err
		}
		end, err := seek(fd, start, unix.SEEK_HOLE)
		if err != nil {
			return nil, err
		}
		start, end = min(start, size), min(end, size)
		if end > start {
			parts = append(parts, tarx.Extent{Off: start, Size: end - start})
		}
		off = max(end, off+1)
		for len(parts) > limit {
			gap = max(2*gap, 4096)
			parts = joinExtents(parts, gap)
		}
	}
	return parts, nil
}

// joinExtents fills the holes of up to gap bytes.
func joinExtents(parts []tarx.Extent, gap int64) []tarx.Extent {
	joined := parts[:1]
	for _, p := range parts[1:] {
		last := &joined[len(joined)-1]
		if p.Off-(last.Off+last.Size) <= gap {
			last.Size = p.Off + p.Size - last.Off
		} else {
			joined = append(joined, p)
		}
	}
	return joined
}

func dense(parts []tarx.Extent, size int64) bool {
	return size == 0 || len(parts) == 1 && parts[0] == tarx.Extent{Size: size}
}

func seek(fd int, off int64, whence int) (int64, error) {
	for {
		n, err := unix.Seek(fd, off, whence)
		if err != unix.EINTR {
			return n, err
		}
	}
}
