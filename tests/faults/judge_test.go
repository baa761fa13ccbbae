package faults

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ocibundle/tests/faults/inject"
	"ocibundle/tests/hostile/observe"
)

// reference is how a run without a fault comes out.
type reference struct {
	code   int
	stdout []byte
	tree   observe.Tree
	calls  []inject.Call
	took   time.Duration
}

// expectation is what a fault allows beside the right result.
type expectation struct {
	codes []int
	says  string // what the message has to hold
	// mute: a message cannot get out. deaf: what is written to stdout cannot. silent: there need not be a message.
	mute, deaf, silent bool
	// lossy: what the filesystem refuses may be missing, if there is a warning.
	lossy bool
	// adapts: the config follows the limits of the process that makes it.
	adapts bool
	// killed: the run had no chance to clean up. The next one for the same destination does.
	killed bool
	// early: main was not there yet, and the Go runtime says in its own way that it cannot start.
	early bool
	// narrow: as early, if the stacks that the Go runtime shows have nothing of a run in them.
	narrow bool
	// beyond: the Go runtime may end the program in its own way, as if it was killed.
	beyond bool
}

var (
	stack    = regexp.MustCompile(`(?m)^(goroutine \d+|panic: |fatal error: |runtime: |runtime\.|SIGQUIT: )`)
	progress = regexp.MustCompile(`\r\x1b\[K([0-9.]+[A-Za-z]* read, [^\r\n]*/s)?`)

	stage = regexp.MustCompile(`^\.[bcd]\.ocibundle-`)
)

// judge says what is wrong with a run.
func (s *scene) judge(res *inject.Result, ref *reference, e expectation) (wrong []string, err error) {
	after, err := s.record()
	if err != nil {
		return nil, err
	}
	res.Stderr = progress.ReplaceAll(res.Stderr, nil)
	said := string(res.Stderr)
	switch {
	case res.Hung:
		return []string{"hangs"}, nil
	case e.early && res.Code != ref.code:
		return s.failure(after, ref, e), nil
	case stack.MatchString(said) && e.narrow && !strings.Contains(said, "ocibundle/pipeline"):
		return s.failure(after, ref, e), nil
	case stack.MatchString(said) && e.beyond:
		return s.again(after, ref), nil
	case stack.MatchString(said):
		wrong = append(wrong, fmt.Sprintf("shows a Go stack, exit %d: %s", res.Code, firstLine(said)))
		return append(wrong, s.failure(after, ref, e)...), nil
	}
	if res.Left {
		wrong = append(wrong, "leaves processes")
	}
	right := s.success(res, ref, after, e)
	if res.Code == ref.code && res.Signal == 0 && (len(right) == 0 || ref.code == 0) {
		return append(wrong, right...), nil
	}
	named := res.Code == 2 && strings.Contains(said, "/in/named/") // "a file that an edit flag ... names cannot be read"
	if !slices.Contains(e.codes, res.Code) && !named {
		wrong = append(wrong, fmt.Sprintf("exit %d: %s", res.Code, firstLine(said)))
	}
	if res.Signal == 0 && !e.mute {
		wrong = append(wrong, s.message(res, e)...)
	}
	return append(wrong, s.failure(after, ref, e)...), nil
}

