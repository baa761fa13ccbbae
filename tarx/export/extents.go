package export

import (
	"archive/tar"
	"maps"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"ocibundle/tarx"
)

// maxExtents keeps the map of a sparse file well below the mebibyte at which readers refuse it.
const maxExtents = 1 << 14

// extents finds the parts of a file that hold data (lseek(2), SEEK_DATA and SEEK_HOLE). Of a file with more than
// limit, the smallest holes are taken for data.
func extents(fd int, size int64, limit int) ([]tarx.Extent, error) {
	var parts []tarx.Extent
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
			parts = append(parts, tarx.Extent{Off: start, Size: end - start})
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
func joinExtents(parts []tarx.Extent, gap int64) []tarx.Extent {
	joined := parts[:1]
	for _, p := range parts[1:] {
		last := &joined[len(joined)-1]
		if p.Off-(last.Off+last.Size) <= gap {
			last.Size = p.Off + p.Size - last.Off
		} else {
			joined = append(joined, p)
		}
	}
	return joined
}

func dense(parts []tarx.Extent, size int64) bool {
	return size == 0 || len(parts) == 1 && parts[0] == tarx.Extent{Size: size}
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
func (e *exporter) sparse(hdr *tar.Header, fd int, parts []tarx.Extent) error {
	parts = append(slices.Clip(parts), tarx.Extent{Off: hdr.Size}) // the end, lest a last hole be forgotten
	body := []byte(strconv.Itoa(len(parts)) + "\n")
	var stored int64
	for _, p := range parts {
		body = strconv.AppendInt(body, p.Off, 10)
		body = append(body, '\n')
		body = strconv.AppendInt(body, p.Size, 10)
		body = append(body, '\n')
		stored += p.Size
	}
	body = tarx.PadBlock(body)
	stored += int64(len(body))

	records := map[string]string{
		"GNU.sparse.major":    "1",
		"GNU.sparse.minor":    "0",
		"GNU.sparse.name":     hdr.Name,
		"GNU.sparse.realsize": strconv.FormatInt(hdr.Size, 10),
	}
	maps.Copy(records, hdr.PAXRecords)
	mtime := hdr.ModTime.Unix()
	if ns := hdr.ModTime.Nanosecond(); ns != 0 || mtime < 0 || mtime > tarx.Octal12 {
		records["mtime"] = tarx.PaxTime(mtime, ns)
	}
	for key, v := range map[string]int64{"uid": int64(hdr.Uid), "gid": int64(hdr.Gid)} {
		if v > tarx.Octal8 {
			records[key] = strconv.FormatInt(v, 10)
		}
	}
	if stored > tarx.Octal12 {
		records["size"] = strconv.FormatInt(stored, 10)
	}
	var pax []byte
	for _, key := range slices.Sorted(maps.Keys(records)) {
		pax = tarx.AppendRecord(pax, key, records[key])
	}
	if len(pax) > 1<<20 {
		return exportError("write", hdr.Name, tar.ErrFieldTooLong)
	}

	// What precedes this entry may still lack its padding.
	if err := e.tw.Flush(); err != nil {
		return exportError("write", hdr.Name, err)
	}
	e.report.Entries++
	head := tarx.UstarBlock("PaxHeaders.0/"+tarx.Base(hdr.Name), tarx.UstarFields{Mode: 0o644, Size: int64(len(pax)), Kind: tar.TypeXHeader})
	head = append(head, tarx.PadBlock(pax)...)
	head = append(head, tarx.UstarBlock("GNUSparseFile.0/"+tarx.Base(hdr.Name), tarx.UstarFields{
		Mode: hdr.Mode, Uid: int64(hdr.Uid), Gid: int64(hdr.Gid), Size: stored, Mtime: mtime, Kind: tar.TypeReg,
	})...)
	head = append(head, body...)
	if _, err := e.out.Write(head); err != nil {
		return exportError("write", hdr.Name, err)
	}
	for _, p := range parts {
		if err := e.copy(hdr.Name, e.out, fd, p.Off, p.Size); err != nil {
			return err
		}
	}
	if _, err := e.out.Write(tarx.ZeroBlock[:-stored&(tarx.BlockSize-1)]); err != nil {
		return exportError("write", hdr.Name, err)
	}
	return nil
}
