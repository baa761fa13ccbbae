package tarx

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// The parser reads ustar (POSIX.1-1988), pax (POSIX.1-2001), GNU, star and v7
// headers, and what it makes of them is what archive/tar makes of them: that
// is the yardstick of its tests. It differs in what it refuses:
//
//   - a stream without its end-of-archive marker,
//   - a header-only type with a size: some readers skip a body there and
//     others do not, so that two programs see two archives,
//   - ids that are negative or do not fit 32 bits,
//   - an extension header that no entry follows,
//   - a type that is none of files, links, directories, devices and FIFOs.

// maxExtension is the most bytes that an extension header (pax records, a GNU
// long name, a sparse map) may have. archive/tar has the same limit.
const maxExtension = 1 << 20

// Entry types, from the header's typeflag.
const (
	typeRegA       = 0
	typeReg        = '0'
	typeLink       = '1'
	typeSymlink    = '2'
	typeChar       = '3'
	typeBlock      = '4'
	typeDir        = '5'
	typeFIFO       = '6'
	typeCont       = '7'
	typePax        = 'x'
	typePaxGlobal  = 'g'
	typeGNUName    = 'L'
	typeGNULink    = 'K'
	typeGNUSparse  = 'S'
	schilyXattr    = "SCHILY.xattr."
	maxID          = math.MaxUint32 - 1 // (uid_t)-1 means "no change" to chown(2)
	maxSparseParts = 1 << 20
)

var (
	errChecksum   = errors.New("a header's checksum does not match")
	errLoneZero   = errors.New("a zero block stands alone")
	errExtension  = errors.New("an extension header has no entry")
	errPax        = errors.New("broken pax records")
	errNumber     = errors.New("broken number in a header")
	errExtTooLong = errors.New("an extension header is larger than 1 MiB")
	errSparse     = errors.New("broken sparse map")
)

// xattr is an extended attribute, value as in the stream.
type xattr struct{ name, value []byte }

// extent is a part of a sparse file that holds data.
type extent struct{ off, size int64 }

// header is one entry. Its byte slices are valid until the next one is read.
type header struct {
	typ        byte
	name, link []byte
	mode       uint32 // permission, setuid, setgid and sticky bits
	uid, gid   uint32
	size       int64 // of the file
	stored     int64 // of its body in the stream, padding excluded
	sec        int64
	nsec       int32
	major      int64
	minor      int64
	xattrs     []xattr
	sparse     []extent // nil: the body is the file
}

// parser turns blocks into headers.
type parser struct {
	src   *source
	hdr   header
	index int64 // of hdr, from 1
	pad   int64 // after the body of hdr

	// layer says that the stream may be without entries and without its
	// end-of-archive marker, as a layer's may.
	layer bool

	// globals counts global pax headers that would have meant something.
	// They are read and ignored, as archive/tar and go-archive do.
	globals      int64
	globalDetail string

	pax      paxRecords
	paxBuf   []byte
	nameBuf  []byte
	linkBuf  []byte
	longName []byte
	longLink []byte
	joinBuf  []byte
	parts    []extent
	rawUID   int64 // before pax records
	rawGID   int64
}

