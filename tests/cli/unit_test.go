package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ocibundle/tests/testenv"
)

// service are the lines of a unit's section Service, by their keys.
func service(unit string) map[string]string {
	lines := map[string]string{}
	for line := range strings.Lines(unit) {
		if key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok {
			lines[key] = value
		}
	}
	return lines
}

// TestUnitVerify has systemd read the units of bundles with names that it would take for something
// else.
func TestUnitVerify(t *testing.T) {
	verify := testenv.NeedTool(t, "systemd-analyze")
	testenv.NeedTool(t, "runc")
	for _, name := range []string{"web", `a b"c'd\e%n$HOME;x`} {
		for _, restart := range []string{"no", "always", "on-failure:3"} {
			dir := workDir(t)
			made := exec.Command(testenv.Binary(t), "-o", name, "-i", "c.tar", "--tty=false", "--annotation", "ocibundle.restart="+restart,
				"--annotation", "org.opencontainers.image.stopSignal=SIGRTMIN+3", "-e", "SECRET=hush", "--", "/bin/sh")
			made.Dir = dir
			testenv.Output(t, made)
			print := exec.Command(testenv.Binary(t), "unit", name)
			print.Dir = dir
			unit := testenv.Output(t, print)
			if strings.Contains(unit, "hush") {
				t.Errorf("a secret is in\n%s", unit)
			}
			file := filepath.Join(dir, "web.service")
			if err := os.WriteFile(file, []byte(unit), 0o644); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(verify, "verify", "--man=no", file).CombinedOutput()
			for line := range strings.Lines(string(out)) {
				if strings.Contains(line, "web.service") { // not of what else is installed
					t.Errorf("%s: %s", name, line)
				}
			}
			if err != nil {
				t.Errorf("%s: %v\n%s%s", name, err, out, unit)
			}
		}
	}
}

// withoutHybrid runs its arguments where no unified hierarchy lies beside the others, which crun
// refuses.
const withoutHybrid = `! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified || exit 1; exec "$@"`

// TestUnitRuns does what systemd would do with a unit: start, stop by its signal, and clean up what
// a killed runtime leaves.
func TestUnitRuns(t *testing.T) {
	testenv.NeedRoot(t)
	for _, runtime := range []string{"runc", "crun"} {
		t.Run(runtime, func(t *testing.T) {
			path := testenv.NeedTool(t, runtime)
			testenv.NeedTool(t, "unshare")
			command := func(words []string) *exec.Cmd {
				return exec.CommandContext(context.Background(), "unshare", append([]string{"-m", "sh", "-c", withoutHybrid, "-"}, words...)...)
			}
			dir := testenv.Dir(t)
			rootfs := filepath.Join(dir, "rootfs")
			if err := os.Mkdir(rootfs, 0o755); err != nil {
				t.Fatal(err)
			}
			testenv.RedisRootfs(t, rootfs)
			testenv.Output(t, exec.CommandContext(t.Context(), "tar", "-C", rootfs, "-cf", filepath.Join(dir, "redis.tar"), "."))
			port := testenv.FreePort(t)
			name := testenv.Name()
			made := exec.CommandContext(t.Context(), testenv.Binary(t), "-o", name, "-i", "redis.tar", "--tty=false", "--read-only=false",
				"--net", "host", "--annotation", "org.opencontainers.image.stopSignal=SIGINT", "--",
				"redis-server", "--port", fmt.Sprint(port), "--dir", "/", "--save", "3600 1")
			made.Dir = dir
			testenv.Output(t, made)
			print := exec.CommandContext(t.Context(), testenv.Binary(t), "unit", "--runtime", path, name)
			print.Dir = dir
			lines := service(testenv.Output(t, print))
			split := func(key string) []string { return strings.Fields(strings.TrimLeft(lines[key], "-:")) }
			cleanUp := func() { command(split("ExecStopPost")).Run() }
			t.Cleanup(cleanUp)
			start := func() (*exec.Cmd, <-chan error) {
				cmd := command(split("ExecStart"))
				var says bytes.Buffer
				cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &says, &says, 10*time.Second
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				pinging, stop := context.WithCancelCause(t.Context())
				go func() {
					err := cmd.Wait()
					stop(fmt.Errorf("it ended: %v", err))
					ended <- err
				}()
				if err := testenv.PingRedis(pinging, port); err != nil {
					t.Fatalf("%v\n%s", err, says.Bytes())
				}
				return cmd, ended
			}

			cmd, ended := start()
			if _, err := testenv.Redis(t.Context(), port, "SET", "k", "v"); err != nil {
				t.Fatal(err)
			}
			if lines["KillSignal"] != "SIGINT" {
				t.Errorf("KillSignal=%s", lines["KillSignal"])
			}
			cmd.Process.Signal(syscall.SIGINT)
			if err := <-ended; err != nil && fmt.Sprint(cmd.ProcessState.ExitCode()) != lines["SuccessExitStatus"] {
				t.Errorf("stopped: %v", err)
			}
			cleanUp()
			if _, err := os.Stat(filepath.Join(dir, name, "rootfs/dump.rdb")); err != nil {
				t.Errorf("redis has not saved: %v", err)
			}

			cmd, ended = start() // and with it, what was saved
			if got, err := testenv.Redis(t.Context(), port, "EXISTS", "k"); err != nil || got != ":1" {
				t.Errorf("EXISTS: %q, %v", got, err)
			}
			cmd.Process.Kill()
			<-ended
			cleanUp()
			cmd, ended = start()
			cmd.Process.Signal(syscall.SIGINT)
			<-ended
			cleanUp()
			if out, err := command([]string{path, "list", "-q"}).Output(); err != nil || strings.Contains(string(out), name) {
				t.Errorf("left in %s list: %s %v", runtime, out, err)
			}
		})
	}
}
