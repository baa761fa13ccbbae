package tarx

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Parser turns blocks into headers.
type Parser struct {
	Src   *Source
	hdr   Header
	Index int64 // of hdr, from 1
	Pad   int64 // after the body of hdr

	// Layer says that the stream may be without entries and without its
	// end-of-archive marker, as a layer's may.
	Layer bool

	below bool // NextBelow has found something

	// Globals counts global pax headers that would have meant something.
	// They are read and ignored, as archive/tar and go-archive do.
	Globals      int64
	GlobalDetail string

	pax      paxRecords
	paxBuf   []byte
	nameBuf  []byte
	linkBuf  []byte
	longName []byte
	longLink []byte
	joinBuf  []byte
	parts    []Extent
	rawUID   int64 // before pax records
	rawGID   int64
}

// Next reads the next entry, up to its body, which the caller has to consume
// whole: hdr.stored bytes, then endBody. io.EOF means that the end-of-archive
// marker was read.
func (p *Parser) Next() (*Header, error) {
	p.pax.reset()
	p.longName, p.longLink = nil, nil
	pending := false
	for {
		blk, err := p.Src.block()
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			if err == io.EOF && p.Layer && !pending {
				return nil, io.EOF
			}
			if err == io.EOF && p.Index == 0 && !pending && p.Src.offset() == 0 {
				return nil, p.Broken(ErrEmpty)
			}
			return nil, p.Broken(ErrTruncated)
		}
		if err != nil {
			return nil, err
		}
		if blk[0] == 0 && bytes.Equal(blk, ZeroBlock[:]) {
			blk, err = p.Src.block()
			if err == io.EOF && p.Layer && !pending {
				return nil, io.EOF
			}
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				return nil, p.Broken(ErrTruncated)
			}
			if err != nil {
				return nil, err
			}
			if !bytes.Equal(blk, ZeroBlock[:]) {
				return nil, p.Broken(errLoneZero)
			}
			if pending {
				return nil, p.Broken(errExtension)
			}
			if p.Index == 0 && !p.Layer {
				return nil, p.Broken(ErrEmpty)
			}
			return nil, io.EOF
		}
		h, gnu, err := p.parseBlock(blk)
		if err != nil {
			return nil, p.Broken(err)
		}
		switch h.Type {
		case TypePax, TypePaxGlobal, TypeGNUName, TypeGNULink:
			// Its size is its own: pax records in front of it belong to the
			// entry, never to another extension header.
			var buf *[]byte
			switch h.Type {
			case TypeGNUName:
				buf = &p.nameBuf
			case TypeGNULink:
				buf = &p.linkBuf
			default:
				buf = &p.paxBuf
			}
			typ := h.Type
			if err := p.readExtension(buf, h.Size); err != nil {
				return nil, err
			}
			pending = true
			switch typ {
			case TypeGNUName:
				p.longName = cstring(*buf)
			case TypeGNULink:
				p.longLink = cstring(*buf)
			case TypePax:
				p.pax.reset()
				if err := p.pax.parse(*buf); err != nil {
					return nil, p.Broken(err)
				}
			case TypePaxGlobal:
				if err := p.global(*buf); err != nil {
					return nil, p.Broken(err)
				}
				p.pax.reset()
				p.longName, p.longLink = nil, nil
				pending = false
			}
			continue
		}
		p.Index++
		if err := p.finish(h, blk, gnu); err != nil {
			return nil, err
		}
		return h, nil
	}
}

// EndBody passes over the padding behind a body.
func (p *Parser) EndBody() error {
	if err := p.Src.Skip(p.Pad); err == io.ErrUnexpectedEOF {
		return p.entryBroken(ErrTruncated)
	} else if err != nil {
		return err
	}
	return nil
}

// Broken is an error that no entry is to blame for.
func (p *Parser) Broken(err error) error {
	return &StreamError{Offset: p.Src.offset(), Index: p.Index, Err: err}
}

// entryBroken blames the current entry.
func (p *Parser) entryBroken(err error) error {
	return &EntryError{Name: string(p.hdr.Name), Index: p.Index, Kind: ErrMalformed, Err: err}
}

// readExtension reads the body of an extension header into buf.
func (p *Parser) readExtension(buf *[]byte, size int64) error {
	if size < 0 {
		return p.Broken(errNumber)
	}
	if size > maxExtension {
		return p.Broken(errExtTooLong)
	}
	b := (*buf)[:0]
	for left := size; left > 0; {
		piece, err := p.Src.Piece(left)
		if err == io.EOF {
			return p.Broken(ErrTruncated)
		}
		if err != nil {
			return err
		}
		b = append(b, piece...)
		left -= int64(len(piece))
	}
	*buf = b
	if err := p.Src.Skip(Padding(size)); err == io.ErrUnexpectedEOF {
		return p.Broken(ErrTruncated)
	} else if err != nil {
		return err
	}
	return nil
}

// global reads a global pax header. A comment is what git archive writes.
func (p *Parser) global(b []byte) error {
	means := false
	var first string
	for len(b) > 0 {
		key, _, rest, err := cutRecord(b)
		if err != nil {
			return err
		}
		if !means && string(key) != "comment" {
			means, first = true, string(key)
		}
		b = rest
	}
	if means {
		if p.Globals == 0 {
			p.GlobalDetail = first
		}
		p.Globals++
	}
	return nil
}

