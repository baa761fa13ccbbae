package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"ocibundle/pipeline/decode"
	"ocibundle/tarx"
	"ocibundle/tarx/handle"
)

// Limits of an image archive, which bound the memory that its list of members
// takes. An image has some hundred members.
const (
	maxMembers     = 1 << 16
	maxMemberNames = 16 << 20 // bytes, of all names and link targets
	maxMemberLinks = 16       // one after the other
)

// Archive is an image archive in a file: its members are read in any order, while manifest.json
// comes last in the stream.
type Archive struct {
	f       io.ReaderAt
	spooled *os.File // the same, where it is ours
	temp    func() (*os.File, error)
	members map[string]tarx.Member // by cleaned name, directories left out
	names   int
	dir     bool // it has the form of skopeo's dir:
	frugal  bool // see SaveRoom
}

// Spool reads a tar stream to its end into f, which belongs to the Archive.
func Spool(ctx context.Context, r io.Reader, f *os.File) (*Archive, error) {
	a := &Archive{f: f, spooled: f, members: make(map[string]tarx.Member)}
	tee := &spoolReader{r: r, f: f}
	if err := tarx.List(ctx, tee, a.add); err != nil {
		f.Close()
		// To the reader of the stream it looks like an error of the stream.
		if werr, ok := errors.AsType[*spoolError](err); ok {
			return nil, werr
		}
		return nil, err
	}
	return a, nil
}

// Open reads an image archive to its end. It stays where it is if inPlace says that it may, it
// lies in a regular file from its start on, and is not compressed; else it is copied to a file that
// temp makes. Where it stays, somebody may change it: what is read twice is verified twice.
func Open(ctx context.Context, in *decode.Stream, inPlace bool, temp func() (*os.File, error)) (*Archive, error) {
	if inPlace && in.File != nil {
		a := &Archive{f: in.File, temp: temp, members: make(map[string]tarx.Member)}
		if err := tarx.List(ctx, in.Out, a.add); err != nil {
			return nil, err
		}
		return a, nil
	}
	f, err := temp()
	if err != nil {
		return nil, err
	}
	a, err := Spool(ctx, in.Out, f)
	if err == nil {
		a.temp = temp
	}
	return a, err
}

// TempFile makes a file without a name in the directory for temporary ones.
func TempFile() (*os.File, error) {
	f, err := os.CreateTemp("", "ocibundle-")
	if err == nil {
		err = os.Remove(f.Name())
	}
	if err != nil {
		return nil, &spoolError{err}
	}
	return f, nil
}

// Close closes the file that the archive was copied to.
func (a *Archive) Close() {
	if a.spooled != nil {
		a.spooled.Close()
	}
}

// spoolReader writes down what it reads.
type spoolReader struct {
	r io.Reader
	f *os.File
}

func (s *spoolReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if n > 0 {
		if _, werr := s.f.Write(p[:n]); werr != nil {
			return n, &spoolError{handle.Cause(werr)}
		}
	}
	return n, err
}

type spoolError struct{ err error }

func (e *spoolError) Error() string { return "write the image to disk: " + e.err.Error() }
func (e *spoolError) Unwrap() error { return e.err }

// add takes a member into the list.
func (a *Archive) add(m tarx.Member) error {
	if a.names += len(m.Name) + len(m.Link); a.names > maxMemberNames || len(a.members) >= maxMembers {
		return fmt.Errorf("%w: the image archive has too many members", tarx.ErrRefused)
	}
	name, err := memberName(m.Name)
	if err != nil {
		return err
	}
	switch m.Kind {
	case tarx.MemberDirectory:
		return nil
	case tarx.MemberOther:
		return fmt.Errorf("%w: it is neither a file nor a directory nor a link, and no part of an image archive", tarx.ErrMalformed)
	}
	if _, ok := a.members[name]; ok {
		return fmt.Errorf("%w: the archive has two members of this name", tarx.ErrMalformed)
	}
	a.members[name] = m
	return nil
}

// memberName is the name by which a member is found. Nothing is ever opened by
// it outside the archive; a name that would lead out is no honest one.
func memberName(name string) (string, error) {
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", fmt.Errorf("%w: the name goes up", tarx.ErrRefused)
		}
	}
	return strings.TrimPrefix(path.Clean("/"+name), "/"), nil
}

func (a *Archive) has(name string) bool {
	_, ok := a.members[name]
	return ok
}

// find returns the file called name. Links are followed, within the archive:
// docker save writes a layer that two images share as a symlink.
func (a *Archive) find(name string) (tarx.Member, error) {
	first := name
	fail := func(kind error, format string, args ...any) (tarx.Member, error) {
		return tarx.Member{}, &Error{Part: fmt.Sprintf("%q", first), Kind: kind, Err: fmt.Errorf(format, args...)}
	}
	for range maxMemberLinks {
		m, ok := a.members[name]
		switch {
		case !ok && name == first:
			return fail(tarx.ErrMalformed, "the image archive does not have it")
		case !ok:
			return fail(tarx.ErrMalformed, "it is a link to %q, which the image archive does not have", name)
		case m.Kind == tarx.MemberFile:
			return m, nil
		}
		to := m.Link
		if m.Kind == tarx.MemberSymlink && !path.IsAbs(to) {
			to = path.Join(path.Dir(name), to)
		}
		if path.IsAbs(to) || to == ".." || strings.HasPrefix(to, "../") {
			return fail(tarx.ErrRefused, "the link to %q leads out of the archive", m.Link)
		}
		name = path.Clean(to)
	}
	return fail(tarx.ErrMalformed, "it is a link to a link to a link, without an end")
}

// open gives the contents of a member.
func (a *Archive) open(m tarx.Member) *io.SectionReader {
	return io.NewSectionReader(a.f, m.Offset, m.Size)
}

// free gives the disk the space of a member of a copy back, where it has to be saved: best effort.
func (a *Archive) free(m tarx.Member) {
	if a.spooled != nil && a.frugal {
		free(a.spooled, m.Offset, m.Size)
	}
}
