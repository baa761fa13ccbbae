package hostile

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ocibundle/tests/hostile/observe"
	"ocibundle/tests/hostile/tarscript"
	"ocibundle/tests/testenv"
)

// testCase is one hostile archive.
type testCase struct {
	row     string // what HOSTILE knows it as
	name    string
	archive string                              // in tarscript; $OUT is the canaries' directory, $REL the same without the leading slash
	make    func(vars map[string]string) []byte // where a script would be too long
	flags   []string                            // of ocibundle, beside -o
	want    int                                 // exit code: 0 for contained, with the tree below
	tree    string                              // in tarscript; - instead of a type: see withoutIDs
	also    func(scene *scene) []string         // more to check of DIR; what is wrong
	bites   []string                            // whom it bites and how: see scene.bite
}

// identity is whom an extraction runs as.
type identity struct {
	name     string
	uid, gid int
}

// userID belongs to nobody: no entry in passwd, no subordinate ids.
const userID = 64123

var (
	asRoot = identity{"root", 0, 0}
	asUser = identity{"user", userID, userID}
)

// scene is a directory with canaries and room for an extraction.
//
//	WORK/outside/...      the canaries, and the working directory of the extractor
//	WORK/naive/rootfs/    where the naive extract to
//	WORK/b                the bundle that ocibundle makes
//
// From either rootfs the canaries are at ../../outside: ocibundle's stage is a directory beside WORK/b.
type scene struct {
	t      testing.TB
	who    identity
	work   string
	vars   map[string]string
	before observe.Tree
}

var canaryTime = time.Unix(1234567890, 123456789)

func newScene(t testing.TB, who identity) *scene {
	t.Helper()
	work := testenv.Dir(t)
	out := filepath.Join(work, "outside")
	s := &scene{t: t, who: who, work: work, vars: map[string]string{"OUT": out, "REL": out[1:]}}
	for _, dir := range []string{"outside", "outside/dir", "outside/empty", "naive", "naive/rootfs"} {
		s.check(os.Mkdir(filepath.Join(work, dir), 0o750))
	}
	for _, file := range []string{"secret", "dir/inner", "other"} {
		path := filepath.Join(out, file)
		s.check(os.WriteFile(path, []byte("canary "+file+"\n"), 0o640))
		s.check(unix.Setxattr(path, "user.canary", []byte(file), 0))
	}
	s.check(os.Link(filepath.Join(out, "other"), filepath.Join(out, "other2")))
	s.check(os.Symlink("secret", filepath.Join(out, "link")))
	s.check(unix.Mkfifo(filepath.Join(out, "fifo"), 0o640))
	s.check(filepath.WalkDir(work, func(path string, d os.DirEntry, err error) error {
		if err == nil {
			err = os.Lchown(path, who.uid, who.gid)
		}
		if err == nil && d.Type() != os.ModeSymlink {
			err = os.Chtimes(path, time.Time{}, canaryTime)
		}
		return err
	}))
	s.before = s.record()
	return s
}

func (s *scene) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// record takes down everything in the scene but what extractions may make. Of the naive rootfs, and of WORK, whose times
// a stage changes, it keeps what no extraction may change.
func (s *scene) record() observe.Tree {
	s.t.Helper()
	tree, err := observe.Record(s.work, observe.Options{Skip: []string{"naive/rootfs", "b"}})
	s.check(err)
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(s.work, "naive/rootfs"), &st); err == nil {
		tree["naive/rootfs"] = &observe.Node{Path: "naive/rootfs", Stat: unix.Stat_t{Ino: st.Ino, Mode: st.Mode & unix.S_IFMT}}
	}
	root := &tree["."].Stat
	root.Mtim, root.Ctim, root.Nlink, root.Size = unix.Timespec{}, unix.Timespec{}, 0, 0
	return tree
}

// changes says what happened outside since the scene was set.
func (s *scene) changes() []string {
	s.t.Helper()
	return observe.Changes(s.before, s.record())
}

type result struct {
	code   int
	stderr string
	hung   bool
}

// run runs a command as the scene's identity, below the canaries' directory.
func (s *scene) run(stdin io.Reader, env []string, name string, args ...string) result {
	s.t.Helper()
	// Far beyond what any of these takes: it is there so that a hang is a failure with a name.
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = s.vars["OUT"]
	cmd.Stdin = stdin
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.work, "TMPDIR=" + s.work}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if s.who.uid != os.Geteuid() {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(s.who.uid), Gid: uint32(s.who.gid)}
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	r := result{code: cmd.ProcessState.ExitCode(), stderr: strings.TrimSpace(stderr.String()), hung: ctx.Err() != nil}
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok && !r.hung && !errors.Is(err, syscall.EPIPE) {
		s.t.Fatalf("run %s: %v (run tests/setup.sh as root)", name, err)
	}
	return r
}

const roleVar = "OCIBUNDLE_HOSTILE_ROLE"

// self runs this test program as an extractor: see roles.
func (s *scene) self(archive []byte, role string, args ...string) result {
	s.t.Helper()
	return s.run(bytes.NewReader(archive), []string{roleVar + "=" + role}, selfPath(s.t), args...)
}