// success says what keeps a run from being as good as one without a fault.
func (s *scene) success(res *inject.Result, ref *reference, after observe.Tree, e expectation) (wrong []string) {
	warned := bytes.Contains(res.Stderr, []byte("ocibundle: warning: "))
	told := warned // or --json alone tells it
	for _, c := range changes(blur(ref.tree), blur(after)) {
		switch {
		case stage.MatchString(c.path) && bytes.Contains(res.Stderr, []byte(c.path)):
			// An old bundle that could not be removed is named.
		case e.adapts && c.path == "b/config.json" && (c.what == "content" || c.what == "content, size"):
		case e.lossy && warned && (c.what == "xattrs" || c.what == "gone"):
		case e.lossy && c.what == "gone" && strings.HasPrefix(c.path, "b/rootfs/dev/"): // where a runtime mounts its own
			told = true
		default:
			wrong = append(wrong, fmt.Sprintf("exit %d, but %s", res.Code, c))
		}
	}
	if line, differs := difference(ref.stdout, s.output(res)); differs && !e.deaf && !(e.lossy && told) && !e.adapts {
		wrong = append(wrong, fmt.Sprintf("exit %d, but stdout differs: %s", res.Code, line))
	}
	for line := range strings.Lines(string(res.Stderr)) {
		if !strings.HasPrefix(line, "ocibundle: ") {
			wrong = append(wrong, "says "+firstLine(line))
		}
	}
	return slices.Compact(wrong)
}

// output is what a run wrote, without what differs between two runs that do the same: a list of the entries where it
// is a tar stream, without the time of the config that was made for it.
func (s *scene) output(res *inject.Result) []byte {
	out := res.Stdout
	if len(out) < 512 || string(out[257:262]) != "ustar" {
		return bytes.ReplaceAll(out, []byte(s.dir), nil)
	}
	var list bytes.Buffer
	for tr := tar.NewReader(bytes.NewReader(out)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return list.Bytes()
		}
		if err != nil {
			fmt.Fprintln(&list, err)
			return list.Bytes()
		}
		if h.Name == "config.json" {
			h.ModTime = time.Time{}
		}
		sum := sha256.New()
		io.Copy(sum, tr)
		fmt.Fprintf(&list, "%q %c %q %o %d:%d %d %v %d:%d %q %x\n", h.Name, h.Typeflag, h.Linkname, h.Mode, h.Uid, h.Gid, h.Size, h.ModTime.UnixNano(),
			h.Devmajor, h.Devminor, h.PAXRecords, sum.Sum(nil))
	}
}

// difference is where what is written first differs from what it should be.
func difference(want, got []byte) (line string, differs bool) {
	if bytes.Equal(want, got) {
		return "", false
	}
	wants := slices.Collect(bytes.Lines(want))
	for line := range bytes.Lines(got) {
		if len(wants) == 0 || !bytes.Equal(line, wants[0]) {
			return firstLine(string(line)), true
		}
		wants = wants[1:]
	}
	return "it is shorter", true
}

// message says what is wrong with what a failed run says.
func (s *scene) message(res *inject.Result, e expectation) (wrong []string) {
	var errors []string
	for line := range strings.Lines(string(res.Stderr)) {
		switch {
		case !strings.HasPrefix(line, "ocibundle: "):
			return []string{"says " + firstLine(line)}
		case !strings.HasPrefix(line, "ocibundle: hint: ") && !strings.HasPrefix(line, "ocibundle: warning: "):
			errors = append(errors, line)
		}
	}
	if strings.Contains(s.c.args, "--verbose") && len(errors) > 1 {
		errors = errors[len(errors)-1:]
	}
	if e.silent && len(errors) == 0 {
		return nil
	}
	if len(errors) != 1 {
		return []string{fmt.Sprintf("exit %d, and %d lines of what is wrong", res.Code, len(errors))}
	}
	if strings.Contains(string(res.Stderr), e.says) || strings.Contains(string(res.Stdout), e.says) {
		return nil
	}
	return []string{fmt.Sprintf("does not say %q but: %s", e.says, firstLine(errors[0]))}
}

// failure says what a run that failed has changed.
func (s *scene) failure(after observe.Tree, ref *reference, e expectation) (wrong []string) {
	if e.killed || s.c.does == removes {
		return s.again(after, ref)
	}
	for _, c := range changes(s.before, after) {
		switch {
		case s.c.does == edits && c.path == "b": // the times of a directory in which a file was made and removed
			continue
		case s.c.does == makes && s.c.bundles == "b" && c == (change{"b", "ctime"}): // it was exchanged, and then again
			continue
		}
		wrong = append(wrong, fmt.Sprintf("leaves %s", c))
	}
	return slices.Compact(wrong)
}

