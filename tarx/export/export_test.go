package export

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"ocibundle/tarx"
	"ocibundle/tests/testenv"
)

func exportT(t *testing.T, dir string, o Options) ([]byte, *tarx.Report) {
	t.Helper()
	root, err := os.Open(dir)
	testenv.Must(t, err)
	defer root.Close()
	var out bytes.Buffer
	rep, err := Tree(t.Context(), &out, root, o)
	testenv.Must(t, err)
	return out.Bytes(), rep
}

type exported struct {
	*tar.Header
	body []byte
}

// readT reads a stream and checks that nothing but zeros follow its end.
func readT(t *testing.T, stream []byte) []exported {
	t.Helper()
	in := bytes.NewReader(stream)
	tr := tar.NewReader(in)
	var all []exported
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		testenv.Must(t, err)
		body, err := io.ReadAll(tr)
		testenv.Must(t, err)
		all = append(all, exported{hdr, body})
	}
	if len(stream)%tarx.BlockSize != 0 || in.Len() != 0 {
		t.Errorf("%d bytes of stream, %d left after its end", len(stream), in.Len())
	}
	return all
}

func namesT(all []exported) []string {
	var names []string
	for _, e := range all {
		names = append(names, e.Name)
	}
	return names
}

func findT(t *testing.T, all []exported, name string) exported {
	t.Helper()
	i := slices.IndexFunc(all, func(e exported) bool { return e.Name == name })
	if i < 0 {
		t.Fatalf("%q is not in the stream", name)
	}
	return all[i]
}

