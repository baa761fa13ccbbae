package tarx

import (
	"bytes"
	"encoding/binary"
)

// Padding is how many bytes follow a body of a size up to the next block.
func Padding(size int64) int64 { return -size & (BlockSize - 1) }

// cstring cuts at the first NUL.
func cstring(b []byte) []byte {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return b[:i]
	}
	return b
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 || c == 0 {
			return false
		}
	}
	return true
}

// checksumMatches compares the header's bytes, the checksum field taken as
// spaces, with sum. Some old writers summed signed bytes.
func checksumMatches(b []byte, sum int64) bool {
	const lanes = 0x00ff00ff00ff00ff
	var unsigned int64
	// Eight bytes at a time, in two sums that do not wait for each other: no
	// 16-bit lane can overflow within 64 words of two bytes each.
	var sums, more uint64
	for w := b[:BlockSize]; len(w) >= 32; w = w[32:] {
		v0, v1 := binary.LittleEndian.Uint64(w), binary.LittleEndian.Uint64(w[8:])
		v2, v3 := binary.LittleEndian.Uint64(w[16:]), binary.LittleEndian.Uint64(w[24:])
		sums += v0&lanes + v0>>8&lanes + v1&lanes + v1>>8&lanes
		more += v2&lanes + v2>>8&lanes + v3&lanes + v3>>8&lanes
	}
	for sums += more; sums != 0; sums >>= 16 {
		unsigned += int64(sums & 0xffff)
	}
	for _, c := range b[148:156] {
		unsigned += ' ' - int64(c)
	}
	if unsigned == sum {
		return true
	}
	signed := unsigned
	for i, c := range b[:BlockSize] {
		if c >= 0x80 && (i < 148 || i >= 156) {
			signed -= 256
		}
	}
	return signed == sum
}

// parseOctal reads a number in octal, with spaces or NULs around it. A NUL
// within ends it.
func parseOctal(b []byte) (int64, error) {
	// Nearly all are digits with one NUL or space behind them, and 20 of them do
	// not overflow.
	var digits uint64
	for i, c := range b {
		if d := c - '0'; d < 8 {
			digits = digits<<3 | uint64(d)
			continue
		}
		if i > 0 && i == len(b)-1 && i <= 20 && (c == 0 || c == ' ') {
			return int64(digits), nil
		}
		break
	}
	blank := func(c byte) bool { return c == ' ' || c == 0 }
	for len(b) > 0 && blank(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && blank(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	var n uint64
	for _, c := range b {
		if c == 0 {
			break
		}
		if c < '0' || c > '7' || n >= 1<<61 {
			return 0, errNumber
		}
		n = n<<3 | uint64(c-'0')
	}
	return int64(n), nil
}

// parseNumeric reads a number in octal or, if the first bit is set, in GNU's
// base-256 two's complement.
func parseNumeric(b []byte) (int64, error) {
	if len(b) == 0 || b[0]&0x80 == 0 {
		return parseOctal(b)
	}
	var inv byte
	if b[0]&0x40 != 0 {
		inv = 0xff
	}
	var x uint64
	for i, c := range b {
		c ^= inv
		if i == 0 {
			c &= 0x7f
		}
		if x>>56 > 0 {
			return 0, errNumber
		}
		x = x<<8 | uint64(c)
	}
	if x>>63 > 0 {
		return 0, errNumber
	}
	if inv == 0xff {
		return ^int64(x), nil
	}
	return int64(x), nil
}
