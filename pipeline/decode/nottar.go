package decode

import (
	"bytes"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"

	"ocibundle/tarx"
)

// NotTarError is a stream that is something else than a tar archive.
type NotTarError struct {
	// What says what it is, "a zip archive"; empty where that is not known.
	What string
	// Program decodes it to standard output; empty for none.
	Program string
}

func (e *NotTarError) Error() string {
	if e.What == "" {
		return "the stream is not a tar archive"
	}
	return "the stream is not a tar archive: it is " + e.What
}

// Is makes it a malformed stream.
func (e *NotTarError) Is(target error) bool { return target == tarx.ErrMalformed }

// What has a hint of its own.
const (
	UTF16 = "text in UTF-16" // as PowerShell's > writes it
	JSON  = "JSON"
)

// magics are what other things begin with that people pipe.
var magics = []struct {
	magic string
	is    NotTarError
}{
	{"PK\x03\x04", NotTarError{What: "a zip archive"}},
	{"PK\x05\x06", NotTarError{What: "a zip archive"}},
	{"7z\xbc\xaf\x27\x1c", NotTarError{What: "a 7z archive"}},
	{"Rar!", NotTarError{What: "a rar archive"}},
	{"\x04\x22\x4d\x18", NotTarError{"an lz4 stream", "lz4 -dc"}},
	{"\x02\x21\x4c\x18", NotTarError{"an lz4 stream", "lz4 -dc"}},
	{"\x5d\x00\x00", NotTarError{"an lzma stream", "xz -dc"}},
	{"LZIP", NotTarError{"an lzip stream", "lzip -dc"}},
	{"\x89LZO", NotTarError{"an lzop stream", "lzop -dc"}},
	{"\x1f\x9d", NotTarError{"a stream of compress(1)", "gzip -dc"}},
	{"hsqs", NotTarError{What: "a squashfs filesystem"}},
	{"0707", NotTarError{What: "a cpio archive"}},
	{"!<arch>\n", NotTarError{What: "an ar archive, as a Debian package is"}},
	{"\xed\xab\xee\xdb", NotTarError{What: "an RPM package"}},
	{"\x7fELF", NotTarError{What: "an ELF program"}},
	{"QFI\xfb", NotTarError{What: "a disk image"}},
	{"\xff\xfe", NotTarError{What: UTF16}},
	{"\xfe\xff", NotTarError{What: UTF16}},
}

// Explain makes err, what reading a tar from in.Out came to, a *NotTarError where the first
// bytes say that it is something else.
func (in *Stream) Explain(err error) error {
	stream, ok := errors.AsType[*tarx.StreamError](err)
	if !ok || stream.Index > 0 || stream.Offset > headBytes || errors.Is(err, tarx.ErrEmpty) || isTar(in.head) {
		return err
	}
	is := recognize(in.head)
	if is.What == "" && errors.Is(err, tarx.ErrTruncated) {
		return err
	}
	return &is
}

// recognize says what a stream is that begins with head.
func recognize(head []byte) NotTarError {
	for _, m := range magics {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return m.is
		}
	}
	if !isText(head) {
		return NotTarError{}
	}
	switch text := bytes.TrimSpace(head); {
	case len(text) == 0:
		return NotTarError{What: "blank text"}
	case text[0] == '{' || text[0] == '[':
		return NotTarError{What: JSON}
	default:
		line, _, _ := bytes.Cut(text, []byte{'\n'})
		return NotTarError{What: fmt.Sprintf("text that begins with %q", line[:min(len(line), 100)])}
	}
}

// isText wants lines, for the name in a tar's header may be all there is of it.
func isText(head []byte) bool {
	if bytes.IndexByte(head, '\n') < 0 && bytes.IndexByte(head, ' ') < 0 && !bytes.HasPrefix(head, []byte{'{'}) {
		return false
	}
	for len(head) > 0 {
		r, n := utf8.DecodeRune(head)
		if r == utf8.RuneError && n == 1 && utf8.FullRune(head) || unicode.IsControl(r) && !unicode.IsSpace(r) && r != '\x1b' {
			return false
		}
		head = head[n:]
	}
	return true
}