func TestExportOrder(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"a", "a-", "b/c/d", "!", "z"} {
		testenv.Must(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	for _, f := range []string{"a.b", "a0", "a/c", "a/!", "a-/x", "A", "b/c.d", "b/c0", "\xff", "!/x", "...", ".a", "b/c/d/e", "aa"} {
		testenv.Must(t, os.WriteFile(filepath.Join(dir, f), nil, 0o644))
	}
	stream, rep := exportT(t, dir, Options{})
	names := namesT(readT(t, stream))
	if names[0] != "./" {
		t.Errorf("the first entry is %q", names[0])
	}
	if !slices.IsSorted(names[1:]) {
		t.Errorf("not in bytewise order: %q", names[1:])
	}
	if len(names) != 22 || rep.Entries != 22 || rep.Directories != 8 || rep.Files != 14 {
		t.Errorf("%d entries, report %+v", len(names), rep)
	}
	if slices.Index(names, "a.b") > slices.Index(names, "a/") {
		t.Error("the test does not show the order that it should")
	}
}

// kindsTime is the time of most of what makeKinds makes, oldTime that of a file from before 1970.
var kindsTime, oldTime = time.Unix(1600000000, 123456789), time.Unix(-2, 250000000)

// makeKinds makes one of each kind, with all that a kind can have.
func makeKinds(t *testing.T, dir string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(dir, name) }
	when, old := kindsTime, oldTime
	testenv.Must(t, os.WriteFile(at("file"), []byte("content"), 0o644))
	testenv.Must(t, os.Chown(at("file"), 12, 3000000000))
	testenv.Must(t, unix.Chmod(at("file"), 0o6755))
	testenv.Must(t, unix.Setxattr(at("file"), "user.k", []byte("v\x00\n="), 0))
	testenv.Must(t, unix.Setxattr(at("file"), "trusted.k", []byte("t"), 0))
	testenv.Must(t, unix.Setxattr(at("file"), tarx.XattrCapability, capability(0x02000000, 0), 0))
	testenv.Must(t, unix.Setxattr(at("file"), "user.a=b", []byte("t"), 0))
	testenv.Must(t, os.Mkdir(at("dir"), 0o700))
	testenv.Must(t, unix.Chmod(at("dir"), 0o3771))
	testenv.Must(t, unix.Setxattr(at("dir"), "user.d", []byte("d"), 0))
	testenv.Must(t, os.Symlink("/no/such\xff", at("link")))
	testenv.Must(t, unix.Lsetxattr(at("link"), "trusted.l", []byte("l"), 0))
	testenv.Must(t, os.Symlink(strings.Repeat("x", 4000), at("longlink")))
	testenv.Must(t, unix.Mkfifo(at("fifo"), 0o640))
	testenv.Must(t, unix.Mknod(at("chr"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	testenv.Must(t, unix.Mknod(at("blk"), unix.S_IFBLK|0o600, int(unix.Mkdev(300, 70000))))
	testenv.Must(t, unix.Mknod(at("sock"), unix.S_IFSOCK|0o600, 0))
	testenv.Must(t, os.Link(at("file"), at("file2")))
	testenv.Must(t, os.Link(at("fifo"), at("fifo2")))
	testenv.Must(t, unix.Linkat(unix.AT_FDCWD, at("link"), unix.AT_FDCWD, at("link2"), 0))
	testenv.Must(t, os.Chtimes(at("file"), when, when))
	testenv.Must(t, os.Chtimes(at("dir"), when, when))
	testenv.Must(t, os.WriteFile(at("old"), nil, 0o644))
	testenv.Must(t, os.Chtimes(at("old"), old, old))
	testenv.Must(t, unix.Setxattr(dir, "user.root", []byte("r"), 0))
	testenv.Must(t, unix.Chmod(dir, 0o1711))
	testenv.Must(t, os.Chtimes(dir, when, when))
}

// wantLosses compares what was counted as lost, but for what SELinux adds.
func wantLosses(t *testing.T, rep *tarx.Report, want map[tarx.LossKind]tarx.Loss) {
	t.Helper()
	for _, l := range rep.Losses {
		if l.Kind == tarx.LossSecurity { // on hosts with SELinux
			continue
		}
		if l != want[l.Kind] {
			t.Errorf("counted %+v, want %+v", l, want[l.Kind])
		}
		delete(want, l.Kind)
	}
	if len(want) > 0 {
		t.Error("not counted:", want)
	}
}

func TestExportKinds(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	makeKinds(t, dir)
	when, old := kindsTime, oldTime
	stream, rep := exportT(t, dir, Options{})
	all := readT(t, stream)
	check := func(name string, kind byte, mode int64, more func(exported) bool) {
		t.Helper()
		e := findT(t, all, name)
		if e.Typeflag != kind || e.Mode != mode || e.Uname != "" || e.Gname != "" || !more(e) {
			t.Errorf("%s: %+v", name, e.Header)
		}
	}
	xattr := func(e exported, k string) string { return e.PAXRecords["SCHILY.xattr."+k] }
	check("./", tar.TypeDir, 0o1711, func(e exported) bool {
		return e.ModTime.Equal(when) && xattr(e, "user.root") == "r"
	})
	check("dir/", tar.TypeDir, 0o3771, func(e exported) bool {
		return e.ModTime.Equal(when) && xattr(e, "user.d") == "d"
	})
	check("file", tar.TypeReg, 0o6755, func(e exported) bool {
		return e.ModTime.Equal(when) && string(e.body) == "content" && e.Uid == 12 && e.Gid == 3000000000 &&
			xattr(e, "user.k") == "v\x00\n=" && xattr(e, "trusted.k") == "t"
	})
	check("file2", tar.TypeLink, 0o6755, func(e exported) bool {
		return e.Linkname == "file" && e.Size == 0 && xattr(e, "user.k") == "" && xattr(e, tarx.XattrCapability) == xattr(findT(t, all, "file"), tarx.XattrCapability)
	})
	check("old", tar.TypeReg, 0o644, func(e exported) bool { return e.ModTime.Equal(old) })
	check("link", tar.TypeSymlink, 0o777, func(e exported) bool {
		return e.Linkname == "/no/such\xff" && xattr(e, "trusted.l") == "l"
	})
	check("link2", tar.TypeLink, 0o777, func(e exported) bool { return e.Linkname == "link" })
	check("longlink", tar.TypeSymlink, 0o777, func(e exported) bool { return len(e.Linkname) == 4000 })
	check("fifo", tar.TypeFifo, 0o640, func(e exported) bool { return e.Size == 0 })
	check("fifo2", tar.TypeLink, 0o640, func(e exported) bool { return e.Linkname == "fifo" })
	check("chr", tar.TypeChar, 0o600, func(e exported) bool { return e.Devmajor == 1 && e.Devminor == 3 })
	check("blk", tar.TypeBlock, 0o600, func(e exported) bool { return e.Devmajor == 300 && e.Devminor == 70000 })
	if slices.Contains(namesT(all), "sock") {
		t.Error("a socket is in the stream")
	}
	wantLosses(t, rep, map[tarx.LossKind]tarx.Loss{
		LossSocket:     {Kind: LossSocket, Count: 1, First: "sock"},
		tarx.LossXattr: {Kind: tarx.LossXattr, Count: 1, First: "file", Detail: "user.a=b"},
	})
	if rep.Hardlinks != 3 || rep.Symlinks != 2 || rep.Devices != 2 || rep.FIFOs != 1 || rep.Bytes != 7 {
		t.Errorf("report %+v", rep)
	}
}

func TestExportNames(t *testing.T) {
	dir := t.TempDir()
	names := []string{
		strings.Repeat("n", 255),
		strings.Repeat("a", 60) + "/" + strings.Repeat("b", 99),
		strings.Repeat("a", 200) + "/" + strings.Repeat("b", 200) + "/c",
		"sp ace", "new\nline", "é", "\xff\xfe", "-dash", "back\\slash", ".wh.x", "GNUSparseFile.0", "*",
	}
	for _, n := range names {
		testenv.Must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, n)), 0o755))
		testenv.Must(t, os.WriteFile(filepath.Join(dir, n), []byte(n), 0o644))
	}
	stream, _ := exportT(t, dir, Options{})
	all := readT(t, stream)
	for _, n := range names {
		if e := findT(t, all, n); string(e.body) != n {
			t.Errorf("%q has the content %q", n, e.body)
		}
	}
}

