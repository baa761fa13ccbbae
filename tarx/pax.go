package tarx

import (
	"bytes"
	"encoding/base64"
	"math"
	"net/url"
	"strconv"
	"strings"
)

// paxRecords are the records of one extended header that mean something here.
// A later record replaces an earlier one of the same name.
type paxRecords struct {
	path, link, uid, gid, size, mtime, atime, ctime []byte

	spMajor, spMinor, spName, spSize, spRealSize, spNumBlocks, spMap []byte

	// spPairs is the map of sparse format 0.0, which repeats a pair of
	// records, in the form of format 0.1.
	spPairs []byte
	spCount int

	xattrs []Xattr
	lost   []lostRecord
}

// lostRecord is one that says what no Header can.
type lostRecord struct {
	kind LossKind
	key  []byte
}

func (x *paxRecords) reset() {
	*x = paxRecords{xattrs: x.xattrs[:0], lost: x.lost[:0], spPairs: x.spPairs[:0]}
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

// parse reads the records in b, of which it keeps parts.
func (x *paxRecords) parse(b []byte, noXattrs bool) error {
	var encoded []Xattr
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
			if noXattrs {
				continue
			}
			if name, ok := bytes.CutPrefix(key, []byte(SchilyXattr)); ok {
				x.xattrs = append(x.xattrs, Xattr{name, value})
			} else if bytes.HasPrefix(key, []byte(LibarchiveAttr)) {
				encoded = append(encoded, Xattr{key, value})
			} else if bytes.HasPrefix(key, []byte(SchilyACL)) {
				x.lost = append(x.lost, lostRecord{LossACL, key})
			}
		}
	}
	if len(encoded) > 0 {
		x.decode(encoded)
	}
	if x.spCount > 0 {
		x.spMap = x.spPairs
	}
	return nil
}

// decode adds attributes as libarchive writes them, "LIBARCHIVE.xattr.NAME", to those that are
// there already: the name in percent-encoding, the value in base64 without padding
// (archive_write_set_format_pax.c).
func (x *paxRecords) decode(encoded []Xattr) {
	known := make(map[string]bool, len(x.xattrs))
	for _, a := range x.xattrs {
		known[string(a.Name)] = true
	}
	for _, a := range encoded {
		name, err := url.PathUnescape(string(a.Name[len(LibarchiveAttr):]))
		value := make([]byte, base64.RawStdEncoding.DecodedLen(len(a.Value)))
		n, verr := base64.RawStdEncoding.Decode(value, bytes.TrimRight(a.Value, "="))
		switch {
		case err != nil || verr != nil || name == "" || strings.ContainsAny(name, "\x00="):
			x.lost = append(x.lost, lostRecord{LossXattr, a.Name})
		case !known[name]:
			x.xattrs = append(x.xattrs, Xattr{[]byte(name), value[:n]})
		}
	}
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
