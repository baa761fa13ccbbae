package pipeline

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/moby/go-archive/compression"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"

	"ocibundle/tarx"
)

// maxWindow is the largest window, in bytes, that a compressed stream may ask
// a decoder to keep.
const maxWindow = 128 << 20

// DecodeError is a compressed stream that does not decode.
type DecodeError struct {
	// Format is "gzip", "bzip2", "xz" or "zstd".
	Format string
	Err    error
}

func (e *DecodeError) Error() string {
	err := e.Err
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Sprintf("decode %s: the compressed stream is cut short", e.Format)
	}
	// The libraries put their own name in front.
	msg := err.Error()
	for _, p := range []string{e.Format + ": ", "magic number mismatch: "} {
		msg = strings.TrimPrefix(msg, p)
	}
	return fmt.Sprintf("decode %s: %s", e.Format, msg)
}

// Unwrap gives tarx.ErrMalformed and the cause.
func (e *DecodeError) Unwrap() []error { return []error{tarx.ErrMalformed, e.Err} }

// WindowError is the refusal of a compressed stream that needs more memory
// than a decoder is given.
type WindowError struct{ Format string }

func (e *WindowError) Error() string {
	return fmt.Sprintf("decode %s: the window is larger than %d MiB", e.Format, maxWindow>>20)
}

// Is makes it a refusal.
func (e *WindowError) Is(target error) bool { return target == tarx.ErrRefused }

// DigestError is a stream that is not the one announced.
type DigestError struct {
	// Want and Got are lower-case hexadecimal SHA-256 digests.
	Want, Got string
}

func (e *DigestError) Error() string {
	return fmt.Sprintf("verify the digest: the stream is sha256:%s, not sha256:%s", e.Got, e.Want)
}

// Is makes it a malformed stream.
func (e *DigestError) Is(target error) bool { return target == tarx.ErrMalformed }

// input is the stream on its way to the extractor: counted, digested, decoded
// and limited.
type input struct {
	digest *digester
	hash   hash.Hash // for the reader of out to fill, where the digest is left to it
	src    io.Reader // the stream as it comes in, through the digester if there is one
	out    io.Reader // decoded and limited
	feed   tarx.Feed // what makes out
	close  func()
}

// inputOptions say what is done with a stream. The zero value only decodes it.
type inputOptions struct {
	// sha256 is the digest that it must have; empty for none.
	sha256 string
	// lendHash leaves it to the reader of a stream that is not compressed to
	// fill input.hash, which saves a copy of all that is read.
	lendHash bool
	// maxBytes is the most bytes that it, decoded, may have; 0 for no limit.
	maxBytes int64
	// progress, if not nil, counts along.
	progress *Progress
}

// openInput starts reading r. It waits for the first bytes, but no longer than
// ctx, after whose end a Read that waits is left alone.
func openInput(ctx context.Context, r io.Reader, o inputOptions) (*input, error) {
	return await(ctx, func() (*input, error) { return newInput(r, o) }, func(in *input) { in.close() })
}

// await has f make something, and does not wait for it longer than ctx: drop gets
// what comes after that.
func await[T any](ctx context.Context, f func() (T, error), drop func(T)) (T, error) {
	type made struct {
		v   T
		err error
	}
	done := make(chan made, 1)
	go func() {
		v, err := f()
		done <- made{v, err}
	}()
	select {
	case m := <-done:
		return m.v, m.err
	case <-ctx.Done():
		go func() {
			if m := <-done; m.err == nil {
				drop(m.v)
			}
		}()
		var none T
		return none, context.Cause(ctx)
	}
}

// newInput is openInput for what never waits long, such as a file.
func newInput(r io.Reader, o inputOptions) (*input, error) {
	in := &input{close: func() {}}
	if fromProcess(r) {
		in.feed = tarx.FeedProcess
	}
	raw := &rawReader{r: r, progress: o.progress}
	head, err := peek(raw)
	if err != nil {
		return nil, err
	}
	format := detect(head)
	in.src = &joinReader{head: head, r: raw}
	var ahead *aheadReader
	if format != compression.None {
		in.feed = tarx.FeedReader
		// The decoder takes a processor of its own, and should not wait for more.
		ahead = newAheadReader(in.src)
		in.src, in.close = ahead, ahead.close
	}
	switch {
	case o.sha256 == "":
	case o.lendHash && format == compression.None:
		in.hash = sha256.New()
	default:
		in.digest = newDigester(in.src, sha256.New())
		in.src = in.digest
	}
	in.out = in.src
	if ahead != nil {
		if in.out, err = in.decode(format, head, ahead.failed); err != nil {
			in.close()
			return nil, err
		}
	}
	if o.maxBytes > 0 {
		in.out = &limitReader{r: in.out, limit: o.maxBytes, left: o.maxBytes}
	}
	return in, nil
}

