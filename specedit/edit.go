package specedit

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"ocibundle/specedit/jsontree"
)

// Edit is one change of a config. The zero value changes nothing.
type Edit struct {
	// Label is the edit in the user's own words, `--env FOO=1`. Errors blame it, so the caller sets
	// it to what was typed.
	Label string
	// Warnings are sentences about what of the edit was understood but has no effect. They are
	// known as soon as the edit is made.
	Warnings []string
	// Decisions are sentences about what the edit takes from the host besides what its label names.
	Decisions []string

	apply func(*Doc) error
}

// EditError is an edit that does not apply, or whose result is not a valid config.
type EditError struct {
	Label   string // the edit that is to blame; empty: the built-in template
	Pointer string // RFC 6901 pointer of what it is about, "" for no one place
	Problem string // what was found and what was expected
	Hint    string // something to try, "" for nothing
	Err     error  // the cause, if there is one
}

func (e *EditError) Error() string {
	var parts []string
	if e.Label != "" {
		parts = append(parts, "`"+shorten(e.Label)+"`")
	}
	// A problem that starts with a verb has the pointer for its subject.
	verb, _, _ := strings.Cut(e.Problem, " ")
	switch {
	case e.Pointer == "" || e.Problem == "":
		parts = append(parts, slices.DeleteFunc([]string{e.Pointer, e.Problem}, func(s string) bool { return s == "" })...)
	case slices.Contains([]string{"is", "does", "has", "selects", "needs", "cannot"}, verb):
		parts = append(parts, e.Pointer+" "+e.Problem)
	default:
		parts = append(parts, e.Pointer, e.Problem)
	}
	if e.Err != nil && e.Problem == "" {
		parts = append(parts, e.Err.Error())
	}
	return strings.Join(parts, ": ")
}

// shorten cuts a label to what fits into a line: it may hold a whole patch.
func shorten(label string) string {
	const limit = 120
	label = strings.Join(strings.Fields(label), " ")
	if r := []rune(label); len(r) > limit {
		return string(r[:limit]) + "..."
	}
	return label
}

func (e *EditError) Unwrap() error { return e.Err }

// reject is the error of an edit that cannot be made.
func reject(label, format string, args ...any) (Edit, error) {
	return Edit{}, &EditError{Label: label, Problem: fmt.Sprintf(format, args...)}
}

// ErrUnmapped is wrapped by the error for a user or group id of the process that the config's own
// id mapping lacks.
var ErrUnmapped = errors.New("the id is not in the mapping")

// Blame puts the label of an edit on an error that has none yet. A *FileError stays one: what
// cannot be read is nobody's edit.
func Blame(label string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*FileError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*EditError](err); ok {
		if e.Label == "" {
			e.Label = label
		}
		return e
	}
	if e, ok := errors.AsType[*jsontree.Error](err); ok {
		return &EditError{Label: label, Pointer: e.Pointer, Problem: e.Problem}
	}
	return &EditError{Label: label, Err: err}
}

// Doc is a config while it is being edited.
type Doc struct {
	jsontree.Tree
	base  string   // label of what the edits started from; empty: a built-in template
	had   []string // namespaces of its own that a base had before the edits, of those in hostBinds
	host  Host
	users UserLookup

	groups   []int           // what GroupAdd added: it outlives a later User
	idmapped []idmapped      // see mapMounts
	unowned  []string        // device nodes of CDI that have no owner, see ownDevices
	swapSet  bool            // MemorySwap was given: Memory leaves it alone
	notes    []string        // see Plan.Warnings
	profile  *pendingSeccomp // a seccomp profile that depends on the final capabilities

	dockerProfile *pendingSeccomp // as it was made last, by this document's plan
	names         Names           // see SetNames
	files         []File          // see Plan.Files

	// unresolved is the last user that the rootfs lacks, and where it stands.
	unresolved struct {
		uid *jsontree.Node
		err error
	}
}

// note records a sentence for [Plan.Warnings].
func (d *Doc) note(format string, args ...any) {
	d.notes = append(d.notes, fmt.Sprintf(format, args...))
}

// NewEdit makes an edit whose label can be overwritten by the caller: errors take the label that
// the edit has when it is applied.
func NewEdit(label string, apply func(*Doc) error) Edit {
	return Edit{Label: label, apply: apply}
}

// Join makes one edit of several, under one label.
func Join(label string, edits ...Edit) Edit {
	e := NewEdit(label, func(d *Doc) error {
		for _, part := range edits {
			if part.apply == nil {
				continue
			}
			if err := part.apply(d); err != nil {
				return err
			}
		}
		return nil
	})
	for _, part := range edits {
		e.Warnings = append(e.Warnings, part.Warnings...)
		e.Decisions = append(e.Decisions, part.Decisions...)
	}
	return e
}

// apply applies one edit under its label.
func (d *Doc) apply(e Edit) error {
	if e.apply == nil {
		return nil
	}
	d.By = e.Label
	if d.By == "" {
		d.By = "an edit"
	}
	defer func() { d.By = "" }()
	return Blame(e.Label, e.apply(d))
}

// Elements returns the elements of the array at a path, if it is one.
func (d *Doc) Elements(path ...string) []*jsontree.Node {
	if n := d.Get(path...); n != nil {
		return n.List
	}
	return nil
}
