package pipeline

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Where nothing is mounted, a walk ends where the kernel says, for any links: RESOLVE_IN_ROOT is the oracle.
func TestViewIsTheKernels(t *testing.T) {
	found, missed := 0, 0
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 0))
		outside := t.TempDir()
		dir := filepath.Join(outside, "root")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		name := func() string { return string(rune('a' + rng.IntN(4))) }
		somewhere := func() string {
			var b strings.Builder
			for range 1 + rng.IntN(5) {
				b.WriteString([]string{"", "/", name(), name(), name(), "..", "."}[rng.IntN(7)] + "/")
			}
			return strings.TrimSuffix(b.String(), "/")
		}
		dirs := []string{dir}
		for range 30 {
			at := filepath.Join(dirs[rng.IntN(len(dirs))], name())
			switch rng.IntN(4) {
			case 0, 1:
				if os.Mkdir(at, 0o755) == nil {
					dirs = append(dirs, at)
				}
			case 2:
				os.Symlink(somewhere()+"/"+name(), at)
			default:
				os.WriteFile(at, nil, 0o644)
			}
		}
		root, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		v := newView(root)
		for range 200 {
			path := "/" + somewhere() + "/" + name()
			// EAGAIN is no answer: a rename or a mount anywhere on the machine ends a lookup with ".." in it
			// (openat2(2)).
			fd, want := -1, error(unix.EAGAIN)
			for want == unix.EAGAIN || want == unix.EINTR {
				fd, want = unix.Openat2(int(root.Fd()), path, &unix.OpenHow{Flags: unix.O_PATH, Resolve: unix.RESOLVE_IN_ROOT})
			}
			var ws, gs unix.Stat_t
			if want == nil {
				if err := unix.Fstat(fd, &ws); err != nil {
					t.Fatal(err)
				}
				unix.Close(fd)
			}
			r, err := v.walk(path, walkLook)
			if err == nil {
				gs = r.st
				r.close()
			}
			switch {
			case want == nil && err == nil:
				found++
			default:
				missed++
			}
			if (want == nil) != (err == nil) || want != nil && !errors.Is(err, want) || ws.Ino != gs.Ino || ws.Dev != gs.Dev {
				t.Errorf("seed %d: %q is inode %d (%v), the kernel says %d (%v)", seed, path, gs.Ino, err, ws.Ino, want)
			}
		}
	}
	if found < 500 || missed < 500 {
		t.Errorf("%d paths found and %d not: the trees do not say much", found, missed)
	}
}

// While another process swaps directories and links to the host, a walk ends within the rootfs or nowhere.
func TestViewUnderAttack(t *testing.T) {
	outside := t.TempDir()
	dir := filepath.Join(outside, "root")
	secret := filepath.Join(outside, "b")
	for _, d := range []string{dir + "/a/b", dir + "/c", secret} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{dir + "/a/b/f", dir + "/c/f", secret + "/f"} {
		if err := os.WriteFile(f, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, dir+"/evil"); err != nil {
		t.Fatal(err)
	}
	var hidden unix.Stat_t
	if err := unix.Stat(secret+"/f", &hidden); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			unix.Renameat2(unix.AT_FDCWD, dir+"/a", unix.AT_FDCWD, dir+"/evil", unix.RENAME_EXCHANGE)
			unix.Renameat2(unix.AT_FDCWD, dir+"/a", unix.AT_FDCWD, dir+"/c", unix.RENAME_EXCHANGE)
		}
	}()
	defer func() { close(stop); <-stopped }()
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	v := newView(root)
	found := 0
	for range 20_000 {
		for _, path := range []string{"/a/b/f", "/a/../a/b/f", "/evil/b/f", "/c/f"} {
			r, err := v.walk(path, walkLook)
			if err != nil {
				continue
			}
			if r.st.Ino == hidden.Ino && r.st.Dev == hidden.Dev {
				t.Fatalf("%s led out of the rootfs", path)
			}
			r.close()
			found++
		}
	}
	if found == 0 {
		t.Error("no walk came to an end: the attacker was in the way of its own attack")
	}
}

// A walk with too many components, or too deep, ends in an error, and leaves no handle open.
func TestViewIsBounded(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(strings.TrimSuffix(strings.Repeat("./", 2000), "/"), dir+"/dots"); err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	handles := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	v := newView(root)
	before := handles()
	for _, path := range []string{
		strings.Repeat("/dots", 30),
		strings.Repeat("/x", 100_000),
		strings.Repeat("/x", 100) + strings.Repeat("/..", 100_000),
	} {
		if _, err := v.walk(path, walkMake); !errors.Is(err, errDeep) {
			t.Errorf("%.20s...: %v", path, err)
		}
	}
	if after := handles(); after != before {
		t.Errorf("%d handles, and %d before", after, before)
	}
}

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
