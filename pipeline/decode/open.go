package decode

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// pipeSize is what most programs write at once, or more. With less, their writes are
// done in turns with our reads. With more, they fill pages that have left the
// processor's cache when they are read, and while they fill them with nobody
// reading, the workers run out of work.
const pipeSize = 128 << 10

// OpenFile opens the stream of that name, "-" being standard input, for [Open] to
// read. A pipe that is small grows.
func OpenFile(name string) (io.ReadCloser, error) {
	f := os.Stdin
	if name != "-" {
		var err error
		if f, err = os.Open(name); err != nil {
			return nil, err
		}
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("stat the input: %w", err)
	}
	if fi.Mode()&os.ModeNamedPipe != 0 { // best effort
		if n, err := unix.FcntlInt(f.Fd(), unix.F_GETPIPE_SZ, 0); err == nil && n < pipeSize {
			unix.FcntlInt(f.Fd(), unix.F_SETPIPE_SZ, pipeSize)
		}
	}
	return f, nil
}