// next reads the next entry, up to its body, which the caller has to consume
// whole: hdr.stored bytes, then endBody. io.EOF means that the end-of-archive
// marker was read.
func (p *parser) next() (*header, error) {
	p.pax.reset()
	p.longName, p.longLink = nil, nil
	pending := false
	for {
		blk, err := p.src.block()
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			if err == io.EOF && p.layer && !pending {
				return nil, io.EOF
			}
			if err == io.EOF && p.index == 0 && !pending && p.src.offset() == 0 {
				return nil, p.broken(ErrEmpty)
			}
			return nil, p.broken(ErrTruncated)
		}
		if err != nil {
			return nil, err
		}
		if blk[0] == 0 && bytes.Equal(blk, zeroBlock[:]) {
			blk, err = p.src.block()
			if err == io.EOF && p.layer && !pending {
				return nil, io.EOF
			}
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				return nil, p.broken(ErrTruncated)
			}
			if err != nil {
				return nil, err
			}
			if !bytes.Equal(blk, zeroBlock[:]) {
				return nil, p.broken(errLoneZero)
			}
			if pending {
				return nil, p.broken(errExtension)
			}
			if p.index == 0 && !p.layer {
				return nil, p.broken(ErrEmpty)
			}
			return nil, io.EOF
		}
		h, gnu, err := p.parseBlock(blk)
		if err != nil {
			return nil, p.broken(err)
		}
		switch h.typ {
		case typePax, typePaxGlobal, typeGNUName, typeGNULink:
			// Its size is its own: pax records in front of it belong to the
			// entry, never to another extension header.
			var buf *[]byte
			switch h.typ {
			case typeGNUName:
				buf = &p.nameBuf
			case typeGNULink:
				buf = &p.linkBuf
			default:
				buf = &p.paxBuf
			}
			typ := h.typ
			if err := p.readExtension(buf, h.size); err != nil {
				return nil, err
			}
			pending = true
			switch typ {
			case typeGNUName:
				p.longName = cstring(*buf)
			case typeGNULink:
				p.longLink = cstring(*buf)
			case typePax:
				p.pax.reset()
				if err := p.pax.parse(*buf); err != nil {
					return nil, p.broken(err)
				}
			case typePaxGlobal:
				if err := p.global(*buf); err != nil {
					return nil, p.broken(err)
				}
				p.pax.reset()
				p.longName, p.longLink = nil, nil
				pending = false
			}
			continue
		}
		p.index++
		if err := p.finish(h, blk, gnu); err != nil {
			return nil, err
		}
		return h, nil
	}
}

// endBody passes over the padding behind a body.
func (p *parser) endBody() error {
	if err := p.src.skip(p.pad); err == io.ErrUnexpectedEOF {
		return p.entryBroken(ErrTruncated)
	} else if err != nil {
		return err
	}
	return nil
}

// broken is an error that no entry is to blame for.
func (p *parser) broken(err error) error {
	return &StreamError{Offset: p.src.offset(), Index: p.index, Err: err}
}

// entryBroken blames the current entry.
func (p *parser) entryBroken(err error) error {
	return &EntryError{Name: string(p.hdr.name), Index: p.index, Kind: ErrMalformed, Err: err}
}

// readExtension reads the body of an extension header into buf.
func (p *parser) readExtension(buf *[]byte, size int64) error {
	if size < 0 {
		return p.broken(errNumber)
	}
	if size > maxExtension {
		return p.broken(errExtTooLong)
	}
	b := (*buf)[:0]
	for left := size; left > 0; {
		piece, err := p.src.piece(left)
		if err == io.EOF {
			return p.broken(ErrTruncated)
		}
		if err != nil {
			return err
		}
		b = append(b, piece...)
		left -= int64(len(piece))
	}
	*buf = b
	if err := p.src.skip(padding(size)); err == io.ErrUnexpectedEOF {
		return p.broken(ErrTruncated)
	} else if err != nil {
		return err
	}
	return nil
}

// global reads a global pax header. A comment is what git archive writes.
func (p *parser) global(b []byte) error {
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
		if p.globals == 0 {
			p.globalDetail = first
		}
		p.globals++
	}
	return nil
}

