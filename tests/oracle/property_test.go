package oracle

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/tarx"
	"ocibundle/tests/hostile/tarscript"
	"ocibundle/tests/testenv"
)

// seedVar repeats a run: the seed that a failure prints.
const seedVar = "OCIBUNDLE_TEST_SEED"

func newRand(t testing.TB, round int) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv(seedVar); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("round %d: repeat with %s=%d", round, seedVar, seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

var nameParts = []string{
	"a", "b", "A", "etc", "lib", "with blank", "caf\xe9", "\u00e9", "e\u0301", "new\nline", "..x", ".wh.a", "-rf", `back\slash`,
	strings.Repeat("n", 101), strings.Repeat("L", 255),
}

func randomMode(r *rand.Rand) string {
	return fmt.Sprintf("%04o", pick(r, 0o644, 0o755, 0o600, 0o400, 0, 0o777, 0o4755, 0o2755, 0o1777, 0o6711, 0o7777, r.IntN(0o10000)))
}

func randomID(r *rand.Rand) int64 {
	return pick[int64](r, 0, 0, 0, 1, 1000, 65534, 2097151, 2097152, 1<<31, 1<<32-2)
}

func randomContent(r *rand.Rand) []byte {
	var content []byte
	for range r.IntN(4) {
		piece := make([]byte, pick(r, 0, 1, 511, 512, 513, 4096, 4096, 70000, 70000, 300000))
		if r.IntN(2) == 0 {
			for i := range piece {
				piece[i] = byte(r.Uint32())
			}
		}
		content = append(content, piece...)
	}
	return content
}

func randomXattrs(r *rand.Rand, verb string) map[string]string {
	xattrs := map[string]string{}
	if (verb == "file" || verb == "dir") && r.IntN(4) == 0 {
		xattrs["user."+pick(r, "a", "b", "with.dots")] = pick(r, "v", "", "a=b\nc", "\x00\xff binary")
	}
	if r.IntN(8) == 0 {
		xattrs["trusted."+pick(r, "a", "overlay.opaque")] = "y"
	}
	if verb == "file" && r.IntN(8) == 0 {
		xattrs["security.capability"] = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	}
	return xattrs
}

func randomName(r *rand.Rand) string {
	var parts []string
	for range 1 + r.IntN(4) {
		// Mostly few names, so that they meet.
		parts = append(parts, nameParts[min(r.IntN(len(nameParts)), r.IntN(len(nameParts)))])
	}
	return strings.Join(parts, "/")
}

// kind says what a generated stream leaves out, because others do it in ways of their own.
type kind int

const (
	wild  kind = iota // anything goes
	tame              // no directory is replaced by anything else, nothing goes through a symlink, hard links have their inode's metadata
	fresh             // and no name comes twice, no hard link is to a symlink
)

// generate makes a stream of entries that all have a place in the model.
func generate(t testing.TB, r *rand.Rand, entries int, k kind) ([]byte, *model) {
	t.Helper()
	m := newModel()
	var stream []byte
	var names []string
	for len(names) < entries {
		g := &generated{}
		g.Verb = pick(r, "file", "file", "file", "file", "dir", "dir", "sym", "hard", "fifo", "char", "block")
		g.Name = randomName(r)
		if len(names) > 0 && r.IntN(4) == 0 {
			g.Name = pick(r, names...)
		}
		if k >= tame {
			dir, base, err := m.parent(g.Name, false)
			if err == nil && dir.children[base] != nil {
				old := dir.children[base]
				if old.verb == "dir" && g.Verb != "dir" || k == fresh && !old.implied {
					continue
				}
			}
			if throughSymlink(m, g.Name) {
				continue
			}
		}
		g.mtime = stamp{pick[int64](r, 0, 1, 1e9, 1234567890, r.Int64N(4e9)), pick[int64](r, 0, 0, 1, 500000000, 999999999)}
		uid, gid := randomID(r), randomID(r)
		g.verb, g.mode, g.owner = g.Verb, randomMode(r), fmt.Sprintf("%d:%d", uid, gid)
		g.Attrs = []tarscript.Attr{{Key: "mode", Value: g.mode}}
		for _, id := range []struct {
			key   string
			value int64
		}{{"uid", uid}, {"gid", gid}} {
			key := id.key
			if id.value > 2097151 && r.IntN(2) == 0 {
				key = "pax." + key
			}
			g.Attrs = append(g.Attrs, tarscript.Attr{Key: key, Value: fmt.Sprint(id.value)})
		}
		key := "mtime"
		if g.mtime.nsec != 0 {
			key = "pax.mtime"
		}
		g.Attrs = append(g.Attrs, tarscript.Attr{Key: key, Value: g.mtime.String()})
		if r.IntN(3) == 0 {
			g.Attrs = append(g.Attrs, tarscript.Attr{Key: "long", Value: "gnu"})
		}
		switch g.Verb {
		case "file":
			g.content = randomContent(r)
			g.Body = g.content
		case "sym":
			g.target = pick(r, "a", "/a", "../a", "b/../A", "/etc/lib", ".", "..", "/", "nowhere", strings.Repeat("t", 150), "a/b")
			g.Target = g.target
		case "hard":
			g.Target = randomName(r)
			if len(names) > 0 && r.IntN(4) != 0 {
				g.Target = pick(r, names...)
			}
			if k >= tame {
				dir, base, err := m.parent(g.Target, false)
				if err != nil || dir.children[base] == nil || throughSymlink(m, g.Target) || g.Target == g.Name {
					continue
				}
				// Others give the inode the link's metadata; where that is its own, there is nothing to see.
				from := dir.children[base]
				// go-archive's chown of the link takes the capability; GNU tar links its placeholder of a symlink.
				if from.xattrs["security.capability"] != "" || k == fresh && from.verb == "sym" {
					continue
				}
				if from.verb != "dir" {
					linked := &generated{inode: *from}
					linked.Verb, linked.Name, linked.Target = "hard", g.Name, g.Target
					linked.Attrs = attrsOf(from)
					g = linked
				}
			}
		case "char", "block":
			g.device = pick(r, "1:3", "5:1", "259:1048575", "0:0")
			g.Attrs = append(g.Attrs, tarscript.Attr{Key: "dev", Value: g.device})
		}
		if g.Verb != "hard" {
			if g.Verb != "sym" || k == wild { // go-archive sets them on what the symlink leads to
				g.xattrs = randomXattrs(r, g.Verb)
			}
			for name, value := range g.xattrs {
				g.Attrs = append(g.Attrs, tarscript.Attr{Key: "xattr." + name, Value: value})
			}
		}
		if m.apply(g) != nil {
			continue
		}
		var err error
		if stream, err = g.AppendTo(stream); err != nil {
			t.Fatal(err)
		}
		names = append(names, g.Name)
	}
	return append(stream, make([]byte, 1024)...), m
}

func attrsOf(n *inode) []tarscript.Attr {
	uid, gid, _ := strings.Cut(n.owner, ":")
	return []tarscript.Attr{{Key: "mode", Value: n.mode}, {Key: "uid", Value: uid}, {Key: "gid", Value: gid}, {Key: "pax.mtime", Value: n.mtime.String()}}
}

// throughSymlink reports whether a name's parent is reached by a symlink.
func throughSymlink(m *model, name string) bool {
	here := m.root
	parts := strings.Split(name, "/")
	for _, part := range parts[:len(parts)-1] {
		next := here.children[part]
		if next == nil {
			return false
		}
		if next.verb != "dir" {
			return true
		}
		here = next
	}
	return false
}

const generatedRounds = 30

// Streams in which names come again, in any order, below parents that nobody named and through symlinks: ours is what the
// model says, with one worker, with two and with eight.
func TestGeneratedStreams(t *testing.T) {
	testenv.NeedRoot(t)
	for round := range generatedRounds {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			r := newRand(t, round)
			stream, m := generate(t, r, 20+r.IntN(150), wild)
			for _, workers := range []int{1, 2, 8} {
				for _, feed := range []tarx.Feed{tarx.FeedNothing, tarx.FeedProcess, tarx.FeedReader} {
					dir, err := engine(t, bytes.NewReader(stream), workers, feed)
					if err != nil {
						t.Fatalf("%d workers, feed %d: %v", workers, feed, err)
					}
					check(t, fmt.Sprintf("the model, %d workers, feed %d", workers, feed), look(t, dir), m.view(), func(difference) string { return "" })
				}
			}
		})
	}
}

