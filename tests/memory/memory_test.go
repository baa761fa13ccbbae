package memory

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"ocibundle/pipeline/bundle"
	"ocibundle/tarx"
	"ocibundle/tests/testenv"
)

var (
	everything = flag.Bool("all", false, "run everything instead of a sample")
	table      = flag.String("table", "", "write a table of the peaks to this file")
)

const million = 1_000_000

// name is one of a million of a usual length, a thousand to a directory.
func name(i int) string { return fmt.Sprintf("d%03d/name%06d", i/1000, i) }

// A million entries of any kind, onto a disk and into a stream.
func TestMillion(t *testing.T) {
	testenv.NeedRoot(t)
	acl := []byte("\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff\x04\x00\x05\x00\xff\xff\xff\xff\x20\x00\x05\x00\xff\xff\xff\xff")
	for _, kind := range []struct {
		name  string
		flags []string
		entry func(s *stream, i int)
	}{
		{"files", nil, func(s *stream, i int) { s.file(name(i)) }},
		{"directories", nil, func(s *stream, i int) { s.dir(name(i) + "/") }},
		{"directories of many owners", nil, func(s *stream, i int) {
			s.entry(tarx.OutHeader{Type: tarx.TypeDir, Name: name(i) + "/", UID: uint32(i % 60_000), GID: uint32(i % 60_000)})
		}},
		{"directories that files replace", nil, func(s *stream, i int) {
			if i%2 == 0 {
				s.dir("d/" + strconv.Itoa(i%10) + "/")
			} else {
				s.file("d/" + strconv.Itoa((i-1)%10))
			}
		}},
		{"parents without an entry", nil, func(s *stream, i int) { s.file(name(i/2) + "/" + strconv.Itoa(i%2)) }},
		{"symlinks", nil, func(s *stream, i int) { s.symlink(name(i), "../usr/lib/target") }},
		{"hard links", nil, func(s *stream, i int) {
			if i == 0 {
				s.file("f")
			}
			s.entry(tarx.OutHeader{Type: tarx.TypeLink, Name: fmt.Sprintf("l%d", i%1000), Link: "f"})
		}},
		{"FIFOs", nil, func(s *stream, i int) { s.entry(tarx.OutHeader{Type: tarx.TypeFIFO, Name: name(i)}) }},
		{"devices that are left out", []string{"--devices", "skip"}, func(s *stream, i int) { s.device(name(i)) }},
		{"directories with access control lists", nil, func(s *stream, i int) {
			s.entry(tarx.OutHeader{Type: tarx.TypeDir, Name: fmt.Sprintf("d%d/", i%1000),
				Xattrs: []tarx.Xattr{{Name: []byte(tarx.XattrACLDefault), Value: acl}}})
		}},
		{"files with attributes that are left out", nil, func(s *stream, i int) {
			s.entry(tarx.OutHeader{Type: tarx.TypeReg, Name: fmt.Sprintf("f%d", i%1000),
				Xattrs: []tarx.Xattr{{Name: []byte("security.selinux"), Value: []byte("x")}}})
		}},
	} {
		if !*everything && kind.name != "files" && kind.name != "parents without an entry" {
			continue
		}
		all := func(s *stream) {
			for i := range million {
				kind.entry(s, i)
			}
		}
		t.Run(kind.name, func(t *testing.T) {
			if *everything {
				held(t, "a million "+kind.name+", -o DIR", run(t, all, append(kind.flags, "-q", "-o", place(t))...), 64, 0)
			}
			if kind.name != "directories that files replace" { // which a stream cannot
				held(t, "a million "+kind.name+", -o -", run(t, all, append(kind.flags, "-q", "-o", "-")...), 64, 0)
			}
		})
	}
}

