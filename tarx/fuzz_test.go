package tarx

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"ocibundle/tests/testenv"
)

func parseOurs(data []byte) (entries []testenv.ParsedEntry, err error) {
	stop := make(chan struct{})
	defer close(stop)
	p := &Parser{Src: NewSource(bytes.NewReader(data), nil, stop)}
	for {
		h, err := p.Next()
		if err == io.EOF {
			return entries, p.Src.DrainZeros()
		}
		if err != nil {
			return entries, err
		}
		mtime := fmt.Sprint(h.Sec, h.Nsec)
		xattrs := map[string]string{}
		for _, a := range h.Xattrs {
			xattrs[string(a.Name)] = string(a.Value)
		}
		head := fmt.Sprintf("%q %q %q %o %d:%d %d %s %d:%d %q", h.Type, h.Name, h.Link, h.Mode, h.UID, h.GID, h.Size, mtime, h.Major,
			h.Minor, xattrs)
		if h.Size > 1<<20 {
			return entries, testenv.ErrTooBig
		}
		body := make([]byte, h.Size)
		parts := h.Sparse
		if parts == nil {
			parts = []Extent{{0, h.Stored}}
		}
		// The name lives in a chunk that reading the body may let go.
		for _, e := range parts {
			for at, left := e.Off, e.Size; left > 0; {
				b, err := p.Src.Piece(left)
				if err != nil {
					return entries, p.Broken(ErrTruncated)
				}
				copy(body[at:], b)
				at += int64(len(b))
				left -= int64(len(b))
			}
		}
		if err := p.EndBody(); err != nil {
			return entries, err
		}
		entries = append(entries, testenv.ParsedEntry{Head: head, Body: string(body)})
	}
}

// FuzzParser compares our parser with archive/tar: what ours accepts, the other
// reads in the same way.
func FuzzParser(f *testing.F) {
	testenv.TarSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		compareParsers(t, data)
		compareParsers(t, testenv.SealTar(data))
	})
}

func compareParsers(t *testing.T, data []byte) {
	ours, err := parseOurs(data)
	if errors.Is(err, testenv.ErrTooBig) {
		return
	}
	theirs, terr := testenv.ParseTar(data)
	if errors.Is(terr, testenv.ErrTooBig) {
		return
	}
	if err == nil && terr != nil {
		t.Fatalf("archive/tar refuses what we accept: %v", terr)
	}
	if err == nil && len(ours) != len(theirs) {
		t.Fatalf("%d entries, archive/tar sees %d", len(ours), len(theirs))
	}
	// Up to where we refuse, the entries are the same too.
	for i := range min(len(ours), len(theirs)) {
		if ours[i] != theirs[i] {
			t.Fatalf("entry %d: %s (%d bytes), archive/tar sees %s (%d bytes)", i+1, ours[i].Head, len(ours[i].Body), theirs[i].Head,
				len(theirs[i].Body))
		}
	}
	if err == nil || terr != nil {
		return
	}
	// We refuse what archive/tar accepts: only for the reasons named.
	for _, reason := range []string{ErrTruncated.Error(), ErrEmpty.Error(), ErrTrailing.Error(), errExtension.Error(),
		"has a body of", "are not supported", "is out of range", "the name is empty"} {
		if strings.Contains(err.Error(), reason) {
			return
		}
	}
	t.Fatalf("we refuse what archive/tar accepts: %v", err)
}
