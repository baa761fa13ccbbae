package tarx

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Engine is what those have in common that go through a stream entry by entry: what an entry's name,
// link target, device number and ids may be, what is counted, and how an error says which entry it
// is about.
type Engine struct {
	Options Options
	Parser  *Parser
	Report  Report
	Losses  Losses
	Owner   OwnerMap
	// Shifted says that the ids that are written are not the stream's.
	Shifted bool
	// Full and LinkFull are the normalized name and link target of the current entry.
	Full, LinkFull []byte

	// NewestSec and NewestNsec are the newest modification time so far.
	NewestSec  int64
	NewestNsec int32
	haveNewest bool

	skipped NameSet // devices
}

// NewEngine makes an Engine for one or more streams.
func NewEngine(o Options) Engine {
	return Engine{
		Options: o,
		Owner:   OwnerMap{Mapping: o.Mapping},
		Shifted: Shifts(o.Mapping.UIDMaps) || Shifts(o.Mapping.GIDMaps),
	}
}

// Read makes a parser of src the current one.
func (e *Engine) Read(src *Source, layer bool) {
	e.Parser = &Parser{Src: src, Layer: layer, Losses: &e.Losses, NoXattrs: e.Options.NoXattrs}
}

// Each calls visit for every entry and checks that the stream is whole.
func (e *Engine) Each(visit func(*Header) error) (err error) {
	defer CatchNoMemory(&err)
	for {
		h, err := e.Parser.NextBelow(e.Options.StripPrefix)
		if err == io.EOF {
			return e.Parser.end()
		}
		if err != nil {
			return err
		}
		e.Report.Entries++
		if limit := e.Options.MaxEntries; limit > 0 && e.Report.Entries > limit {
			return &LimitError{What: "entries", Limit: limit}
		}
		if err := visit(h); err != nil {
			return err
		}
	}
}

// Fail is an error about the current entry. kind is ErrMalformed, ErrRefused, or nil for an I/O error.
func (e *Engine) Fail(h *Header, kind, err error) error {
	return &EntryError{Name: ClipName(h.Name), Index: e.Parser.Index, Kind: kind, Err: err}
}

// Malformed is an error about an entry that makes no sense.
func (e *Engine) Malformed(h *Header, err error) error { return e.Fail(h, ErrMalformed, err) }

// Refused is an error about an entry that asks for what it may not have.
func (e *Engine) Refused(h *Header, err error) error { return e.Fail(h, ErrRefused, err) }

// Lose counts a loss at the current entry.
func (e *Engine) Lose(h *Header, kind LossKind, detail string) {
	e.Losses.Add(kind, h.Name, e.Parser.Index, detail)
}

// Normalize makes e.Full of the entry's name.
func (e *Engine) Normalize(h *Header) error {
	full, escapes, err := Normalize(e.Full[:0], h.Name)
	e.Full = full
	if err != nil {
		return e.Malformed(h, err)
	}
	if escapes {
		return e.Refused(h, ErrEscapes)
	}
	return nil
}

// Place notes the time of an entry that is to be made, and cuts e.Full before its last component,
// which for all but a directory has to be a name.
func (e *Engine) Place(h *Header) (parent, base []byte, err error) {
	if h.Sec > e.NewestSec || h.Sec == e.NewestSec && h.Nsec > e.NewestNsec || !e.haveNewest {
		e.NewestSec, e.NewestNsec, e.haveNewest = h.Sec, h.Nsec, true
	}
	parent, base = SplitPath(e.Full)
	if !Dots(base) || h.Type == TypeDir {
		return parent, base, nil
	}
	if len(e.Full) == 0 {
		return nil, nil, e.Malformed(h, fmt.Errorf("the root directory cannot be a %s", TypeName(h.Type)))
	}
	return nil, nil, e.Malformed(h, fmt.Errorf("a %s cannot be called %q", TypeName(h.Type), base))
}

