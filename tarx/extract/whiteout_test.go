package extract

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"ocibundle/tarx"
	"ocibundle/tests/testenv"
)

// apply puts layers onto each other below dir, the way an image's are.
func apply(t *testing.T, dir string, o tarx.Options, layers ...[]byte) (*tarx.Report, error) {
	t.Helper()
	if os.Geteuid() != 0 && o.Mapping.Empty() {
		o.Owner = tarx.OwnerRootless
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	x, err := New(root, o)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	for i, l := range layers {
		if i > 0 {
			if err := x.Whiteouts(t.Context(), bytes.NewReader(l)); err != nil {
				return nil, err
			}
		}
		if err := x.Layer(t.Context(), bytes.NewReader(l), nil); err != nil {
			return nil, err
		}
	}
	return x.Finish(t.Context())
}

// listing is the tree below dir in one line.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		switch d.Type() {
		case fs.ModeDir:
			name += "/"
		case fs.ModeSymlink:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			name += "->" + to
		case fs.ModeNamedPipe:
			name += "|"
		default:
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if len(text) > 20 {
				text = fmt.Appendf(nil, "%d bytes", len(text))
			}
			name += "=" + string(text)
		}
		all = append(all, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

// What aufs kept of a layer's hard links is not in the tree, and its links are: go-archive's UnpackLayer has the same.
func TestAufsLinks(t *testing.T) {
	var made []*os.File
	defer func() {
		for _, f := range made {
			f.Close()
		}
	}()
	side := t.TempDir()
	o := tarx.Options{Aside: func() (*os.File, error) {
		f, err := os.Open(side)
		made = append(made, f)
		return f, err
	}}
	dir := t.TempDir()
	layer := "d .wh..wh.plnk\nf .wh..wh.plnk/7.1 one\nh a .wh..wh.plnk/7.1\nh b/c /.wh..wh.plnk/7.1\nf .wh..wh.plnk/8.1 two"
	if _, err := apply(t, dir, o, testenv.TarLines(t, layer), testenv.TarLines(t, "f .wh..wh.plnk/7.1 other\nh d .wh..wh.plnk/7.1")); err != nil {
		t.Fatal(err)
	}
	if got, want := listing(t, dir), "a=one b/ b/c=one d=other"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if len(made) != 1 {
		t.Errorf("%d directories were made", len(made))
	}
	side = t.TempDir()
	_, err := apply(t, t.TempDir(), o, testenv.TarLines(t, layer), testenv.TarLines(t, "h d .wh..wh.plnk/7.1"))
	if !errors.Is(err, tarx.ErrMalformed) {
		t.Errorf("a link to another layer's: %v", err)
	}
}

// What is left out by name may be linked to, in every order and through links that are left out themselves.
func TestExcludedLinks(t *testing.T) {
	exclude, err := tarx.NewExclude([]string{"x"})
	if err != nil {
		t.Fatal(err)
	}
	o := tarx.Options{Exclude: exclude, Devices: tarx.DevicesSkip}
	for _, c := range []struct{ lines, want string }{
		{"f x/a one\nh b x/a\nh c x/a\nh d b", "b=one c=one d=one"},
		{"f x/a one\nh x/b x/a\nh c x/b", "c=one"},
		{"f a one\nh x/b a\nh c x/b\nf a two", "a=two c=one"},
		{"f x/a one\nf x/a two\nh b x/a", "b=two"},
		{"l x/a to\nh b x/a", "b->to"},
		{"h x/a nothing\nd x\nl y x\nf y/f z", ""},
		{"f x/a " + strings.Repeat("z", 3*tarx.ChunkSize) + "\nh b x/a", fmt.Sprintf("b=%d bytes", 3*tarx.ChunkSize)},
	} {
		dir, side := t.TempDir(), t.TempDir()
		o.Aside = func() (*os.File, error) { return os.Open(side) }
		_, err := apply(t, dir, o, testenv.TarLines(t, c.lines))
		if c.want == "" {
			if !errors.Is(err, tarx.ErrMalformed) { // y leads nowhere
				t.Errorf("%.40q: %v", c.lines, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%.40q: %v", c.lines, err)
		} else if got := listing(t, dir); got != c.want {
			t.Errorf("%.40q: got %s, want %s", c.lines, got, c.want)
		}
	}
}

// What a layer has made itself is in the way of what it has below that.
func TestLayerOwnInTheWay(t *testing.T) {
	for _, lines := range []string{"f a x\nf a/b y", "l a nowhere\nf a/b y", "l a a\nf a/b y", "p d/a\nd d/a/b"} {
		for _, layers := range [][][]byte{
			{testenv.TarLines(t, lines)},
			{testenv.TarLines(t, "f a lower\nd d"), testenv.TarLines(t, lines)},
		} {
			if _, err := apply(t, t.TempDir(), tarx.Options{}, layers...); !errors.Is(err, tarx.ErrMalformed) {
				t.Errorf("%q, as layer %d: %v", lines, len(layers), err)
			}
		}
	}
}

func TestLayers(t *testing.T) {
	const lower = "d d\nf d/old o\nd d/sub\nf d/sub/x x\nf file f\nl link d\np fifo\nd keep\nf keep/k k"
	const all = "d/ d/old=o d/sub/ d/sub/x=x fifo| file=f keep/ keep/k=k link->d"
	for _, tt := range []struct {
		name   string
		upper  []string
		want   string
		losses string // kinds and counts
	}{
		{"nothing", nil, all, ""},
		{"a file", []string{"f .wh.file"}, "d/ d/old=o d/sub/ d/sub/x=x fifo| keep/ keep/k=k link->d", ""},
		{"a directory, a link, a FIFO", []string{"f .wh.d\nf ./.wh.link\nf /.wh.fifo"}, "file=f keep/ keep/k=k", ""},
		{"in a directory", []string{"f d/.wh.sub"}, "d/ d/old=o fifo| file=f keep/ keep/k=k link->d", ""},
		{"twice", []string{"f d/.wh.sub\nf d/.wh.sub\nf .wh.d\nf d/.wh.old"}, "fifo| file=f keep/ keep/k=k link->d", ""},
		{"of another type", []string{"d .wh.d\nl .wh.file x\nh .wh.link y"}, "fifo| keep/ keep/k=k", ""},
		{"of what is not there", []string{"f .wh.nothing\nf no/such/.wh.thing\nf file/.wh.x\nf no/.wh..wh..opq"}, all, ""},
		{"own, hidden later", []string{"f file new\nf .wh.file"}, strings.Replace(all, "file=f", "file=new", 1), ""},
		{"own, hidden before", []string{"f .wh.file\nf file new"}, strings.Replace(all, "file=f", "file=new", 1), ""},
		{"own, and not below", []string{"f .wh.mine\nf mine m"}, "d/ d/old=o d/sub/ d/sub/x=x fifo| file=f keep/ keep/k=k link->d mine=m", ""},
		{"own directory, hidden later", []string{"d d\nf d/new n\nf .wh.d"}, "d/ d/new=n fifo| file=f keep/ keep/k=k link->d", ""},
		{"own directory, hidden before", []string{"f .wh.d\nd d\nf d/new n"}, "d/ d/new=n fifo| file=f keep/ keep/k=k link->d", ""},
		{"own in a directory without an entry", []string{"f d/new n\nf .wh.d"}, "d/ d/new=n fifo| file=f keep/ keep/k=k link->d", ""},
		{"opaque, first", []string{"d d\nf d/.wh..wh..opq\nf d/new n"}, "d/ d/new=n fifo| file=f keep/ keep/k=k link->d", ""},
		{"opaque, last", []string{"f d/new n\nd d/sub\nf d/sub/new n\nf d/.wh..wh..opq"}, "d/ d/new=n d/sub/ d/sub/new=n fifo| file=f keep/ keep/k=k link->d", ""},
		{"opaque, alone", []string{"f d/.wh..wh..opq"}, "d/ fifo| file=f keep/ keep/k=k link->d", ""},
		{"opaque, and one name", []string{"f d/.wh..wh..opq\nf d/.wh.sub\nf d/sub/.wh.x"}, "d/ fifo| file=f keep/ keep/k=k link->d", ""},
		{"opaque root", []string{"f new n\nf .wh..wh..opq"}, "new=n", ""},
		{"opaque root, as a directory", []string{"d .wh..wh..opq"}, "", ""},
		{"opaque, of a link that a directory replaces", []string{"d link\nf link/.wh..wh..opq\nf link/new n"},
			"d/ d/old=o d/sub/ d/sub/x=x fifo| file=f keep/ keep/k=k link/ link/new=n", ""},
		// As Docker's UnpackLayer does it, which follows the link for a name and does not empty what it leads to.
		{"behind a link", []string{"f link/.wh.old\nf link/.wh..wh..opq"}, "d/ d/sub/ d/sub/x=x fifo| file=f keep/ keep/k=k link->d", ""},
		{"behind a link that a directory has replaced", []string{"d link\nf link/.wh.old"},
			"d/ d/old=o d/sub/ d/sub/x=x fifo| file=f keep/ keep/k=k link/", ""},
		{"behind a link of its own", []string{"l own d\nf own/.wh.old"}, "d/ d/old=o d/sub/ d/sub/x=x fifo| file=f keep/ keep/k=k link->d own->d", ""},
		{"through a link", []string{"f link/sub/.wh.x"}, "d/ d/old=o d/sub/ fifo| file=f keep/ keep/k=k link->d", ""},
		{"below a file", []string{"f file/x/y z"}, "d/ d/old=o d/sub/ d/sub/x=x fifo| file/ file/x/ file/x/y=z keep/ keep/k=k link->d", ""},
		{"below a FIFO, as a link", []string{"h fifo/x file"}, "d/ d/old=o d/sub/ d/sub/x=x fifo/ fifo/x=f file=f keep/ keep/k=k link->d", ""},
		{"below a symlink that leads nowhere", []string{"l gone nowhere\nl loop loop", "f gone/x z\nf loop/x z"},
			"d/ d/old=o d/sub/ d/sub/x=x fifo| file=f gone/ gone/x=z keep/ keep/k=k link->d loop/ loop/x=z", ""},
		{"types change", []string{"f d file\nd file\nf file/x y\nf link f\nl fifo d"}, "d=file fifo->d file/ file/x=y keep/ keep/k=k link=f", ""},
		{"gone and back", []string{"f .wh.d", "d d\nf d/back b", "f d/.wh.back\nf d/again a"}, "d/ d/again=a fifo| file=f keep/ keep/k=k link->d", ""},
		{"a link over layers", []string{"h keep/l d/old", "f .wh.d", "f keep/.wh.k"}, "fifo| file=f keep/ keep/l=o link->d", ""},
		{"names that only look like it", []string{"f wh.x\nf .whx\nf a.wh.b\nd .w\nf .w/h. x"},
			".w/ .w/h.=x .whx= a.wh.b= d/ d/old=o d/sub/ d/sub/x=x fifo| file=f keep/ keep/k=k link->d wh.x=", ""},
		{"aufs", []string{"f .wh..wh.aufs\nd .wh..wh.plnk\nf .wh..wh.plnk/1.2 x\nf d/.wh..wh.orph/x x\nf d/.wh..wh..opq/x x"}, all, "entries of aufs metadata: 5"},
		{"with a body", []string{"f d/.wh.old " + strings.Repeat("x", 3*tarx.ChunkSize+1) + "\nf new n"},
			"d/ d/sub/ d/sub/x=x fifo| file=f keep/ keep/k=k link->d new=n", ""},
		{"of names too long", []string{"f .wh." + strings.Repeat("n", 256) + "\nf " + strings.Repeat("n/", 3000) + ".wh.x"}, all, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			layers := [][]byte{testenv.TarLines(t, lower)}
			for _, l := range tt.upper {
				layers = append(layers, testenv.TarLines(t, l))
			}
			report, err := apply(t, dir, tarx.Options{}, layers...)
			if err != nil {
				t.Fatal(err)
			}
			if got := listing(t, dir); got != tt.want {
				t.Errorf("\n got %s\nwant %s", got, tt.want)
			}
			var losses []string
			for _, l := range report.Losses {
				losses = append(losses, fmt.Sprintf("%s: %d", l.Kind, l.Count))
			}
			if got := strings.Join(losses, ", "); got != tt.losses {
				t.Errorf("losses: %s, want %s", got, tt.losses)
			}
		})
	}
}

// In the lowest layer there is nothing to hide, and in a container's export such names
// are files.
func TestLowestLayer(t *testing.T) {
	const lines = "f a 1\nf .wh.a\nd d\nf d/x 2\nf d/.wh..wh..opq\nf .wh..wh..opq"
	dir := t.TempDir()
	report, err := apply(t, dir, tarx.Options{}, testenv.TarLines(t, lines))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := listing(t, dir), "a=1 d/ d/x=2"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if report.Whiteouts != 3 || report.Entries != 6 || report.Files != 2 {
		t.Errorf("%+v", report)
	}
	dir = t.TempDir()
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if _, err := Stream(t.Context(), bytes.NewReader(testenv.TarLines(t, lines)), root, tarx.Options{Owner: tarx.OwnerRootless}); err != nil {
		t.Fatal(err)
	}
	if got, want := listing(t, dir), ".wh..wh..opq= .wh.a= a=1 d/ d/.wh..wh..opq= d/x=2"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// naiveLayer applies whiteouts as a program would that trusts names.
func naiveLayer(dir string, layer []byte) {
	for r := tar.NewReader(bytes.NewReader(layer)); ; {
		h, err := r.Next()
		if err != nil {
			return
		}
		up, base := filepath.Split(filepath.Join(dir, h.Name))
		if base == whiteoutOpaque {
			list, _ := os.ReadDir(up)
			for _, e := range list {
				os.RemoveAll(filepath.Join(up, e.Name()))
			}
		} else if name, ok := strings.CutPrefix(base, whiteoutPrefix); ok {
			os.RemoveAll(filepath.Join(up, name))
		} else if name, ok := strings.CutPrefix(h.Name, whiteoutPrefix); ok {
			os.RemoveAll(filepath.Join(dir, name))
		}
	}
}

// Whiteouts that reach for what is outside, or for what no whiteout may hide.
func TestHostileWhiteouts(t *testing.T) {
	for _, tt := range []struct {
		name, lower, upper string
		want               error // nil: contained
		bites              string
	}{
		{"up", "d d", "f ../.wh.outside", tarx.ErrRefused, "outside"},
		{"up, through a directory", "d d", "f d/../../.wh.outside", tarx.ErrRefused, "outside"},
		{"up, opaque", "d d", "f ../outside/.wh..wh..opq", tarx.ErrRefused, "outside/secret"},
		{"up from a whiteout", "d d", "f .wh.x/../../.wh.outside", tarx.ErrRefused, "outside"},
		{"up and back", "d d\nf f", "f d/../.wh.f", tarx.ErrMalformed, "root/f"},
		{"dot dot", "f f", "f .wh...", tarx.ErrMalformed, "root"},
		{"dot dot, deeper", "d d\nf f", "f d/.wh...", tarx.ErrMalformed, "root/f"},
		{"dot", "d d\nf d/f", "f d/.wh..", tarx.ErrMalformed, "root/d/f"},
		{"dot at the root", "f f", "f .wh..", tarx.ErrMalformed, "root/f"},
		{"empty", "d d\nf d/f", "f d/.wh.", tarx.ErrMalformed, "root/d/f"},
		{"empty at the root", "f f", "f .wh.", tarx.ErrMalformed, "root/f"},
		{"something below", "d x\nf x/f", "f .wh.x/f", tarx.ErrMalformed, "root/x/f"},
		{"a directory below", "d x\nf x/f", "d .wh.x/f/", tarx.ErrMalformed, "root/x/f"},
		{"a name that goes on", "f f", "f .wh./..", tarx.ErrMalformed, "root/f"},
		{"behind a link out", "l l ../outside", "f l/.wh.secret", nil, "outside/secret"},
		{"behind an absolute link", "l l $OUT", "f l/.wh.secret", nil, "outside/secret"},
		{"behind two links", "d d\nl d/up ..\nl l d/up/../outside", "f l/.wh.secret", nil, "outside/secret"},
		{"opaque, behind a link out", "l l ../outside", "f l/.wh..wh..opq", nil, "outside/secret"},
		{"opaque, behind a link in", "d d\nf d/f\nl l d", "d l\nf l/.wh..wh..opq", nil, "root/d/f"},
		{"a link out itself", "l l ../outside", "f .wh.l", nil, ""},
		{"a tree with a link out", "d d\nl d/l ../../outside", "f .wh.d", nil, ""},
		{"an opaque tree with a link out", "d d\nl d/l ../../outside", "f d/.wh..wh..opq", nil, ""},
		{"a link to outside, then below", "d d", "l l ../outside\nf l/.wh.secret\nf l/.wh..wh..opq", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			scene := func() (work, root string, layers [2][]byte) {
				work = t.TempDir()
				root = work + "/root"
				for _, dir := range []string{root, work + "/outside"} {
					if err := os.Mkdir(dir, 0o755); err != nil {
						t.Fatal(err)
					}
				}
				if err := os.WriteFile(work+"/outside/secret", []byte("s"), 0o644); err != nil {
					t.Fatal(err)
				}
				for i, l := range []string{tt.lower, tt.upper} {
					layers[i] = testenv.TarLines(t, strings.ReplaceAll(l, "$OUT", work+"/outside"))
				}
				return work, root, layers
			}
			there := func(path string) bool {
				_, err := os.Lstat(path)
				return err == nil
			}
			if tt.bites != "" {
				work, root, layers := scene()
				if _, err := apply(t, root, tarx.Options{}, layers[0]); err != nil {
					t.Fatal(err)
				}
				if !there(work + "/" + tt.bites) {
					t.Fatalf("%s is not there to begin with", tt.bites)
				}
				naiveLayer(root, layers[1])
				if there(work + "/" + tt.bites) {
					t.Errorf("bites nobody: %s is still there", tt.bites)
				}
			}
			work, root, layers := scene()
			_, err := apply(t, root, tarx.Options{}, layers[:]...)
			if tt.want == nil && err != nil || !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			if !there(work + "/outside/secret") {
				t.Error("the file outside is gone")
			}
			if strings.HasPrefix(tt.bites, "root") && !there(work+"/"+tt.bites) {
				t.Errorf("%s is gone", tt.bites)
			}
			// The same without anything below it.
			if tt.want != nil {
				if _, err := apply(t, t.TempDir(), tarx.Options{}, layers[1]); !errors.Is(err, tt.want) {
					t.Errorf("as the lowest layer: error %v, want %v", err, tt.want)
				}
			}
		})
	}
}

// A directory has the metadata of the topmost layer that names it, and of no other.
func TestLayerDirectories(t *testing.T) {
	dir := t.TempDir()
	o := tarx.Options{}
	_, err := apply(t, dir, o,
		testenv.TarLines(t, "mode=700 time=11 user.old=o user.both=1 d a\nmode=711 time=12 user.kept=k d b\nf b/x x\nd c\nf c/gone g\nf implied/x x\nmode=750 time=16 d e/f"),
		testenv.TarLines(t, "mode=750 time=21 user.both=2 d a\nf b/y y\nf b/.wh.x\nf c/.wh.gone\ntime=5000 f .wh.implied"),
		testenv.TarLines(t, "mode=1777 time=31 user.both=3 d a\ntime=4000 f implied/y y\nf e/f/deep/z z"),
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		name   string
		mode   uint32
		time   int64
		xattrs string
	}{
		{"a", 0o1777, 31, "user.both=3"},
		{"b", 0o711, 12, "user.kept=k"},
		{"c", 0o755, 1000, ""},
		{"implied", 0o755, 4000, ""}, // nobody names it: the newest time, and that is no whiteout's
		{"e", 0o755, 4000, ""},
		{"e/f", 0o750, 16, ""},
		{"e/f/deep", 0o755, 4000, ""},
		{".", 0o755, 4000, ""},
	} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, want.name), &st); err != nil {
			t.Error(err)
			continue
		}
		if st.Mode&0o7777 != want.mode || st.Mtim.Sec != want.time {
			t.Errorf("%s: mode %o, time %d; want %o, %d", want.name, st.Mode&0o7777, st.Mtim.Sec, want.mode, want.time)
		}
		if got := userXattrs(t, filepath.Join(dir, want.name)); got != want.xattrs {
			t.Errorf("%s: attributes %s, want %s", want.name, got, want.xattrs)
		}
	}
}

