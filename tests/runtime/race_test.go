package runtime

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"testing"

	"ocibundle/tests/testenv"
)

// The whole program, built with the race detector, takes a Debian in and gives it out
// again. The detector ends a program it has caught with status 66.
func TestRaces(t *testing.T) {
	testenv.Long(t)
	program := testenv.BinaryRace(t)
	stream := testenv.DebianExport(t)
	bundle := filepath.Join(testenv.Dir(t), "debian")
	for _, args := range [][]string{
		{"-o", bundle, "-i", stream, "--digest", "sha256:" + sum(t, stream)},
		{"export", bundle},
		{"rm", bundle},
	} {
		cmd := exec.CommandContext(t.Context(), program, args...)
		var says bytes.Buffer
		cmd.Stderr = &says
		if err := cmd.Run(); err != nil || says.Len() > 0 {
			t.Fatalf("ocibundle %q: %v\n%s", args, err, says.Bytes())
		}
	}
}

func sum(t *testing.T, path string) string {
	t.Helper()
	return string(bytes.Fields([]byte(testenv.Output(t, exec.CommandContext(t.Context(), "sha256sum", path))))[0])
}
