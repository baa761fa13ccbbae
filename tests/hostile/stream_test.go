package hostile

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"ocibundle/tests/testenv"
)

// impossible is how -o - says that it cannot do what -o DIR can: take back what it has written, and name what cannot be
// unpacked by its name.
var impossible = regexp.MustCompile("it removes what has been written already|its path in the bundle is longer than")

// stream runs `ocibundle -o -` on the archive and says what is wrong with what it wrote.
func (s *scene) stream(c *testCase, archive []byte) (wrong []string) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), testenv.Binary(s.t), append([]string{"-o", "-", "-q"}, c.flags...)...)
	cmd.Dir, cmd.Stdin = s.vars["OUT"], bytes.NewReader(archive)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	code, want := cmd.ProcessState.ExitCode(), c.want
	if impossible.Match(stderr.Bytes()) {
		want = 4
	}
	if code != want {
		wrong = append(wrong, fmt.Sprintf("exit code %d, want %d; stderr %q", code, want, stderr.String()))
	}
	// Whatever was written, whole or cut, can do no harm to those whom the archive itself bites.
	root := filepath.Join(s.work, "naive/rootfs")
	for _, who := range []string{"gnutar -P", "bsdtar -P", "replaces"} {
		if r := s.victim(stdout.Bytes(), who); code != 0 && r.code == 0 && who != "replaces" {
			wrong = append(wrong, who+" takes the cut stream for a whole one")
		}
		for _, change := range s.changes() {
			wrong = append(wrong, fmt.Sprintf("outside of what %s unpacks: %s", who, change))
		}
		s.check(os.RemoveAll(root))
		s.check(os.Mkdir(root, 0o750))
		s.before = s.record()
	}
	if code != 0 || c.want != 0 {
		return wrong
	}
	r := s.run(&stdout, nil, testenv.Binary(s.t), "-q", "-o", filepath.Join(s.work, "b"), "--remap", "none")
	if r.code != 0 {
		return append(wrong, "what it wrote is not accepted: "+r.stderr)
	}
	return append(wrong, s.compare(c, filepath.Join(s.work, "b/rootfs/rootfs"))...)
}

// TestHostileStream writes every archive as a bundle in a stream, and has those unpack it that would fall for the archive.
func TestHostileStream(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "bsdtar")
	for _, c := range cases() {
		if c.want == 1 {
			continue // the filesystem's own limits
		}
		t.Run(c.row+"/"+c.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, asRoot)
			archive, err := c.bytes(s.vars)
			s.check(err)
			for _, wrong := range s.stream(&c, archive) {
				t.Error(wrong)
			}
		})
	}
}
