package tarx

import (
	"errors"
	"slices"
	"strconv"
)

// outHeader is an entry to be written.
type outHeader struct {
	typ          byte
	name, link   string // of a directory, with a slash behind it
	mode         uint32
	uid, gid     uint32
	size         int64 // of the file
	sec          int64
	nsec         int32
	major, minor int64
	xattrs       []xattr
	sparse       []extent // nil: the body is the file
}

var errHeaderSize = errors.New("what a tar stream has to say of it in a header is larger than 1 MiB")

// appendHeader writes an entry up to its body: a ustar header, with pax records (POSIX.1-2001) for what ustar cannot say, a
// sparse file in GNU sparse format 1.0, the map included. stored is the number of bytes of the body that are to follow,
// before its padding. No user or group is named, so that a reader takes the ids as they are.
func appendHeader(b []byte, h *outHeader) (out []byte, stored int64, err error) {
	var pax []byte
	record := func(key, value string) { pax = appendRecord(pax, key, value) }
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
	name, fileMap := h.name, []byte(nil)
	stored = h.size
	if h.sparse != nil {
		fileMap, stored = sparseMap(h.sparse, h.size)
		if len(fileMap) > maxExtension {
			return b, 0, errHeaderSize
		}
		name = "GNUSparseFile.0/" + base(h.name)
		record("GNU.sparse.major", "1")
		record("GNU.sparse.minor", "0")
		record("GNU.sparse.name", h.name)
		record("GNU.sparse.realsize", strconv.FormatInt(h.size, 10))
		stored += int64(len(fileMap))
	} else {
		text("path", h.name)
	}
	text("linkpath", h.link)
	number("size", stored, octal12)
	number("uid", int64(h.uid), octal8)
	number("gid", int64(h.gid), octal8)
	if h.nsec != 0 || h.sec < 0 || h.sec > octal12 {
		record("mtime", paxTime(h.sec, int(h.nsec)))
	}
	for _, a := range h.xattrs {
		record(schilyXattr+string(a.name), string(a.value))
	}
	if len(pax) > maxExtension {
		return b, 0, errHeaderSize
	}
	if len(pax) > 0 {
		b = append(b, ustarBlock("PaxHeaders.0/"+base(h.name), ustarFields{mode: 0o644, size: int64(len(pax)), kind: typePax})...)
		b = append(b, padBlock(pax)...)
	}
	b = append(b, ustarBlock(name, ustarFields{
		mode: int64(h.mode), uid: int64(h.uid), gid: int64(h.gid), size: stored, mtime: h.sec, kind: h.typ,
		link: h.link, major: h.major, minor: h.minor,
	})...)
	return append(b, fileMap...), stored - int64(len(fileMap)), nil
}

// sparseMap is the map that a sparse file's body begins with, padded, and the number of bytes of data behind it. Extents
// that touch become one. One without bytes marks the end, lest a last hole be forgotten.
func sparseMap(parts []extent, size int64) (b []byte, data int64) {
	var list []extent
	for _, p := range parts {
		data += p.size
		if n := len(list); n > 0 && list[n-1].off+list[n-1].size == p.off {
			list[n-1].size += p.size
		} else if p.size > 0 {
			list = append(list, p)
		}
	}
	list = append(list, extent{size, 0})
	b = append(strconv.AppendInt(nil, int64(len(list)), 10), '\n')
	b = slices.Grow(b, 24*len(list))
	for _, p := range list {
		b = append(strconv.AppendInt(b, p.off, 10), '\n')
		b = append(strconv.AppendInt(b, p.size, 10), '\n')
	}
	return padBlock(b), data
}