// The worst that can be written of each kind. Refusing it is fine.
func TestWorst(t *testing.T) {
	testenv.NeedRoot(t)
	long := strings.Repeat("n", 243)
	deep := strings.Repeat(strings.Repeat("p", 250)+"/", 16)[:4000]
	// A name of a MiB for a directory called d.
	padded := append(bytes.Repeat([]byte("./"), 1<<19-8), "d\x00"...)
	records := func(n int, name func(i int) string, value string) []byte {
		var b []byte
		for i := 0; len(b) < 1<<20-400 && i < n; i++ {
			b = tarx.AppendRecord(b, tarx.SchilyXattr+name(i), value)
		}
		return b
	}
	for _, kind := range []struct {
		name  string
		flags []string
		all   func(s *stream)
	}{
		{"directories with long names", nil, func(s *stream) {
			for i := 0; i < 3*million && s.err == nil; i++ {
				s.dir(fmt.Sprintf("%s%d/", long, i))
			}
		}},
		{"directories of a million owners", nil, func(s *stream) {
			for i := 0; i < million && s.err == nil; i++ {
				s.entry(tarx.OutHeader{Type: tarx.TypeDir, Name: name(i) + "/", UID: uint32(i), GID: uint32(i)})
			}
		}},
		{"symlinks with long targets", nil, func(s *stream) {
			for i := 0; i < 200_000 && s.err == nil; i++ {
				s.symlink(fmt.Sprintf("l%d", i%50_000), deep)
			}
		}},
		{"files and symlinks", nil, func(s *stream) {
			for i := 0; i < 6*million && s.err == nil; i++ {
				s.file(fmt.Sprintf("f%d", i%(3*million)))
				if i%4 == 0 {
					s.symlink(fmt.Sprintf("l%d", i), "f")
				}
			}
		}},
		{"devices with long names", []string{"--devices", "skip"}, func(s *stream) {
			for i := 0; i < 3*million && s.err == nil; i++ {
				s.device(fmt.Sprintf("%s%d", long, i))
			}
		}},
		{"access control lists of a directory with a long name", nil, func(s *stream) {
			acls := records(1<<20, func(int) string { return tarx.XattrACLAccess }, "")
			for range 10 {
				s.extension(tarx.TypeGNUName, padded)
				s.extension(tarx.TypePax, acls)
				s.bare(tarx.TypeDir, "d")
			}
		}},
		{"access control lists that differ", nil, func(s *stream) {
			for i := 0; i < million && s.err == nil; i++ {
				s.entry(tarx.OutHeader{Type: tarx.TypeDir, Name: fmt.Sprintf("d%d/", i%100),
					Xattrs: []tarx.Xattr{{Name: []byte(tarx.XattrACLDefault), Value: fmt.Appendf(nil, "%d", i)}}})
			}
		}},
		// Minutes, where a name is copied for each of them.
		{"attributes that are left out of a file with a long name", nil, func(s *stream) {
			lost := records(55_000, func(i int) string { return "x" }, "")
			for range 4 {
				s.extension(tarx.TypeGNUName, padded)
				s.extension(tarx.TypePax, lost)
				s.bare(tarx.TypeReg, "f")
			}
		}},
		{"account files", nil, func(s *stream) {
			body := bytes.Repeat([]byte("x"), 1<<20)
			for i := range 40 {
				s.entry(tarx.OutHeader{Type: tarx.TypeReg, Name: []string{"etc/passwd", "etc/group"}[i%2], Size: 16 << 20})
				for range 16 {
					s.write(body)
				}
			}
		}},
	} {
		if !*everything && !strings.Contains(kind.name, " a long name") && !strings.Contains(kind.name, " a directory") {
			continue
		}
		t.Run(kind.name, func(t *testing.T) {
			held(t, kind.name+", -o DIR", run(t, kind.all, append(kind.flags, "-q", "-o", place(t))...), 256, 0, 4)
			held(t, kind.name+", -o -", run(t, kind.all, append(kind.flags, "-q", "-o", "-")...), 256, 0, 4)
		})
	}
}

// A million files in the layer of an image.
func TestImage(t *testing.T) {
	testenv.NeedRoot(t)
	layer := func(s *stream) {
		for i := range million {
			s.file(name(i))
		}
		s.end()
	}
	sum := &counter{Hash: sha256.New()}
	layer(&stream{out: bufio.NewWriter(sum)})
	config := fmt.Sprintf(`{"architecture":%q,"os":"linux","config":{"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":["sha256:%x"]}}`, runtime.GOARCH, sum.Sum(nil))
	image := func(s *stream) {
		s.body("manifest.json", `[{"Config":"config.json","Layers":["layer.tar"]}]`)
		s.body("config.json", config)
		s.entry(tarx.OutHeader{Type: tarx.TypeReg, Name: "layer.tar", Size: sum.n})
		layer(s)
	}
	held(t, "a million files in an image, -o -", run(t, image, "--image", "-q", "-o", "-"), 64, 0)
	if *everything {
		held(t, "a million files in an image, -o DIR", run(t, image, "--image", "-q", "-o", place(t)), 64, 0)
	}
}

// A config.json of the size that is read at most, of what takes the most memory in it.
func TestConfigs(t *testing.T) {
	testenv.NeedRoot(t)
	const head = `{"ociVersion":"1.0.0","process":{"args":["sh"],"cwd":"/","user":{"uid":0,"gid":0}},"root":{"path":"rootfs"}`
	for _, kind := range []struct{ name, before, item, after string }{
		{"empty objects", `,"x":[`, `{}`, `]`},
		{"mounts of nothing", `,"mounts":[`, `{}`, `]`},
		{"mounts on the root", `,"mounts":[`, `{"destination":"/"}`, `]`},
		{"namespaces", `,"linux":{"namespaces":[`, `{"type":"mount"}`, `]}`},
		{"system calls", `,"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[`, `{"names":["x"],"action":"SCMP_ACT_ALLOW"}`, `]}}`},
	} {
		t.Run(kind.name, func(t *testing.T) {
			dir := testenv.Dir(t)
			room := bundle.MaxConfig - len(head) - len(kind.before) - len(kind.after) - 1
			items := strings.Repeat(kind.item+",", room/(len(kind.item)+1))
			testenv.Must(t, os.Mkdir(filepath.Join(dir, "rootfs"), 0o755))
			testenv.Must(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte(head+kind.before+strings.TrimSuffix(items, ",")+kind.after+"}"), 0o644))
			nothing := func(*stream) {}
			held(t, "a config of "+kind.name+", check", run(t, nothing, "check", dir), 256, 3)
			held(t, "a config of "+kind.name+", edit", run(t, nothing, "edit", dir, "--hostname", "x"), 256, 0, 2)
		})
	}
}
