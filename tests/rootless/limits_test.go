package rootless

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ocibundle/tests/testenv"
)

// Where files or threads are few, the program either does its work or says so, in a line and a hint, before it makes
// anything: the Go runtime would end it with a dump of its stacks, and leave what was half made.
func TestNarrowLimits(t *testing.T) {
	testenv.NeedTool(t, "newuidmap", "newgidmap")
	stream := archive(t, entries(t))
	root, user := asRoot(t), asUser(t, testenv.UserOptions{SubIDs: 65536})
	refused := map[string]int{}
	for _, c := range []struct {
		h      *host
		limit  string // of the shell's ulimit
		values []int
	}{
		{root, "-n", []int{6, 7, 8, 9, 10, 11, 12, 16, 20, 24, 28, 64}},
		{user, "-n", []int{6, 8, 10, 12, 16, 20, 24, 28, 64}},
		{user, "-u", []int{8, 10, 12, 16, 20, 24, 28, 64}}, // root may have more than its limit; Go itself takes five to seven
	} {
		for _, n := range c.values {
			b := filepath.Join(c.h.dir, fmt.Sprintf("b%s-%d", c.limit, n))
			cmd := c.h.command("/bin/bash", "-c", fmt.Sprintf(`ulimit %s %d && exec "$@"`, c.limit, n), "bash", testenv.Binary(t), "-q", "-o", b)
			cmd.Stdin = bytes.NewReader(stream)
			before := names(t, c.h.dir)
			res := run(t, cmd)
			after := names(t, c.h.dir)
			switch {
			case res.code == 0 && len(after) == len(before)+1:
				if err := os.RemoveAll(b); err != nil {
					t.Fatal(err)
				}
				continue
			case res.code != 1 || len(after) != len(before):
				t.Errorf("ulimit %s %d: exit %d, and there is %q", c.limit, n, res.code, after)
			case n == 64:
				t.Errorf("ulimit %s %d is enough: %s", c.limit, n, res.stderr)
			}
			refused[c.limit]++
			if lines := strings.Split(strings.TrimSpace(res.stderr), "\n"); len(lines) > 2 || !strings.HasPrefix(lines[0], "ocibundle: the limits of this process allow ") {
				t.Errorf("ulimit %s %d: exit %d, %d lines: %.300s", c.limit, n, res.code, len(lines), res.stderr)
			}
		}
	}
	if refused["-n"] == 0 || refused["-u"] == 0 {
		t.Errorf("refused %v: the limits were no limits", refused)
	}
}
