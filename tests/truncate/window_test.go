package truncate

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ulikunitz/xz/lzma"

	"ocibundle/tests/testenv"
)

// xzBlock is a block, and how often it comes. Its window is as lzma.EncodeDictCap has it. It
// decodes to n times what first does, LZMA2 chunks of which the first resets the dictionary.
type xzBlock struct {
	times  int
	window byte
	first  []byte
	again  []byte // the same, without a reset
	n      int
	size   int64 // decoded, of one
}

// writeXz writes a stream without checksums of the contents, piece by piece: what this
// process takes at most counts for those that it starts (getrusage(2)).
func writeXz(w io.Writer, blocks ...xzBlock) {
	le := binary.LittleEndian
	b := []byte("\xfd7zXZ\x00\x00\x00")
	w.Write(le.AppendUint32(b, crc32.ChecksumIEEE(b[6:8])))
	count := 0
	for _, k := range blocks {
		count += k.times
	}
	index := binary.AppendUvarint([]byte{0}, uint64(count))
	for _, k := range blocks {
		header := []byte{2, 0, 0x21, 1, k.window, 0, 0, 0}
		b := append(le.AppendUint32(header, crc32.ChecksumIEEE(header)), k.first...)
		for range k.n - 1 {
			b = append(b, k.again...)
		}
		b = append(b, 0)
		record := binary.AppendUvarint(nil, uint64(len(b)))
		record = binary.AppendUvarint(record, uint64(int64(k.n)*k.size))
		b = append(b, make([]byte, -len(b)&3)...)
		for range k.times {
			w.Write(b)
			index = append(index, record...)
		}
	}
	index = append(index, make([]byte, -len(index)&3)...)
	index = le.AppendUint32(index, crc32.ChecksumIEEE(index))
	w.Write(index)
	footer := append(le.AppendUint32(nil, uint32(len(index)/4-1)), 0, 0)
	w.Write(le.AppendUint32(nil, crc32.ChecksumIEEE(footer)))
	w.Write(append(footer, "YZ"...))
}

const zeroChunk = 1 << 21

// zeroChunks are a chunk of 2 MiB of zeros, with and without a reset of the dictionary.
func zeroChunks(t *testing.T) (first, again []byte) {
	var b bytes.Buffer
	w, err := lzma.Writer2Config{DictCap: 1 << 20}.NewWriter2(&b)
	if err == nil {
		_, err = w.Write(make([]byte, zeroChunk))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	first = b.Bytes()[:b.Len()-1]
	if first[0] != 0xff || len(first) != 6+1+int(binary.BigEndian.Uint16(first[3:])) {
		t.Fatalf("the library makes chunks of another kind: %x...", first[:6])
	}
	again = bytes.Clone(first)
	again[0] = 0xdf
	return first, again
}

// raw is data in chunks that are not compressed.
func raw(data []byte) (chunks []byte) {
	for i := 0; i < len(data); i += 1 << 16 {
		part := data[i:min(len(data), i+1<<16)]
		control := byte(2)
		if i == 0 {
			control = 1
		}
		chunks = binary.BigEndian.AppendUint16(append(chunks, control), uint16(len(part)-1))
		chunks = append(chunks, part...)
	}
	return chunks
}

// zstdFrame decodes to n times 128 KiB of zeros, with a window of 1<<log bytes (RFC 8878).
func zstdFrame(log, n int) []byte {
	b := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, byte(log-10) << 3}
	for i := range n {
		header := uint32(128<<10)<<3 | 1<<1 // a block of one repeated byte
		if i == n-1 {
			header |= 1
		}
		b = append(b, byte(header), byte(header>>8), byte(header>>16), 0)
	}
	return b
}

// A compressed stream may ask for memory wherever a part of it begins, not only at its
// start. 256 MiB are what the worst of them gets.
func TestWindows(t *testing.T) {
	testenv.Long(t)
	program := testenv.Binary(t)
	first, again := zeroChunks(t)
	zeros := func(window byte, size int) xzBlock {
		return xzBlock{1, window, first, again, size / zeroChunk, zeroChunk}
	}
	// Behind a tar come zeros.
	var tarred bytes.Buffer
	w := tar.NewWriter(&tarred)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o755}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	header := tarred.Bytes()
	head := xzBlock{1, 8, raw(header), nil, 1, int64(len(header))}
	for name, tt := range map[string]struct {
		write func(w io.Writer)
		code  int
		says  string
	}{
		"xz, a block of 4 GiB": {func(w io.Writer) { writeXz(w, head, zeros(40, 3<<30)) }, 4, "decode xz: the window is larger than 128 MiB"},
		"xz, a stream of 4 GiB": {func(w io.Writer) { writeXz(w, head); writeXz(w, zeros(40, 3<<30)) }, 4,
			"decode xz: the window is larger than 128 MiB"},
		"xz, blocks without number": {func(w io.Writer) { writeXz(w, xzBlock{times: 6_000_000, window: 28}, head) }, 0, ""},
		"xz, windows that grow":     {func(w io.Writer) { writeXz(w, head, zeros(28, 64<<20), zeros(29, 96<<20), zeros(30, 128<<20)) }, 0, ""},
		"zstd, windows that grow": {func(w io.Writer) {
			w.Write(zstdRaw(header))
			for log := 20; log <= 27; log++ {
				w.Write(zstdFrame(log, 3<<(log-18)))
			}
		}, 0, ""},
		"zstd, a second frame": {func(w io.Writer) { w.Write(zstdRaw(header)); w.Write(zstdFrame(31, 3<<13)) }, 4,
			"decode zstd: the window is larger than 128 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := testenv.Dir(t)
			file := filepath.Join(dir, "stream")
			f, err := os.Create(file)
			if err != nil {
				t.Fatal(err)
			}
			w := bufio.NewWriter(f)
			tt.write(w)
			if err := errors.Join(w.Flush(), f.Close()); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), program, "-o", filepath.Join(dir, "b"), "-i", file)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if err := cmd.Run(); cmd.ProcessState == nil {
				t.Fatal(err)
			}
			if code := cmd.ProcessState.ExitCode(); code != tt.code || !strings.Contains(stderr.String(), tt.says) {
				t.Errorf("exit code %d, %s", code, stderr.String())
			}
			const limit = 256 << 20
			memory := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10 // in KiB (getrusage(2))
			fmt.Printf("window: %s: %d MiB of memory\n", name, memory>>20)
			if memory > limit {
				t.Errorf("it takes %d MiB of memory, want %d at most", memory>>20, limit>>20)
			}
		})
	}
}

// zstdRaw is data of less than 128 KiB in a frame that does not compress it.
func zstdRaw(data []byte) []byte {
	header := uint32(len(data))<<3 | 1
	b := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3, byte(header), byte(header >> 8), byte(header >> 16)}
	return append(b, data...)
}
