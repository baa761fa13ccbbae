package bundle

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/tarx/handle"
	"ocibundle/tests/testenv"
)

// The attacker of these tests may rename what is in the directory that the bundle is in.

func openT(t *testing.T, dir string, force bool) *Destination {
	t.Helper()
	d, err := OpenDestination(t.Context(), dir, force)
	must(t, err)
	t.Cleanup(d.Close)
	return d
}

// stageT is a stage with a bundle in it.
func stageT(t *testing.T, d *Destination) *Stage {
	t.Helper()
	s, err := NewStage(d)
	must(t, err)
	t.Cleanup(func() { s.Remove() })
	f, err := s.Mkdir("rootfs")
	must(t, err)
	f.Close()
	must(t, s.WriteFile("config.json", []byte(`{"ociVersion": "1.0.0"}`)))
	return s
}

func exchange(t *testing.T, a, b string) {
	t.Helper()
	must(t, unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE))
}

// wantIntact checks that a bundle of the test's is as makeBundle made it.
func wantIntact(t *testing.T, dir string) {
	t.Helper()
	if text, err := os.ReadFile(filepath.Join(dir, "rootfs/etc/passwd")); err != nil || string(text) != "root" {
		t.Errorf("%q is not as it was: %v", dir, err)
	}
}

func wantDest(t *testing.T, err error, kind DestinationKind) {
	t.Helper()
	if de, ok := errors.AsType[*DestinationError](err); !ok || de.Kind != kind {
		t.Errorf("got %v, want a DestinationError of kind %d", err, kind)
	}
}

// Between mkdir and open something else takes the stage's place.
func TestStageIsWhatWasMade(t *testing.T) {
	dir := t.TempDir()
	d := openT(t, filepath.Join(dir, "x"), false)
	stage := filepath.Join(dir, stagePrefix("x")+"0123456789abcdef")
	attacks := map[string]func(){
		"a file":                   func() { must(t, os.WriteFile(stage, nil, 0o600)) },
		"a link":                   func() { must(t, os.Symlink(t.TempDir(), stage)) },
		"others may read it":       func() { must(t, os.Mkdir(stage, 0o700)); must(t, os.Chmod(stage, 0o750)) },
		"there is something in it": func() { must(t, os.MkdirAll(filepath.Join(stage, "rootfs"), 0o700)) },
	}
	if os.Geteuid() == 0 {
		attacks["it is another user's"] = func() { must(t, os.Mkdir(stage, 0o700)); must(t, os.Chown(stage, 54321, 54321)) }
		attacks["it is a mount"] = func() {
			must(t, os.Mkdir(stage, 0o700))
			must(t, unix.Mount("none", stage, "tmpfs", 0, "mode=0700"))
		}
	}
	for name, attack := range attacks {
		attack()
		if s, err := openStage(d, filepath.Base(stage)); !errors.Is(err, errTaken) {
			t.Errorf("%s: %v, %v", name, s, err)
		}
		unix.Unmount(stage, unix.MNT_DETACH)
		must(t, os.RemoveAll(stage))
	}
	must(t, os.Mkdir(stage, 0o700))
	s, err := openStage(d, filepath.Base(stage))
	must(t, err)
	must(t, s.Remove())
}

// All the while another directory takes the stage's place, and gives it back. What is published is
// the stage, or nothing.
func TestPublishIsTheStage(t *testing.T) {
	dir := t.TempDir()
	x, evil := filepath.Join(dir, "x"), filepath.Join(dir, "evil")
	refused := 0
	for range 200 {
		d := openT(t, x, false)
		s := stageT(t, d)
		must(t, os.Mkdir(evil, 0o755))
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for {
				select {
				case <-stop:
					return
				default:
					unix.Renameat2(unix.AT_FDCWD, evil, unix.AT_FDCWD, filepath.Join(dir, s.Name), unix.RENAME_EXCHANGE)
				}
			}
		}()
		_, err := s.Publish(t.Context())
		close(stop)
		<-done
		if _, cerr := os.Stat(filepath.Join(x, "config.json")); err == nil && cerr != nil {
			t.Fatalf("published something else: %v", cerr)
		}
		if err != nil {
			refused++
		}
		s.Remove()
		for _, n := range list(t, dir) {
			must(t, os.RemoveAll(filepath.Join(dir, n)))
		}
	}
	t.Logf("%d of 200 were refused", refused)
}

