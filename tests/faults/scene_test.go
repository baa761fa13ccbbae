package faults

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ocibundle/tests/faults/inject"
	"ocibundle/tests/hostile/observe"
	"ocibundle/tests/testenv"
)

// patience is far beyond what any run takes: a run that has not ended by then hangs.
const patience = 90 * time.Second

// world is what the runs of a test share.
//
//	DIR/in/...              the files that commands read; those that edit flags name are in named/
//	DIR/bundles/WHO/b       a bundle of each identity's, to be copied
//	DIR/N/                  where one run works
type world struct {
	t      *testing.T
	bin    string
	dir    string
	export []byte // a container's filesystem
	image  []byte // the same in an image archive, in two layers
	who    []identity
	runs   atomic.Int64
	hits   sync.Map
}

// identity is whom runs run as.
type identity struct {
	name     string
	uid, gid int
	env      []string
}

func newWorld(t *testing.T) *world {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "newuidmap", "newgidmap")
	w := &world{t: t, bin: testenv.Binary(t), dir: testenv.Dir(t)}
	w.who = []identity{{name: "root", env: os.Environ()}}
	for name, ids := range map[string]uint32{"subid": 65536, "self": 0} {
		u := testenv.TempUser(t, testenv.UserOptions{SubIDs: ids})
		w.who = append(w.who, identity{name, int(u.UID), int(u.GID), u.Command(t.Context(), "true").Env})
	}
	w.inputs()
	for _, who := range w.who {
		dir := filepath.Join(w.dir, "bundles", who.name)
		w.must(os.MkdirAll(dir, 0o755))
		w.must(os.Chown(dir, who.uid, who.gid))
		res, err := inject.Run(inject.Command{Path: w.bin, Args: []string{"-o", "b", "-e", "OLD=1", "--", "/bin/sh"}, Dir: dir, Env: who.env,
			UID: who.uid, GID: who.gid, Stdin: w.export, Patience: patience})
		w.must(err)
		if res.Code != 0 {
			t.Fatalf("make a bundle as %s: exit %d: %s", who.name, res.Code, res.Stderr)
		}
	}
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// inputs writes what the commands read.
func (w *world) inputs() {
	w.export = archive(w.t, rootfs())
	w.image = image(w.t, archive(w.t, rootfs()[:8]), archive(w.t, rootfs()[8:]))
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(w.export)
	w.must(z.Close())
	w.must(os.MkdirAll(filepath.Join(w.dir, "in/named"), 0o755))
	for name, data := range map[string]string{
		"export.tar":         string(w.export),
		"export.tar.gz":      packed.String(),
		"image.tar":          string(w.image),
		"a.json":             `{"ociVersion":"1.0.0","hostname":"a"}`,
		"b.json":             `{"ociVersion":"1.0.0","hostname":"b"}`,
		"named/env":          "FROM=file\n",
		"named/patch.json":   `[{"op":"add","path":"/hostname","value":"patched"}]`,
		"named/base.json":    `{"ociVersion":"1.0.0","root":{"path":"rootfs"},"process":{"cwd":"/","args":["/bin/sh"],"user":{"uid":0,"gid":0}}}`,
		"named/inspect.json": `[{"Id":"c0ffee","Path":"/bin/sh","Args":[],"Config":{"Cmd":["/bin/sh"],"Env":["A=1"],"WorkingDir":"/","Hostname":"h"},"HostConfig":{"NetworkMode":"default"},"Mounts":[]}]`,
	} {
		w.must(os.WriteFile(filepath.Join(w.dir, "in", name), []byte(data), 0o644))
	}
}

// rootfs are the entries of a small filesystem that has something of every kind.
func rootfs() []entry {
	when := time.Unix(1700000000, 123456789)
	dir := func(name string) entry {
		return entry{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: when}, nil}
	}
	file := func(name string, mode int64, uid, gid int, body []byte) entry {
		return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Uid: uid, Gid: gid, Size: int64(len(body)), ModTime: when}, body}
	}
	withXattr := file("etc/tagged", 0o644, 0, 0, []byte("tagged\n"))
	withXattr.h.PAXRecords = map[string]string{"SCHILY.xattr.user.tag": "value"}
	capable := file("bin/ping", 0o755, 0, 0, program())
	capable.h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
	return []entry{
		dir("bin/"), dir("etc/"), dir("proc/"), dir("dev/"), dir("sys/"), dir("tmp/"), dir("usr/"), dir("data/"),
		file("etc/passwd", 0o644, 0, 0, []byte("root:x:0:0::/:/bin/sh\napp:x:100:101::/:/bin/sh\n")),
		file("etc/group", 0o644, 0, 0, []byte("root:x:0:\napp:x:101:\n")),
		file("bin/sh", 0o755, 0, 0, program()),
		file("bin/su", 0o4755, 100, 101, program()),
		{tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/link", Linkname: "sh", Mode: 0o777, ModTime: when}, nil},
		{tar.Header{Typeflag: tar.TypeLink, Name: "bin/ash", Linkname: "bin/sh", Mode: 0o755, ModTime: when}, nil},
		{tar.Header{Typeflag: tar.TypeFifo, Name: "tmp/fifo", Mode: 0o644, ModTime: when}, nil},
		{tar.Header{Typeflag: tar.TypeChar, Name: "dev/null", Mode: 0o666, Devmajor: 1, Devminor: 3, ModTime: when}, nil},
		withXattr, capable,
		file("data/app", 0o640, 100, 101, []byte("of app's\n")),
		file("data/holes", 0o644, 0, 0, append(append([]byte("x"), make([]byte, 128<<10)...), 'y')),
		file("usr/big", 0o644, 0, 0, bytes.Repeat([]byte("not much of a surprise\n"), 20000)),
	}
}

