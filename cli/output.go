package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// output is standard output.
type output struct {
	w   io.Writer
	err error // the first of a write
}

// outputError is a write to standard output that failed.
type outputError struct{ err error }

func (e *outputError) Error() string { return fmt.Sprintf("write to standard output: %v", e.err) }
func (e *outputError) Unwrap() error { return e.err }

func newOutput(w io.Writer) *output { return &output{w: w} }

// checkOpen says that what is written would be nowhere.
func (o *output) checkOpen() error {
	if f, ok := o.w.(*os.File); ok && isClosed(f) {
		return &outputError{errors.New("it is closed, or /dev/null opened for reading, too")}
	}
	return nil
}

// isClosed says that f was closed when the program started: the Go runtime has then opened
// /dev/null in its place, for reading and writing (checkfds in its os_unix.go). Who wants the
// output thrown away opens it for writing, as a shell does, but daemon(3) and Python's
// subprocess.DEVNULL do as the runtime does. So only commands that are for their output ask.
func isClosed(f *os.File) bool {
	var st unix.Stat_t
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_ACCMODE == unix.O_RDWR && unix.Fstat(int(f.Fd()), &st) == nil &&
		st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3)
}

// Write fails with a *signalError where nobody reads any more, and fails again once it has failed.
func (o *output) Write(b []byte) (int, error) {
	if o.err != nil || len(b) == 0 {
		return 0, o.err
	}
	n, err := o.w.Write(b)
	switch {
	case errors.Is(err, unix.EPIPE):
		o.err = &signalError{syscall.SIGPIPE}
	case err != nil:
		if path, ok := errors.AsType[*os.PathError](err); ok {
			err = path.Err
		}
		o.err = &outputError{err}
	}
	return n, o.err
}

// Splice puts content of a file into standard output, without a copy, if that is a pipe (splice(2)). What is wrong with
// the output after an error, the next Write says.
func (o *output) Splice(fd int, off int64, n int) (int, error) {
	f, ok := o.w.(*os.File)
	if !ok || o.err != nil {
		return 0, errors.ErrUnsupported
	}
	m, err := unix.Splice(fd, &off, int(f.Fd()), nil, n, 0)
	return int(m), err
}

func (o *output) print(text string) error {
	_, err := io.WriteString(o, text)
	return err
}

// printJSON prints v with every character escaped that a terminal might act on.
func (o *output) printJSON(v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "\t")
	if err := enc.Encode(v); err != nil {
		return err
	}
	return o.print(escape(b.String(), func(r rune) string {
		if r == '\n' || r == '\t' { // between values: in strings the encoder has escaped them
			return string(r)
		}
		if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
			return fmt.Sprintf(`\u%04x\u%04x`, high, low)
		}
		return fmt.Sprintf(`\u%04x`, r)
	}))
}

// readyForStream refuses to write a tar stream to where nobody can read it. reader is a command
// that would. A pipe is made larger, for fewer wake-ups.
func (o *output) readyForStream(reader string) error {
	if err := o.checkOpen(); err != nil {
		return err
	}
	f, ok := o.w.(*os.File)
	if !ok {
		return nil
	}
	if term.IsTerminal(int(f.Fd())) {
		return usagef("standard output is a terminal").hint("the stream is for a file or a pipe: ... > FILE, or ... | %s", reader)
	}
	unix.FcntlInt(f.Fd(), unix.F_SETPIPE_SZ, 1<<20) // best effort
	return nil
}

// oneLine keeps what a name may hold and a terminal may act on off the terminal: control
// characters, bytes that are not UTF-8, and marks that change the direction of writing.
func oneLine(s string) string {
	return escape(s, func(r rune) string {
		if r < utf8.RuneSelf || r > 0xff {
			return strings.Trim(strconv.QuoteRuneToASCII(r), "'")
		}
		return fmt.Sprintf(`\u%04x`, r) // not \x9b: that is a byte
	})
}

// escape puts what how makes of them in place of characters that are not printable, and of bytes
// that are not UTF-8.
func escape(s string, how func(rune) string) string {
	var b strings.Builder
	for i, r := range s {
		_, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case strconv.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(how(r))
		}
	}
	return b.String()
}

// complain prints a line on standard error: "ocibundle: warning: ...". Whether anybody reads it
// makes no difference to the run.
func (p *program) complain(kind, format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if kind != "" {
		line = kind + ": " + line
	}
	fmt.Fprintf(p.stderr, "ocibundle: %s\n", oneLine(line))
}

func (p *program) warn(warnings ...string) {
	for _, w := range warnings {
		p.complain("warning", "%s", w)
	}
}
