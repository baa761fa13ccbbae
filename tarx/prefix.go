package tarx

import (
	"bytes"
	"errors"
	"io"
)

// ErrNoDirectory is in the chain where nothing in the stream is below the directory that is
// taken for the root.
var ErrNoDirectory = errors.New("the stream has no such directory")

// NextBelow is [Parser.Next] for a directory at the top of the stream: entries elsewhere are
// passed over, and names are relative to it, the directory's own being ".". So are the
// targets of hard links and absolute symlinks that lead below it, as docker buildx build
// --output type=tar writes them for several platforms. An empty dir is the whole stream.
func (p *Parser) NextBelow(dir string) (*Header, error) {
	for {
		h, err := p.Next()
		if err == io.EOF && dir != "" && !p.below {
			return nil, p.Broken(ErrNoDirectory)
		}
		if err != nil || dir == "" {
			return h, err
		}
		name, ok := below(h.Name, dir)
		if !ok {
			if err := p.SkipBody(); err != nil {
				return nil, err
			}
			continue
		}
		h.Name, p.below = name, true
		if h.Type == TypeLink || h.Type == TypeSymlink && bytes.HasPrefix(h.Link, []byte{'/'}) {
			if link, ok := below(h.Link, dir); ok && h.Type == TypeSymlink {
				h.Link = append([]byte{'/'}, bytes.TrimPrefix(link, []byte{'.'})...)
			} else if ok {
				h.Link = link
			}
		}
		return h, nil
	}
}

// below cuts dir off a name; ok says that it leads there.
func below(name []byte, dir string) (rest []byte, ok bool) {
	for {
		part, after, _ := bytes.Cut(name, []byte{'/'})
		if len(name) > 0 && (len(part) == 0 || string(part) == ".") {
			name = after
			continue
		}
		if string(part) != dir {
			return nil, false
		}
		if rest = bytes.Trim(after, "/"); len(rest) == 0 {
			rest = []byte{'.'}
		}
		return rest, true
	}
}
