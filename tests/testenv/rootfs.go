package testenv

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// RedisUID and RedisGID are the ids of the user and group redis of [RedisRootfs].
const RedisUID, RedisGID = 999, 999

//go:embed redis-rootfs.sh
var redisScript string

// RedisRootfs fills the directory dir, which must exist and be empty, with a small container
// filesystem (about 19 MB) in which the real redis-server runs: the programs redis-server and
// redis-cli of this machine with the libraries they need, a user redis, and the usual files and
// directories of a Debian image. As root the owners are as in an image; otherwise everything is the
// caller's.
func RedisRootfs(t testing.TB, dir string) {
	t.Helper()
	NeedTool(t, "ldd", "redis-check-rdb", "redis-cli")
	Output(t, exec.CommandContext(t.Context(), "bash", "-c", redisScript, "redis-rootfs.sh", dir))
}

var container, redis, debian shared

// RedisContainer returns a Docker engine and the name of a container on it that was created, not
// started, from an image with the contents of [RedisRootfs]. The tests of a process share it, and
// it ends with the process.
func RedisContainer(t testing.TB) (e *Engine, name string) {
	t.Helper()
	e = StartDocker(t)
	return e, container.get(t, func() (string, error) {
		dir := Dir(t)
		rootfs := filepath.Join(dir, "rootfs")
		if err := os.Mkdir(rootfs, 0o755); err != nil {
			return "", err
		}
		RedisRootfs(t, rootfs)
		image := filepath.Join(dir, "image.tar")
		if out, err := exec.CommandContext(t.Context(), "tar", "-C", rootfs, "-cf", image, ".").CombinedOutput(); err != nil {
			return "", fmt.Errorf("pack the rootfs: %w: %s", err, out)
		}
		return e.create(t, image)
	})
}

// RedisExport returns the path of a tar file with what `docker export` writes for the container of
// [RedisContainer]. The tests of a process share it. Every user may read it.
func RedisExport(t testing.TB) string {
	t.Helper()
	e, name := RedisContainer(t)
	return redis.get(t, func() (string, error) {
		dir, err := sharedDir()
		if err != nil {
			return "", err
		}
		path := filepath.Join(dir, "redis.tar")
		return path, e.export(t, name, path)
	})
}

// DebianExport returns the path of a tar file that `docker export` wrote: a container of a freshly
// bootstrapped minimal Debian, some thousands of entries. It takes a while and a Debian mirror. The
// tests of a process share it; so do all processes that have the same directory in
// OCIBUNDLE_TEST_CACHE, which is made and removed by who sets it. Every user may read it.
func DebianExport(t testing.TB) string {
	t.Helper()
	e := StartDocker(t)
	NeedTool(t, "mmdebstrap", "unshare")
	return debian.get(t, func() (string, error) {
		dir := os.Getenv("OCIBUNDLE_TEST_CACHE")
		if dir == "" {
			var err error
			if dir, err = sharedDir(); err != nil {
				return "", err
			}
		}
		lock, err := os.Open(dir)
		if err != nil {
			return "", err
		}
		defer lock.Close()
		if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
			return "", err
		}
		path := filepath.Join(dir, "debian.tar")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		image := filepath.Join(dir, "image.tar")
		// In memory: the thousands of files are made and removed again.
		cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-ec",
			`mount -t tmpfs tmpfs "$1"; TMPDIR=$1 mmdebstrap --quiet --variant=minbase --mode=root "$2" "$3"`, "sh", Dir(t), suite(), image)
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("bootstrap a Debian: %w\n%s", err, out)
		}
		name, err := e.create(t, image)
		if err != nil {
			return "", err
		}
		if err := os.Remove(image); err != nil {
			return "", err
		}
		if err := e.export(t, name, path+".new"); err != nil {
			return "", err
		}
		// The engine's data is in memory.
		if err := errors.Join(e.run(t, nil, "rm", name), e.run(t, nil, "rmi", name)); err != nil {
			return "", err
		}
		return path, os.Rename(path+".new", path)
	})
}

// suite is the machine's own release, whose archive key it is sure to have.
func suite() string {
	text, err := os.ReadFile("/etc/os-release")
	if err == nil {
		for line := range strings.Lines(string(text)) {
			if name, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok {
				return strings.Trim(name, `"`)
			}
		}
	}
	return "stable"
}

// create imports the tar file image and creates a container from it.
func (e *Engine) create(t testing.TB, image string) (name string, err error) {
	name = Name()
	if err := e.run(t, nil, "import", image, name); err != nil {
		return "", err
	}
	return name, e.run(t, nil, "create", "--name", name, name, "/bin/true")
}

func (e *Engine) export(t testing.TB, name, to string) error {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(e.run(t, f, "export", name), f.Close())
}

func (e *Engine) run(t testing.TB, stdout io.Writer, args ...string) error {
	cmd := e.Docker(t.Context(), args...)
	var stderr strings.Builder
	cmd.Stdout, cmd.Stderr = stdout, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("docker %s: %w: %s", args[0], err, stderr.String())
	}
	return nil
}
