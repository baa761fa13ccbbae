package tarx

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// MemberKind is the type of a [Member].
type MemberKind int

// The kinds of members.
const (
	MemberOther MemberKind = iota
	MemberFile
	MemberDirectory
	MemberSymlink
	MemberHardlink
)

// Member is an entry of an archive that is listed and not extracted.
type Member struct {
	// Name and Link are the entry's name and link target as in the stream.
	Name, Link string
	Kind       MemberKind
	// Offset is where in the stream the body starts, and Size its length, both
	// in bytes. The body of a sparse file is not its contents: it is a
	// MemberOther.
	Offset, Size int64
}

// List reads one tar stream to its end, as strictly as [Extract] does, and
// calls visit for every entry. An error of visit ends it.
func List(ctx context.Context, r io.Reader, visit func(Member) error) error {
	p := new(Parser)
	return Scan(ctx, r, p, func(h *Header) error {
		m := Member{Name: string(h.Name), Link: string(h.Link), Offset: p.Src.offset(), Size: h.Stored}
		switch {
		case h.Type == TypeReg && h.Sparse == nil:
			m.Kind = MemberFile
		case h.Type == TypeDir:
			m.Kind = MemberDirectory
		case h.Type == TypeSymlink:
			m.Kind = MemberSymlink
		case h.Type == TypeLink:
			m.Kind = MemberHardlink
		}
		if err := visit(m); err != nil {
			return &EntryError{Name: m.Name, Index: p.Index, Kind: kindOf(err), Err: err}
		}
		return nil
	})
}

// kindOf is the kind that err has already.
func kindOf(err error) error {
	for _, kind := range []error{ErrMalformed, ErrRefused} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return nil
}

// Scan reads a stream to its end, the headers only.
func Scan(ctx context.Context, r io.Reader, p *Parser, visit func(*Header) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.Src = NewSource(r, nil, ctx.Done())
	err := p.scan(visit)
	if errors.Is(err, ErrStopped) {
		return context.Cause(ctx)
	}
	return err
}

func (p *Parser) scan(visit func(*Header) error) error {
	for {
		h, err := p.Next()
		if err == io.EOF {
			return p.end()
		}
		if err != nil {
			return err
		}
		if err := visit(h); err != nil {
			return err
		}
		if err := p.SkipBody(); err != nil {
			return err
		}
	}
}

// end checks that nothing but zeros follows the end-of-archive marker.
func (p *Parser) end() error {
	err := p.Src.DrainZeros()
	if err == ErrTrailing {
		return p.Broken(err)
	}
	return err
}

// SkipBody passes over the body of the current entry with its padding.
func (p *Parser) SkipBody() error {
	size := p.hdr.Stored + p.Pad
	if size == 0 {
		return nil
	}
	// The name lies in a chunk that may be gone afterwards.
	var name string
	if p.Src.Cur == nil || int64(p.Src.Cur.N-p.Src.Pos) < size {
		name = ClipName(p.hdr.Name)
	}
	err := p.Src.Skip(size)
	if err == io.ErrUnexpectedEOF {
		return &EntryError{Name: name, Index: p.Index, Kind: ErrMalformed, Err: fmt.Errorf("read over the contents: %w", ErrTruncated)}
	}
	return err
}