// selfPath is a copy of the test program that every user can execute.
func selfPath(t testing.TB) string {
	t.Helper()
	copySelf.Do(func() {
		copySelf.dir, copySelf.err = os.MkdirTemp("", testenv.Tag+"-self-")
		if copySelf.err != nil {
			return
		}
		program, err := os.ReadFile("/proc/self/exe")
		copySelf.path = filepath.Join(copySelf.dir, "hostile.test")
		copySelf.err = errors.Join(err, os.Chmod(copySelf.dir, 0o755), os.WriteFile(copySelf.path, program, 0o755))
	})
	if copySelf.err != nil {
		t.Fatal(copySelf.err)
	}
	return copySelf.path
}

var copySelf struct {
	sync.Once
	dir, path string
	err       error
}

// roles are what the test program is when it runs itself, with its own command line.
var roles = map[string]func(args []string) int{
	"naive": func(args []string) int {
		if err := naiveExtract(args[1], os.Stdin, profiles[args[0]]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	},
}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVar); role != "" {
		syscall.Umask(0o022)
		os.Exit(roles[role](os.Args[1:]))
	}
	code := m.Run()
	if copySelf.dir != "" {
		os.RemoveAll(copySelf.dir)
	}
	os.Exit(code)
}

func (c *testCase) bytes(vars map[string]string) ([]byte, error) {
	if c.make != nil {
		return c.make(vars), nil
	}
	return tarscript.Build(c.archive, vars)
}

// bite makes a victim extract the archive and holds what happens against what the case says. The forms are
//
//	WHO: PATH: WHAT           outside the rootfs, WHAT of PATH changes, in the words of observe.Changes
//	WHO accepts               ends as if all were well
//	WHO fails                 does not
//	WHO makes DECLARATION     the resulting tree has that, a line of tarscript
//	WHO leaves out NAME       ends as if all were well, and NAME is not there
//	WHO | WHO differ          two readers see different entries
//
// with "root: " before it where only root is bitten. WHO is one of profiles, a reader (see list), "gnutar", "gnutar -P",
// "bsdtar" or "bsdtar -P".
func (s *scene) bite(archive []byte, bite string) {
	s.t.Helper()
	bite, rootOnly := strings.CutPrefix(bite, "root: ")
	if rootOnly && s.who != asRoot {
		return
	}
	if both, ok := strings.CutSuffix(bite, " differ"); ok {
		one, other, _ := strings.Cut(both, " | ")
		a, b := list(s, archive, one), list(s, archive, other)
		if a == b {
			s.t.Errorf("bites nobody: %s and %s both see\n%s", one, other, a)
		}
		return
	}
	if who, ok := strings.CutSuffix(bite, " accepts"); ok {
		if _, isReader := readers[who]; isReader {
			if seen := list(s, archive, who); strings.Contains(seen, readError) {
				s.t.Errorf("bites nobody: %s sees\n%s", who, seen)
			}
			return
		}
		if r := s.victim(archive, who); r.code != 0 {
			s.t.Errorf("bites nobody: %s ends with %d: %s", who, r.code, r.stderr)
		}
		return
	}
	if who, ok := strings.CutSuffix(bite, " fails"); ok {
		if r := s.victim(archive, who); r.code == 0 {
			s.t.Errorf("bites nobody: %s succeeds", who)
		}
		return
	}
	if who, name, ok := strings.Cut(bite, " leaves out "); ok {
		r := s.victim(archive, who)
		if _, err := os.Lstat(filepath.Join(s.work, "naive/rootfs", name)); r.code != 0 || err == nil {
			s.t.Errorf("bites nobody: %s ends with %d, %v, %s", who, r.code, err, r.stderr)
		}
		return
	}
	if who, line, ok := strings.Cut(bite, " makes "); ok {
		r := s.victim(archive, who)
		tree, err := observe.Record(filepath.Join(s.work, "naive/rootfs"), observe.Options{})
		s.check(err)
		want, err := tarscript.Parse(line, s.vars)
		s.check(err)
		for _, wrong := range tree.Compare(want) {
			if strings.HasPrefix(wrong, fmt.Sprintf("%q:", want[0].Name)) {
				s.t.Errorf("bites nobody: %s ends with %d, %s: %s", who, r.code, r.stderr, wrong)
			}
		}
		return
	}
	who, change, ok := strings.Cut(bite, ": ")
	if !ok {
		s.t.Fatalf("%q is not a bite", bite)
	}
	path, what, _ := strings.Cut(change, ": ")
	r := s.victim(archive, who)
	changes := s.changes()
	if !slices.ContainsFunc(changes, func(c string) bool {
		p, w, _ := strings.Cut(c, ": ")
		return p == path && slices.Contains(strings.Split(w, ", "), what)
	}) {
		s.t.Errorf("bites nobody: want %q of %s, which ended with %d (%s); changes outside: %q", change, who, r.code, r.stderr, changes)
	}
}