// parseBlock reads one header block. gnu says that it is in GNU format.
func (p *parser) parseBlock(b []byte) (h *header, gnu bool, err error) {
	sum, err := parseOctal(b[148:156])
	if err != nil {
		return nil, false, err
	}
	if !checksumMatches(b, sum) {
		return nil, false, errChecksum
	}
	h = &p.hdr
	*h = header{typ: b[156]}
	h.name = cstring(b[:100])
	h.link = cstring(b[157:257])

	num := func(f []byte) int64 {
		n, e := parseNumeric(f)
		if e != nil && err == nil {
			err = e
		}
		return n
	}
	h.size = num(b[124:136])
	mode := num(b[100:108])
	uid, gid := num(b[108:116]), num(b[116:124])
	h.sec = num(b[136:148])
	h.mode = uint32(mode) & 0o7777

	var prefix []byte
	magic, version := string(b[257:263]), string(b[263:265])
	switch {
	case magic == "ustar\x00" && string(b[508:512]) == "tar\x00": // star
		prefix = cstring(b[345:476])
		num(b[476:488])
		num(b[488:500])
		h.major, h.minor = num(b[329:337]), num(b[337:345])
	case magic == "ustar\x00":
		prefix = cstring(b[345:500])
		h.major, h.minor = num(b[329:337]), num(b[337:345])
	case magic == "ustar " && version == " \x00":
		gnu = true
		h.major, h.minor = num(b[329:337]), num(b[337:345])
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
		p.joinBuf = append(append(append(p.joinBuf[:0], prefix...), '/'), h.name...)
		h.name = p.joinBuf
	}
	if h.typ == typePax || h.typ == typePaxGlobal || h.typ == typeGNUName || h.typ == typeGNULink {
		return h, gnu, nil
	}
	p.rawUID, p.rawGID = uid, gid
	return h, gnu, nil
}

// finish applies what the extension headers say to the entry in blk.
func (p *parser) finish(h *header, blk []byte, gnu bool) error {
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
		h.name = x.path
	}
	if len(x.link) > 0 {
		h.link = x.link
	}
	num(&uid, x.uid)
	num(&gid, x.gid)
	num(&h.size, x.size)
	for i, t := range [...][]byte{x.mtime, x.atime, x.ctime} {
		if len(t) == 0 {
			continue
		}
		sec, nsec, ok := parsePaxTime(t)
		if !ok {
			err = errPax
		} else if i == 0 {
			h.sec, h.nsec = sec, nsec
		}
	}
	h.xattrs = x.xattrs
	if len(p.longName) > 0 {
		h.name = p.longName
	}
	if len(p.longLink) > 0 {
		h.link = p.longLink
	}
	if err != nil {
		return p.entryBroken(err)
	}
	switch h.typ {
	case typeRegA:
		h.typ = typeReg
		if len(h.name) > 0 && h.name[len(h.name)-1] == '/' {
			h.typ = typeDir // v7 has no other way to say it
		}
	case typeCont:
		h.typ = typeReg
	}
	sparse := h.typ == typeGNUSparse || x.sparseVersion() != sparseNone
	switch h.typ {
	case typeReg, typeGNUSparse:
	case typeLink, typeSymlink, typeChar, typeBlock, typeDir, typeFIFO:
		if h.size != 0 || sparse {
			return p.entryBroken(fmt.Errorf("a %s has a body of %d bytes", typeName(h.typ), h.size))
		}
	default:
		return p.entryBroken(fmt.Errorf("entries of type %q are not supported", h.typ))
	}
	if h.size < 0 {
		return p.entryBroken(errNumber)
	}
	if uid < 0 || uid > maxID {
		return p.entryBroken(fmt.Errorf("uid %d is out of range", uid))
	}
	if gid < 0 || gid > maxID {
		return p.entryBroken(fmt.Errorf("gid %d is out of range", gid))
	}
	h.uid, h.gid = uint32(uid), uint32(gid)
	h.stored = h.size
	p.pad = padding(h.size)
	if sparse {
		if err := p.readSparse(h, blk, gnu); err != nil {
			return err
		}
	}
	if len(h.name) == 0 {
		return p.entryBroken(errors.New("the name is empty"))
	}
	return nil
}

