package hostile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"ocibundle/tarx"
	"ocibundle/tarx/extract"
	"ocibundle/tests/testenv"
)

func init() {
	roles["engine"] = engineRole
}

// engineRole extracts standard input below args[0] with args[1] workers, at most args[2] entries (0: no limit) and the tarx.Feed args[3],
// and ends as ocibundle does.
func engineRole(args []string) int {
	root, err := os.Open(args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer root.Close()
	workers, err1 := strconv.Atoi(args[1])
	entries, err2 := strconv.ParseInt(args[2], 10, 64)
	feed, err3 := strconv.Atoi(args[3])
	if err := errors.Join(err1, err2, err3); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	o := tarx.Options{Workers: workers, Feed: tarx.Feed(feed), MaxEntries: entries}
	if os.Geteuid() != 0 {
		o.Owner = tarx.OwnerRootless
	}
	_, err = extract.Stream(context.Background(), os.Stdin, root, o)
	return exitCode(err)
}

func exitCode(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "ocibundle:", err)
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, tarx.ErrMalformed):
		return 3
	case errors.Is(err, tarx.ErrRefused):
		return 4
	}
	return 1
}

// engine runs the engine alone, in a process of its own, and says what is wrong with what it did.
func (s *scene) engine(c *testCase, archive []byte, workers int, feed tarx.Feed) (wrong []string) {
	s.t.Helper()
	limit := "0"
	if i := slices.Index(c.flags, "--max-entries"); i >= 0 {
		limit = c.flags[i+1]
	}
	root := filepath.Join(s.work, "b", "rootfs")
	for _, dir := range []string{filepath.Dir(root), root} {
		s.check(os.Mkdir(dir, 0o700))
		s.check(os.Chown(dir, s.who.uid, s.who.gid))
	}
	r := s.run(bytes.NewReader(archive), []string{roleVar + "=engine"}, selfPath(s.t), root, strconv.Itoa(workers), limit, strconv.Itoa(int(feed)))
	if r.hung {
		return []string{"hangs"}
	}
	if r.code != c.want {
		wrong = append(wrong, fmt.Sprintf("exit code %d, want %d; stderr %q", r.code, c.want, r.stderr))
	}
	for _, change := range s.changes() {
		wrong = append(wrong, "outside the rootfs: "+change)
	}
	if r.code == 0 && c.want == 0 {
		wrong = append(wrong, s.compare(c, root)...)
	}
	return wrong
}

// TestHostileWorkers runs every archive through the engine alone, as root, with one worker, with two and with eight, and read ahead or
// not: what is done at the same time must not be told from what is done in order.
func TestHostileWorkers(t *testing.T) {
	testenv.NeedRoot(t)
	for _, c := range cases() {
		if slices.Contains(c.flags, "--max-bytes") {
			continue // the engine does not count bytes
		}
		t.Run(c.row+"/"+c.name, func(t *testing.T) {
			t.Parallel()
			for _, way := range []struct {
				workers int
				feed    tarx.Feed
			}{{1, tarx.FeedNothing}, {2, tarx.FeedNothing}, {8, tarx.FeedNothing}, {2, tarx.FeedProcess}, {8, tarx.FeedProcess}} {
				s := newScene(t, asRoot)
				archive, err := c.bytes(s.vars)
				s.check(err)
				for _, wrong := range s.engine(&c, archive, way.workers, way.feed) {
					t.Errorf("%d workers, feed %d: %s", way.workers, way.feed, wrong)
				}
			}
		})
	}
}
