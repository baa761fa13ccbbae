package tarx

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/sys/user"
)

// ReadError is an error of the reader that the stream came from.
type ReadError struct{ Err error }

func (e *ReadError) Error() string { return "read the stream: " + e.Err.Error() }

// Unwrap gives the reader's own error.
func (e *ReadError) Unwrap() error { return e.Err }

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