// LinkTarget makes e.LinkFull of the target of a hard link, and cuts it before its last component.
func (e *Engine) LinkTarget(h *Header) (parent, base []byte, err error) {
	full, escapes, err := Normalize(e.LinkFull[:0], h.Link)
	e.LinkFull = full
	if err != nil {
		return nil, nil, e.Malformed(h, fmt.Errorf("hard link target: %w", err))
	}
	if escapes {
		return nil, nil, e.Refused(h, fmt.Errorf("the hard link's target %q leaves the root directory", Clip(h.Link)))
	}
	if parent, base = SplitPath(full); Dots(base) {
		return nil, nil, e.LinkToDirectory(h)
	}
	return parent, base, nil
}

// LinkToDirectory is the error for a hard link to a directory.
func (e *Engine) LinkToDirectory(h *Header) error {
	return e.Malformed(h, fmt.Errorf("the hard link's target %q is a directory", Clip(h.Link)))
}

// LinkToNothing is the error for a hard link without a target, for [Engine.MissingTarget].
func LinkToNothing(h *Header) error {
	return &NameError{Msg: fmt.Sprintf("the hard link's target %q does not exist", Clip(h.Link))}
}

// MissingTarget counts a hard link to a device that was left out, which is left out, too. Of any
// other link without a target it says false.
func (e *Engine) MissingTarget(h *Header) (skipped bool) {
	if !e.skipped.Has(0, e.LinkFull) {
		return false
	}
	e.skipDevice(h, "a link to a device")
	return true
}

// CheckSymlink says whether there can be a symlink with the entry's target.
func (e *Engine) CheckSymlink(h *Header) error {
	switch {
	case len(h.Link) == 0:
		return e.Malformed(h, errors.New("the symlink's target is empty"))
	case bytes.IndexByte(h.Link, 0) >= 0:
		return e.Malformed(h, errors.New("there is a NUL in the symlink's target"))
	}
	return nil
}

// CheckDevice says whether there can and may be a device with the entry's numbers.
func (e *Engine) CheckDevice(h *Header) error {
	// The kernel's dev_t has 12 bits for the major and 20 for the minor number.
	if h.Major < 0 || h.Major >= 1<<12 || h.Minor < 0 || h.Minor >= 1<<20 {
		return e.Malformed(h, fmt.Errorf("device number %d:%d is out of range", h.Major, h.Minor))
	}
	if e.Options.Devices == DevicesError {
		return e.Refused(h, fmt.Errorf("it is a %s", TypeName(h.Type)))
	}
	return nil
}

// maxSkipped bounds the devices that are left out, in 8 to 14 bytes each.
const maxSkipped = 2 << 20

// SkipDevice counts a device that is left out.
func (e *Engine) SkipDevice(h *Header) error {
	if e.skipped.Len() >= maxSkipped {
		return e.Refused(h, fmt.Errorf("there are more than %d devices that cannot be created", maxSkipped))
	}
	e.skipDevice(h, fmt.Sprintf("%d:%d", h.Major, h.Minor))
	return nil
}

// LeaveOut counts an entry that Options.Exclude leaves out. Links to a device that was left out are
// losses, as those to one that cannot be made.
func (e *Engine) LeaveOut(h *Header) {
	e.Report.Excluded++
	if (h.Type == TypeChar || h.Type == TypeBlock) && e.skipped.Len() < maxSkipped {
		e.skipped.Add(0, e.Full)
	}
}

// skipDevice remembers the name for links to it.
func (e *Engine) skipDevice(h *Header, detail string) {
	kind := LossDevice
	if bytes.HasPrefix(e.Full, []byte("dev/")) {
		kind = LossDeviceInDev // the runtime mounts its own over it
	}
	e.Lose(h, kind, detail)
	if e.skipped.Len() < maxSkipped {
		e.skipped.Add(0, e.Full)
	}
}

// NotesOwner says that the ids of an entry are noted in an attribute: every file is the caller's,
// and the entry's is somebody else.
func (e *Engine) NotesOwner(h *Header) bool {
	return e.Options.Owner == OwnerRootless && (h.UID != 0 || h.GID != 0)
}

// ClassifyXattr says what becomes of the attribute called name and, where it is left out, which loss
// that is.
func (e *Engine) ClassifyXattr(name string) (XattrClass, LossKind) {
	return ClassifyXattr(name, e.Options.Owner, e.Shifted)
}

// Free gives back the memory that is not Go's.
func (e *Engine) Free() { e.skipped.Free() }