func sparseT(t *testing.T, path string, size int64, data map[int64]string) {
	t.Helper()
	f, err := os.Create(path)
	testenv.Must(t, err)
	defer f.Close()
	testenv.Must(t, f.Truncate(size))
	for off, s := range data {
		_, err := f.WriteAt([]byte(s), off)
		testenv.Must(t, err)
	}
	testenv.Must(t, f.Sync())
}

func TestExportSparse(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	const mib = 1 << 20
	when := time.Unix(1700000000, 5)
	sparseT(t, at("ends"), 9*mib+17, map[int64]string{0: "begin", 5 * mib: "middle", 9*mib + 14: "end"})
	sparseT(t, at("hole"), 3*mib+1, nil)
	sparseT(t, at("tail"), 4*mib, map[int64]string{0: "x"})
	sparseT(t, at("head"), 4*mib+3, map[int64]string{4 * mib: "xyz"})
	sparseT(t, at("huge"), 20<<30, map[int64]string{19 << 30: "far"})
	sparseT(t, at("dense"), 3, map[int64]string{0: "abc"})
	long := strings.Repeat("s", 250) + "\xff"
	sparseT(t, at(long), mib, map[int64]string{mib / 2: "long"})
	testenv.Must(t, unix.Setxattr(at("ends"), "user.k", []byte("v"), 0))
	testenv.Must(t, os.Chtimes(at("ends"), when, when))
	testenv.Must(t, os.WriteFile(at("next"), []byte("what follows"), 0o644))

	stream, _ := exportT(t, dir, Options{})
	if len(stream) > mib {
		t.Errorf("the stream has %d bytes: holes were written", len(stream))
	}
	tr := tar.NewReader(bytes.NewReader(stream))
	seen := 0
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		testenv.Must(t, err)
		if hdr.Typeflag != tar.TypeReg {
			continue
		}
		seen++
		if hdr.Name == "ends" && (!hdr.ModTime.Equal(when) || hdr.PAXRecords["SCHILY.xattr.user.k"] != "v") {
			t.Errorf("%+v", hdr)
		}
		if hdr.Name == "huge" {
			if hdr.Size != 20<<30 {
				t.Errorf("%s: %d bytes", hdr.Name, hdr.Size)
			}
			continue
		}
		got, err := io.ReadAll(tr)
		testenv.Must(t, err)
		want, err := os.ReadFile(at(hdr.Name))
		testenv.Must(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("%q: the contents differ", hdr.Name)
		}
	}
	if seen != 8 {
		t.Errorf("%d files in the stream", seen)
	}

	// GNU tar, whose format it is, makes the same files of it.
	out := t.TempDir()
	cmd := exec.Command("tar", "-x", "-C", out, "--xattrs")
	cmd.Stdin = bytes.NewReader(stream)
	if msg, err := cmd.CombinedOutput(); err != nil || len(msg) > 0 {
		t.Fatalf("tar: %v\n%s", err, msg)
	}
	for _, name := range []string{"ends", "hole", "tail", "head", "huge", "dense", long, "next"} {
		a, err := os.Stat(at(name))
		testenv.Must(t, err)
		b, err := os.Stat(filepath.Join(out, name))
		testenv.Must(t, err)
		if a.Size() != b.Size() || !a.ModTime().Equal(b.ModTime()) {
			t.Errorf("%q: %d bytes of %s became %d of %s", name, a.Size(), a.ModTime(), b.Size(), b.ModTime())
		}
		if name == "huge" {
			continue
		}
		if msg, err := exec.Command("cmp", at(name), filepath.Join(out, name)).CombinedOutput(); err != nil {
			t.Errorf("%q: %v %s", name, err, msg)
		}
	}
}

