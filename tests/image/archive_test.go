package image

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"ocibundle/tests/hostile/observe"
	"ocibundle/tests/hostile/tarscript"
	"ocibundle/tests/testenv"
)

// flattened makes a bundle of an archive by way of -o - and GNU tar. The archive is in a file or
// comes through a pipe.
func flattened(t *testing.T, archive []byte, file bool, flags ...string) string {
	t.Helper()
	dir := testenv.Dir(t)
	cmd := exec.CommandContext(t.Context(), testenv.Binary(t), append([]string{"--image", "-q", "-o", "-"}, flags...)...)
	cmd.Stdin = bytes.NewReader(archive)
	if file {
		name := filepath.Join(testenv.Dir(t), "image.tar")
		if err := os.WriteFile(name, archive, 0o600); err != nil {
			t.Fatal(err)
		}
		// Nothing may be written anywhere, but for a stream that is compressed.
		if archive[0] != 0x1f {
			cmd.Env = append(os.Environ(), "TMPDIR=/nowhere")
		}
		cmd.Args = append(cmd.Args, "-i", name)
		cmd.Stdin = nil
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stream, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("%q: %v: %s", cmd.Args, err, stderr.Bytes())
	}
	// A layer may have something else between a directory and what is in it.
	tar := exec.CommandContext(t.Context(), "tar", "-C", dir, "-x", "-p", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--delay-directory-restore")
	tar.Stdin = bytes.NewReader(stream)
	testenv.Output(t, tar)
	return dir
}

// TestArchives makes bundles of archives that are right and of archives that are wrong,
// and looks at what is left.
func TestArchives(t *testing.T) {
	bin := testenv.Binary(t)
	seen := map[string]bool{}
	for i, tt := range cases() {
		if seen[tt.name] {
			t.Errorf("%q is there twice", tt.name)
		}
		seen[tt.name] = true
		if testenv.Unit() && i%4 != 0 {
			continue // a sample: all of them take as long as everything else
		}
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := &archiver{t: t}
			var archive []byte
			if tt.raw != nil {
				archive = tt.raw(a)
			} else {
				tt.make(a)
				archive = a.bytes()
			}
			work := testenv.Dir(t)
			cmd := exec.CommandContext(t.Context(), bin, append([]string{"--image", "-o", filepath.Join(work, "b")}, tt.flags...)...)
			var stdout, stderr bytes.Buffer
			cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Dir = bytes.NewReader(archive), &stdout, &stderr, work
			if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
				t.Fatal(err)
			}
			if code := cmd.ProcessState.ExitCode(); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			// What stops these commands from running is told, and is no matter here.
			said := regexp.MustCompile(`(?m)^ocibundle: warning: config\.json /.*\n`).ReplaceAll(stderr.Bytes(), nil)
			want := "(?s)" + tt.stderr
			if tt.stderr == "" {
				want = "^$"
			}
			if !regexp.MustCompile(want).Match(said) || stdout.Len() > 0 {
				t.Errorf("stderr %q, want %q; stdout %q", said, tt.stderr, stdout.Bytes())
			}
			left, err := os.ReadDir(work)
			if err != nil {
				t.Fatal(err)
			}
			if tt.code != 0 {
				if len(left) > 0 {
					t.Errorf("left: %v", left)
				}
				if testenv.Unit() {
					return
				}
				cmd := exec.CommandContext(t.Context(), bin, append([]string{"--image", "-o", "-"}, tt.flags...)...)
				stderr.Reset()
				cmd.Stdin, cmd.Stderr = bytes.NewReader(archive), &stderr
				cmd.Run()
				if code := cmd.ProcessState.ExitCode(); code != tt.code || !regexp.MustCompile(want).Match(stderr.Bytes()) {
					t.Errorf("-o -: exit code %d, stderr %q", code, stderr.Bytes())
				}
				return
			}
			if len(left) != 1 {
				t.Errorf("left beside the bundle: %v", left)
			}
			declared, err := tarscript.Parse(tt.tree, nil)
			if err != nil {
				t.Fatal(err)
			}
			bundles := []string{filepath.Join(work, "b")}
			if !testenv.Unit() { // these take longest
				bundles = append(bundles, flattened(t, archive, true, tt.flags...), flattened(t, archive, false, tt.flags...))
			}
			for _, bundle := range bundles {
				got, err := observe.Record(bundle+"/rootfs", observe.Options{})
				if err != nil {
					t.Fatal(err)
				}
				for _, wrong := range got.Compare(declared) {
					t.Errorf("%s: %s", bundle, wrong)
				}
			}
		})
	}
}