// fromProcess says that a process at work on this machine may be what makes the
// stream.
func fromProcess(r io.Reader) bool {
	f, ok := r.(*os.File)
	if !ok {
		return false
	}
	fi, err := f.Stat()
	return err == nil && fi.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0
}

// verify compares the digest of all that was read. The stream must have been
// read to its end.
func (in *input) verify(want string) error {
	var got string
	switch {
	case in.hash != nil:
		got = hex.EncodeToString(in.hash.Sum(nil))
	case in.digest != nil:
		got = in.digest.sum()
	default:
		return nil
	}
	if got != want {
		return &DigestError{Want: want, Got: got}
	}
	return nil
}

// headBytes is what a format is known by: a tar's first header.
const headBytes = 512

// peek reads the first bytes.
func peek(r io.Reader) ([]byte, error) {
	head := make([]byte, headBytes)
	n, err := io.ReadFull(r, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, &tarx.ReadError{Err: err}
	}
	return head[:n], nil
}

// detect finds the compression in the first bytes of a stream.
func detect(head []byte) compression.Compression {
	// A tar may start with a name that looks like a compressed stream: bzip2's
	// magic is "BZh".
	if len(head) == headBytes && string(head[257:262]) == "ustar" {
		return compression.None
	}
	return compression.Detect(head)
}

// decode undoes the compression of in.src, which starts with head. No program is
// run for it, whatever is in PATH. failed gives the error that reading ended with.
func (in *input) decode(format compression.Compression, head []byte, failed func() error) (io.Reader, error) {
	wrap := func(format string, r io.Reader, err error) (io.Reader, error) {
		d := &decodeReader{r: r, format: format, failed: failed}
		if err != nil {
			return nil, d.error(err)
		}
		return d, nil
	}
	switch format {
	case compression.Gzip:
		z, err := gzip.NewReader(bufio.NewReaderSize(in.src, 64<<10))
		return wrap("gzip", z, err)
	case compression.Bzip2:
		return wrap("bzip2", bzip2.NewReader(bufio.NewReaderSize(in.src, 64<<10)), nil)
	case compression.Xz:
		if xzWindow(head) > maxWindow {
			return nil, &WindowError{Format: "xz"}
		}
		tail := &xzTail{r: in.src}
		z, err := xz.NewReader(bufio.NewReaderSize(tail, 64<<10))
		tail.z = z
		return wrap("xz", tail.decoded(), err)
	case compression.Zstd:
		// The extractor reads ahead in a goroutine of its own. More of them in
		// here take 3 MiB and no less time.
		z, err := zstd.NewReader(in.src, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderConcurrency(1))
		if err != nil {
			return wrap("zstd", nil, err)
		}
		c := &closingReader{r: z}
		ahead := in.close
		in.close = func() { c.close(); ahead() }
		return wrap("zstd", c, nil)
	}
	return nil, fmt.Errorf("decode the stream: there is no decoder for format %d", format)
}

// xzWindow is the dictionary size, in bytes, that the first block of an xz
// stream announces; 0 where that is not to be found (The .xz File Format,
// sections 3.1 and 5.3.1). The library would allocate up to 4 GiB.
func xzWindow(b []byte) int64 {
	const streamHeader = 12
	if len(b) < streamHeader+8 {
		return 0
	}
	block := b[streamHeader:]
	size := (int(block[0]) + 1) * 4
	if block[0] == 0 || size > len(block) {
		return 0
	}
	flags, rest := block[1], block[2:size]
	skipVarint := func() {
		for len(rest) > 0 {
			c := rest[0]
			rest = rest[1:]
			if c < 0x80 {
				return
			}
		}
	}
	if flags&0x40 != 0 {
		skipVarint() // compressed size
	}
	if flags&0x80 != 0 {
		skipVarint() // uncompressed size
	}
	const lzma2 = 0x21
	for range int(flags&3) + 1 {
		if len(rest) < 3 {
			return 0
		}
		id, n := rest[0], int(rest[1])
		if id == lzma2 && n == 1 {
			size, err := lzma.DecodeDictCap(rest[2])
			if err != nil {
				return 0
			}
			return size
		}
		if 2+n > len(rest) {
			return 0
		}
		rest = rest[2+n:]
	}
	return 0
}

// rawReader counts what comes in.
type rawReader struct {
	r        io.Reader
	progress *Progress
}

func (r *rawReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if n > 0 && r.progress != nil {
		r.progress.read.Add(int64(n))
	}
	return n, err
}

// Progress counts the bytes of the stream as they come in, for somebody who
// watches.
type Progress struct{ read atomic.Int64 }

// Read is the number of bytes read so far, as they came in.
func (p *Progress) Read() int64 { return p.read.Load() }

