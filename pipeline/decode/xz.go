package decode

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"runtime/debug"

	"github.com/ulikunitz/xz/lzma"
)

// xzReader reads .xz streams, one behind the other (The .xz File Format 1.2.1). The
// library's own reader of the container takes whatever window a block asks for, makes a
// new one for each, keeps 16 bytes of every block, and takes a stream that is cut before
// its index for complete. Here one LZMA2 decoder serves all blocks, for as long as its
// window is large enough, and the index is compared by a checksum.
type xzReader struct {
	in *bufio.Reader
	n  int64  // bytes read since it was last set to 0
	b  []byte // scratch

	flags  [2]byte // of the stream: the type of its checks
	blocks xzIndex // those that were read
	block  *xzBlock

	window int64 // of decoder
	lzma   *lzma.Reader2
	chunk  xzChunk // what lzma reads
	left   int64   // of the chunk, decoded
}

// xzIndex stands for the records of an index.
type xzIndex struct{ count, sum uint64 }

// xzBlock is a block being read.
type xzBlock struct {
	header, compressed, decoded int64 // bytes so far
	wantCompressed, wantDecoded int64 // what its header says; negative: nothing
	check                       hash.Hash
}

// xzChunk is an LZMA2 chunk with its header.
type xzChunk struct {
	header []byte
	body   io.LimitedReader
}

func (c *xzChunk) Read(p []byte) (int, error) {
	if len(c.header) > 0 {
		n := copy(p, c.header)
		c.header = c.header[n:]
		return n, nil
	}
	n, err := c.body.Read(p)
	if err == io.EOF && c.body.N > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

var (
	errXzHeader = errors.New("broken stream header")
	errXzBlock  = errors.New("broken block header")
	errXzChunk  = errors.New("broken LZMA2 data")
	errXzCheck  = errors.New("the checksum of a block does not match")
	errXzIndex  = errors.New("the index does not match the blocks")
	errXzFooter = errors.New("broken stream footer")
)

// crc64Table is made when it is asked for first, and then kept.
func crc64Table() *crc64.Table { return crc64.MakeTable(crc64.ECMA) }

// minXzWindow keeps small windows from making many small reads.
const minXzWindow = 1 << 20

func newXzReader(r *bufio.Reader) (*xzReader, error) {
	x := &xzReader{in: r, b: make([]byte, 1024)}
	return x, x.streamHeader()
}

func (x *xzReader) Read(p []byte) (int, error) {
	for x.left == 0 {
		if err := x.next(); err != nil {
			return 0, err
		}
	}
	if x.lzma == nil {
		var err error
		if x.lzma, err = (lzma.Reader2Config{DictCap: int(x.window)}).NewReader2(&x.chunk); err != nil {
			return 0, err
		}
	}
	n, err := x.lzma.Read(p[:min(int64(len(p)), x.left)])
	x.left -= int64(n)
	x.block.decoded += int64(n)
	if x.block.check != nil {
		x.block.check.Write(p[:n])
	}
	if err == io.EOF {
		err = errXzChunk
	}
	return n, err
}

// next moves on to the next chunk; io.EOF is the end of the last stream.
func (x *xzReader) next() error {
	if x.block == nil {
		x.n = 0
		size, err := x.ReadByte()
		if err != nil {
			return err
		}
		if size != 0 {
			return x.blockHeader(size)
		}
		if err := x.indexAndFooter(); err != nil {
			return err
		}
		return x.nextStream()
	}
	if len(x.chunk.header) > 0 || x.chunk.body.N > 0 {
		return errXzChunk
	}
	return x.chunkHeader()
}

// nextStream passes over padding. Other tools want it to be of multiples of four bytes;
// tapes and block devices do not know.
func (x *xzReader) nextStream() error {
	b, err := x.in.Peek(1)
	if err != nil {
		return err
	}
	if b[0] != xzMagic[0] {
		return onlyZeros(x.in)
	}
	return x.streamHeader()
}

const xzMagic = "\xfd7zXZ\x00"

func (x *xzReader) streamHeader() error {
	b, err := x.read(12)
	if err != nil {
		return err
	}
	if string(b[:6]) != xzMagic || b[6] != 0 || crc32.ChecksumIEEE(b[6:8]) != binary.LittleEndian.Uint32(b[8:]) {
		return errXzHeader
	}
	copy(x.flags[:], b[6:8])
	x.blocks = xzIndex{}
	_, err = newXzCheck(b[7])
	return err
}

// newXzCheck makes the hash of a check; nil for none.
func newXzCheck(id byte) (hash.Hash, error) {
	switch id {
	case 0:
		return nil, nil
	case 1:
		return crc32.NewIEEE(), nil
	case 4:
		return crc64.New(crc64Table()), nil
	case 10:
		return sha256.New(), nil
	}
	return nil, fmt.Errorf("checks of type %d are not supported", id)
}

func (x *xzReader) blockHeader(size byte) error {
	rest, err := x.read((int(size)+1)*4 - 1)
	if err != nil {
		return err
	}
	body, sum := rest[:len(rest)-4], binary.LittleEndian.Uint32(rest[len(rest)-4:])
	if crc32.Update(crc32.ChecksumIEEE([]byte{size}), crc32.IEEETable, body) != sum {
		return errXzBlock
	}
	x.block = &xzBlock{header: x.n, wantCompressed: -1, wantDecoded: -1}
	flags, r := body[0], bytes.NewReader(body[1:])
	number := func() int64 {
		v, verr := binary.ReadUvarint(r)
		if verr != nil || int64(v) < 0 {
			err = errXzBlock
		}
		return int64(v)
	}
	if flags&0x40 != 0 {
		x.block.wantCompressed = number()
	}
	if flags&0x80 != 0 {
		x.block.wantDecoded = number()
	}
	const lzma2 = 0x21
	filter, length := number(), number()
	code, cerr := r.ReadByte()
	switch {
	case err != nil || cerr != nil || flags&0x3c != 0:
		return errXzBlock
	case flags&3 != 0 || filter != lzma2 || length != 1:
		return errors.New("filters other than LZMA2 are not supported")
	}
	window, err := lzma.DecodeDictCap(code)
	if err != nil {
		return errXzBlock
	}
	if x.block.check, err = newXzCheck(x.flags[1]); err != nil {
		return err
	}
	x.n = 0
	return x.grow(window)
}

// grow sees to it that the decoder has a window of a size.
func (x *xzReader) grow(window int64) error {
	if window > maxWindow {
		return &WindowError{Format: "xz"}
	}
	if window = max(window, minXzWindow); window <= x.window {
		return nil
	}
	old := x.window
	x.lzma, x.window = nil, window
	if old > 16<<20 {
		debug.FreeOSMemory() // or both would be there for a while
	}
	return nil
}

// chunkHeader reads the header of the next chunk, or the end of the block.
func (x *xzReader) chunkHeader() error {
	first := x.n == 0
	control, err := x.ReadByte()
	if err != nil {
		return err
	}
	length := 2
	switch {
	case control == 0:
		return x.endBlock()
	case control >= 0xc0:
		length = 5
	case control >= 0x80:
		length = 4
	case control > 2:
		return errXzChunk
	}
	if first && control != 1 && control < 0xe0 {
		return errXzChunk // it would refer to the block before
	}
	b, err := x.read(length)
	if err != nil {
		return err
	}
	x.left = int64(binary.BigEndian.Uint16(b)) + 1
	body := x.left
	if control >= 0x80 {
		x.left += int64(control&0x1f) << 16
		body = int64(binary.BigEndian.Uint16(b[2:])) + 1
	}
	x.chunk.header = append([]byte{control}, b...)
	x.chunk.body = io.LimitedReader{R: x.in, N: body}
	x.n += body // read by the time the next chunk is asked for
	return nil
}

// endBlock reads what follows the chunks of a block.
func (x *xzReader) endBlock() error {
	block := x.block
	block.compressed = x.n
	if block.wantCompressed >= 0 && block.wantCompressed != block.compressed || block.wantDecoded >= 0 && block.wantDecoded != block.decoded {
		return errXzBlock
	}
	if err := x.zeros(int(-block.compressed & 3)); err != nil {
		return err
	}
	unpadded := block.header + block.compressed
	if block.check != nil {
		want, err := x.read(block.check.Size())
		if err != nil {
			return err
		}
		got := block.check.Sum(nil)
		if x.flags[1] != 10 { // SHA-256 is written as it is, the others in little endian
			for i, j := 0, len(got)-1; i < j; i, j = i+1, j-1 {
				got[i], got[j] = got[j], got[i]
			}
		}
		if !bytes.Equal(got, want) {
			return errXzCheck
		}
		unpadded += int64(len(want))
	}
	x.blocks.add(uint64(unpadded), uint64(block.decoded))
	x.block = nil
	return nil
}

// add takes a record into the index.
func (i *xzIndex) add(unpadded, decoded uint64) {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], unpadded)
	binary.LittleEndian.PutUint64(b[8:], decoded)
	i.count++
	i.sum = crc64.Update(i.sum, crc64Table(), b[:])
}

