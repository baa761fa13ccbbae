package faults

import (
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/tests/faults/inject"
)

var (
	everything = flag.Bool("all", false, "run everything instead of a sample")
	only       = flag.String("only", "", "run what matches the regular expression, out of everything")
)

// sample is how many failing calls are run by default.
const sample = 400

// fault is one call that fails, in one command.
type fault struct {
	who   *identity
	c     *command
	ref   *reference
	kind  inject.Kind
	nth   int
	errno syscall.Errno
	on    bool // all later ones fail, too
}

func (f *fault) String() string {
	on := ""
	if f.on {
		on = "+"
	}
	return fmt.Sprintf("%s/%s/%s/%d%s/%s", f.who.name, f.c.name, f.kind.Name, f.nth, on, unix.ErrnoName(f.errno))
}

// Every system call of every command fails, one at a time.
func TestCalls(t *testing.T) {
	w := newWorld(t)
	faults, err := w.faults()
	if err != nil {
		t.Fatal(err)
	}
	all := len(faults)
	faults = chosen(t, faults, sample, func(f *fault) string { return f.kind.Name + unix.ErrnoName(f.errno) })
	t.Logf("%d of %d failing calls", len(faults), all)
	var missed sync.Map
	w.each(t, len(faults), func(i int) (string, string, []string, error) {
		f := faults[i]
		wrong, hit, err := w.fail(f)
		if !hit {
			missed.Store(f.String(), true)
		}
		return f.String(), fmt.Sprintf("%s: %s %s", f.c.name, f.kind.Name, unix.ErrnoName(f.errno)), wrong, err
	})
	n := 0
	missed.Range(func(any, any) bool { n++; return true })
	if n > len(faults)/5 {
		t.Errorf("%d of %d runs never came to the call that was to fail", n, len(faults))
	}
}

// references runs every command once without a fault.
func (w *world) references() (map[string]*reference, error) {
	refs := map[string]*reference{}
	var mu sync.Mutex
	var wait sync.WaitGroup
	var failed error
	for i := range w.who {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for j := range commands {
				c, who := &commands[j], &w.who[i]
				if c.who != "" && c.who != who.name {
					continue
				}
				ref, err := w.refer(*who, c)
				mu.Lock()
				refs[who.name+"/"+c.name] = ref
				failed = errors.Join(failed, err)
				mu.Unlock()
			}
		}()
	}
	wait.Wait()
	return refs, failed
}

func (w *world) refer(who identity, c *command) (*reference, error) {
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
	return &reference{code: res.Code, stdout: s.output(res), tree: tree, calls: res.Calls}, err
}

// faults lists all that there is to try.
func (w *world) faults() (all []*fault, err error) {
	refs, err := w.references()
	if err != nil {
		return nil, err
	}
	for i := range w.who {
		for j := range commands {
			who, c := &w.who[i], &commands[j]
			ref := refs[who.name+"/"+c.name]
			if ref == nil {
				continue
			}
			seen := map[string]int{}
			for _, call := range ref.calls {
				if !call.Fits() {
					continue
				}
				seen[call.Kind.Name]++
				if what := call.Kind.Name + process.ReplaceAllString(call.Args, ""); process.MatchString(call.Args) {
					if seen[what]++; seen[what] > 2 {
						continue // the processes of this machine, looked at one after the other
					}
				}
				for _, errno := range call.Kind.Errnos {
					if errno == unix.EPIPE && call.FD != 1 && call.FD != 2 {
						continue // nobody goes away but readers
					}
					f := &fault{who: who, c: c, ref: ref, kind: call.Kind, nth: seen[call.Kind.Name], errno: errno}
					all = append(all, f)
					if stays(errno) {
						on := *f
						on.on = true
						all = append(all, &on)
					}
				}
			}
		}
	}
	return all, nil
}

// process is what is said about some process.
var process = regexp.MustCompile(`/proc/\d+/`)

// stays says that who meets the error will likely meet it again.
func stays(errno syscall.Errno) bool {
	return slices.Contains([]syscall.Errno{unix.ENOSPC, unix.EMFILE, unix.EROFS, unix.EPIPE}, errno)
}

// fail runs a command with one fault.
func (w *world) fail(f *fault) (wrong []string, hit bool, err error) {
	s, err := w.set(*f.who, f.c, "")
	if err != nil {
		return nil, false, err
	}
	defer s.remove()
	cmd := s.command()
	cmd.Fault = &inject.Fault{Kind: f.kind, Nth: f.nth, Errno: f.errno, On: f.on}
	res, err := inject.Run(cmd)
	if err != nil {
		return nil, false, err
	}
	e := expectation{}
	if res.Hit != nil {
		e = f.expect(*res.Hit)
	}
	wrong, err = s.judge(res, f.ref, e)
	if len(wrong) > 0 && res.Hit != nil {
		w.tell(f.String(), *res.Hit)
	}
	return wrong, res.Hit != nil, err
}

// expect says what may come of a call that fails.
func (f *fault) expect(hit inject.Call) expectation {
	e := expectation{codes: []int{1}, says: []string{f.errno.Error()}}
	if strings.Contains(hit.Args, filepath.Join("in", "named")+"/") {
		e.codes = append(e.codes, 2) // "a file that an edit flag, --template or --image-config names cannot be read"
	}
	if !isIO(f.errno) {
		e.codes, e.lossy = append(e.codes, 2), true
		switch {
		case f.c.name == "check":
			e.codes = append(e.codes, 3)
		case f.c.does == makes:
			e.codes = append(e.codes, 5)
		}
		if f.errno != unix.EACCES && f.errno != unix.EPERM {
			e.says = nil // what it means is said instead
		}
	}
	switch f.kind.Name {
	case "clone", "clone3":
		if strings.Contains(hit.Args, "user namespace") {
			e.codes, e.says = append(e.codes, 2), nil
		}
	case "write", "writev":
		switch {
		case hit.FD == 2:
			e.codes, e.mute = []int{f.ref.code}, true
		case hit.FD == 1 && f.c.does != looks:
			e.codes, e.deaf = []int{0}, true // "once the bundle is there the exit is 0"
		case hit.FD == 1 && f.errno == unix.EPIPE:
			e.codes, e.says = append(e.codes, 128+int(unix.SIGPIPE)), nil
		}
	}
	if strings.HasPrefix(hit.Args, "pipe:") && hit.FD > 2 {
		e.says = nil // between two processes of the program: the one that fails cannot say why
	}
	return e
}

// chosen leaves of the cases what -only or -all asks for, and else a sample that is the same each time: n of them, with
// at least one of each kind.
func chosen[T fmt.Stringer](t *testing.T, cases []T, n int, kind func(T) string) []T {
	t.Helper()
	if *only != "" {
		pattern, err := regexp.Compile(*only)
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(cases, func(c T) bool { return !pattern.MatchString(c.String()) })
	}
	if *everything {
		return cases
	}
	rank := func(c T) uint64 {
		h := fnv.New64a()
		h.Write([]byte(c.String()))
		x := h.Sum64() // names that differ in the last letters only differ in the low bits
		x ^= x >> 32
		x *= 0x9e3779b97f4a7c15
		return x ^ x>>29
	}
	slices.SortFunc(cases, func(a, b T) int {
		if rank(a) < rank(b) {
			return -1
		}
		return 1
	})
	var first, others []T
	seen := map[string]bool{}
	for _, c := range cases {
		if k := kind(c); !seen[k] {
			seen[k] = true
			first = append(first, c)
		} else {
			others = append(others, c)
		}
	}
	return append(first, others[:max(0, min(n-len(first), len(others)))]...)
}
