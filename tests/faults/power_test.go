package faults

import (
	"errors"
	"fmt"
	"maps"
	"math/rand"
	"os"
	"slices"
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

// lasting are the commands whose work outlasts a power loss.
var lasting = []command{
	{name: "sync", args: "--sync -o b", stdin: "export"},
	{name: "sync force", args: "--sync -f -o b", stdin: "export", bundles: "b"},
	{name: "sync image", args: "--sync -f --image -i IN/image.tar -o b", bundles: "b"},
	{name: "edit", args: "edit b -e A=1 --patch IN/named/patch.json", bundles: "b", does: edits},
	{name: "rm", args: "rm b", bundles: "b", does: removes},
}

// fragile are the calls at which the power is cut, the first, the middle and the last of each kind, and steady those
// that it is cut in.
var (
	fragile = []string{"openat", "openat2", "write", "pwrite64", "mkdirat", "linkat", "symlinkat", "mknodat", "fchown", "fsetxattr", "utimensat",
		"flock", "syncfs", "fsync", "renameat", "renameat2", "unlinkat"}
	steady = []string{"syncfs", "fsync", "renameat", "renameat2", "unlinkat"}
)

// A filesystem gives its disk what it was told by and by. One cut is before it has done anything of its own accord, and
// one just after it has written its journal, as it does every few seconds: the names are there, and not all that is in
// the files. The rest of what can be is between the two.
var cuts = map[string]int{"early": goingNoFlush, "late": goingFlush}

// stoppable are the filesystems that can be stopped at once.
var stoppable = []string{"ext4", "xfs"}

// The ioctl of xfs, which ext4 has, too, that makes a filesystem stop without writing anything, or nothing but its journal.
const (
	goingDown    = 0x8004587d // XFS_IOC_GOINGDOWN, EXT4_IOC_SHUTDOWN
	goingFlush   = 1
	goingNoFlush = 2
)

// power are the trials in which the power is cut: after a run, at a call, in one, and at a random moment.
func power(t *testing.T, w *world) (trials []*trial) {
	testenv.NeedTool(t, "mount", "mkfs.ext4", "mkfs.xfs")
	random := rand.New(rand.NewSource(chance(t)))
	for i := range w.who {
		for j := range lasting {
			who, c := &w.who[i], &lasting[j]
			ref, err := w.reference(*who, c)
			w.must(err)
			moments := cutsOf(t, ref, random)
			for _, fs := range stoppable {
				for how := range cuts {
					for _, m := range moments {
						trials = append(trials, powerless(who, c, ref, fs, how, m))
					}
				}
			}
		}
	}
	// The order of a map is random.
	slices.SortFunc(trials, func(a, b *trial) int { return strings.Compare(a.name(), b.name()) })
	return trials
}

// moment is one at which the power is cut.
type moment struct {
	kind, at string
	arrange  func(cmd *inject.Command, cut func()) // nil: after the run
}

// cutsOf are the moments of a run.
func cutsOf(t *testing.T, ref *reference, random *rand.Rand) (list []moment) {
	within := func(d time.Duration) time.Duration { return time.Duration(1 + random.Int63n(int64(d))) }
	list = append(list, moment{kind: "after"})
	for k := range 5 {
		after := within(ref.took)
		list = append(list, moment{"moment", fmt.Sprint("/", k), func(cmd *inject.Command, cut func()) { cmd.After, cmd.Do = after, cut }})
	}
	calls := map[string]int{}
	for _, call := range ref.calls {
		calls[call.Kind.Name]++
	}
	for _, name := range fragile {
		kind, ok := inject.KindOf(name)
		if !ok {
			t.Fatalf("no system call is called %s", name)
		}
		last := calls[name]
		if last == 0 {
			continue
		}
		for _, nth := range slices.Compact([]int{1, (last + 1) / 2, last}) {
			list = append(list, moment{"at " + name, fmt.Sprint("/", nth), func(cmd *inject.Command, cut func()) {
				cmd.Fault = &inject.Fault{Kind: kind, Nth: nth, Do: cut}
			}})
		}
		if !slices.Contains(steady, name) {
			continue
		}
		for k := range 3 {
			after := within(10 * time.Millisecond)
			list = append(list, moment{"in " + name, fmt.Sprint("/", k), func(cmd *inject.Command, cut func()) {
				cmd.Fault = &inject.Fault{Kind: kind, Nth: last, Do: func() { time.AfterFunc(after, cut) }}
			}})
		}
	}
	return list
}

// powerless is a trial in which the power is cut, at the latest after the run.
func powerless(who *identity, c *command, ref *reference, fs, how string, m moment) *trial {
	var cut func() error
	var ended atomic.Bool
	var outlived bool // the run had ended when the power was cut
	return &trial{who: who, c: c, ref: ref, kind: "cut " + m.kind, fault: fmt.Sprintf("cut/%s/%s/%s%s", fs, how, m.kind, m.at), fs: fs,
		arrange: func(s *scene, cmd *inject.Command) (func(), error) {
			dir, err := os.Open(s.dir)
			if err != nil {
				return nil, err
			}
			cut = sync.OnceValue(func() error {
				outlived = ended.Load()
				return errors.Join(unix.IoctlSetPointerInt(int(dir.Fd()), goingDown, cuts[how]), dir.Close())
			})
			if m.arrange != nil {
				m.arrange(cmd, func() { cut() })
			}
			return func() { cut() }, unix.Syncfs(int(dir.Fd())) // what was there before is on the disk
		},
		judge: func(s *scene, res *inject.Result) ([]string, error) {
			ended.Store(true)
			if err := cut(); err != nil {
				return nil, fmt.Errorf("cut the power: %w", err)
			}
			if err := s.remount(); err != nil {
				return nil, err
			}
			return s.recovered(res, ref, outlived)
		},
	}
}

// recovered says what is wrong with a scene after a power loss, which came after the run's end or before.
func (s *scene) recovered(res *inject.Result, ref *reference, ended bool) (wrong []string, err error) {
	after, err := s.record()
	if err != nil {
		return nil, err
	}
	switch said := string(res.Stderr); {
	case res.Hung:
		return []string{"hangs"}, nil
	case stack.MatchString(said):
		wrong = append(wrong, fmt.Sprintf("shows a Go stack, exit %d: %s", res.Code, firstLine(said)))
	case res.Code == 1:
		wrong = append(wrong, s.message(res, expectation{says: unix.EIO.Error()})...)
	case res.Code != ref.code:
		wrong = append(wrong, fmt.Sprintf("exit %d: %s", res.Code, firstLine(said)))
	}
	isNew := changes(named(ref.tree), named(after))
	isOld := changes(named(s.before), named(after))
	switch {
	case ended && s.c.does == makes:
		for _, c := range isNew {
			wrong = append(wrong, fmt.Sprintf("after its end and a power loss %s", c))
		}
	case len(isNew) > 0 && len(isOld) > 0:
		for _, c := range isNew {
			wrong = append(wrong, fmt.Sprintf("after a power loss neither old nor new: %s", c))
		}
	}
	return slices.Compact(append(wrong, s.again(after, ref)...)), nil
}

// named is what is there under a bundle's name, without what differs between two runs that do the same, and without what
// a next edit removes.
func named(tree observe.Tree) observe.Tree {
	tree = blur(tree)
	maps.DeleteFunc(tree, func(path string, _ *observe.Node) bool {
		return path != "b" && !strings.HasPrefix(path, "b/") || strings.HasPrefix(path, "b/.config.json.")
	})
	return tree
}

// unsynced shows that the trials can fail: without --sync the same run loses what it has made, all of it, or what is
// in its files.
func (w *world) unsynced(t *testing.T) {
	testenv.NeedTool(t, "mount", "mkfs.ext4", "mkfs.xfs")
	who := &w.who[0]
	force := &commands[slices.IndexFunc(commands, func(c command) bool { return c.name == "force" })]
	ref := w.refs[who.name+"/"+force.name]
	for _, fs := range stoppable {
		for how, lost := range map[string]string{"early": "b/config.json content", "late": "b/rootfs/... content"} {
			c := powerless(who, force, ref, fs, how, moment{kind: "after"})
			wrong, _, err := w.try(c)
			w.must(err)
			if !slices.ContainsFunc(wrong, func(s string) bool { return strings.HasPrefix(s, "after its end and a power loss "+lost) }) {
				t.Errorf("%s: nothing is lost without --sync: %q", c.name(), wrong)
			}
		}
	}
}
