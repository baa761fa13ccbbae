package bundle

import (
	"errors"
	"fmt"
	"io/fs"
)

// Kind says why a bundle cannot be removed or exported.
type Kind int

// The kinds of a BundleError.
const (
	// None: there is no bundle of that name.
	None Kind = iota + 1
	// Mounted: something is mounted on it or below it.
	Mounted
	// InUse: a running process has it as its root.
	InUse
	// Busy: another process is editing or removing it.
	Busy
)

// Error is a bundle that cannot be removed or exported. It is untouched.
type Error struct {
	Kind Kind
	Dir  string
	// Detail is what makes it no bundle, or the mount point.
	Detail string
	// PID is the process that has it as its root.
	PID int
	// Err is the system's error, if there is one.
	Err error
}

func (e *Error) Error() string {
	switch e.Kind {
	case Mounted:
		return fmt.Sprintf("%q is in use: %q is a mount point", e.Dir, e.Detail)
	case InUse:
		return fmt.Sprintf("%q is in use: process %d has it as its root", e.Dir, e.PID)
	case Busy:
		return fmt.Sprintf("%q is in use: another process is at work on it", e.Dir)
	}
	if errors.Is(e.Err, fs.ErrNotExist) {
		return fmt.Sprintf("%q does not exist", e.Dir)
	}
	return fmt.Sprintf("%q is not a bundle: %s", e.Dir, e.Detail)
}

// Unwrap gives the system's error.
func (e *Error) Unwrap() error { return e.Err }