func userXattrs(t *testing.T, path string) string {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for name := range strings.SplitSeq(strings.TrimRight(string(buf[:n]), "\x00"), "\x00") {
		if strings.HasPrefix(name, "user.") {
			value := make([]byte, 256)
			n, err := unix.Lgetxattr(path, name, value)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, name+"="+string(value[:n]))
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// The ids of the topmost entry are kept, also where they are none to speak of.
func TestLayerRootless(t *testing.T) {
	dir := t.TempDir()
	_, err := apply(t, dir, tarx.Options{Owner: tarx.OwnerRootless},
		testenv.TarLines(t, "uid=5 d a\nuid=6 d b\nuid=7 f c"), testenv.TarLines(t, "uid=8 d a\nd b\nf c"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": tarx.XattrRootless + "=" + string(tarx.RootlessValue(8, 0)), "b": "", "c": ""} {
		if got := userXattrs(t, filepath.Join(dir, name)); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// What is no layer, and what is one though it would be no export.
func TestLayerStreams(t *testing.T) {
	whole := testenv.TarLines(t, "f a 1\nf b 2")
	for _, tt := range []struct {
		name  string
		layer []byte
		want  error
	}{
		{"no byte", nil, nil},
		{"no entry", make([]byte, 1024), nil},
		{"one zero block", make([]byte, 512), nil},
		{"more zeros", make([]byte, 10240), nil},
		{"no end marker", whole[:len(whole)-1024], nil},
		{"half an end marker", whole[:len(whole)-512], nil},
		{"cut in the contents", whole[:len(whole)-1024-500], tarx.ErrTruncated},
		{"cut in a header", whole[:100], tarx.ErrTruncated},
		{"an extension header alone", slices.Concat(testenv.TarLines(t, "user.x=y f a")[:1024]), tarx.ErrTruncated},
		{"data behind the end marker", append(slices.Clone(whole), "more"...), tarx.ErrMalformed},
		{"data behind no entry", append(make([]byte, 1024), whole...), tarx.ErrMalformed},
		{"no tar", bytes.Repeat([]byte("no tar "), 1000), tarx.ErrMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, layers := range [][][]byte{{tt.layer}, {whole, tt.layer}} {
				if _, err := apply(t, t.TempDir(), tarx.Options{}, layers...); tt.want == nil && err != nil || !errors.Is(err, tt.want) {
					t.Errorf("as layer %d: %v, want %v", len(layers), err, tt.want)
				}
			}
		})
	}
}

func TestLayerLimits(t *testing.T) {
	two := testenv.TarLines(t, "f a\nf .wh.b")
	if _, err := apply(t, t.TempDir(), tarx.Options{MaxEntries: 4}, two, two); err != nil {
		t.Error(err)
	}
	_, err := apply(t, t.TempDir(), tarx.Options{MaxEntries: 3}, two, two)
	if limit, ok := errors.AsType[*tarx.LimitError](err); !ok || limit.Limit != 3 {
		t.Errorf("error %v, want a limit of 3 entries", err)
	}
	// Nobody owns what a whiteout is.
	o := tarx.Options{Mapping: user.IdentityMapping{
		UIDMaps: []user.IDMap{{ID: 0, ParentID: int64(os.Geteuid()), Count: 1}}, GIDMaps: []user.IDMap{{ID: 0, ParentID: int64(os.Getegid()), Count: 1}}}}
	if _, err := apply(t, t.TempDir(), o, two, testenv.TarLines(t, "uid=7 f .wh.a")); err != nil {
		t.Error(err)
	}
	if _, err := apply(t, t.TempDir(), o, two, testenv.TarLines(t, "uid=7 f a")); !errors.Is(err, tarx.ErrRefused) {
		t.Errorf("error %v, want a refusal", err)
	}
}
