package tarx

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
)

// OutHeader is an entry to be written.
type OutHeader struct {
	Type         byte
	Name, Link   string // of a directory, with a slash behind it
	Mode         uint32
	UID, GID     uint32
	Size         int64 // of the file
	Sec          int64
	Nsec         int32
	Major, Minor int64
	Xattrs       []Xattr
	Sparse       []Extent // nil: the body is the file
}

var ErrHeaderSize = errors.New("what a tar stream has to say of it in a header is larger than 1 MiB")

// AppendHeader writes an entry up to its body: a ustar header, with pax records (POSIX.1-2001) for what ustar cannot say, a
// sparse file in GNU sparse format 1.0, the map included. stored is the number of bytes of the body that are to follow,
// before its padding. No user or group is named, so that a reader takes the ids as they are.
func AppendHeader(b []byte, h *OutHeader) (out []byte, stored int64, err error) {
	var pax []byte
	record := func(key, value string) { pax = AppendRecord(pax, key, value) }
	number := func(key string, v, limit int64) {
		if v < 0 || v > limit {
			record(key, strconv.FormatInt(v, 10))
		}
	}
	text := func(key, value string) {
		if len(value) > 100 || !isASCII([]byte(value)) {
			record(key, value)
		}
	}
	name, fileMap := h.Name, []byte(nil)
	stored = h.Size
	if h.Sparse != nil {
		fileMap, stored = sparseMap(h.Sparse, h.Size)
		if len(fileMap) > maxExtension {
			return b, 0, ErrHeaderSize
		}
		name = "GNUSparseFile.0/" + Base(h.Name)
		record("GNU.sparse.major", "1")
		record("GNU.sparse.minor", "0")
		record("GNU.sparse.name", h.Name)
		record("GNU.sparse.realsize", strconv.FormatInt(h.Size, 10))
		stored += int64(len(fileMap))
	} else {
		text("path", h.Name)
	}
	text("linkpath", h.Link)
	number("size", stored, Octal12)
	number("uid", int64(h.UID), Octal8)
	number("gid", int64(h.GID), Octal8)
	if h.Nsec != 0 || h.Sec < 0 || h.Sec > Octal12 {
		record("mtime", PaxTime(h.Sec, int(h.Nsec)))
	}
	for _, a := range h.Xattrs {
		record(SchilyXattr+string(a.Name), string(a.Value))
	}
	if len(pax) > maxExtension {
		return b, 0, ErrHeaderSize
	}
	if len(pax) > 0 {
		b = append(b, UstarBlock("PaxHeaders.0/"+Base(h.Name), UstarFields{Mode: 0o644, Size: int64(len(pax)), Kind: TypePax})...)
		b = append(b, PadBlock(pax)...)
	}
	b = append(b, UstarBlock(name, UstarFields{
		Mode: int64(h.Mode), Uid: int64(h.UID), Gid: int64(h.GID), Size: stored, Mtime: h.Sec, Kind: h.Type,
		link: h.Link, major: h.Major, minor: h.Minor,
	})...)
	return append(b, fileMap...), stored - int64(len(fileMap)), nil
}

// sparseMap is the map that a sparse file's body begins with, padded, and the number of bytes of data behind it. Extents
// that touch become one. One without bytes marks the end, lest a last hole be forgotten.
func sparseMap(parts []Extent, size int64) (b []byte, data int64) {
	var list []Extent
	for _, p := range parts {
		data += p.Size
		if n := len(list); n > 0 && list[n-1].Off+list[n-1].Size == p.Off {
			list[n-1].Size += p.Size
		} else if p.Size > 0 {
			list = append(list, p)
		}
	}
	list = append(list, Extent{size, 0})
	b = append(strconv.AppendInt(nil, int64(len(list)), 10), '\n')
	b = slices.Grow(b, 24*len(list))
	for _, p := range list {
		b = append(strconv.AppendInt(b, p.Off, 10), '\n')
		b = append(strconv.AppendInt(b, p.Size, 10), '\n')
	}
	return PadBlock(b), data
}

// Base is the last component of a name in the stream.
func Base(name string) string { return path.Base(name) }

// PadBlock appends zeros up to a whole block.
func PadBlock(b []byte) []byte {
	return append(b, ZeroBlock[:-len(b)&(BlockSize-1)]...)
}

// PaxTime writes seconds and nanoseconds as a decimal; before 1970 both are counted from the second below.
func PaxTime(sec int64, ns int) string {
	sign := ""
	if sec < 0 && ns > 0 {
		sec, ns = sec+1, 1e9-ns
		if sec == 0 {
			sign = "-"
		}
	}
	if ns == 0 {
		return strconv.FormatInt(sec, 10)
	}
	return fmt.Sprintf("%s%d.%09d", sign, sec, ns)
}

// AppendRecord appends a pax record, whose length counts its own digits.
func AppendRecord(b []byte, key, value string) []byte {
	rest := len(key) + len(value) + len(" =\n")
	n := rest
	for n != rest+len(strconv.Itoa(n)) {
		n = rest + len(strconv.Itoa(n))
	}
	b = strconv.AppendInt(b, int64(n), 10)
	b = append(b, ' ')
	b = append(b, key...)
	b = append(b, '=')
	b = append(b, value...)
	return append(b, '\n')
}

const (
	Octal8  = 1<<21 - 1 // the largest number in a header field of 8 bytes
	Octal12 = 1<<33 - 1 // of 12 bytes
)

// UstarFields are the fields of a ustar header besides the name.
type UstarFields struct {
	Mode, Uid, Gid, Size, Mtime int64
	major, minor                int64
	Kind                        byte
	link                        string
}

// UstarBlock is a ustar header (pax(1), "ustar Interchange Format"). Numbers that do not fit are 0; a pax record has them.
func UstarBlock(name string, f UstarFields) []byte {
	b := make([]byte, BlockSize)
	copy(b[:100], name)
	octal := func(field []byte, v, limit int64) {
		if v < 0 || v > limit {
			v = 0
		}
		for i := len(field) - 2; i >= 0; i-- {
			field[i] = '0' + byte(v&7)
			v >>= 3
		}
	}
	octal(b[100:108], f.Mode, Octal8)
	octal(b[108:116], f.Uid, Octal8)
	octal(b[116:124], f.Gid, Octal8)
	octal(b[124:136], f.Size, Octal12)
	octal(b[136:148], f.Mtime, Octal12)
	b[156] = f.Kind
	copy(b[157:257], f.link)
	copy(b[257:], "ustar\x0000")
	octal(b[329:337], f.major, Octal8)
	octal(b[337:345], f.minor, Octal8)
	copy(b[148:156], "        ")
	copy(b[148:156], "        ")
	sum := int64(0)
	for _, c := range b {
		sum += int64(c)
	}
	octal(b[148:155], sum, Octal8)
	b[154] = 0
	return b
}