// joinReader gives back the bytes that were looked at, then the rest, without
// a copy for all but the first read.
type joinReader struct {
	head []byte
	r    io.Reader
}

func (j *joinReader) Read(p []byte) (int, error) {
	if len(j.head) > 0 {
		n := copy(p, j.head)
		j.head = j.head[n:]
		return n, nil
	}
	return j.r.Read(p)
}

// closingReader closes a decoder only while nobody reads from it: after an
// error the extractor leaves a Read that is under way to itself, and that may
// wait for a pipe. The decoder is left to itself then too.
type closingReader struct {
	mu     sync.Mutex
	r      *zstd.Decoder
	closed bool
}

func (c *closingReader) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, zstd.ErrDecoderClosed
	}
	return c.r.Read(p)
}

func (c *closingReader) close() {
	if c.mu.TryLock() {
		defer c.mu.Unlock()
		c.closed = true
		c.r.Close()
	}
}

type decodeReader struct {
	r      io.Reader
	format string
	failed func() error
}

func (d *decodeReader) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if err != nil && err != io.EOF {
		err = d.error(err)
	}
	return n, err
}

func (d *decodeReader) error(err error) error {
	// A disk's error is not to be taken for a broken stream.
	if failed := d.failed(); failed != nil {
		return failed
	}
	switch {
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		return &WindowError{Format: d.format}
	case err == io.EOF: // of a stream that ends in its first header
		err = io.ErrUnexpectedEOF
	}
	return &DecodeError{Format: d.format, Err: err}
}

// xzTail keeps the end of an xz stream, to see that it is one. The library takes
// a stream for complete that is cut between its last block and its index.
type xzTail struct {
	r     io.Reader
	z     io.Reader
	end   []byte // up to the last byte that is not zero, at most a footer
	zeros int    // behind that, at most a footer's length
}

// xzFooter is the length of what ends every xz stream: a CRC32 of the six bytes
// behind it, the size of the index, the flags, and "YZ" (The .xz File Format,
// section 2.1.2). Zeros may follow, as padding.
const xzFooter = 12

func (t *xzTail) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	b := bytes.TrimRight(p[:n], "\x00")
	if len(b) > 0 {
		t.end = append(t.end, make([]byte, t.zeros)...)
		t.end = append(t.end, b[max(0, len(b)-xzFooter):]...)
		t.end = bytes.Clone(t.end[max(0, len(t.end)-xzFooter):])
		t.zeros = 0
	}
	t.zeros = min(xzFooter, t.zeros+n-len(b))
	return n, err
}

// whole says that the last bytes are a footer.
func (t *xzTail) whole() bool {
	return len(t.end) == xzFooter && string(t.end[10:]) == "YZ" &&
		crc32.ChecksumIEEE(t.end[4:10]) == binary.LittleEndian.Uint32(t.end)
}

// decoded reads the decoder, whose end counts only where the stream ends too.
func (t *xzTail) decoded() io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		n, err := t.z.Read(p)
		if err == io.EOF && !t.whole() {
			err = io.ErrUnexpectedEOF
		}
		return n, err
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

type limitReader struct {
	r           io.Reader
	limit, left int64
}

func (l *limitReader) Read(p []byte) (int, error) {
	// One byte more than allowed tells a stream that is too long from one that
	// just fits.
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, &tarx.LimitError{What: "bytes", Limit: l.limit}
	}
	return n, err
}

// digester hashes what passes through it in a goroutine of its own: hashing
// costs about as much as all the rest.
type digester struct {
	r    io.Reader
	work chan []byte
	free chan []byte
	h    hash.Hash
	once sync.Once
	done chan struct{}
}

const digestBuffer = 256 << 10

func newDigester(r io.Reader, h hash.Hash) *digester {
	d := &digester{
		r:    r,
		work: make(chan []byte, 4),
		free: make(chan []byte, 6),
		h:    h,
		done: make(chan struct{}),
	}
	go func() {
		defer close(d.done)
		for b := range d.work {
			d.h.Write(b)
			d.free <- b
		}
	}()
	for range cap(d.free) {
		d.free <- nil
	}
	return d
}

func (d *digester) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	for rest := p[:n]; len(rest) > 0; {
		b := <-d.free
		if b == nil {
			b = make([]byte, digestBuffer)
		}
		m := copy(b[:digestBuffer], rest)
		d.work <- b[:m]
		rest = rest[m:]
	}
	if err != nil {
		d.stop()
	}
	return n, err
}

func (d *digester) stop() { d.once.Do(func() { close(d.work) }) }

// sum waits for the hash of all that was read.
func (d *digester) sum() string {
	d.stop()
	<-d.done
	return hex.EncodeToString(d.h.Sum(nil))
}