// A directory of the caller's gets the name of what the caller is about to remove.
func TestNothingElseIsRemoved(t *testing.T) {
	for name, attack := range map[string]func(t *testing.T, dir, keep string) error{
		"a stage": func(t *testing.T, dir, keep string) error {
			s := stageT(t, openT(t, filepath.Join(dir, "x"), false))
			exchange(t, filepath.Join(dir, s.Name), keep)
			return s.Remove()
		},
		"what was not published": func(t *testing.T, dir, keep string) error {
			s := stageT(t, openT(t, filepath.Join(dir, "x"), false))
			exchange(t, filepath.Join(dir, s.Name), keep)
			_, err := s.Publish(t.Context())
			if got := list(t, dir); slices.Contains(got, "x") {
				t.Errorf("something else was published: %q", got)
			}
			return errors.Join(err, s.Remove())
		},
		"a bundle": func(t *testing.T, dir, keep string) error {
			x := makeBundle(t, filepath.Join(dir, "x"))
			r, err := startRemoval(t.Context(), x, RemoveOptions{}, nil)
			must(t, err)
			defer r.close()
			exchange(t, x, keep)
			err = r.run()
			if got := list(t, dir); !slices.Equal(got, []string{"keep", "x"}) {
				t.Errorf("what has the name has lost it: %q", got)
			}
			wantIntact(t, keep) // which is what the bundle is called now
			return err
		},
		"what was replaced": func(t *testing.T, dir, keep string) error {
			x := makeBundle(t, filepath.Join(dir, "x"))
			left, err := stageT(t, openT(t, x, true)).Publish(t.Context())
			must(t, err)
			exchange(t, filepath.Join(dir, left.Name), keep)
			return left.Remove()
		},
		"what is to be replaced": func(t *testing.T, dir, keep string) error {
			x := makeBundle(t, filepath.Join(dir, "x"))
			s := stageT(t, openT(t, x, true))
			exchange(t, x, keep)
			_, err := s.Publish(t.Context())
			wantDest(t, err, DestBusy)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := attack(t, dir, makeBundle(t, filepath.Join(dir, "keep"))); err == nil {
				t.Error("it was done")
			}
			found := false
			for _, n := range list(t, dir) {
				if _, err := os.Stat(filepath.Join(dir, n, "rootfs/etc/passwd")); err == nil && n != "keep" {
					found = true
					wantIntact(t, filepath.Join(dir, n))
				}
			}
			if !found {
				t.Errorf("it is gone; left: %q", list(t, dir))
			}
		})
	}
}

// Of several runs that replace one bundle, one does.
func TestReplaceOnce(t *testing.T) {
	dir := t.TempDir()
	x := makeBundle(t, filepath.Join(dir, "x"))
	var stages []*Stage
	for range 5 {
		stages = append(stages, stageT(t, openT(t, x, true)))
	}
	left, err := stages[2].Publish(t.Context())
	must(t, err)
	must(t, left.Remove())
	for i, s := range stages {
		if i != 2 {
			_, err := s.Publish(t.Context())
			wantDest(t, err, DestBusy)
			must(t, s.Remove())
		}
	}
	if got := list(t, dir); !slices.Equal(got, []string{"x"}) {
		t.Errorf("left: %q", got)
	}
	// One of them has made what the others did not find at their start.
	y := filepath.Join(dir, "y")
	a, b := stageT(t, openT(t, y, true)), stageT(t, openT(t, y, true))
	_, err = a.Publish(t.Context())
	must(t, err)
	_, err = b.Publish(t.Context())
	wantDest(t, err, DestBusy)
}

// A bundle that another run has removed since it was opened is one that another run works on.
func TestReplacedWhileLookedAt(t *testing.T) {
	dir := makeBundle(t, filepath.Join(t.TempDir(), "b"))
	parent, err := os.Open(filepath.Dir(dir))
	must(t, err)
	defer parent.Close()
	d := &Destination{Parent: parent, dir: dir, base: "b", force: true}
	f, err := os.Open(dir)
	must(t, err)
	must(t, os.RemoveAll(dir))
	wantDest(t, d.lookInto(t.Context(), f), DestBusy)
	if _, err := f.Stat(); err == nil {
		t.Error("the directory is still open")
	}
}

