package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"maps"
	"math/rand"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"ocibundle/tests/testenv"
)

// merged is what the layers so far come to: the type of each name.
type merged map[string]byte

// hide takes a name and what is below it away.
func (m merged) hide(name string) {
	maps.DeleteFunc(m, func(n string, _ byte) bool { return n == name || strings.HasPrefix(n, name+"/") })
}

func (m merged) dirs() []string {
	var all []string
	for name, typ := range m {
		if typ == tar.TypeDir {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// randomLayer makes a layer that an engine could have made on top of lower, but for the
// order of its entries, and returns what it all comes to.
func randomLayer(r *rand.Rand, lower merged) ([]byte, merged) {
	join := func(dir, name string) string { return strings.TrimPrefix(path.Join(dir, name), "./") }
	pick := func(list []string) string { return list[r.Intn(len(list))] }
	whiteouts := map[string]bool{}
	now := maps.Clone(lower)
	for range r.Intn(6) {
		dir := pick(lower.dirs())
		if r.Intn(4) == 0 {
			whiteouts[join(dir, ".wh..wh..opq")] = true
			for name := range lower {
				if name != dir && (dir == "." || strings.HasPrefix(name, dir+"/")) {
					now.hide(name)
				}
			}
			continue
		}
		name := join(dir, pick([]string{"a", "b", "c", "d"}))
		whiteouts[join(path.Dir(name), ".wh."+path.Base(name))] = true
		now.hide(name)
	}
	type entry struct {
		header tar.Header
		body   string
	}
	upper := map[string]entry{}
	meta := func(typ byte, mode int64) tar.Header {
		return tar.Header{Typeflag: typ, Mode: mode, Uid: r.Intn(3), Gid: r.Intn(3), ModTime: time.Unix(r.Int63n(1<<30), 0)}
	}
	// up names the directories on the way: those that are not there, and often others.
	up := func(name string) {
		for dir := path.Dir(name); ; dir = path.Dir(dir) {
			_, have := upper[dir]
			if !have && (lower[dir] != tar.TypeDir || now[dir] != tar.TypeDir || r.Intn(2) == 0) {
				upper[dir] = entry{header: meta(tar.TypeDir, int64(r.Intn(0o10)*0o111+0o700))}
				now[dir] = tar.TypeDir
			}
			if dir == "." {
				return
			}
		}
	}
	for range r.Intn(8) {
		name := join(pick(now.dirs()), pick([]string{"a", "b", "c", "d"}))
		if slices.ContainsFunc(slices.Collect(maps.Keys(upper)), func(n string) bool { return n == name || strings.HasPrefix(n, name+"/") }) {
			continue
		}
		typ := []byte{tar.TypeDir, tar.TypeDir, tar.TypeReg, tar.TypeReg, tar.TypeSymlink, tar.TypeFifo}[r.Intn(6)]
		if typ != tar.TypeDir || now[name] != tar.TypeDir {
			now.hide(name)
			// No engine hides what is in a directory that is gone.
			maps.DeleteFunc(whiteouts, func(w string, _ bool) bool { return strings.HasPrefix(w, name+"/") })
		}
		up(name)
		e := entry{header: meta(typ, int64(r.Intn(0o1000)|0o600))}
		switch typ {
		case tar.TypeDir:
			e.header.Mode |= 0o100
		case tar.TypeReg:
			e.body = fmt.Sprint(name, r.Intn(1000))
		case tar.TypeSymlink:
			e.header.Linkname = pick([]string{"a", "b", "../a", "/b/c", "/"})
		}
		upper[name] = e
		now[name] = typ
	}
	// Hard links, to files of the layer itself.
	for _, target := range slices.Sorted(maps.Keys(upper)) {
		if e := upper[target]; e.header.Typeflag != tar.TypeReg || r.Intn(3) > 0 {
			continue
		}
		name := join(pick(now.dirs()), "l")
		if _, have := upper[name]; have || now[name] != 0 {
			continue
		}
		up(name)
		upper[name] = entry{header: tar.Header{Typeflag: tar.TypeLink, Linkname: target}}
		now[name] = tar.TypeReg
	}

	// Any order will do in which directories stand before what is in them, and files
	// before the links to them.
	names := slices.Collect(maps.Keys(upper))
	slices.Sort(names)
	r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	rank := func(n string) int {
		if upper[n].header.Typeflag == tar.TypeLink {
			return 1000
		}
		if n == "." {
			return 0
		}
		return 1 + strings.Count(n, "/")
	}
	slices.SortStableFunc(names, func(a, b string) int { return rank(a) - rank(b) })
	hidden := slices.Sorted(maps.Keys(whiteouts))
	for _, w := range hidden {
		names = slices.Insert(names, r.Intn(len(names)+1), w)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names {
		e := upper[name]
		if whiteouts[name] {
			e = entry{header: meta(tar.TypeReg, 0)}
		}
		e.header.Name, e.header.Size = name, int64(len(e.body))
		if e.header.Typeflag == tar.TypeDir {
			e.header.Name += "/"
		}
		if err := w.WriteHeader(&e.header); err != nil {
			panic(err)
		}
		w.Write([]byte(e.body))
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes(), now
}

// Images that nobody thought of are what umoci makes of them.
func TestRandomLayers(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "umoci")
	rounds := 40
	for seed := range rounds {
		r := rand.New(rand.NewSource(int64(seed)))
		now := merged{".": tar.TypeDir}
		var base bytes.Buffer
		w := tar.NewWriter(&base)
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755, ModTime: time.Unix(5, 0)}); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		layers := [][]byte{base.Bytes()}
		for range 2 + r.Intn(6) {
			var l []byte
			l, now = randomLayer(r, now)
			layers = append(layers, l)
		}
		a := &archiver{t: t}
		a.layout(named(forPlatform(a.manifest(a.config("", layers...), layers...), "linux/"+runtime.GOARCH), "x"))
		dir := testenv.Dir(t)
		archive := filepath.Join(dir, "image.tar")
		if err := os.WriteFile(archive, a.bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(dir+"/layout", 0o755); err != nil {
			t.Fatal(err)
		}
		testenv.Output(t, exec.CommandContext(t.Context(), "tar", "-C", dir+"/layout", "-xf", archive))
		testenv.Output(t, exec.CommandContext(t.Context(), "umoci", "unpack", "--image", dir+"/layout:x", dir+"/umoci"))
		got, want := diskTree(t, bundle(t, archive)+"/rootfs"), diskTree(t, dir+"/umoci/rootfs")
		if len(got) != len(now) {
			t.Errorf("seed %d: %d names, and %d are expected", seed, len(got), len(now))
		}
		for name, typ := range now {
			if got[name].Type != typ {
				t.Errorf("seed %d: %s is of type %q, expected is %q", seed, name, got[name].Type, typ)
			}
		}
		// A whiteout behind a directory's own entry, and umoci leaves the directory with
		// the time at which it removed something there. No layer has a time so late.
		for name, n := range want {
			if n.MTime > 1<<30 && n.Type == tar.TypeDir {
				n.MTime = got[name].MTime
				want[name] = n
			}
			if got[name].MTime > 1<<30 {
				t.Errorf("seed %d: %s has a time of its own", seed, name)
			}
		}
		compare(t, got, want, nil)
		compare(t, diskTree(t, flattened(t, a.bytes(), seed%2 == 0)+"/rootfs"), got, nil)
		if t.Failed() {
			for i, l := range layers {
				t.Logf("layer %d:\n%s", i, testenv.Output(t, tarList(t, l)))
			}
			t.Fatalf("seed %d", seed)
		}
	}
}

func tarList(t *testing.T, archive []byte) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), "tar", "-tv", "--numeric-owner")
	cmd.Stdin = bytes.NewReader(archive)
	return cmd
}
