package tarx

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ImpliedMode is the mode of the root and of every parent that no entry names.
const ImpliedMode = 0o755

// NameErrorKind is ErrMalformed for an error about a name that no file can have, nil for others.
func NameErrorKind(err error) error {
	var named *NameError
	if errors.As(err, &named) || errors.Is(err, unix.ENAMETOOLONG) {
		return ErrMalformed
	}
	return nil
}

var ErrEscapes = errors.New("the name leaves the root directory")

// NameError says that a name does not fit the tree so far.
type NameError struct {
	Msg    string
	NotDir bool
}

func (e *NameError) Error() string { return e.Msg }

// NotDirectory is the error of a path that leads through something else.
func NotDirectory(path []byte) error {
	return &NameError{Msg: fmt.Sprintf("%q, or what leads to it, is not a directory", path), NotDir: true}
}

// LeadsNowhere is the error of a path that leads through a symlink to what is not there.
func LeadsNowhere(path []byte) error {
	return &NameError{Msg: fmt.Sprintf("%q is a symlink that leads nowhere", Clip(path))}
}

// Normalize appends name to b with one slash between components and none
// around them, and without "." components. ".." stays, for the kernel to
// resolve. escapes says that there are more of them than there is to leave.
func Normalize(b, name []byte) (out []byte, escapes bool, err error) {
	if bytes.IndexByte(name, 0) >= 0 {
		return b, false, errors.New("there is a NUL in the name")
	}
	depth := 0
	for len(name) > 0 {
		var part []byte
		part, name, _ = bytes.Cut(name, []byte{'/'})
		switch string(part) {
		case "", ".":
			continue
		case "..":
			if depth--; depth < 0 {
				return b, true, nil
			}
		default:
			depth++
		}
		if len(b) > 0 {
			b = append(b, '/')
		}
		b = append(b, part...)
	}
	return b, false, nil
}

// SplitPath cuts a normalized path before its last component.
func SplitPath(path []byte) (parent, base []byte) {
	i := bytes.LastIndexByte(path, '/')
	if i < 0 {
		return nil, path
	}
	return path[:i], path[i+1:]
}

// Dots says that a last component names a directory that is there already.
func Dots(base []byte) bool { return len(base) == 0 || string(base) == ".." }

// Clip cuts a name for a message.
func Clip(b []byte) []byte {
	if len(b) > 300 {
		return b[:300]
	}
	return b
}

// ClipName keeps a name that the kernel could take whole. Of a longer one, which a stream can make
// a MiB long, it keeps the beginning.
func ClipName(b []byte) string {
	if len(b) >= unix.PathMax {
		return string(Clip(b)) + "..."
	}
	return string(b)
}
