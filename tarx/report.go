package tarx

import (
	"cmp"
	"math"
	"slices"
	"sync"
)

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
	LossLabel         LossKind = "volume labels"
	LossMultiVolume   LossKind = "pieces of files that begin on another volume"
	LossDumpdir       LossKind = "file lists of incremental backups"
)

// Loss counts the losses of one kind.
type Loss struct {
	Kind LossKind
	// Count is the number of losses.
	Count int64
	// First is the name of the first entry concerned, as in the stream, but for what [ClipName] cuts off.
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
	// Excluded is the number of entries that were left out.
	Excluded int64
	// Whiteouts is the number of entries that hide something of lower layers.
	Whiteouts int64
	// Bytes is the size of all file contents, in bytes, holes included.
	Bytes int64
	// Losses has one element per kind that occurred, in a fixed order.
	Losses []Loss
}

// Losses collects from all goroutines.
type Losses struct {
	mu   sync.Mutex
	kind map[LossKind]*firstLoss
}

// firstLoss is a Loss with the index of the entry that it names.
type firstLoss struct {
	Loss
	index int64
}

// Add counts a loss at the entry with this index. The name, which may be long, is copied only where
// it is the first one.
func (l *Losses) Add(k LossKind, name []byte, index int64, detail string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kind == nil {
		l.kind = make(map[LossKind]*firstLoss)
	}
	e := l.kind[k]
	if e == nil {
		e = &firstLoss{Loss{Kind: k}, math.MaxInt64}
		l.kind[k] = e
	}
	e.Count++
	// Workers finish in any order; the report is the same each time.
	if index < e.index {
		e.index, e.First, e.Detail = index, ClipName(name), ClipName([]byte(detail))
	}
}

// List returns what was counted, in a fixed order.
func (l *Losses) List() []Loss {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Loss
	for _, e := range l.kind {
		out = append(out, e.Loss)
	}
	slices.SortFunc(out, func(a, b Loss) int { return cmp.Compare(a.Kind, b.Kind) })
	return out
}
