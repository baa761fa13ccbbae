package extract

import (
	"bytes"

	"golang.org/x/sys/unix"
)

const (
	zeroGranule = 4096
	// A hole saves pages, and costs an extent and a system call; shorter runs
	// of zeros are written.
	minHole = 32 << 10
)

var zeroPage [zeroGranule]byte

// writeData writes data at off, but for long runs of zeros: the file is new,
// and what is not written reads as zeros.
//
// To splice(2) large bodies from the pipe into the file instead would save a
// copy, hide the zeros, and take a quarter longer: then it is the writing
// processor that gets the pipe's pages back, not the one that fills them again.
func writeData(fd int, data []byte, off int64) (holes bool, err error) {
	if len(data) < minHole {
		return false, writeAll(fd, data, off)
	}
	start := 0 // of what is to be written
	for at := 0; at < len(data); {
		n := zeroRun(data[at:])
		switch {
		case n >= minHole:
			if err := writeAll(fd, data[start:at], off+int64(start)); err != nil {
				return holes, err
			}
			holes = true
			at += n
			start = at
		case n > 0:
			at += n
		default:
			at += min(zeroGranule, len(data)-at)
		}
	}
	return holes, writeAll(fd, data[start:], off+int64(start))
}

// zeroRun is the number of zeros that b starts with, in granules; a last,
// shorter granule counts too.
func zeroRun(b []byte) int {
	n := 0
	for n < len(b) {
		g := b[n:min(n+zeroGranule, len(b))]
		// The first byte alone settles it most of the time.
		if g[0] != 0 || !bytes.Equal(g, zeroPage[:len(g)]) {
			break
		}
		n += len(g)
	}
	return n
}

func writeAll(fd int, b []byte, off int64) error {
	for len(b) > 0 {
		n, err := sysPwrite(fd, b, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b = b[n:]
		off += int64(n)
	}
	return nil
}