func typeName(t byte) string {
	switch t {
	case typeReg, typeGNUSparse:
		return "file"
	case typeLink:
		return "hard link"
	case typeSymlink:
		return "symlink"
	case typeChar:
		return "character device"
	case typeBlock:
		return "block device"
	case typeDir:
		return "directory"
	case typeFIFO:
		return "FIFO"
	}
	return fmt.Sprintf("entry of type %q", t)
}

func padding(size int64) int64 { return -size & (blockSize - 1) }

// cstring cuts at the first NUL.
func cstring(b []byte) []byte {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return b[:i]
	}
	return b
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 || c == 0 {
			return false
		}
	}
	return true
}

// checksumMatches compares the header's bytes, the checksum field taken as
// spaces, with sum. Some old writers summed signed bytes.
func checksumMatches(b []byte, sum int64) bool {
	const lanes = 0x00ff00ff00ff00ff
	var unsigned int64
	// Eight bytes at a time, in two sums that do not wait for each other: no
	// 16-bit lane can overflow within 64 words of two bytes each.
	var sums, more uint64
	for w := b[:blockSize]; len(w) >= 32; w = w[32:] {
		v0, v1 := binary.LittleEndian.Uint64(w), binary.LittleEndian.Uint64(w[8:])
		v2, v3 := binary.LittleEndian.Uint64(w[16:]), binary.LittleEndian.Uint64(w[24:])
		sums += v0&lanes + v0>>8&lanes + v1&lanes + v1>>8&lanes
		more += v2&lanes + v2>>8&lanes + v3&lanes + v3>>8&lanes
	}
	for sums += more; sums != 0; sums >>= 16 {
		unsigned += int64(sums & 0xffff)
	}
	for _, c := range b[148:156] {
		unsigned += ' ' - int64(c)
	}
	if unsigned == sum {
		return true
	}
	signed := unsigned
	for i, c := range b[:blockSize] {
		if c >= 0x80 && (i < 148 || i >= 156) {
			signed -= 256
		}
	}
	return signed == sum
}

