package tarx

import (
	"cmp"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"

	"github.com/moby/sys/user"
)

// OwnerPolicy says how the owners in the stream reach the disk.
type OwnerPolicy int

const (
	// OwnerKeep gives every file the owner that the mapping makes of the
	// entry's ids.
	OwnerKeep OwnerPolicy = iota
	// OwnerRootless leaves every file with the caller. Ids other than 0:0 are
	// kept in the extended attribute user.rootlesscontainers, in the format of
	// https://github.com/rootless-containers/proto.
	OwnerRootless
)

// DevicePolicy says what becomes of device nodes.
type DevicePolicy int

const (
	// DevicesAuto creates a device where the kernel lets us, else counts it.
	DevicesAuto DevicePolicy = iota
	// DevicesCreate makes a device that cannot be created an error.
	DevicesCreate
	// DevicesSkip counts every device and creates none.
	DevicesSkip
	// DevicesError refuses a stream with a device in it.
	DevicesError
)

// Feed says what makes a stream while it is read, and so what else needs a
// processor. It makes a difference to speed alone.
type Feed int

const (
	// FeedNothing makes it: it is there already, as in a file.
	FeedNothing Feed = iota
	// FeedProcess is another process, at the other end of a pipe.
	FeedProcess
	// FeedReader is the reader itself, such as a decoder.
	FeedReader
)

// Options are the choices of an extraction. The zero value extracts a stream
// as it is.
type Options struct {
	// Workers is the number of goroutines that write file contents.
	// 0 means a number that suits the machine.
	Workers int
	// Feed says what makes the stream while it is read.
	Feed Feed
	// Hash, if not nil, is written every byte of the stream, in a goroutine of
	// its own, for it takes about as long as all the rest. When Extract returns
	// without an error it has had them all.
	Hash hash.Hash
	// Mapping turns the container's ids into those on disk. Empty means
	// identity. An id that it lacks is refused.
	Mapping user.IdentityMapping
	// Owner says how owners are kept.
	Owner OwnerPolicy
	// CapRootID, where it is not 0, is the id on disk of the container's root:
	// file capabilities are then written as version 3 with that root id
	// (capabilities(7), "Namespaced file capabilities").
	CapRootID uint32
	// Devices says what becomes of device nodes.
	Devices DevicePolicy
	// NoXattrs leaves out all extended attributes.
	NoXattrs bool
	// MaxEntries is the number of entries beyond which the stream is refused.
	// 0 means no limit.
	MaxEntries int64
}

// LossKind names a kind of thing that a stream asked for and did not get.
type LossKind string

// The kinds of losses.
const (
	LossDevice        LossKind = "device nodes"
	LossDeviceInDev   LossKind = "device nodes below /dev"
	LossXattr         LossKind = "extended attributes"
	LossCapability    LossKind = "file capabilities"
	LossACL           LossKind = "access control lists"
	LossSecurity      LossKind = "security labels"
	LossOwner         LossKind = "owners"
	LossRootlessXattr LossKind = "user.rootlesscontainers attributes of the stream's own"
	LossGlobalHeader  LossKind = "global pax headers"
	LossAufs          LossKind = "entries of aufs metadata"
	LossWhiteout      LossKind = "whiteouts behind a symlink"
)

// Loss counts the losses of one kind.
type Loss struct {
	Kind LossKind
	// Count is the number of losses.
	Count int64
	// First is the name of the first entry concerned, as in the stream.
	First string
	// Detail says what it was about that entry: an attribute's name and the
	// kernel's answer, ids, a device number.
	Detail string
}

// Report is what an extraction did.
type Report struct {
	// Entries is the number of entries in the stream; the others are those of
	// one type.
	Entries, Files, Directories, Symlinks, Hardlinks, FIFOs, Devices int64
	// Whiteouts is the number of entries that hide something of lower layers.
	Whiteouts int64
	// Bytes is the size of all file contents, in bytes, holes included.
	Bytes int64
	// Losses has one element per kind that occurred, in a fixed order.
	Losses []Loss
}

var (
	// ErrMalformed is in the chain of every error that a broken stream causes.
	ErrMalformed = errors.New("malformed stream")
	// ErrTruncated is in the chain, beside ErrMalformed, where the stream ended
	// before its end-of-archive marker.
	ErrTruncated = errors.New("the stream ends before its end-of-archive marker")
	// ErrEmpty is in the chain, beside ErrMalformed, where there was no entry.
	ErrEmpty = errors.New("the stream has no entries")
	// ErrRefused is in the chain of every error that is a refusal: an escape,
	// an id outside the mapping, a limit.
	ErrRefused = errors.New("refused")
)

// EntryError is an error about one entry of the stream.
type EntryError struct {
	// Name is the entry's name as in the stream.
	Name string
	// Index counts entries from 1.
	Index int64
	// Kind is ErrMalformed, ErrRefused, or nil for an I/O error.
	Kind error
	// Err says what it is.
	Err error
}

func (e *EntryError) Error() string {
	name := e.Name
	// A name may be a megabyte long; the message is for a terminal.
	if len(name) > 300 {
		name = name[:300] + "..."
	}
	return fmt.Sprintf("entry %d %q: %v", e.Index, name, e.Err)
}

// Unwrap gives the kind and the cause.
func (e *EntryError) Unwrap() []error {
	if e.Kind == nil {
		return []error{e.Err}
	}
	return []error{e.Kind, e.Err}
}

// StreamError is a malformed stream where no entry is to blame.
type StreamError struct {
	// Offset is where in the uncompressed stream, in bytes.
	Offset int64
	// Index is the number of entries before it.
	Index int64
	Err   error
}

func (e *StreamError) Error() string {
	if errors.Is(e.Err, ErrEmpty) {
		return e.Err.Error()
	}
	return fmt.Sprintf("%v (at byte %d, after %d entries)", e.Err, e.Offset, e.Index)
}

// Unwrap gives ErrMalformed and the cause.
func (e *StreamError) Unwrap() []error { return []error{ErrMalformed, e.Err} }

// UnmappedIDError is the refusal of an id that the mapping lacks.
type UnmappedIDError struct {
	// What is "uid" or "gid".
	What string
	// ID is the container's id.
	ID uint32
	// Map is the mapping that lacks it.
	Map []user.IDMap
}

func (e *UnmappedIDError) Error() string {
	maps := slices.SortedFunc(slices.Values(e.Map), func(a, b user.IDMap) int { return cmp.Compare(a.ID, b.ID) })
	var b strings.Builder
	for i := 0; i < len(maps); {
		first, end := maps[i].ID, maps[i].ID+maps[i].Count
		for i++; i < len(maps) && maps[i].ID == end; i++ {
			end += maps[i].Count
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%d-%d", first, end-1)
	}
	return fmt.Sprintf("%s %d is outside the mapping, which has %s", e.What, e.ID, b.String())
}

// Missing is the number of ids, counted from the end of the mapping, by which
// it would have to grow to include the id. 0 means that the id is in a gap.
func (e *UnmappedIDError) Missing() int64 {
	var end int64
	for _, m := range e.Map {
		end = max(end, m.ID+m.Count)
	}
	return max(0, int64(e.ID)-end+1)
}

// LimitError is the refusal of a stream that exceeds a limit.
type LimitError struct {
	// What is counted: "entries", "bytes".
	What string
	// Limit is the number allowed.
	Limit int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("the stream has more than %d %s", e.Limit, e.What)
}

// Is makes every LimitError a refusal.
func (e *LimitError) Is(target error) bool { return target == ErrRefused }