// again judges what cannot be as it was: a run that was killed, or a removal that broke off. Under the names there are
// bundles, old or new, or nothing, and the same command does the rest.
func (s *scene) again(after observe.Tree, ref *reference) (wrong []string) {
	for name := range strings.FieldsSeq("b c d") {
		// rm -f takes a rootfs alone.
		if after[name] != nil && (after[name+"/config.json"] == nil && s.c.does != removes || after[name+"/rootfs"] == nil) {
			wrong = append(wrong, "leaves half a bundle")
		}
	}
	cmd := s.command()
	switch s.c.does {
	case makes:
		cmd.Args = append([]string{"-f"}, cmd.Args...)
	case removes:
		cmd.Args = append([]string{"rm", "-f"}, cmd.Args[1:]...)
	}
	res, err := inject.Run(cmd)
	if err != nil {
		return append(wrong, err.Error())
	}
	if res.Code != ref.code {
		return append(wrong, fmt.Sprintf("the next run: exit %d: %s", res.Code, firstLine(string(res.Stderr))))
	}
	after, err = s.record()
	if err != nil {
		return append(wrong, err.Error())
	}
	for _, c := range changes(blur(ref.tree), blur(after)) {
		wrong = append(wrong, fmt.Sprintf("the next run: %s", c))
	}
	return slices.Compact(wrong)
}

// change is what became of a name.
type change struct{ path, what string }

// String leaves out what is of no account for the kind of a fault.
func (c change) String() string {
	path := c.path
	if top, _, ok := strings.Cut(path, "/rootfs/"); ok {
		path = top + "/rootfs/..."
	}
	return tidy(path) + " " + c.what
}

// changes are those between two trees. What is below a name that appeared or is gone goes without saying.
func changes(before, after observe.Tree) (list []change) {
	seen := map[change]bool{}
	for _, line := range observe.Changes(before, after) {
		var c change
		c.path, c.what, _ = strings.Cut(line, ": ")
		seen[c] = true
		if parent := path.Dir(c.path); parent == "." || !seen[change{parent, c.what}] || c.what != "gone" && c.what != "appeared" {
			list = append(list, c)
		}
	}
	return list
}

// blur is a tree without what differs between two runs that do the same.
func blur(tree observe.Tree) observe.Tree {
	blurred := observe.Tree{}
	for path, n := range tree {
		b := *n
		b.Stat.Ino, b.Stat.Dev, b.Stat.Ctim = 0, 0, unix.Timespec{}
		if b.Stat.Mode&unix.S_IFMT == unix.S_IFDIR {
			b.Stat.Size, b.Stat.Nlink = 0, 0
		}
		if !strings.Contains(path, "/rootfs") {
			b.Stat.Mtim = unix.Timespec{} // made or changed now
		}
		blurred[path] = &b
	}
	return blurred
}

var random = regexp.MustCompile(`(\.ocibundle-|\.config\.json\.)[0-9A-Za-z]+`)

var scenes = regexp.MustCompile(`[^ "(]*/obt\d+-\d+/(\d+/?)?`)

// tidy takes what is random off a name, so that equal faults look equal.
func tidy(s string) string {
	return scenes.ReplaceAllString(random.ReplaceAllString(s, "${1}X"), "")
}

var names = regexp.MustCompile(`"[cd]"`)

var numbers = regexp.MustCompile(`\b(0x)?[0-9a-f]*[0-9][0-9a-f]*\b|obt\d+(-\d+)?`)

// firstLine is the first line of a message, without what differs from run to run, and of a long chain of causes the ends.
func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	chain := strings.Split(numbers.ReplaceAllString(names.ReplaceAllString(tidy(line), `"b"`), "N"), ": ")
	if n := len(chain); n > 4 {
		chain = []string{chain[0], chain[1], chain[2], "...", chain[n-1]}
	}
	return strings.Join(chain, ": ")
}
