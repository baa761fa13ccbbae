package decode

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/moby/go-archive/compression"

	"ocibundle/tarx"
)

// Stream is the stream on its way to the extractor: counted, digested, decoded
// and limited.
type Stream struct {
	digest *Digester
	Hash   hash.Hash // for the reader of out to fill, where the digest is left to it
	src    io.Reader // the stream as it comes in, through the digester if there is one
	Out    io.Reader // decoded and limited
	Feed   tarx.Feed // what makes out
	head   []byte    // the first bytes of Out
	// Compressed says that Out decodes it.
	Compressed bool
	// File is the regular file that Out reads from its start on, as it is; nil for others.
	File  *os.File
	Close func()
}

// Options say what is done with a stream. The zero value only decodes it.
type Options struct {
	// SHA256 is the digest that it must have; empty for none.
	SHA256 string
	// LendHash leaves it to the reader of a stream that is not compressed to
	// fill input.hash, which saves a copy of all that is read.
	LendHash bool
	// MaxBytes is the most bytes that it, decoded, may have; 0 for no limit.
	MaxBytes int64
	// Progress, if not nil, counts along.
	Progress *Progress
}

// Open starts reading r. It waits for the first bytes, but no longer than
// ctx, after whose end a Read that waits is left alone.
func Open(ctx context.Context, r io.Reader, o Options) (*Stream, error) {
	return Await(ctx, func() (*Stream, error) { return New(r, o) }, func(in *Stream) { in.Close() })
}

// New is openInput for what never waits long, such as a file.
func New(r io.Reader, o Options) (*Stream, error) {
	in := &Stream{Close: func() {}}
	if fromProcess(r) {
		in.Feed = tarx.FeedProcess
	}
	raw := &rawReader{r: r, progress: o.Progress}
	head, err := peek(raw)
	if err != nil {
		return nil, err
	}
	format := detect(head)
	in.head = head
	if f, ok := r.(*os.File); ok && format == compression.None {
		if fi, err := f.Stat(); err == nil && fi.Mode().IsRegular() {
			if at, err := f.Seek(0, io.SeekCurrent); err == nil && at == int64(len(head)) {
				in.File = f
			}
		}
	}
	in.src = &joinReader{head: head, r: raw}
	var ahead *aheadReader
	if in.Compressed = format != compression.None; in.Compressed {
		in.Feed = tarx.FeedReader
		// The decoder takes a processor of its own, and should not wait for more.
		ahead = newAheadReader(in.src)
		in.src, in.Close = ahead, ahead.close
	}
	switch {
	case o.SHA256 == "":
	case o.LendHash && format == compression.None:
		in.Hash = sha256.New()
	default:
		in.digest = NewDigester(in.src, sha256.New())
		in.src = in.digest
	}
	in.Out = in.src
	if ahead != nil {
		if in.Out, err = in.decode(format, ahead.failed); err != nil {
			in.Close()
			return nil, err
		}
	}
	if o.MaxBytes > 0 {
		in.Out = &LimitReader{R: in.Out, Limit: o.MaxBytes, Left: o.MaxBytes}
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
func (in *Stream) verify(want string) error {
	var got string
	switch {
	case in.Hash != nil:
		got = hex.EncodeToString(in.Hash.Sum(nil))
	case in.digest != nil:
		got = in.digest.Sum()
	default:
		return nil
	}
	if got != want {
		return &DigestError{Want: want, Got: got}
	}
	return nil
}

// Finish checks that the stream was read to its end and is the one announced.
func (in *Stream) Finish(want string) error {
	n, err := io.Copy(io.Discard, in.src)
	if err != nil {
		return &tarx.ReadError{Err: err}
	}
	if n > 0 {
		return fmt.Errorf("%w: %d bytes follow the compressed stream", tarx.ErrMalformed, n)
	}
	return in.verify(want)
}