// parseOctal reads a number in octal, with spaces or NULs around it. A NUL
// within ends it.
func parseOctal(b []byte) (int64, error) {
	// Nearly all are digits with one NUL or space behind them, and 20 of them do
	// not overflow.
	var digits uint64
	for i, c := range b {
		if d := c - '0'; d < 8 {
			digits = digits<<3 | uint64(d)
			continue
		}
		if i > 0 && i == len(b)-1 && i <= 20 && (c == 0 || c == ' ') {
			return int64(digits), nil
		}
		break
	}
	blank := func(c byte) bool { return c == ' ' || c == 0 }
	for len(b) > 0 && blank(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && blank(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	var n uint64
	for _, c := range b {
		if c == 0 {
			break
		}
		if c < '0' || c > '7' || n >= 1<<61 {
			return 0, errNumber
		}
		n = n<<3 | uint64(c-'0')
	}
	return int64(n), nil
}

// parseNumeric reads a number in octal or, if the first bit is set, in GNU's
// base-256 two's complement.
func parseNumeric(b []byte) (int64, error) {
	if len(b) == 0 || b[0]&0x80 == 0 {
		return parseOctal(b)
	}
	var inv byte
	if b[0]&0x40 != 0 {
		inv = 0xff
	}
	var x uint64
	for i, c := range b {
		c ^= inv
		if i == 0 {
			c &= 0x7f
		}
		if x>>56 > 0 {
			return 0, errNumber
		}
		x = x<<8 | uint64(c)
	}
	if x>>63 > 0 {
		return 0, errNumber
	}
	if inv == 0xff {
		return ^int64(x), nil
	}
	return int64(x), nil
}

// paxRecords are the records of one extended header that mean something here.
// A later record replaces an earlier one of the same name.
type paxRecords struct {
	path, link, uid, gid, size, mtime, atime, ctime []byte

	spMajor, spMinor, spName, spSize, spRealSize, spNumBlocks, spMap []byte

	// spPairs is the map of sparse format 0.0, which repeats a pair of
	// records, in the form of format 0.1.
	spPairs []byte
	spCount int

	xattrs []xattr
}

func (x *paxRecords) reset() {
	*x = paxRecords{xattrs: x.xattrs[:0], spPairs: x.spPairs[:0]}
}

// cutRecord splits the first record, "LENGTH KEY=VALUE\n", off b.
func cutRecord(b []byte) (key, value, rest []byte, err error) {
	sp := bytes.IndexByte(b, ' ')
	if sp < 0 {
		return nil, nil, nil, errPax
	}
	n, e := strconv.ParseInt(string(b[:sp]), 10, 64)
	if e != nil || n < 5 || n > int64(len(b)) || int(n)-sp-1 <= 0 {
		return nil, nil, nil, errPax
	}
	record, rest := b[sp+1:n-1], b[n:]
	if b[n-1] != '\n' {
		return nil, nil, nil, errPax
	}
	key, value, ok := bytes.Cut(record, []byte{'='})
	if !ok || len(key) == 0 {
		return nil, nil, nil, errPax
	}
	text := key
	switch string(key) {
	case "path", "linkpath", "uname", "gname":
		text = value
	}
	if bytes.IndexByte(text, 0) >= 0 {
		return nil, nil, nil, errPax
	}
	return key, value, rest, nil
}

func (x *paxRecords) parse(b []byte) error {
	for len(b) > 0 {
		key, value, rest, err := cutRecord(b)
		if err != nil {
			return err
		}
		b = rest
		switch string(key) {
		case "path":
			x.path = value
		case "linkpath":
			x.link = value
		case "uid":
			x.uid = value
		case "gid":
			x.gid = value
		case "size":
			x.size = value
		case "mtime":
			x.mtime = value
		case "atime":
			x.atime = value
		case "ctime":
			x.ctime = value
		case "GNU.sparse.major":
			x.spMajor = value
		case "GNU.sparse.minor":
			x.spMinor = value
		case "GNU.sparse.name":
			x.spName = value
		case "GNU.sparse.size":
			x.spSize = value
		case "GNU.sparse.realsize":
			x.spRealSize = value
		case "GNU.sparse.numblocks":
			x.spNumBlocks = value
		case "GNU.sparse.map":
			x.spMap = value
		case "GNU.sparse.offset", "GNU.sparse.numbytes":
			isSize := string(key) == "GNU.sparse.numbytes"
			if isSize != (x.spCount%2 == 1) || bytes.IndexByte(value, ',') >= 0 {
				return errPax
			}
			if x.spCount > 0 {
				x.spPairs = append(x.spPairs, ',')
			}
			x.spPairs = append(x.spPairs, value...)
			x.spCount++
		default:
			if name, ok := bytes.CutPrefix(key, []byte(schilyXattr)); ok {
				x.xattrs = append(x.xattrs, xattr{name, value})
			}
		}
	}
	if x.spCount > 0 {
		x.spMap = x.spPairs
	}
	return nil
}

// parsePaxTime reads seconds since the epoch with a decimal fraction, of which
// nine digits count.
func parsePaxTime(b []byte) (sec int64, nsec int32, ok bool) {
	whole, fraction, _ := bytes.Cut(b, []byte{'.'})
	sec, err := strconv.ParseInt(string(whole), 10, 64)
	if err != nil {
		return 0, 0, false
	}
	scale := int32(100_000_000)
	for _, c := range fraction {
		if c < '0' || c > '9' {
			return 0, 0, false
		}
		nsec += int32(c-'0') * scale
		scale /= 10
	}
	if whole[0] == '-' && nsec > 0 {
		if sec == math.MinInt64 {
			return 0, 0, false
		}
		sec, nsec = sec-1, 1_000_000_000-nsec
	}
	return sec, nsec, true
}