func TestExtentsAreJoined(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	data := map[int64]string{}
	const limit = 16
	for i := range int64(500) {
		data[i*(3+i%7)*4096] = "x"
	}
	const size = 600 * 10 * 4096
	sparseT(t, path, size, data)
	f, err := os.Open(path)
	testenv.Must(t, err)
	defer f.Close()
	parts, err := extents(int(f.Fd()), size, limit)
	testenv.Must(t, err)
	if len(parts) > limit || len(parts) == 0 {
		t.Errorf("%d extents", len(parts))
	}
	covered := func(off int64) bool {
		i, exact := slices.BinarySearchFunc(parts, off, func(p tarx.Extent, off int64) int { return int(p.Off - off) })
		return exact || i > 0 && parts[i-1].Off+parts[i-1].Size > off
	}
	for off := range data {
		if !covered(off) {
			t.Fatalf("the data at %d is lost", off)
		}
	}
}

func capability(revision, rootid uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, revision|1) // 1: effective
	for _, v := range []uint32{1 << 10, 0, 0, 0} {         // permitted: cap_net_bind_service
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	if revision == 0x03000000 {
		b = binary.LittleEndian.AppendUint32(b, rootid)
	}
	return b
}

func TestExportMapping(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, f := range []string{"cap", "foreign", "plain"} {
		testenv.Must(t, os.WriteFile(at(f), nil, 0o755))
		testenv.Must(t, os.Chown(at(f), 100033, 200044))
	}
	testenv.Must(t, unix.Setxattr(at("cap"), tarx.XattrCapability, capability(0x03000000, 100000), 0))
	testenv.Must(t, unix.Setxattr(at("foreign"), tarx.XattrCapability, capability(0x03000000, 100001), 0))
	testenv.Must(t, unix.Setxattr(at("plain"), tarx.XattrRootless, []byte{0x08, 5}, 0))
	testenv.Must(t, os.Chown(dir, 100000, 200000))
	m := user.IdentityMapping{
		UIDMaps: []user.IDMap{{ID: 0, ParentID: 100000, Count: 10}, {ID: 20, ParentID: 100020, Count: 1000}},
		GIDMaps: []user.IDMap{{ID: 0, ParentID: 200000, Count: 65536}},
	}
	stream, rep := exportT(t, dir, Options{Mapping: m})
	all := readT(t, stream)
	e := findT(t, all, "cap")
	if e.Uid != 33 || e.Gid != 44 {
		t.Errorf("owner %d:%d", e.Uid, e.Gid)
	}
	if got := e.PAXRecords["SCHILY.xattr.security.capability"]; got != string(capability(0x02000000, 0)) {
		t.Errorf("capability %x", got)
	}
	if got := findT(t, all, "foreign").PAXRecords; len(got) > 0 && got["SCHILY.xattr.security.capability"] != "" {
		t.Errorf("another root's capability: %x", got)
	}
	if got := findT(t, all, "plain").PAXRecords["SCHILY.xattr.user.rootlesscontainers"]; got != "\x08\x05" {
		t.Errorf("an attribute of the container's own: %q", got)
	}
	if len(rep.Losses) != 1 || rep.Losses[0].Kind != tarx.LossCapability || rep.Losses[0].First != "foreign" {
		t.Errorf("losses %+v", rep.Losses)
	}

	testenv.Must(t, os.Chown(at("cap"), 100015, 200044)) // in the gap
	root, err := os.Open(dir)
	testenv.Must(t, err)
	defer root.Close()
	_, err = Tree(t.Context(), io.Discard, root, Options{Mapping: m})
	if !errors.Is(err, tarx.ErrRefused) || !strings.Contains(err.Error(), `"cap"`) || !strings.Contains(err.Error(), "uid 100015") {
		t.Errorf("an id outside the mapping: %v", err)
	}
}

