package check

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ocibundle/tests/testenv"
)

// A resolver on the host's loopback is there for the host's network alone, and a host
// without any expects none.
func TestStubResolver(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "unshare", "mount")
	in := stream(t)
	for _, test := range []struct{ conf, net, says string }{
		{"nameserver 127.0.0.53\n", "host", ""},
		{"nameserver 127.0.0.53\n", "/proc/1/ns/net", `/etc/resolv.conf has the name server 127.0.0.53, which is the host's own: the network namespace does not reach it`},
		{"nameserver 127.0.0.53\nnameserver 192.0.2.1\n", "/proc/1/ns/net", ""},
		{"# none\n", "host", ""},
	} {
		dir := testenv.Dir(t)
		conf := filepath.Join(dir, "resolv.conf")
		must(t, os.WriteFile(conf, []byte(test.conf), 0o644))
		// run runs the program where the host's resolv.conf is conf.
		run := func(args ...string) (says string, err error) {
			const script = `mount --bind "$0" /etc/resolv.conf && exec "$@"`
			cmd := exec.CommandContext(t.Context(), "unshare", append([]string{"--mount", "sh", "-c", script, conf, testenv.Binary(t)}, args...)...)
			cmd.Stdin = bytes.NewReader(in)
			out, err := cmd.CombinedOutput()
			return string(out), err
		}
		b := filepath.Join(dir, "b")
		says, err := run("-o", b, "--net", test.net, "--exclude", "etc/hosts", "--exclude", "etc/resolv.conf", "--", "/bin/true")
		if err != nil || strings.TrimSpace(strings.TrimPrefix(says, "ocibundle: warning: ")) != test.says {
			t.Errorf("%q, --net %s: %v, warns %q, want %q", test.conf, test.net, err, says, test.says)
		}
		says, err = run("check", b)
		exit, _ := errors.AsType[*exec.ExitError](err)
		if (exit != nil && exit.ExitCode() == 3) != (test.says != "") || !strings.Contains(says, test.says) {
			t.Errorf("%q, --net %s: check: %v, says %q, want %q", test.conf, test.net, err, says, test.says)
		}
	}
}
