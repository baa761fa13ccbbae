package extract

import (
	"fmt"

	"ocibundle/tarx"
)

// blame makes err one of this entry. The stream is at fault where its names
// ask for what no filesystem can do.
func (x *Extractor) blame(h *tarx.Header, err error) error {
	return x.Fail(h, tarx.NameErrorKind(err), err)
}

func linkError(target []byte, err error) error {
	return opError(fmt.Sprintf("link to %q", target), err)
}

// opError is an error of the filesystem with what was being done.
func opError(op string, err error) error { return &FileError{Op: op, Err: err} }

// FileError is an error of the filesystem that the tree is written to.
type FileError struct {
	Op  string
	Err error
}

func (e *FileError) Error() string { return e.Op + ": " + e.Err.Error() }

// Unwrap gives the kernel's answer.
func (e *FileError) Unwrap() error { return e.Err }
