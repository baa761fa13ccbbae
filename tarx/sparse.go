package tarx

import (
	"bytes"
	"errors"
	"io"
	"strconv"
)

// Sparse files come in four forms (GNU tar manual, "Storing Sparse Files"): the
// old GNU one with its map in the header and blocks behind it, and three that
// use pax records. What is read is a list of extents whose bytes lie one after
// the other in the body.

type sparseVersion int

const (
	sparseNone sparseVersion = iota
	sparseRecords
	sparseBody
)

// sparseVersion says where the pax records announce a sparse map.
func (x *paxRecords) sparseVersion() sparseVersion {
	major, minor := string(x.spMajor), string(x.spMinor)
	switch {
	case major == "0" && (minor == "0" || minor == "1"):
		return sparseRecords
	case major == "1" && minor == "0":
		return sparseBody
	case major != "" || minor != "":
		return sparseNone // a version that does not exist yet
	case len(x.spMap) > 0:
		return sparseRecords
	}
	return sparseNone
}

// readSparse reads the map of the current entry and makes it h.sparse. What
// remains of the body is the data.
func (p *Parser) readSparse(h *Header, blk []byte, gnu bool) error {
	p.parts = p.parts[:0]
	if h.Type == TypeGNUSparse {
		if err := p.readGNUMap(h, blk, gnu); err != nil {
			return err
		}
	} else {
		x := &p.pax
		if len(x.spName) > 0 {
			h.Name = x.spName
		}
		size := x.spSize
		if len(size) == 0 {
			size = x.spRealSize
		}
		if len(size) > 0 {
			n, err := strconv.ParseInt(string(size), 10, 64)
			if err != nil {
				return p.entryBroken(errSparse)
			}
			h.Size = n
		}
		var err error
		if x.sparseVersion() == sparseBody {
			err = p.readBodyMap(h)
		} else {
			err = p.readRecordMap(x)
		}
		if err != nil {
			return err
		}
	}
	// Extents are in order, do not overlap, lie within the file and account
	// for the whole body.
	var end, sum int64
	for _, e := range p.parts {
		if e.Off < end || e.Size < 0 || e.Off > h.Size || e.Size > h.Size-e.Off {
			return p.entryBroken(errSparse)
		}
		end = e.Off + e.Size
		sum += e.Size
	}
	if h.Size < 0 || sum != h.Stored {
		return p.entryBroken(errSparse)
	}
	h.Type = TypeReg
	h.Sparse = p.parts
	if h.Sparse == nil {
		h.Sparse = []Extent{}
	}
	return nil
}

func (p *Parser) addExtent(off, size int64) error {
	if len(p.parts) >= maxSparseParts {
		return p.entryBroken(errSparse)
	}
	p.parts = append(p.parts, Extent{off, size})
	return nil
}

// readGNUMap reads the map from the header and the extension blocks behind it,
// which no size counts.
func (p *Parser) readGNUMap(h *Header, blk []byte, gnu bool) error {
	if !gnu {
		return p.entryBroken(errSparse) // star's form, which is another one
	}
	size, err := parseNumeric(blk[483:495])
	if err != nil {
		return p.entryBroken(err)
	}
	// The header's name and link lie in the block, which the blocks read below
	// may push out.
	h.Name = bytes.Clone(h.Name)
	h.Size = size
	entries, extended := blk[386:482], blk[482]
	for total := 0; ; {
		for ; len(entries) >= 24 && entries[0] != 0; entries = entries[24:] {
			off, err1 := parseNumeric(entries[:12])
			n, err2 := parseNumeric(entries[12:24])
			if err := errors.Join(err1, err2); err != nil {
				return p.entryBroken(errSparse)
			}
			if err := p.addExtent(off, n); err != nil {
				return err
			}
		}
		if extended == 0 {
			return nil
		}
		if total += BlockSize; total > maxExtension {
			return p.entryBroken(errExtTooLong)
		}
		b, err := p.Src.block()
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return p.entryBroken(ErrTruncated)
		}
		if err != nil {
			return err
		}
		entries, extended = b[:504], b[504]
	}
}

// readRecordMap reads the map of formats 0.0 and 0.1.
func (p *Parser) readRecordMap(x *paxRecords) error {
	count, err := strconv.ParseInt(string(x.spNumBlocks), 10, 64)
	if err != nil || count < 0 || count > maxSparseParts {
		return p.entryBroken(errSparse)
	}
	rest := x.spMap
	var numbers [2]int64
	n := int64(0)
	for len(rest) > 0 {
		field, after, more := bytes.Cut(rest, []byte{','})
		v, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil || more && len(after) == 0 {
			return p.entryBroken(errSparse)
		}
		rest = after
		numbers[n%2] = v
		if n++; n%2 == 0 {
			if err := p.addExtent(numbers[0], numbers[1]); err != nil {
				return err
			}
		}
	}
	if n != 2*count {
		return p.entryBroken(errSparse)
	}
	return nil
}

// readBodyMap reads the map of format 1.0, which fills the first blocks of the
// body: decimal numbers, a newline behind each, the count first.
func (p *Parser) readBodyMap(h *Header) error {
	h.Name = bytes.Clone(h.Name)
	var (
		want   int64 = 1
		have   int64
		number [32]byte
		digits int
		first  int64
		total  int64
	)
	for have < want {
		if total += BlockSize; total > maxExtension {
			return p.entryBroken(errExtTooLong)
		}
		if h.Stored < BlockSize {
			return p.entryBroken(errSparse)
		}
		b, err := p.Src.block()
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return p.entryBroken(ErrTruncated)
		}
		if err != nil {
			return err
		}
		h.Stored -= BlockSize
		for _, c := range b {
			if have == want {
				break
			}
			if c != '\n' {
				if digits == len(number) {
					return p.entryBroken(errSparse)
				}
				number[digits] = c
				digits++
				continue
			}
			n, err := strconv.ParseInt(string(number[:digits]), 10, 64)
			digits = 0
			if err != nil {
				return p.entryBroken(errSparse)
			}
			switch {
			case have == 0:
				if n < 0 || n > maxSparseParts {
					return p.entryBroken(errSparse)
				}
				want = 1 + 2*n
			case have%2 == 1:
				first = n
			default:
				if err := p.addExtent(first, n); err != nil {
					return err
				}
			}
			have++
		}
	}
	return nil
}