// Streams as above, but for what others do otherwise: ours is what go-archive makes, and what GNU tar makes of those where no
// name comes twice.
func TestGeneratedStreamsAgainstOthers(t *testing.T) {
	testenv.NeedRoot(t)
	gnu := 0
	for round := range generatedRounds {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			r := newRand(t, round)
			k := pick(r, tame, fresh)
			stream, m := generate(t, r, 20+r.IntN(100), k)
			dir, err := program(t, bytes.NewReader(stream))
			ours := must(t, dir, err)
			check(t, "the model", ours, m.view(), func(difference) string { return "" })
			named := namesIn(t, stream)
			dir, err = goArchive(t, bytes.NewReader(stream))
			check(t, "go-archive", ours, must(t, dir, err), meantOfGoArchive(named))
			if k == tame {
				return
			}
			dir, err = gnuTar(t, bytes.NewReader(stream))
			if _, ok := errors.AsType[*exec.ExitError](err); ok {
				t.Logf("GNU tar: %v", err)
				return
			}
			gnu++
			check(t, "GNU tar", ours, must(t, dir, err), meantOfGNUTar(named, ours))
		})
	}
	t.Logf("GNU tar extracted %d of %d", gnu, generatedRounds)
	if gnu == 0 {
		t.Error("GNU tar extracted none: it is not an oracle")
	}
}