// parseBlock reads one header block. gnu says that it is in GNU format.
func (p *Parser) parseBlock(b []byte) (h *Header, gnu bool, err error) {
	sum, err := parseOctal(b[148:156])
	if err != nil {
		return nil, false, err
	}
	if !checksumMatches(b, sum) {
		return nil, false, errChecksum
	}
	h = &p.hdr
	*h = Header{Type: b[156]}
	h.Name = cstring(b[:100])
	h.Link = cstring(b[157:257])

	num := func(f []byte) int64 {
		n, e := parseNumeric(f)
		if e != nil && err == nil {
			err = e
		}
		return n
	}
	h.Size = num(b[124:136])
	mode := num(b[100:108])
	uid, gid := num(b[108:116]), num(b[116:124])
	h.Sec = num(b[136:148])
	h.Mode = uint32(mode) & 0o7777

	var prefix []byte
	magic, version := string(b[257:263]), string(b[263:265])
	switch {
	case magic == "ustar\x00" && string(b[508:512]) == "tar\x00": // star
		prefix = cstring(b[345:476])
		num(b[476:488])
		num(b[488:500])
		h.Major, h.Minor = num(b[329:337]), num(b[337:345])
	case magic == "ustar\x00":
		prefix = cstring(b[345:500])
		h.Major, h.Minor = num(b[329:337]), num(b[337:345])
	case magic == "ustar " && version == " \x00":
		gnu = true
		h.Major, h.Minor = num(b[329:337]), num(b[337:345])
		// Go before 1.8 wrote a prefix in place of the access and change
		// times (golang.org/issue/12594).
		var e1, e2 error
		if b[345] != 0 {
			_, e1 = parseNumeric(b[345:357])
		}
		if b[357] != 0 {
			_, e2 = parseNumeric(b[357:369])
		}
		if e1 != nil || e2 != nil {
			if s := cstring(b[345:500]); isASCII(s) {
				prefix = s
			}
		}
	}
	if err != nil {
		return nil, false, err
	}
	if len(prefix) > 0 {
		p.joinBuf = append(append(append(p.joinBuf[:0], prefix...), '/'), h.Name...)
		h.Name = p.joinBuf
	}
	if h.Type == TypePax || h.Type == TypePaxGlobal || h.Type == TypeGNUName || h.Type == TypeGNULink {
		return h, gnu, nil
	}
	p.rawUID, p.rawGID = uid, gid
	return h, gnu, nil
}

// finish applies what the extension headers say to the entry in blk.
func (p *Parser) finish(h *Header, blk []byte, gnu bool) error {
	x := &p.pax
	uid, gid := p.rawUID, p.rawGID
	var err error
	num := func(to *int64, v []byte) {
		if len(v) == 0 || err != nil {
			return
		}
		n, e := strconv.ParseInt(string(v), 10, 64)
		if e != nil {
			err = errPax
			return
		}
		*to = n
	}
	if len(x.path) > 0 {
		h.Name = x.path
	}
	if len(x.link) > 0 {
		h.Link = x.link
	}
	num(&uid, x.uid)
	num(&gid, x.gid)
	num(&h.Size, x.size)
	for i, t := range [...][]byte{x.mtime, x.atime, x.ctime} {
		if len(t) == 0 {
			continue
		}
		sec, nsec, ok := parsePaxTime(t)
		if !ok {
			err = errPax
		} else if i == 0 {
			h.Sec, h.Nsec = sec, nsec
		}
	}
	h.Xattrs = x.xattrs
	if len(p.longName) > 0 {
		h.Name = p.longName
	}
	if len(p.longLink) > 0 {
		h.Link = p.longLink
	}
	if err != nil {
		return p.entryBroken(err)
	}
	switch h.Type {
	case TypeRegA:
		h.Type = TypeReg
		if len(h.Name) > 0 && h.Name[len(h.Name)-1] == '/' {
			h.Type = TypeDir // v7 has no other way to say it
		}
	case TypeCont:
		h.Type = TypeReg
	}
	sparse := h.Type == TypeGNUSparse || x.sparseVersion() != sparseNone
	switch h.Type {
	case TypeReg, TypeGNUSparse:
	case TypeLink, TypeSymlink, TypeChar, TypeBlock, TypeDir, TypeFIFO:
		if h.Size != 0 || sparse {
			return p.entryBroken(fmt.Errorf("a %s has a body of %d bytes", TypeName(h.Type), h.Size))
		}
	default:
		return p.entryBroken(fmt.Errorf("entries of type %q are not supported", h.Type))
	}
	if h.Size < 0 {
		return p.entryBroken(errNumber)
	}
	if uid < 0 || uid > maxID {
		return p.entryBroken(fmt.Errorf("uid %d is out of range", uid))
	}
	if gid < 0 || gid > maxID {
		return p.entryBroken(fmt.Errorf("gid %d is out of range", gid))
	}
	h.UID, h.GID = uint32(uid), uint32(gid)
	h.Stored = h.Size
	p.Pad = Padding(h.Size)
	if sparse {
		if err := p.readSparse(h, blk, gnu); err != nil {
			return err
		}
	}
	if len(h.Name) == 0 {
		return p.entryBroken(errors.New("the name is empty"))
	}
	return nil
}
