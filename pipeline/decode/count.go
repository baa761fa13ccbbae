package decode

import (
	"io"
	"sync/atomic"

	"ocibundle/tarx"
)

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

// LimitReader reads from R, and fails with a *tarx.LimitError where it has more than Left bytes.
// Limit is what the error names.
type LimitReader struct {
	R           io.Reader
	Limit, Left int64
}

func (l *LimitReader) Read(p []byte) (int, error) {
	// One byte more than allowed tells a stream that is too long from one that
	// just fits.
	if int64(len(p)) > l.Left+1 {
		p = p[:l.Left+1]
	}
	n, err := l.R.Read(p)
	if l.Left -= int64(n); l.Left < 0 {
		return 0, &tarx.LimitError{What: "bytes", Limit: l.Limit}
	}
	return n, err
}
