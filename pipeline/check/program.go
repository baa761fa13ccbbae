package check

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A program is what the kernel sees in an executable file.
type program struct {
	machine     elf.Machine // of an ELF file
	interpreter string      // of an ELF file with PT_INTERP, or of a script; empty for none
	script      bool
	head        []byte // what binfmt_misc is asked with
}

// programHead is how much of a file the kernel looks at to find out what it is (BINPRM_BUF_SIZE of linux/binfmts.h).
const programHead = 256

var errFormat = errors.New("it is neither an ELF program nor a script")

// readProgram reads what the kernel would read to execute a file (execve(2), elf(5)). The file is hostile: every number in
// it is bounded before it is used, and at most a few pages are read.
func readProgram(f io.ReaderAt) (*program, error) {
	head := make([]byte, programHead)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	p := &program{head: head[:n]}
	switch {
	case n == 0:
		return p, errors.New("it is empty")
	case bytes.HasPrefix(p.head, []byte("#!")):
		p.script = true
		line, _, ended := bytes.Cut(p.head[2:], []byte("\n"))
		line = bytes.TrimLeft(line, " \t")
		name := line
		if i := bytes.IndexAny(line, " \t\x00"); i >= 0 {
			name = line[:i]
		} else if !ended && n == programHead {
			return p, errors.New("the interpreter in its first line is too long")
		}
		if len(name) == 0 {
			return p, errors.New("its first line names no interpreter")
		}
		p.interpreter = string(name)
		return p, nil
	case bytes.HasPrefix(p.head, []byte(elf.ELFMAG)):
		return p, p.readELF(f)
	}
	return p, errFormat
}

var errDamaged = errors.New("its ELF header is damaged")

// readPart fills buf with what is at an offset. A file that ends before is damaged.
func readPart(f io.ReaderAt, buf []byte, off uint64) error {
	_, err := f.ReadAt(buf, int64(off))
	if err == io.EOF {
		return errDamaged
	}
	return err
}

// readELF reads the machine and the interpreter of an ELF file.
func (p *program) readELF(f io.ReaderAt) error {
	bad := errDamaged
	if len(p.head) < 52 {
		return bad
	}
	var order binary.ByteOrder = binary.LittleEndian
	switch elf.Data(p.head[elf.EI_DATA]) {
	case elf.ELFDATA2LSB:
	case elf.ELFDATA2MSB:
		order = binary.BigEndian
	default:
		return bad
	}
	p.machine = elf.Machine(order.Uint16(p.head[18:]))
	if t := elf.Type(order.Uint16(p.head[16:])); t != elf.ET_EXEC && t != elf.ET_DYN {
		return fmt.Errorf("it is an ELF file of type %v, which is no program", t)
	}
	var phoff uint64
	var size, count uint16
	wide := elf.Class(p.head[elf.EI_CLASS]) == elf.ELFCLASS64
	want := uint16(32)
	if wide {
		if len(p.head) < 64 {
			return bad
		}
		want = 56
		phoff, size, count = order.Uint64(p.head[32:]), order.Uint16(p.head[54:]), order.Uint16(p.head[56:])
	} else {
		phoff, size, count = uint64(order.Uint32(p.head[28:])), order.Uint16(p.head[42:]), order.Uint16(p.head[44:])
	}
	// The kernel's own limits (load_elf_phdrs).
	if size != want || count < 1 || int(count)*int(size) > 64<<10 || phoff > 1<<62 {
		return bad
	}
	table := make([]byte, int(count)*int(size))
	if err := readPart(f, table, phoff); err != nil {
		return err
	}
	for ; len(table) > 0; table = table[size:] {
		if elf.ProgType(order.Uint32(table)) != elf.PT_INTERP {
			continue
		}
		off, length := uint64(order.Uint32(table[4:])), uint64(order.Uint32(table[16:]))
		if wide {
			off, length = order.Uint64(table[8:]), order.Uint64(table[32:])
		}
		if length < 2 || length > unix.PathMax || off > 1<<62 {
			return bad
		}
		name := make([]byte, length)
		if err := readPart(f, name, off); err != nil {
			return err
		}
		if name[length-1] != 0 {
			return bad
		}
		name, _, _ = bytes.Cut(name, []byte{0})
		p.interpreter = string(name)
		return nil
	}
	return nil
}

// machines are what this host's kernel runs by itself, its own 32-bit forebear included.
func machines() []elf.Machine {
	if runtime.GOARCH == "arm64" {
		return []elf.Machine{elf.EM_AARCH64, elf.EM_ARM}
	}
	return []elf.Machine{elf.EM_X86_64, elf.EM_386}
}

// emulated tells whether an emulator is registered for a file that works inside a container: its entry has the flag F, by
// which the kernel opens the emulator beforehand (binfmt_misc in the kernel's documentation).
func emulated(head []byte) bool {
	entries, err := filepath.Glob("/proc/sys/fs/binfmt_misc/*")
	if err != nil {
		return false
	}
	return slices.ContainsFunc(entries, func(name string) bool {
		if base := filepath.Base(name); base == "register" || base == "status" {
			return false
		}
		text, err := os.ReadFile(name)
		return err == nil && binfmtMatches(string(text), head)
	})
}

// binfmtMatches tells whether an entry of binfmt_misc takes a file.
func binfmtMatches(entry string, head []byte) bool {
	lines := strings.Split(entry, "\n")
	if lines[0] != "enabled" {
		return false
	}
	var magic, mask []byte
	offset, fixed := 0, false
	for _, l := range lines[1:] {
		key, value, _ := strings.Cut(l, " ")
		var err error
		switch key {
		case "flags:":
			fixed = strings.Contains(value, "F")
		case "offset":
			offset, err = strconv.Atoi(value)
		case "magic":
			magic, err = hex.DecodeString(value)
		case "mask":
			mask, err = hex.DecodeString(value)
		}
		if err != nil {
			return false
		}
	}
	if !fixed || len(magic) == 0 || offset < 0 || offset > len(head) || len(head)-offset < len(magic) {
		return false
	}
	for i := range magic {
		m := byte(0xff)
		if i < len(mask) {
			m = mask[i]
		}
		if (head[offset+i]^magic[i])&m != 0 {
			return false
		}
	}
	return true
}
