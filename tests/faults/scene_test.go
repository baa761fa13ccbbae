package faults

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
const patience = 2 * time.Minute

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
	refs   map[string]*reference // by identity and command
	runs   atomic.Int64
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
			UID: who.uid, GID: who.gid, Stdin: w.export, Patience: patience, Grace: patience})
		w.must(err)
		if res.Code != 0 {
			t.Fatalf("make a bundle as %s: exit %d: %s", who.name, res.Code, res.Stderr)
		}
	}
	w.refer()
	return w
}

// refer runs every command once without a fault.
func (w *world) refer() {
	w.t.Helper()
	w.refs = map[string]*reference{}
	type use struct {
		who *identity
		c   *command
	}
	var uses []use
	for i := range w.who {
		for j := range commands {
			if who, c := &w.who[i], &commands[j]; c.who == "" || c.who == who.name {
				uses = append(uses, use{who, c})
			}
		}
	}
	var mu sync.Mutex
	several(uses, func(u use) {
		ref, err := w.reference(*u.who, u.c)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			w.t.Error(err)
			return
		}
		w.refs[u.who.name+"/"+u.c.name] = ref
	})
	if w.t.Failed() {
		w.t.FailNow()
	}
}

func (w *world) reference(who identity, c *command) (*reference, error) {
	s, err := w.set(who, c, "")
	if err != nil {
		return nil, err
	}
	defer s.remove()
	cmd := s.command()
	cmd.Record = true
	res, err := inject.Run(cmd)
	if err != nil {
		return nil, err
	}
	if res.Code != 0 || res.Hung || res.Left {
		return nil, fmt.Errorf("%s/%s: exit %d without a fault: %s", who.name, c.name, res.Code, res.Stderr)
	}
	for _, call := range res.Calls {
		if call.Kind.Name == "" {
			return nil, fmt.Errorf("%s/%s: system call %d is not in the table of those that can fail", who.name, c.name, call.Kind.Number)
		}
	}
	tree, err := s.record()
	return &reference{code: res.Code, stdout: s.output(res), tree: tree, calls: res.Calls, took: res.Took}, err
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

// scene is where one run works: an empty directory of the identity's, but for the bundles that the command wants.
type scene struct {
	w      *world
	who    identity
	c      *command
	dir    string
	fs     string // it is a filesystem of its own, see format
	before observe.Tree
}

// set makes a scene.
func (w *world) set(who identity, c *command, fs string) (*scene, error) {
	dir := filepath.Join(w.dir, fmt.Sprint(w.runs.Add(1)))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	s := &scene{w: w, who: who, c: c, dir: dir, fs: fs}
	if fs != "" {
		if err := s.format(); err != nil {
			return nil, err
		}
	}
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

func (s *scene) remove() error {
	if s.fs != "" {
		if err := unix.Unmount(s.dir, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount a filesystem: %w", err)
		}
	}
	return errors.Join(os.RemoveAll(s.dir), os.RemoveAll(s.image()))
}

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
	cmd := inject.Command{Path: s.w.bin, Args: args, Dir: s.dir, Env: s.who.env, UID: s.who.uid, GID: s.who.gid, Patience: patience, Grace: patience}
	if s.c.slow {
		cmd.Pause = 400 * time.Millisecond // twice as long as from one line of progress to the next
	}
	switch s.c.stdin {
	case "export":
		cmd.Stdin = s.w.export
	case "image":
		cmd.Stdin = s.w.image
	}
	return cmd
}
