package check

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/tests/testenv"
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
		v := newView(root, &lookups{ctx: t.Context(), left: 1 << 40})
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
	v := newView(root, &lookups{ctx: t.Context(), left: 1 << 40})
	found := 0
	for range testenv.Rounds(20_000) {
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
	if err := os.Symlink(strings.Repeat(strings.Repeat("n", 255)+"/", 15)+strings.Repeat("n", 200), dir+"/long"); err != nil {
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
	v := newView(root, &lookups{ctx: t.Context(), left: 1 << 40})
	before := handles()
	for _, tt := range []struct {
		path string
		want error
	}{
		{strings.Repeat("/dots", 30), errDeep},
		{strings.Repeat("/x", 2000), errDeep},
		{"/long/" + strings.Repeat("n", 100), errDeep},
		{strings.Repeat("/x", 100_000), unix.ENAMETOOLONG},
	} {
		if _, err := v.walk(tt.path, walkMake); !errors.Is(err, tt.want) {
			t.Errorf("%.20s...: %v", tt.path, err)
		}
	}
	if after := handles(); after != before {
		t.Errorf("%d handles, and %d before", after, before)
	}
}

// All walks of a check together look up no more than there is a budget for, and end with the context.
func TestLookupsAreBounded(t *testing.T) {
	root, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	names := &lookups{ctx: ctx, left: 10}
	v := newView(root, names)
	for range 3 {
		if r, err := v.walk("/a/b/c", walkMake); err != nil {
			t.Fatal(err)
		} else {
			r.close()
		}
	}
	if _, err := v.walk("/a/b/c", walkLook); !errors.Is(err, errTooMany) || names.err != nil {
		t.Errorf("beyond the budget: %v (%v)", err, names.err)
	}
	names.left = 1000
	stop := errors.New("stop")
	cancel(stop)
	if _, err := v.walk("/a/b/c", walkLook); !errors.Is(err, stop) || !errors.Is(names.err, stop) {
		t.Errorf("after the context has ended: %v (%v)", err, names.err)
	}
}
