package hostile

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"ocibundle/tests/testenv"
)

// cases are all tables, each in a file of its own.
func cases() []testCase {
	return slices.Concat(
		upwardCases(), absoluteCases(), symlinkParentCases(), replacedCases(), rootEntryCases(),
		hardLinkCases(), metadataCases(), typeCases(), sizeCases(), numberCases(), nameCases(),
		cutCases(), headerCases(), paxCases(), sparseCases(), xattrCases(), limitCases(),
	)
}

// TestHostile runs every archive as root and as an ordinary user: whom it bites first, then ocibundle.
func TestHostile(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "bsdtar")
	var mu sync.Mutex
	count := map[string]int{}
	note := func(what string, n int) {
		mu.Lock()
		defer mu.Unlock()
		count[what] += n
	}
	all := cases()
	t.Run("archives", func(t *testing.T) {
		for _, c := range all {
			t.Run(c.row+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				if len(c.bites) == 0 {
					t.Error("bites nobody: a case that no extractor falls for tests nothing")
				}
				for _, who := range []identity{asRoot, asUser} {
					t.Run(who.name, func(t *testing.T) {
						for _, bite := range c.bites {
							s := newScene(t, who)
							archive, err := c.bytes(s.vars)
							s.check(err)
							s.bite(archive, bite)
							note("bites", 1)
						}
						s := newScene(t, who)
						archive, err := c.bytes(s.vars)
						s.check(err)
						for _, wrong := range s.extract(&c, archive) {
							t.Error(wrong)
						}
						note(fmt.Sprint("runs as ", who.name), 1)
						note(fmt.Sprint("outcome ", c.want), 1)
					})
				}
			})
		}
	})
	fmt.Printf("hostile: %d archives, %d runs as root, %d runs as uid %d: %d refused as malformed (3), %d refused (4), %d contained; %d bites shown on others\n",
		len(all), count["runs as root"], count["runs as user"], userID, count["outcome 3"], count["outcome 4"], count["outcome 0"], count["bites"])
	if len(all) < 200 {
		t.Errorf("%d archives, want at least 200", len(all))
	}
	names := map[string]bool{}
	for _, c := range all {
		if names[c.row+"/"+c.name] {
			t.Errorf("%s/%s is there twice", c.row, c.name)
		}
		names[c.row+"/"+c.name] = true
	}
}
