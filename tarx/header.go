package tarx

import (
	"errors"
	"fmt"
	"math"
)

// The parser reads ustar (POSIX.1-1988), pax (POSIX.1-2001), GNU, star and v7
// headers, and what it makes of them is what archive/tar makes of them: that
// is the yardstick of its tests. It differs in what it refuses:
//
//   - a stream without its end-of-archive marker,
//   - a link, directory, device or FIFO with a body: some readers skip it and
//     others do not, so that two programs see two archives. A size that no data
//     stands behind is read as GNU tar, bsdtar and archive/tar extract it, as 0,
//   - ids that are negative or do not fit 32 bits,
//   - an extension header that no entry follows,
//   - a type that is none of files, links, directories, devices and FIFOs, nor
//     of what GNU tar writes for volumes and incremental backups.
//
// And where archive/tar makes an empty file of type '0' whose name ends in a slash,
// it is a directory, as for GNU tar and bsdtar.
//
// Global pax headers are counted and not applied: bsdtar, archive/tar and Docker
// leave them alone, and GNU tar alone applies them. What most people have seen of
// an archive with "uid" or "mtime" in one is the tree without.

// maxExtension is the most bytes that an extension header (pax records, a GNU
// long name, a sparse map) may have. archive/tar has the same limit.
const maxExtension = 1 << 20

// Entry types, from the header's typeflag.
const (
	TypeRegA       = 0
	TypeReg        = '0'
	TypeLink       = '1'
	TypeSymlink    = '2'
	TypeChar       = '3'
	TypeBlock      = '4'
	TypeDir        = '5'
	TypeFIFO       = '6'
	TypeCont       = '7'
	TypePax        = 'x'
	TypePaxGlobal  = 'g'
	TypeGNUName    = 'L'
	TypeGNULink    = 'K'
	TypeGNUSparse  = 'S'
	TypeLabel      = 'V' // the volume's name, from tar -V
	TypeContinued  = 'M' // the rest of a file on the volume before
	TypeDumpdir    = 'D' // a directory from tar -g, with a list of what was in it
	SchilyXattr    = "SCHILY.xattr."
	SchilyACL      = "SCHILY.acl."
	LibarchiveAttr = "LIBARCHIVE.xattr."
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

// Xattr is an extended attribute, value as in the stream.
type Xattr struct{ Name, Value []byte }

// Extent is a part of a sparse file that holds data.
type Extent struct{ Off, Size int64 }

// Header is one entry. Its byte slices are valid until the next one is read.
type Header struct {
	Type       byte
	Name, Link []byte
	Mode       uint32 // permission, setuid, setgid and sticky bits
	UID, GID   uint32
	Size       int64 // of the file
	Stored     int64 // of its body in the stream, padding excluded
	Sec        int64
	Nsec       int32
	Major      int64
	Minor      int64
	Xattrs     []Xattr
	Sparse     []Extent // nil: the body is the file
}

// TypeName is the kind of an entry in words.
func TypeName(t byte) string {
	switch t {
	case TypeReg, TypeGNUSparse:
		return "file"
	case TypeLink:
		return "hard link"
	case TypeSymlink:
		return "symlink"
	case TypeChar:
		return "character device"
	case TypeBlock:
		return "block device"
	case TypeDir:
		return "directory"
	case TypeFIFO:
		return "FIFO"
	}
	return fmt.Sprintf("entry of type %q", t)
}