func TestRemoveAtOnce(t *testing.T) {
	dir := t.TempDir()
	x := filepath.Join(dir, "x")
	for range 20 {
		makeBundle(t, x)
		errs := make(chan error, 8)
		for range cap(errs) {
			go func() { errs <- Remove(t.Context(), []string{x, x + "/"}, RemoveOptions{Force: true}) }()
		}
		for range cap(errs) {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if got := list(t, dir); len(got) > 0 {
			t.Errorf("left: %q", got)
		}
	}
}

// A filesystem in user space whose server never answers. Whoever asks it something hangs until the
// server ends.
func hungT(t *testing.T, point string) {
	t.Helper()
	testenv.NeedRoot(t)
	must(t, os.MkdirAll(point, 0o700))
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Fatal("needs /dev/fuse:", err)
	}
	fd := int(fuse.Fd())
	options := "rootmode=40000,user_id=0,group_id=0,fd=" + strings.TrimPrefix(handle.Path(fd), "/proc/self/fd/")
	must(t, unix.Mount("hung", point, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options))
	t.Cleanup(func() {
		fuse.Close()
		unix.Unmount(point, unix.MNT_DETACH)
	})
}

func TestHungMounts(t *testing.T) {
	dir := t.TempDir()
	x := filepath.Join(dir, "x")
	stale := filepath.Join(dir, stagePrefix("x")+"0123456789abcdef")
	hungT(t, stale)
	makeBundle(t, x)
	must(t, Remove(t.Context(), []string{x}, RemoveOptions{}))
	stageT(t, openT(t, x, false)).Remove()

	hungT(t, x)
	wantKind(t, "remove", Remove(t.Context(), []string{x}, RemoveOptions{Force: true}), Mounted)
	_, err := OpenDestination(t.Context(), x, true)
	wantDest(t, err, DestMount)
}

// A process whose root's filesystem hangs does not keep another one from being found.
func TestHungRoot(t *testing.T) {
	dir := t.TempDir()
	x := makeBundle(t, filepath.Join(dir, "x"))
	real, hang := lookAtRoot, make(chan struct{})
	defer func() { lookAtRoot = real }()
	lookAtRoot = func(pid int) (unix.Statx_t, error) {
		switch pid {
		case 1:
			<-hang
		case os.Getpid():
			return handle.Look(unix.AT_FDCWD, filepath.Join(x, "rootfs"))
		}
		return unix.Statx_t{}, unix.ENOENT
	}
	defer close(hang)
	wantKind(t, "remove", Remove(t.Context(), []string{x}, RemoveOptions{}), InUse)
}

// A bundle in the lower layer of an overlay, which cannot be renamed.
func TestRemoveInOverlay(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	must(t, unix.Mount("none", dir, "tmpfs", 0, ""))
	defer unix.Unmount(dir, unix.MNT_DETACH)
	x := makeBundle(t, filepath.Join(dir, "lower/x"))
	must(t, os.WriteFile(filepath.Join(x, "notes"), nil, 0o644))
	for _, d := range []string{"upper", "work", "merged"} {
		must(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	options := "redirect_dir=off,lowerdir=" + at("lower") + ",upperdir=" + at("upper") + ",workdir=" + at("work")
	must(t, unix.Mount("overlay", at("merged"), "overlay", 0, options))
	defer unix.Unmount(at("merged"), unix.MNT_DETACH)
	if err := os.Rename(at("merged/x"), at("merged/y")); !errors.Is(err, unix.EXDEV) {
		t.Fatalf("the test shows nothing: rename says %v", err)
	}
	must(t, Remove(t.Context(), []string{at("merged/x")}, RemoveOptions{}))
	if got := list(t, at("merged")); len(got) > 0 {
		t.Errorf("left: %q", got)
	}
}

// A bundle for which the parent has no room under another name, as with a quota that is used up.
func TestRemoveWithoutRoom(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "mkfs.btrfs", "mount", "btrfs")
	dir := testenv.Dir(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.WriteFile(at("file"), nil, 0o600))
	must(t, os.Truncate(at("file"), 128<<20))
	must(t, os.Mkdir(at("disk"), 0o755))
	for _, args := range [][]string{{"mkfs.btrfs", "-q", at("file")}, {"mount", "-o", "loop", at("file"), at("disk")}} {
		testenv.Output(t, exec.Command(args[0], args[1:]...))
	}
	x := makeBundle(t, at("disk/x"))
	testenv.Output(t, exec.Command("btrfs", "quota", "enable", at("disk")))
	testenv.Output(t, exec.Command("btrfs", "qgroup", "limit", "1", at("disk")))
	if err := os.Rename(x, at("disk/y")); !errors.Is(err, unix.EDQUOT) {
		t.Fatalf("the test shows nothing: rename says %v", err)
	}
	must(t, Remove(t.Context(), []string{x}, RemoveOptions{}))
	testenv.Gone(t, x)
}
