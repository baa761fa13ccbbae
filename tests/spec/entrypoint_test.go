package spec

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ocibundle/tests/testenv"
)

// An entrypoint as images of servers have it: as root it gives the data to the server's user,
// becomes that user, and starts itself again.
const entrypoint = `#!/bin/sh
set -e
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
	mkdir -p /data
	touch /data/old
	chown -R redis:redis /data
	exec setpriv --reuid redis --regid redis --clear-groups --inh-caps=-all "$0" "$@"
fi
exec "$@"
`

// addTools puts programs of this machine and their libraries into a rootfs.
const addTools = `set -euo pipefail
cd "$1"
shift
for tool; do
	path=$(readlink -f "$(command -v "$tool")")
	cp "$path" "usr/bin/$tool"
	{ ldd "$path" || true; } | { grep -o '/[^ ]*' || true; } | while read -r lib; do
		to=usr/${lib#/usr/}
		mkdir -p "${to%/*}"
		cp -L "$lib" "$to"
	done
done
ln -s dash usr/bin/sh
tar -cf ../rootfs.tar .`

// Redis runs by default as its image means it to: its entrypoint may chown, and drop to its user.
func TestEntrypoint(t *testing.T) {
	testenv.NeedRoot(t)
	runc := testenv.NeedTool(t, "runc", "setpriv", "ldd")
	dir := testenv.Dir(t)
	rootfs := filepath.Join(dir, "rootfs")
	if err := os.Mkdir(rootfs, 0o755); err != nil {
		t.Fatal(err)
	}
	testenv.RedisRootfs(t, rootfs)
	if err := os.WriteFile(filepath.Join(rootfs, "entrypoint"), []byte(entrypoint), 0o755); err != nil {
		t.Fatal(err)
	}
	testenv.Output(t, exec.CommandContext(t.Context(), "bash", "-c", addTools, "bash", rootfs, "dash", "id", "mkdir", "touch", "chown", "setpriv"))
	stream, err := os.ReadFile(filepath.Join(dir, "rootfs.tar"))
	if err != nil {
		t.Fatal(err)
	}
	shifted := testenv.TempUser(t, testenv.UserOptions{SubIDs: 65536})
	for _, c := range []struct {
		name    string
		parent  string
		command func(ctx context.Context, name string, args ...string) *exec.Cmd
		owner   uint32 // of what the server writes, on disk
	}{
		{"root", dir, exec.CommandContext, testenv.RedisUID},
		{"user", shifted.Home, shifted.Command, shifted.SubUIDs[0].Start + testenv.RedisUID - 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			bundle := filepath.Join(c.parent, "redis")
			port := testenv.FreePort(t)
			program := c.command(t.Context(), testenv.Binary(t), "-o", bundle, "--net", "host", "--",
				"/entrypoint", "redis-server", "--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", "/data")
			program.Stdin = bytes.NewReader(stream)
			if out, err := program.CombinedOutput(); err != nil || len(out) > 0 {
				t.Fatalf("%v\n%s", err, out)
			}
			id, state := testenv.Name(), filepath.Join(c.parent, "state")
			run := c.command(t.Context(), runc, "--root", state, "run", "--bundle", bundle, id)
			var says bytes.Buffer
			run.Stdout, run.Stderr = &says, &says
			run.WaitDelay = 10 * time.Second
			if err := run.Start(); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			ended := later(func() error { err := run.Wait(); cancel(); return err })
			t.Cleanup(func() { _ = c.command(context.Background(), runc, "--root", state, "delete", "--force", id).Run() })
			if err := testenv.PingRedis(ctx, port); err != nil {
				_ = run.Process.Kill()
				<-ended
				t.Fatalf("%v\n%s", err, says.Bytes())
			}
			for _, command := range []string{"SAVE", "SHUTDOWN NOSAVE"} {
				if _, err := testenv.Redis(ctx, port, strings.Fields(command)...); err != nil {
					t.Errorf("%s: %v", command, err)
				}
			}
			if err := <-ended; err != nil {
				t.Errorf("%v\n%s", err, says.Bytes())
			}
			for _, name := range []string{"", "old", "dump.rdb"} {
				info, err := os.Lstat(filepath.Join(bundle, "rootfs/data", name))
				if err != nil {
					t.Error(err)
					continue
				}
				if uid := ownerOf(info); uid != c.owner {
					t.Errorf("/data/%s belongs to %d, want %d", name, uid, c.owner)
				}
			}
		})
	}
}

func later(f func() error) <-chan error {
	c := make(chan error, 1)
	go func() { c <- f() }()
	return c
}

func ownerOf(info fs.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Uid }