type entry struct {
	h    tar.Header
	body []byte
}

func archive(t testing.TB, entries []entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, e := range entries {
		e.h.Format = tar.FormatPAX
		if err := tw.WriteHeader(&e.h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// program is the least that is an executable of this machine: an ELF header, and no interpreter (elf(5)).
func program() []byte {
	machine := map[string]uint16{"amd64": 62, "arm64": 183}[runtime.GOARCH]
	var b bytes.Buffer
	b.WriteString("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	for _, field := range []any{uint16(2), machine, uint32(1), uint64(0x400078), uint64(64), uint64(0), uint32(0),
		uint16(64), uint16(56), uint16(1), uint16(64), uint16(0), uint16(0),
		uint32(1), uint32(5), uint64(0), uint64(0x400000), uint64(0x400000), uint64(128), uint64(128), uint64(4096)} {
		binary.Write(&b, binary.LittleEndian, field)
	}
	return append(b.Bytes(), make([]byte, 8)...)
}

// image is an OCI archive with layers, the first one as it is and the others compressed.
func image(t testing.TB, layers ...[]byte) []byte {
	t.Helper()
	blobs := []entry{{tar.Header{Typeflag: tar.TypeReg, Name: "oci-layout", Mode: 0o644}, []byte(`{"imageLayoutVersion":"1.0.0"}`)}}
	add := func(data []byte, media string) map[string]any {
		sum := sha256.Sum256(data)
		digest := hex.EncodeToString(sum[:])
		blobs = append(blobs, entry{tar.Header{Typeflag: tar.TypeReg, Name: "blobs/sha256/" + digest, Mode: 0o644}, data})
		return map[string]any{"mediaType": "application/vnd.oci.image." + media, "digest": "sha256:" + digest, "size": len(data)}
	}
	doc := func(v any) []byte {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	var descriptors []any
	var diffs []string
	for i, layer := range layers {
		sum := sha256.Sum256(layer)
		diffs = append(diffs, "sha256:"+hex.EncodeToString(sum[:]))
		media := "layer.v1.tar"
		if i > 0 {
			var packed bytes.Buffer
			z := gzip.NewWriter(&packed)
			z.Write(layer)
			z.Close()
			layer, media = packed.Bytes(), "layer.v1.tar+gzip"
		}
		descriptors = append(descriptors, add(layer, media))
	}
	config := add(doc(map[string]any{"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{"Cmd": []string{"/bin/sh"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs}}), "config.v1+json")
	manifest := add(doc(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": descriptors}), "manifest.v1+json")
	index := doc(map[string]any{"schemaVersion": 2, "manifests": []any{manifest}})
	blobs = append(blobs, entry{tar.Header{Typeflag: tar.TypeReg, Name: "index.json", Mode: 0o644}, index})
	for i := range blobs {
		blobs[i].h.Size = int64(len(blobs[i].body))
	}
	return archive(t, blobs)
}

// scene is where one run works: an empty directory of the identity's, but for the bundles that the command wants.
type scene struct {
	w      *world
	who    identity
	c      *command
	dir    string
	before observe.Tree
}

// set makes a scene. Its files are on the filesystem of dir, which is the world's if empty.
func (w *world) set(who identity, c *command, dir string) (*scene, error) {
	if dir == "" {
		dir = filepath.Join(w.dir, fmt.Sprint(w.runs.Add(1)))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
	}
	s := &scene{w: w, who: who, c: c, dir: dir}
	for _, name := range strings.Fields(c.bundles) {
		if out, err := exec.Command("cp", "-a", filepath.Join(w.dir, "bundles", who.name, "b"), filepath.Join(dir, name)).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("copy a bundle: %w: %s", err, out)
		}
	}
	if err := os.Chown(dir, who.uid, who.gid); err != nil {
		return nil, err
	}
	var err error
	s.before, err = s.record()
	return s, err
}

func (s *scene) remove() error { return os.RemoveAll(s.dir) }

// record takes down the scene. Times of the scene's own directory change with what is made in it and removed again.
func (s *scene) record() (observe.Tree, error) {
	tree, err := observe.Record(s.dir, observe.Options{})
	if err != nil {
		return nil, err
	}
	root := &tree["."].Stat
	root.Mtim, root.Ctim, root.Size, root.Nlink = unix.Timespec{}, unix.Timespec{}, 0, 0
	return tree, nil
}

// command is the scene's as a process.
func (s *scene) command() inject.Command {
	args := strings.Fields(strings.NewReplacer("IN/", filepath.Join(s.w.dir, "in")+"/").Replace(s.c.args))
	cmd := inject.Command{Path: s.w.bin, Args: args, Dir: s.dir, Env: s.who.env, UID: s.who.uid, GID: s.who.gid, Patience: patience}
	switch s.c.stdin {
	case "export":
		cmd.Stdin = s.w.export
	case "image":
		cmd.Stdin = s.w.image
	}
	return cmd
}
