package bundle

import (
	"errors"
	"fmt"
	"io/fs"
)

// Kind says why a bundle cannot be edited, removed or exported.
type Kind int

// The kinds of an Error.
const (
	// None: there is no bundle of that name.
	None Kind = iota + 1
	// Mounted: something is mounted on it or below it.
	Mounted
	// InUse: a running process has it as its root.
	InUse
	// Busy: another process is editing, replacing or removing it.
	Busy
)

// Error is a bundle that cannot be edited, removed or exported. It is untouched.
type Error struct {
	Kind Kind
	Dir  string
	// Detail is what keeps it from being a bundle, or the mount point.
	Detail string
	// Bare says that the directory holds a rootfs, and beside it nothing or an empty config.json.
	Bare bool
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
		return fmt.Sprintf("%q is in use: another process is working on it", e.Dir)
	}
	if errors.Is(e.Err, fs.ErrNotExist) {
		return fmt.Sprintf("%q does not exist", e.Dir)
	}
	return fmt.Sprintf("%q is not a bundle: %s", e.Dir, e.Detail)
}

// Unwrap gives the system's error.
func (e *Error) Unwrap() error { return e.Err }

// DestinationKind says why a destination cannot be used.
type DestinationKind int

// The kinds of a DestinationError.
const (
	// DestExists: something is there, and it is not an empty directory.
	DestExists DestinationKind = iota + 1
	// DestNotBundle: what is to be replaced is not a bundle.
	DestNotBundle
	// DestStranger: what is to be replaced holds something besides a bundle's two parts.
	DestStranger
	// DestInUse: a running process has it as its root.
	DestInUse
	// DestBusy: another process is editing, replacing or removing it, or has done so since it was
	// looked at.
	DestBusy
	// DestHere: it is "." or "..", which a rename cannot replace.
	DestHere
	// DestMount: it is a mount point, which a rename cannot replace.
	DestMount
)

// DestinationError is a destination that cannot be used. It is untouched.
type DestinationError struct {
	Kind DestinationKind
	Dir  string
	// Detail is the first stranger's name, or what keeps it from being a bundle.
	Detail string
	// PID is the process that has it as its root.
	PID int
}

func (e *DestinationError) Error() string {
	switch e.Kind {
	case DestExists:
		return fmt.Sprintf("%q exists and is not an empty directory", e.Dir)
	case DestNotBundle:
		return fmt.Sprintf("%q is not a bundle: %s", e.Dir, e.Detail)
	case DestStranger:
		return fmt.Sprintf("%q holds more than a bundle: %q", e.Dir, e.Detail)
	case DestInUse:
		return fmt.Sprintf("%q is in use: process %d has it as its root", e.Dir, e.PID)
	case DestBusy:
		return fmt.Sprintf("%q is in use: another process is working on it, or has replaced it meanwhile", e.Dir)
	case DestHere:
		return fmt.Sprintf("%q cannot be replaced by a bundle", e.Dir)
	default:
		return fmt.Sprintf("%q is a mount point", e.Dir)
	}
}
