package testenv

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// RedisUID and RedisGID are the ids of the user and group redis of [RedisRootfs].
const RedisUID, RedisGID = 999, 999

// RedisRootfs fills the directory dir, which must exist, with a small container
// filesystem (about 19 MB) in which the real redis-server runs: the programs
// redis-server and redis-cli of this machine with the libraries they need, a user
// redis, and the usual files and directories of a Debian image. As root the owners
// are as in an image; otherwise everything is the caller's.
func RedisRootfs(t testing.TB, dir string) {
	t.Helper()
	NeedTool(t, "ldd")
	server, err := lookTool("redis-server")
	if err != nil {
		// One program under several names; the package with the service, which starts it
		// at once, is not needed.
		server = NeedTool(t, "redis-check-rdb")
	}
	cli := NeedTool(t, "redis-cli")
	if err := redisRootfs(dir, server, cli); err != nil {
		t.Fatalf("make a rootfs with redis: %v", err)
	}
}

func redisRootfs(dir, server, cli string) error {
	// Modes are to be what is written here, and not depend on the caller's umask: each
	// is set again after creation.
	for _, d := range []struct {
		name string
		mode os.FileMode
	}{
		{"dev", 0o755}, {"etc", 0o755}, {"proc", 0o555}, {"root", 0o700}, {"run", 0o755}, {"sys", 0o555},
		{"tmp", 0o777 | os.ModeSticky}, {"usr", 0o755}, {"usr/bin", 0o755}, {"usr/lib", 0o755}, {"usr/lib64", 0o755},
		{"usr/sbin", 0o755}, {"var", 0o755}, {"var/lib", 0o755}, {"var/lib/redis", 0o750}, {"data", 0o755},
	} {
		path := filepath.Join(dir, d.name)
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(path, d.mode); err != nil {
			return err
		}
	}
	for _, name := range []string{"bin", "lib", "lib64", "sbin"} {
		if err := os.Symlink("usr/"+name, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if err := os.Symlink("../run", filepath.Join(dir, "var/run")); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n" +
			fmt.Sprintf("redis:x:%d:%d::/var/lib/redis:/usr/sbin/nologin\n", RedisUID, RedisGID),
		"etc/group":         fmt.Sprintf("root:x:0:\ntty:x:5:\nnogroup:x:65534:\nredis:x:%d:\n", RedisGID),
		"etc/hostname":      "redis\n",
		"etc/hosts":         "127.0.0.1\tlocalhost\n",
		"etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
		"etc/os-release":    "ID=debian\nPRETTY_NAME=\"redis test image\"\n",
	} {
		if err := writeFile(filepath.Join(dir, name), strings.NewReader(text), 0o644); err != nil {
			return err
		}
	}
	if err := copyFile(filepath.Join(dir, "usr/bin/redis-server"), server, 0o755); err != nil {
		return err
	}
	if err := copyFile(filepath.Join(dir, "usr/bin/redis-cli"), cli, 0o755); err != nil {
		return err
	}
	for _, program := range []string{server, cli} {
		libs, err := libraries(program)
		if err != nil {
			return err
		}
		for _, lib := range libs {
			// /lib is a link to usr/lib here, on the machine it may be a directory.
			to := lib
			if !strings.HasPrefix(to, "/usr/") {
				to = "/usr" + to
			}
			to = filepath.Join(dir, to)
			if _, err := os.Lstat(to); err == nil {
				continue
			}
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				return err
			}
			if err := copyFile(to, lib, 0o755); err != nil {
				return err
			}
		}
	}
	if os.Geteuid() == 0 {
		if err := os.Lchown(filepath.Join(dir, "var/lib/redis"), RedisUID, RedisGID); err != nil {
			return err
		}
	}
	return nil
}

