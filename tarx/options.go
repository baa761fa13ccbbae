package tarx

import (
	"hash"

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
	// StripPrefix, where it is not empty, is a directory at the top of the stream that
	// is taken for the root: see [Parser.NextBelow].
	StripPrefix string
	// MaxEntries is the number of entries beyond which the stream is refused.
	// 0 means no limit.
	MaxEntries int64
}
