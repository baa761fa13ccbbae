// Package dist holds that what is released can be built again, byte by byte.
package dist

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ocibundle/tests/testenv"
)

// dist builds what is released in a clone of its own and returns the clone.
func dist(t *testing.T) string {
	clone := filepath.Join(testenv.Dir(t), "clone")
	run(t, ".", "git", "clone", "-q", "--no-hardlinks", testenv.ModuleRoot(t), clone)
	run(t, clone, "make", "dist")
	return filepath.Join(clone, "dist")
}

func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	return testenv.Output(t, cmd)
}

// Two clones in two places give the same files, and the packages hold a program that
// runs.
func TestReproducible(t *testing.T) {
	testenv.Long(t)
	testenv.NeedTool(t, "dpkg-deb", "git", "gzip", "make")
	one, two := dist(t), dist(t)
	sums := func(dir string) []byte {
		text, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if a, b := sums(one), sums(two); !bytes.Equal(a, b) {
		t.Errorf("two clones differ:\n%s\n%s", a, b)
	}
	run(t, one, "sha256sum", "--check", "--quiet", "SHA256SUMS")

	version := strings.TrimSpace(run(t, testenv.ModuleRoot(t), "cat", "VERSION"))
	arch := strings.TrimSpace(run(t, ".", "dpkg", "--print-architecture"))
	root := testenv.Dir(t)
	run(t, one, "dpkg-deb", "--extract", "ocibundle_"+version+"_"+arch+".deb", root)
	if said := run(t, root, "usr/bin/ocibundle", "--version"); !strings.HasPrefix(said, "ocibundle "+version) {
		t.Errorf("--version of the packaged program says %q, and VERSION is %s", said, version)
	}
	for _, name := range []string{"usr/share/man/man1/ocibundle.1.gz", "usr/share/doc/ocibundle/copyright",
		"usr/share/doc/ocibundle/third-party-licenses.gz", "usr/share/bash-completion/completions/ocibundle",
		"usr/share/zsh/vendor-completions/_ocibundle", "usr/share/fish/vendor_completions.d/ocibundle.fish"} {
		if fi, err := os.Stat(filepath.Join(root, name)); err != nil || fi.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	listing := run(t, one, "dpkg-deb", "--contents", "ocibundle_"+version+"_"+arch+".deb")
	for line := range strings.Lines(listing) {
		if !strings.Contains(line, " root/root ") {
			t.Errorf("not root's in the package: %s", line)
		}
	}
}