// Trees on disk, packed by GNU tar in each of its formats: ours is the tree itself.
func TestGeneratedTrees(t *testing.T) {
	testenv.NeedRoot(t)
	for round := range generatedRounds {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			r := newRand(t, round)
			format := pick(r, "--format=gnu", "--format=posix --sparse-version=0.0 --xattrs --xattrs-include=*", "--format=posix --sparse-version=0.1 --xattrs --xattrs-include=*",
				"--format=posix --sparse-version=1.0 --xattrs --xattrs-include=*", "--format=posix --xattrs --xattrs-include=*")
			source := newDir(t, "source")
			plant(t, r, source, 5+r.IntN(150), !strings.Contains(format, "posix"))
			args := strings.Fields(format)
			if strings.Contains(format, "sparse") || r.IntN(2) == 0 {
				args = append(args, "--sparse")
			}
			stream := pack(t, source, args...)
			want := look(t, source)
			dir, err := program(t, bytes.NewReader(stream))
			check(t, "the source, "+format, must(t, dir, err), want, func(difference) string { return "" })
		})
	}
}

// plant makes a random tree.
func plant(t testing.TB, r *rand.Rand, root string, n int, wholeSeconds bool) {
	t.Helper()
	dirs := []string{root}
	var files, all []string
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		path := filepath.Join(pick(r, dirs...), nameParts[r.IntN(len(nameParts))])
		if _, err := os.Lstat(path); err == nil || len(path) > 3000 {
			continue
		}
		var verb string
		switch verb = pick(r, "file", "file", "sparse", "dir", "sym", "hard", "fifo", "char"); verb {
		case "file":
			check(os.WriteFile(path, randomContent(r), 0o600))
			files = append(files, path)
		case "sparse":
			f, err := os.Create(path)
			check(err)
			for range r.IntN(8) {
				_, err := f.WriteAt(bytes.Repeat([]byte("x"), 1+r.IntN(10000)), r.Int64N(4<<20))
				check(err)
			}
			check(f.Truncate(r.Int64N(5 << 20)))
			check(f.Close())
			files = append(files, path)
			verb = "file"
		case "dir":
			check(os.Mkdir(path, 0o700))
			dirs = append(dirs, path)
		case "sym":
			check(os.Symlink(pick(r, "a", "/etc/passwd", "../../x", strings.Repeat("t", 200)), path))
		case "hard":
			if len(files) == 0 {
				continue
			}
			check(os.Link(pick(r, files...), path))
			continue
		case "fifo":
			check(unix.Mkfifo(path, 0o600))
		case "char":
			check(unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
		}
		all = append(all, path)
		check(os.Lchown(path, int(randomID(r)), int(randomID(r))))
		if !wholeSeconds && verb != "sym" {
			for name, value := range randomXattrs(r, verb) {
				check(unix.Lsetxattr(path, name, []byte(value), 0))
			}
		}
		if verb != "sym" {
			mode, err := strconv.ParseUint(randomMode(r), 8, 32)
			check(err)
			check(unix.Chmod(path, uint32(mode)))
		}
	}
	slices.Reverse(all)
	for _, path := range append(all, root) {
		nsec := r.Int64N(1e9)
		if wholeSeconds {
			nsec = 0
		}
		when := unix.Timespec{Sec: r.Int64N(4e9), Nsec: nsec}
		check(unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{when, when}, unix.AT_SYMLINK_NOFOLLOW))
	}
}