func TestExportRootless(t *testing.T) {
	dir := t.TempDir()
	uid, gid := os.Geteuid(), os.Getegid()
	for name, value := range map[string][]byte{
		"both":    {0x08, 33, 0x10, 44},
		"uid":     {0x08, 33},
		"gid":     {0x10, 0xac, 0x02},
		"noop":    {0x08, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x10, 7},
		"none":    nil,
		"broken":  {0x08},
		"toolong": {0x08, 0xff, 0xff, 0xff, 0xff, 0x1f},
	} {
		testenv.Must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o644))
		if value != nil {
			testenv.Must(t, unix.Setxattr(filepath.Join(dir, name), tarx.XattrRootless, value, 0))
		}
	}
	stream, rep := exportT(t, dir, Options{Owner: tarx.OwnerRootless, Mapping: user.IdentityMapping{
		UIDMaps: []user.IDMap{{ID: 0, ParentID: int64(uid), Count: 1}},
		GIDMaps: []user.IDMap{{ID: 0, ParentID: int64(gid), Count: 1}},
	}})
	all := readT(t, stream)
	for name, want := range map[string][2]int{
		"both": {33, 44}, "uid": {33, 0}, "gid": {0, 300}, "noop": {0, 7}, "none": {0, 0}, "broken": {0, 0}, "toolong": {0, 0},
	} {
		e := findT(t, all, name)
		if e.Uid != want[0] || e.Gid != want[1] {
			t.Errorf("%s: %d:%d, want %v", name, e.Uid, e.Gid, want)
		}
		if len(e.PAXRecords) > 0 && e.PAXRecords["SCHILY.xattr."+tarx.XattrRootless] != "" {
			t.Errorf("%s: the bookkeeping was exported", name)
		}
	}
	if len(rep.Losses) != 1 || rep.Losses[0].Kind != tarx.LossOwner || rep.Losses[0].Count != 2 {
		t.Errorf("losses %+v", rep.Losses)
	}
}

// Whoever controls the tree puts links where directories and files were, while it is being
// exported.
func TestExportRace(t *testing.T) {
	testenv.Long(t)
	dir := t.TempDir()
	const secret = "of the host"
	testenv.Must(t, os.MkdirAll(filepath.Join(dir, "outside"), 0o755))
	testenv.Must(t, os.WriteFile(filepath.Join(dir, "outside/f"), []byte(secret), 0o644))
	for i := range 50 {
		d := filepath.Join(dir, "root", fmt.Sprint(i), "d")
		testenv.Must(t, os.MkdirAll(d, 0o755))
		testenv.Must(t, os.WriteFile(filepath.Join(d, "f"), []byte("harmless!!!"), 0o644))
	}
	testenv.Must(t, os.Symlink("../outside", filepath.Join(dir, "root/x")))
	testenv.Must(t, os.Mkdir(filepath.Join(dir, "root/many"), 0o755))
	for i := range 50 {
		testenv.Must(t, os.WriteFile(filepath.Join(dir, "root/many", fmt.Sprint(i)), []byte("harmless!!!"), 0o644))
	}
	testenv.Must(t, os.Symlink("../../outside/f", filepath.Join(dir, "root/y")))
	testenv.Must(t, unix.Mkfifo(filepath.Join(dir, "root/z"), 0o644))
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		swap := func(a, b string) {
			unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, "root", a), unix.AT_FDCWD, filepath.Join(dir, "root", b), unix.RENAME_EXCHANGE)
		}
		for i := 0; ; i = (i + 1) % 50 {
			select {
			case <-stop:
				return
			default:
			}
			swap(fmt.Sprint(i), "x")
			swap(fmt.Sprint("many/", i), "y")
			swap(fmt.Sprint("many/", i), "z")
			// A FIFO takes a writer that does not wait only where somebody has opened it to read
			// it.
			if fd, err := unix.Open(filepath.Join(dir, "root/many", fmt.Sprint(i)), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0); err == nil {
				var st unix.Stat_t
				if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO {
					t.Error("a FIFO was opened")
				}
				unix.Close(fd)
			}
		}
	}()
	root, err := os.Open(filepath.Join(dir, "root"))
	testenv.Must(t, err)
	defer root.Close()
	complete := 0
	for range 300 {
		var out bytes.Buffer
		_, err := Tree(t.Context(), &out, root, Options{})
		if err == nil {
			complete++
		}
		if bytes.Contains(out.Bytes(), []byte(secret)) {
			t.Error("a file outside the tree was exported")
			break
		}
	}
	close(stop)
	<-done
	t.Logf("%d of 300 exports met nothing odd", complete)
}
