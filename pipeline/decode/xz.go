package decode

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

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
