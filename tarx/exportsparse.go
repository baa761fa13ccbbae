package tarx

import (
	"archive/tar"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxExtents keeps the map of a sparse file well below the mebibyte at which readers refuse it.
const maxExtents = 1 << 14

// extents finds the parts of a file that hold data (lseek(2), SEEK_DATA and SEEK_HOLE). Of a file with more than
// limit, the smallest holes are taken for data.
func extents(fd int, size int64, limit int) ([]extent, error) {
	var parts []extent
	gap := int64(0)
	for off := int64(0); off < size; {
		start, err := seek(fd, off, unix.SEEK_DATA)
		if err == unix.ENXIO { // nothing but a hole from here on
			break
		}
		if err != nil {
			return nil, err
		}
		end, err := seek(fd, start, unix.SEEK_HOLE)
		if err != nil {
			return nil, err
		}
		start, end = min(start, size), min(end, size)
		if end > start {
			parts = append(parts, extent{start, end - start})
		}
		off = max(end, off+1)
		for len(parts) > limit {
			gap = max(2*gap, 4096)
			parts = joinExtents(parts, gap)
		}
	}
	return parts, nil
}

// joinExtents fills the holes of up to gap bytes.
func joinExtents(parts []extent, gap int64) []extent {
	joined := parts[:1]
	for _, p := range parts[1:] {
		last := &joined[len(joined)-1]
		if p.off-(last.off+last.size) <= gap {
			last.size = p.off + p.size - last.off
		} else {
			joined = append(joined, p)
		}
	}
	return joined
}

func dense(parts []extent, size int64) bool {
	return size == 0 || len(parts) == 1 && parts[0] == extent{0, size}
}

func seek(fd int, off int64, whence int) (int64, error) {
	for {
		n, err := unix.Seek(fd, off, whence)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// sparse writes a file with holes: a pax header that gives the real name and size, and a body that begins with the map of
// what follows (GNU tar manual, "Storing Sparse Files", PAX Format Version 1.0). archive/tar reads this, and has no way to
// write it.
func (e *exporter) sparse(hdr *tar.Header, fd int, parts []extent) error {
	parts = append(slices.Clip(parts), extent{hdr.Size, 0}) // the end, lest a last hole be forgotten
	body := []byte(strconv.Itoa(len(parts)) + "\n")
	var stored int64
	for _, p := range parts {
		body = strconv.AppendInt(body, p.off, 10)
		body = append(body, '\n')
		body = strconv.AppendInt(body, p.size, 10)
		body = append(body, '\n')
		stored += p.size
	}
	body = padBlock(body)
	stored += int64(len(body))

	records := map[string]string{
		"GNU.sparse.major":    "1",
		"GNU.sparse.minor":    "0",
		"GNU.sparse.name":     hdr.Name,
		"GNU.sparse.realsize": strconv.FormatInt(hdr.Size, 10),
	}
	maps.Copy(records, hdr.PAXRecords)
	mtime := hdr.ModTime.Unix()
	if ns := hdr.ModTime.Nanosecond(); ns != 0 || mtime < 0 || mtime > octal12 {
		records["mtime"] = paxTime(mtime, ns)
	}
	for key, v := range map[string]int64{"uid": int64(hdr.Uid), "gid": int64(hdr.Gid)} {
		if v > octal8 {
			records[key] = strconv.FormatInt(v, 10)
		}
	}
	if stored > octal12 {
		records["size"] = strconv.FormatInt(stored, 10)
	}
	var pax []byte
	for _, key := range slices.Sorted(maps.Keys(records)) {
		pax = appendRecord(pax, key, records[key])
	}
	if len(pax) > 1<<20 {
		return exportError("write", hdr.Name, tar.ErrFieldTooLong)
	}

	// What precedes this entry may still lack its padding.
	if err := e.tw.Flush(); err != nil {
		return exportError("write", hdr.Name, err)
	}
	e.report.Entries++
	head := ustarBlock("PaxHeaders.0/"+base(hdr.Name), ustarFields{mode: 0o644, size: int64(len(pax)), kind: tar.TypeXHeader})
	head = append(head, padBlock(pax)...)
	head = append(head, ustarBlock("GNUSparseFile.0/"+base(hdr.Name), ustarFields{
		mode: hdr.Mode, uid: int64(hdr.Uid), gid: int64(hdr.Gid), size: stored, mtime: mtime, kind: tar.TypeReg,
	})...)
	head = append(head, body...)
	if _, err := e.out.Write(head); err != nil {
		return exportError("write", hdr.Name, err)
	}
	for _, p := range parts {
		if err := e.copy(hdr.Name, e.out, fd, p.off, p.size); err != nil {
			return err
		}
	}
	if _, err := e.out.Write(zeroBlock[:-stored&(blockSize-1)]); err != nil {
		return exportError("write", hdr.Name, err)
	}
	return nil
}

func padBlock(b []byte) []byte {
	return append(b, zeroBlock[:-len(b)&(blockSize-1)]...)
}

// paxTime writes seconds and nanoseconds as a decimal; before 1970 both are counted from the second below.
func paxTime(sec int64, ns int) string {
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

// appendRecord appends a pax record, whose length counts its own digits.
func appendRecord(b []byte, key, value string) []byte {
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
	octal8  = 1<<21 - 1 // the largest number in a header field of 8 bytes
	octal12 = 1<<33 - 1 // of 12 bytes
)

type ustarFields struct {
	mode, uid, gid, size, mtime int64
	major, minor                int64
	kind                        byte
	link                        string
}

// ustarBlock is a ustar header (pax(1), "ustar Interchange Format"). Numbers that do not fit are 0; a pax record has them.
func ustarBlock(name string, f ustarFields) []byte {
	b := make([]byte, blockSize)
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
	octal(b[100:108], f.mode, octal8)
	octal(b[108:116], f.uid, octal8)
	octal(b[116:124], f.gid, octal8)
	octal(b[124:136], f.size, octal12)
	octal(b[136:148], f.mtime, octal12)
	b[156] = f.kind
	copy(b[157:257], f.link)
	copy(b[257:], "ustar\x0000")
	octal(b[329:337], f.major, octal8)
	octal(b[337:345], f.minor, octal8)
	copy(b[148:156], "        ")
	copy(b[148:156], "        ")
	sum := int64(0)
	for _, c := range b {
		sum += int64(c)
	}
	octal(b[148:155], sum, octal8)
	b[154] = 0
	return b
}
