package check

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"ocibundle/pipeline/bundle"
	"ocibundle/tarx/handle"
)

// maxChecked is the most bytes of a config.json that are looked at. A tree of it takes two hundred times as much memory,
// and no container's config comes near it.
const maxChecked = 1 << 20

// readConfig reads config.json, which may be anything.
func readConfig(dir *os.File) ([]byte, error) {
	h, err := bundle.OpenAt(dir, "config.json", unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	fi, err := h.Stat()
	if err != nil {
		return nil, handle.Cause(err)
	}
	if !fi.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	f, err := os.OpenFile(procFD(h), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, handle.Cause(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxChecked+1))
	if err != nil {
		return nil, handle.Cause(err)
	}
	if len(text) > maxChecked {
		return nil, fmt.Errorf("it has more than %d MiB", maxChecked>>20)
	}
	return text, nil
}