// indexAndFooter reads the end of a stream behind the first byte of its index.
func (x *xzReader) indexAndFooter() error {
	sum := &crcByteReader{x: x, sum: crc32.ChecksumIEEE([]byte{0})}
	count, err := binary.ReadUvarint(sum)
	var index xzIndex
	for err == nil && index.count < count {
		var unpadded, decoded uint64
		if unpadded, err = binary.ReadUvarint(sum); err == nil {
			decoded, err = binary.ReadUvarint(sum)
		}
		index.add(unpadded, decoded)
		if index.count > x.blocks.count {
			return errXzIndex
		}
	}
	for err == nil && x.n&3 != 0 {
		var b byte
		if b, err = sum.ReadByte(); b != 0 {
			return errXzIndex
		}
	}
	if err != nil {
		return err
	}
	size := x.n
	b, err := x.read(4)
	if err != nil {
		return err
	}
	if index != x.blocks || binary.LittleEndian.Uint32(b) != sum.sum {
		return errXzIndex
	}
	if b, err = x.read(12); err != nil {
		return err
	}
	if crc32.ChecksumIEEE(b[4:10]) != binary.LittleEndian.Uint32(b) || int64(binary.LittleEndian.Uint32(b[4:])) != size/4 ||
		!bytes.Equal(b[8:10], x.flags[:]) || string(b[10:]) != "YZ" {
		return errXzFooter
	}
	return nil
}

// crcByteReader sums up the bytes of an index.
type crcByteReader struct {
	x   *xzReader
	sum uint32
}

func (r *crcByteReader) ReadByte() (byte, error) {
	b, err := r.x.ReadByte()
	r.sum = crc32.Update(r.sum, crc32.IEEETable, []byte{b})
	return b, err
}

// ReadByte reads one byte of the stream, where one has to be.
func (x *xzReader) ReadByte() (byte, error) {
	b, err := x.read(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

// read reads n bytes, at most 1024, which are valid until the next call.
func (x *xzReader) read(n int) ([]byte, error) {
	m, err := io.ReadFull(x.in, x.b[:n])
	x.n += int64(m)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return x.b[:n], err
}

// zeros reads n zeros.
func (x *xzReader) zeros(n int) error {
	b, err := x.read(n)
	if err == nil && len(bytes.TrimLeft(b, "\x00")) > 0 {
		err = errXzBlock
	}
	return err
}