func (s *scene) victim(archive []byte, who string) result {
	s.t.Helper()
	root := filepath.Join(s.work, "naive/rootfs")
	tool, flags, _ := strings.Cut(who, " ")
	if program := map[string]string{"gnutar": "tar", "bsdtar": "bsdtar"}[tool]; program != "" {
		args := []string{"-x", "-p", "-f", "-", "-C", root}
		if tool == "gnutar" {
			args = append(args, "--xattrs", "--xattrs-include=*")
		}
		return s.run(bytes.NewReader(archive), nil, program, append(args, strings.Fields(flags)...)...)
	}
	if _, ok := profiles[who]; !ok {
		s.t.Fatalf("%q is not an extractor", who)
	}
	return s.self(archive, "naive", who, root)
}

// readers list the entries that they see in an archive, a line each. Those whose name starts with "reads" are ours, simple,
// and wrong in one thing; see blocks_test.go.
var readers = map[string]func(s *scene, archive []byte) string{
	"gotar":  func(_ *scene, archive []byte) string { return goList(archive) },
	"gnutar": func(s *scene, archive []byte) string { return toolList(s, archive, "tar", "--quoting-style=escape") },
	"bsdtar": func(s *scene, archive []byte) string { return toolList(s, archive, "bsdtar") },
}

const readError = "ERROR"

func list(s *scene, archive []byte, who string) string {
	s.t.Helper()
	reader, ok := readers[who]
	if !ok {
		s.t.Fatalf("%q is not a reader", who)
	}
	return reader(s, archive)
}

func goList(archive []byte) string {
	var names strings.Builder
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names.String()
		}
		if err == nil {
			fmt.Fprintln(&names, h.Name)
			_, err = io.Copy(io.Discard, r)
		}
		if err != nil {
			return names.String() + readError
		}
	}
}

func toolList(s *scene, archive []byte, tool string, args ...string) string {
	cmd := exec.CommandContext(s.t.Context(), tool, append([]string{"-t", "-f", "-"}, args...)...)
	cmd.Stdin = bytes.NewReader(archive)
	out, err := cmd.Output()
	if err != nil {
		return string(out) + readError
	}
	return string(out)
}

// extract runs ocibundle on the archive and says what is wrong with what it did.
func (s *scene) extract(c *testCase, archive []byte) (wrong []string) {
	s.t.Helper()
	args := append([]string{"-o", filepath.Join(s.work, "b"), "-q"}, c.flags...)
	if s.who != asRoot {
		args = append(args, "--remap", "self")
	}
	r := s.run(bytes.NewReader(archive), nil, testenv.Binary(s.t), args...)
	if r.hung {
		return []string{"hangs"}
	}
	if r.code != c.want {
		wrong = append(wrong, fmt.Sprintf("exit code %d, want %d; stderr %q", r.code, c.want, r.stderr))
	}
	for _, change := range s.changes() {
		wrong = append(wrong, "outside the rootfs: "+change)
	}
	bundle := filepath.Join(s.work, "b")
	if c.want != 0 {
		if _, err := os.Lstat(bundle); err == nil {
			wrong = append(wrong, "a refused archive left a bundle")
		}
		if !strings.HasPrefix(r.stderr, "ocibundle: ") {
			wrong = append(wrong, fmt.Sprintf("the error is not told: %q", r.stderr))
		}
		return wrong
	}
	if r.code != 0 {
		return wrong
	}
	return append(wrong, s.compare(c, filepath.Join(bundle, "rootfs"))...)
}

func (s *scene) compare(c *testCase, root string) []string {
	s.t.Helper()
	tree, err := observe.Record(root, observe.Options{})
	s.check(err)
	declared, err := tarscript.Parse(c.tree, s.vars)
	s.check(err)
	var wrong []string
	if s.who != asRoot {
		declared = withoutIDs(declared)
	}
	wrong = append(wrong, tree.Compare(declared)...)
	for _, path := range tree.Paths() {
		if n := tree[path]; s.who != asRoot && (int(n.Stat.Uid) != s.who.uid || int(n.Stat.Gid) != s.who.gid) {
			wrong = append(wrong, fmt.Sprintf("%q belongs to %d:%d", path, n.Stat.Uid, n.Stat.Gid))
		}
	}
	if c.also != nil {
		s.vars["ROOT"] = root
		wrong = append(wrong, c.also(s)...)
	}
	return wrong
}

// withoutIDs is what a declaration means for an ordinary user, whose files are all its own and who gets no devices.
func withoutIDs(declared []tarscript.Entry) []tarscript.Entry {
	var out []tarscript.Entry
	for _, e := range declared {
		if e.Verb == "char" || e.Verb == "block" {
			continue
		}
		e.Attrs = slices.Clone(e.Attrs)
		for i := range e.Attrs {
			if strings.HasPrefix(e.Attrs[i].Key, "xattr.system.") {
				e.Attrs[i].Value = "" // its ids would be wrong
			}
		}
		e.Attrs = slices.DeleteFunc(e.Attrs, func(a tarscript.Attr) bool {
			return a.Key == "uid" || a.Key == "gid" || strings.HasPrefix(a.Key, "xattr.trusted.")
		})
		out = append(out, e)
	}
	return out
}
