package check

import (
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"ocibundle/tests/testenv"
)

// What stops a bundle only as a job of Slurm's is said when it is asked for.
func TestSlurm(t *testing.T) {
	testenv.NeedTool(t, "newuidmap", "newgidmap")
	in := stream(t)
	user := asUser(t, testenv.UserOptions{SubIDs: 65536})
	root := asRoot(t)
	for _, tt := range []struct {
		name string
		h    *host
		args []string
		want []string
	}{
		{"a job's", user, []string{"--net", "host", "--remap", "self", "-v", "/srv:/scratch"}, nil},
		{"a network of its own", user, []string{"--remap", "self"}, []string{"slurm-network"}},
		{"a source that is another on every node", user, []string{"--net", "host", "--remap", "self", "-v", "/tmp:/scratch"}, []string{"slurm-source"}},
		{"root's", root, []string{"--net", "host"}, []string{"user-namespace"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := tt.h.bundle(t, in, tt.args...)
			cmd := tt.h.command(t.Context(), testenv.Binary(t), "check", "--runtime", "slurm", "--json", dir)
			text, err := cmd.Output()
			if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
				t.Fatal(err)
			}
			var out struct{ Findings []finding }
			must(t, json.Unmarshal(text, &out))
			var got []string
			for _, f := range out.Findings {
				got = append(got, f.Code)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%s: found %+v, want %q", filepath.Base(dir), out.Findings, tt.want)
			}
		})
	}
	cmd := user.command(t.Context(), testenv.Binary(t), "check", "--runtime", "runc", user.dir)
	cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != 2 {
		t.Errorf("--runtime runc: exit %d, want 2", code)
	}
}
