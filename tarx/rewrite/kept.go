package rewrite

import (
	"errors"
	"io/fs"

	"ocibundle/tarx"
)

// keptFile is a file whose content is wanted.
type keptFile struct {
	dir  int32
	data []byte
	err  error
}

// maxKept is the largest file, in bytes, that [Rewriter.ReadFile] gives.
const maxKept = 16 << 20

// ReadFile gives the content of one of the files to keep, as it was last in the stream. A file that
// the stream does not have is fs.ErrNotExist. One that cannot be had from what has passed, as
// behind a symlink, is another error.
func (r *Rewriter) ReadFile(name string) ([]byte, error) {
	parent, base := tarx.SplitPath([]byte(name))
	dir, err := r.names.walk(parent, nil)
	if err != nil {
		return nil, fs.ErrNotExist
	}
	if n, ok := r.names.node(dir, base); ok {
		if r.names.isDir(n) {
			return nil, errors.New("it is a directory")
		}
		return nil, errors.New("it is a symlink, and what it leads to has passed")
	}
	if k := r.kept[name]; k != nil && k.dir == dir {
		return k.data, k.err
	}
	if there, known := r.names.leaf(dir, base); there || !known {
		return nil, errors.New("it has passed before a symlink led to it")
	}
	return nil, fs.ErrNotExist
}

// keptHere is which of the files to keep is called base in dir.
func (r *Rewriter) keptHere(dir int32, base []byte) string {
	for name := range r.kept {
		parent, last := tarx.SplitPath([]byte(name))
		if string(last) != string(base) {
			continue
		}
		if at, err := r.names.walk(parent, nil); err == nil && at == dir {
			return name
		}
	}
	return ""
}

// forget notes that a file to keep is no longer one, and why.
func (r *Rewriter) forget(dir int32, base []byte, why string) {
	if name := r.keptHere(dir, base); name != "" {
		r.kept[name] = &keptFile{dir: dir, err: errors.New(why)}
	}
}