// libraries lists what the dynamic linker loads for a program, itself included.
func libraries(program string) ([]string, error) {
	out, err := exec.Command("ldd", program).Output()
	if err != nil {
		return nil, fmt.Errorf("list the libraries of %s: %w", program, err)
	}
	var libs []string
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "not found") {
			return nil, fmt.Errorf("list the libraries of %s: %s", program, strings.TrimSpace(line))
		}
		for field := range strings.FieldsSeq(line) {
			if strings.HasPrefix(field, "/") {
				libs = append(libs, field)
			}
		}
	}
	return libs, nil
}

func copyFile(to, from string, mode os.FileMode) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	return writeFile(to, f, mode)
}

func writeFile(to string, from io.Reader, mode os.FileMode) error {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Chmod(mode), f.Close())
}

type export struct {
	once sync.Once
	path string
	err  error
}

func (x *export) file(t testing.TB, make func() (string, error)) string {
	t.Helper()
	x.once.Do(func() { x.path, x.err = make() })
	if x.err != nil {
		t.Fatal(x.err)
	}
	if x.path == "" {
		t.Fatal("make a container export: an earlier test could not")
	}
	return x.path
}

var redis, debian export

// RedisExport returns the path of a tar file that `docker export` wrote: a
// container of an image with the contents of [RedisRootfs]. The tests of a process
// share it. Every user may read it.
func RedisExport(t testing.TB) string {
	t.Helper()
	e := StartDocker(t)
	return redis.file(t, func() (string, error) {
		dir, err := sharedDir("redis")
		if err != nil {
			return "", err
		}
		rootfs := filepath.Join(dir, "rootfs")
		if err := os.Mkdir(rootfs, 0o755); err != nil {
			return "", err
		}
		RedisRootfs(t, rootfs)
		image := filepath.Join(dir, "image.tar")
		if out, err := exec.CommandContext(t.Context(), "tar", "-C", rootfs, "-cf", image, ".").CombinedOutput(); err != nil {
			return "", fmt.Errorf("pack the rootfs: %w: %s", err, out)
		}
		if err := os.RemoveAll(rootfs); err != nil {
			return "", err
		}
		path := filepath.Join(dir, "redis.tar")
		if err := e.Export(t, image, path); err != nil {
			return "", err
		}
		return path, os.Remove(image)
	})
}

// DebianExport returns the path of a tar file that `docker export` wrote: a
// container of a freshly bootstrapped minimal Debian, some thousands of entries. It
// takes a while and a Debian mirror. The tests of a process share it; so do all
// processes that have the same directory in OCIBUNDLE_TEST_CACHE, which is made and
// removed by who sets it. Every user may read it.
func DebianExport(t testing.TB) string {
	t.Helper()
	e := StartDocker(t)
	NeedTool(t, "mmdebstrap")
	return debian.file(t, func() (string, error) {
		dir := os.Getenv("OCIBUNDLE_TEST_CACHE")
		if dir == "" {
			var err error
			if dir, err = sharedDir("debian"); err != nil {
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
		cmd := exec.CommandContext(t.Context(), "mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", suite(), image)
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("bootstrap a Debian: %w\n%s", err, out)
		}
		if err := e.Export(t, image, path+".new"); err != nil {
			return "", err
		}
		if err := os.Remove(image); err != nil {
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

// Export imports the tar file image, creates a container from it, and writes what
// `docker export` gives for it to the file to.
func (e *Engine) Export(t testing.TB, image, to string) error {
	name := Name()
	run := func(stdout io.Writer, args ...string) error {
		cmd := e.Docker(t.Context(), args...)
		var stderr strings.Builder
		cmd.Stdout, cmd.Stderr = stdout, &stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("docker %s: %w: %s", args[0], err, stderr.String())
		}
		return nil
	}
	if err := run(nil, "import", image, name); err != nil {
		return err
	}
	if err := run(nil, "create", "--name", name, name, "/bin/true"); err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if err := errors.Join(run(f, "export", name), f.Close()); err != nil {
		return err
	}
	return errors.Join(run(nil, "rm", name), run(nil, "rmi", name))
}
