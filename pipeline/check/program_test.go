package check

import (
	"bytes"
	"debug/elf"
	"fmt"
	"strings"
	"testing"
)

// program64 is an ELF file of 64 bits, little-endian, with one program header.
func program64(change func(b []byte)) []byte {
	b := make([]byte, 64+56)
	copy(b, "\x7fELF\x02\x01\x01")
	b[16], b[18] = byte(elf.ET_DYN), byte(elf.EM_X86_64)
	b[32], b[54], b[56] = 64, 56, 1
	b[64] = byte(elf.PT_INTERP)
	b[64+8], b[64+32] = byte(len(b)), 4
	b = append(b, "/ld\x00"...)
	if change != nil {
		change(b)
	}
	return b
}

func TestReadProgram(t *testing.T) {
	wide := func(b []byte, at int) {
		for i := range 8 {
			b[at+i] = 0xff
		}
	}
	for _, tt := range []struct {
		name, file, interpreter string
		machine                 elf.Machine
		wrong                   bool
	}{
		{name: "ELF", file: string(program64(nil)), interpreter: "/ld", machine: elf.EM_X86_64},
		{name: "static", file: string(program64(func(b []byte) { b[64] = byte(elf.PT_LOAD) })), machine: elf.EM_X86_64},
		{name: "big-endian", file: "\x7fELF\x01\x02\x01" + strings.Repeat("\x00", 9) + "\x00\x02\x00\x14" + strings.Repeat("\x00", 11) + "\x34" +
			strings.Repeat("\x00", 11) + "\x20\x00\x01" + strings.Repeat("\x00", 6) + "\x00\x00\x00\x03\x00\x00\x00\x54" + strings.Repeat("\x00", 8) +
			"\x00\x00\x00\x03" + strings.Repeat("\x00", 12) + "/l\x00", interpreter: "/l", machine: elf.EM_PPC},
		{name: "object file", file: string(program64(func(b []byte) { b[16] = byte(elf.ET_REL) })), machine: elf.EM_X86_64, wrong: true},
		{name: "no headers", file: string(program64(func(b []byte) { b[56] = 0 })), machine: elf.EM_X86_64, wrong: true},
		{name: "headers of another size", file: string(program64(func(b []byte) { b[54] = 57 })), machine: elf.EM_X86_64, wrong: true},
		{name: "headers far away", file: string(program64(func(b []byte) { wide(b, 32) })), machine: elf.EM_X86_64, wrong: true},
		{name: "huge interpreter", file: string(program64(func(b []byte) { wide(b, 64+32) })), machine: elf.EM_X86_64, wrong: true},
		{name: "interpreter far away", file: string(program64(func(b []byte) { wide(b, 64+8) })), machine: elf.EM_X86_64, wrong: true},
		{name: "interpreter without end", file: string(program64(func(b []byte) { b[len(b)-1] = 'x' })), machine: elf.EM_X86_64, wrong: true},
		{name: "cut", file: string(program64(nil))[:63], machine: elf.EM_X86_64, wrong: true},
		{name: "magic alone", file: "\x7fELF", wrong: true},
		{name: "script", file: "#!/bin/sh\n", interpreter: "/bin/sh"},
		{name: "spaces and an argument", file: "#! \t/bin/sh -e\n", interpreter: "/bin/sh"},
		{name: "no newline", file: "#!/bin/sh", interpreter: "/bin/sh"},
		{name: "no interpreter", file: "#! \n/bin/sh", wrong: true},
		{name: "long line", file: "#!/" + strings.Repeat("x", 300) + "\n", wrong: true},
		{name: "long argument", file: "#!/bin/sh " + strings.Repeat("x", 300) + "\n", interpreter: "/bin/sh"},
		{name: "empty", wrong: true},
		{name: "text", file: "echo\n", wrong: true},
	} {
		p, err := readProgram(strings.NewReader(tt.file))
		if p == nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if (err != nil) != tt.wrong || p.machine != tt.machine || p.interpreter != tt.interpreter {
			t.Errorf("%s: interpreter %q, machine %v, %v", tt.name, p.interpreter, p.machine, err)
		}
	}
}

// Whatever the bytes, reading a program ends, and the debug/elf package sees the same interpreter where both see one.
func FuzzReadProgram(f *testing.F) {
	f.Add(program64(nil))
	f.Add([]byte("#!/bin/sh\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := readProgram(bytes.NewReader(b))
		if p == nil {
			t.Fatal(err)
		}
		if err != nil || p.script || len(b) > 1<<16 {
			return
		}
		ef, err := elf.NewFile(bytes.NewReader(b))
		if err != nil {
			return
		}
		if ef.Machine != p.machine {
			t.Errorf("machine %v, not %v", p.machine, ef.Machine)
		}
		for _, prog := range ef.Progs {
			if prog.Type == elf.PT_INTERP {
				name := make([]byte, prog.Filesz)
				if _, err := prog.ReadAt(name, 0); err == nil {
					if name, _, _ = bytes.Cut(name, []byte{0}); string(name) != p.interpreter {
						t.Errorf("interpreter %q, not %q", p.interpreter, name)
					}
				}
				return
			}
		}
	})
}

// Entries as the kernel prints them.
func TestBinfmt(t *testing.T) {
	entry := func(state, flags string) string {
		return fmt.Sprintf("%s\ninterpreter /usr/bin/qemu-s390x-static\nflags: %s\noffset 0\nmagic 7f454c4602020100\nmask ffffffffffffff00\n", state, flags)
	}
	s390 := []byte("\x7fELF\x02\x02\x01\x03 more")
	for _, tt := range []struct {
		name, entry string
		head        []byte
		want        bool
	}{
		{"taken", entry("enabled", "OCF"), s390, true},
		{"disabled", entry("disabled", "OCF"), s390, false},
		{"not fixed: the emulator would have to be in the rootfs", entry("enabled", "OC"), s390, false},
		{"another machine", entry("enabled", "F"), []byte("\x7fELF\x02\x01\x01\x00 more"), false},
		{"short", entry("enabled", "F"), s390[:4], false},
		{"by extension", "enabled\ninterpreter /x\nflags: F\nextension .py\n", s390, false},
		{"nonsense", "enabled\nflags: F\noffset x\nmagic zz\n", s390, false},
		{"no text", "", s390, false},
	} {
		if got := binfmtMatches(tt.entry, tt.head); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
