package tarx

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// Parser turns blocks into headers.
type Parser struct {
	Src *Source
	// Index counts entries from 1.
	Index int64
	// Pad is the number of bytes behind the body of the current entry that fill its last block.
	Pad int64

	// Layer says that the stream may be without entries and without its
	// end-of-archive marker, as a layer's may.
	Layer bool
	// Losses, if not nil, counts what the stream says and no Header has.
	Losses *Losses
	// NoXattrs leaves out extended attributes and access control lists, uncounted.
	NoXattrs bool

	below bool // NextBelow has found something

	hdr      Header
	unread   int64 // bytes of the current entry's body that the caller is not told of
	extended bool  // pax records belong to the current entry
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
// whole: Stored bytes, then EndBody. io.EOF means that the end-of-archive
// marker was read.
func (p *Parser) Next() (*Header, error) {
	if err := p.skip(p.unread); err != nil {
		return nil, err
	}
	p.unread = 0
	p.forget()
	pending := false
	for {
		blk, err := p.headerBlock(pending)
		if err != nil {
			return nil, err
		}
		h, gnu, err := p.parseBlock(blk)
		if err != nil {
			return nil, p.Broken(err)
		}
		switch h.Type {
		case TypePax, TypePaxGlobal, TypeGNUName, TypeGNULink:
			pending = h.Type != TypePaxGlobal
			err = p.extension(h)
		case TypeLabel, TypeContinued:
			pending = false
			err = p.passOver(h)
		default:
			p.Index++
			return h, p.finish(h, blk, gnu)
		}
		if err != nil {
			return nil, err
		}
	}
}

// forget drops what extension headers have said.
func (p *Parser) forget() {
	p.pax.reset()
	p.longName, p.longLink, p.extended = nil, nil, false
}

// headerBlock reads the next block that is a header. io.EOF means that the
// end-of-archive marker was read in its place, or, of a layer, that there is none.
// pending says that an extension header waits for its entry.
func (p *Parser) headerBlock(pending bool) ([]byte, error) {
	blk, err := p.Src.block()
	switch {
	case err == io.EOF && p.Layer && !pending:
		return nil, io.EOF
	case err == io.EOF && p.Index == 0 && !pending && p.Src.offset() == 0:
		return nil, p.Broken(ErrEmpty)
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return nil, p.Broken(ErrTruncated)
	case err != nil:
		return nil, err
	case blk[0] != 0 || !bytes.Equal(blk, ZeroBlock[:]):
		return blk, nil
	}
	blk, err = p.Src.block()
	switch {
	case err == io.EOF && p.Layer && !pending:
		return nil, io.EOF
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return nil, p.Broken(ErrTruncated)
	case err != nil:
		return nil, err
	case !bytes.Equal(blk, ZeroBlock[:]):
		return nil, p.Broken(errLoneZero)
	case pending:
		return nil, p.Broken(errExtension)
	case p.Index == 0 && !p.Layer:
		return nil, p.Broken(ErrEmpty)
	}
	return nil, io.EOF
}

// extension reads an extension header. Its size is its own: pax records in front of
// it belong to the entry, never to another extension header.
func (p *Parser) extension(h *Header) error {
	typ := h.Type
	buf := &p.paxBuf
	switch typ {
	case TypeGNUName:
		buf = &p.nameBuf
	case TypeGNULink:
		buf = &p.linkBuf
	}
	if err := p.readExtension(buf, h.Size); err != nil {
		return err
	}
	var err error
	switch typ {
	case TypeGNUName:
		p.longName = cstring(*buf)
	case TypeGNULink:
		p.longLink = cstring(*buf)
	case TypePax:
		p.pax.reset()
		p.extended = true
		err = p.pax.parse(*buf, p.NoXattrs)
	case TypePaxGlobal:
		err = p.global(*buf)
		p.forget()
	}
	if err != nil {
		return p.Broken(err)
	}
	return nil
}

// passOver counts and skips what belongs to a volume and is no file of it.
func (p *Parser) passOver(h *Header) error {
	kind := LossLabel
	if h.Type == TypeContinued {
		kind = LossMultiVolume
	}
	if h.Size < 0 || h.Size > math.MaxInt64-BlockSize || len(p.pax.size) > 0 {
		return p.Broken(errNumber)
	}
	p.lose(kind, h.Name, "")
	p.forget()
	return p.skip(h.Size + Padding(h.Size))
}

func (p *Parser) skip(n int64) error {
	err := p.Src.Skip(n)
	if err == io.ErrUnexpectedEOF {
		return p.Broken(ErrTruncated)
	}
	return err
}

// lose counts a loss at the current entry.
func (p *Parser) lose(kind LossKind, name []byte, detail string) {
	if p.Losses != nil {
		p.Losses.Add(kind, name, p.Index, detail)
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
	return &EntryError{Name: ClipName(p.hdr.Name), Index: p.Index, Kind: ErrMalformed, Err: err}
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

// global counts a global pax header that would mean something. A comment is what
// git archive writes.
func (p *Parser) global(b []byte) error {
	var first []byte
	for len(b) > 0 {
		key, _, rest, err := cutRecord(b)
		if err != nil {
			return err
		}
		if first == nil && string(key) != "comment" {
			first = key
		}
		b = rest
	}
	if first != nil {
		p.lose(LossGlobalHeader, first, "")
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
	if err := p.applyExtensions(h); err != nil {
		return err
	}
	sparse := h.Type == TypeGNUSparse || p.pax.sparseVersion() != sparseNone
	switch h.Type {
	case TypeReg, TypeGNUSparse:
	case TypeDumpdir:
		if sparse || h.Size > math.MaxInt64-BlockSize {
			return p.entryBroken(errNumber)
		}
		h.Type = TypeDir
		p.lose(LossDumpdir, h.Name, "")
	case TypeLink, TypeSymlink, TypeChar, TypeBlock, TypeDir, TypeFIFO:
		if err := p.dropSize(h, blk[124:136], sparse); err != nil {
			return err
		}
	default:
		return p.entryBroken(fmt.Errorf("entries of type %q are not supported", h.Type))
	}
	if h.Size < 0 {
		return p.entryBroken(errNumber)
	}
	if h.Type == TypeDir {
		p.unread, h.Size = h.Size+Padding(h.Size), 0
	}
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
	for _, l := range p.pax.lost {
		p.lose(l.kind, h.Name, string(l.key))
	}
	return nil
}

// applyExtensions puts long names and pax records into a header.
func (p *Parser) applyExtensions(h *Header) error {
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
	switch h.Type {
	case TypeRegA, TypeReg, TypeCont:
		// v7 has no other way to say it, and some writers have kept it.
		if len(h.Name) > 0 && h.Name[len(h.Name)-1] == '/' {
			if h.Type != TypeRegA && h.Size > 0 {
				return p.entryBroken(fmt.Errorf("a file whose name ends in a slash has a body of %d bytes", h.Size))
			}
			h.Type = TypeDir
		} else {
			h.Type = TypeReg
		}
	}
	switch {
	case err != nil:
		return p.entryBroken(err)
	case uid < 0 || uid > maxID:
		return p.entryBroken(fmt.Errorf("uid %d is out of range", uid))
	case gid < 0 || gid > maxID:
		return p.entryBroken(fmt.Errorf("gid %d is out of range", gid))
	}
	h.UID, h.GID = uint32(uid), uint32(gid)
	return nil
}

// maxSizeDropped is the largest size of a symlink or FIFO that may be without a body: far more than
// a symlink's target has.
const maxSizeDropped = 64 << 10

// dropSize makes the size of an entry 0 that can have no body and has none. Old writers give hard
// links the size of the file, symlinks the length of their target, directories what stat(2) says.
//
// GNU tar, bsdtar and archive/tar extract such entries in the same way: the next block is a header,
// or zeros. A body, which only some would skip, is refused, and so is what may be one: a size from
// a pax header, for there a hard link can have the file's body (pax(1), "linkdata"), and what can
// be read in two ways. GNU tar's -t skips a body behind symlinks and FIFOs, and would see other
// entries where a header stands behind that, too.
func (p *Parser) dropSize(h *Header, field []byte, sparse bool) error {
	if h.Size == 0 && !sparse {
		return nil
	}
	body := p.entryBroken(fmt.Errorf("a %s has a body of %d bytes", TypeName(h.Type), h.Size))
	switch {
	case sparse, h.Size < 0, len(p.pax.size) > 0, field[0]&0x80 != 0, h.Type == TypeLink && p.extended,
		h.Type == TypeChar || h.Type == TypeBlock:
		return body
	}
	next, err := p.Src.peek(0)
	if err != nil {
		return err
	}
	if next != nil && !bytes.Equal(next, ZeroBlock[:]) && !isHeader(next) {
		return body
	}
	if h.Type == TypeSymlink || h.Type == TypeFIFO {
		if h.Size > maxSizeDropped {
			return body
		}
		behind, err := p.Src.peek(h.Size + Padding(h.Size))
		if err != nil {
			return err
		}
		if behind != nil && isHeader(behind) {
			return body
		}
	}
	h.Size = 0
	return nil
}

// isHeader says that a block can be a header.
func isHeader(b []byte) bool {
	sum, err := parseOctal(b[148:156])
	return err == nil && checksumMatches(b, sum)
}
