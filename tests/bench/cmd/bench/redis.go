package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// redisStream makes the docker export of a Debian root with redis-server in it, about 9,000 entries and 180 MB, and
// keeps it in the cache. The engine is one of our own, with a data root on the scratch tmpfs.
func redisStream(ctx context.Context, cache, scratch, suite string) (string, error) {
	stream := filepath.Join(cache, "redis-"+suite+".tar")
	if _, err := os.Stat(stream); err == nil {
		return stream, nil
	}
	for program, pkg := range map[string]string{"mmdebstrap": "mmdebstrap", "dockerd": "docker.io", "docker": "docker-cli or docker.io"} {
		if err := need(program, pkg); err != nil {
			return "", err
		}
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(scratch, "docker-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	logf("building the redis root: mmdebstrap %s", suite)
	rootfs := filepath.Join(dir, "rootfs.tar")
	// The epoch keeps the newest mtimes of the root the same in every build.
	mm := exec.CommandContext(ctx, "mmdebstrap", "--quiet", "--variant=minbase", "--include=redis-server", suite, rootfs)
	mm.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000", "TMPDIR="+dir)
	if out, err := mm.CombinedOutput(); err != nil {
		return "", fmt.Errorf("run mmdebstrap: %w\n%s", err, bytes.TrimSpace(out))
	}

	logf("passing it through docker import, create and export")
	engine, stop, err := startEngine(ctx, dir)
	if err != nil {
		return "", err
	}
	defer stop()
	image, err := engine("import", rootfs)
	if err != nil {
		return "", err
	}
	container, err := engine("create", image, "/usr/bin/redis-server")
	if err != nil {
		return "", err
	}
	part := stream + ".part"
	defer os.Remove(part)
	if _, err := engine("export", "--output", part, container); err != nil {
		return "", err
	}
	if err := os.Chmod(part, 0o644); err != nil {
		return "", err
	}
	return stream, os.Rename(part, stream)
}

// startEngine starts a Docker engine that nobody else sees. The function it returns runs one docker command and gives
// its trimmed output.
func startEngine(ctx context.Context, dir string) (run func(...string) (string, error), stop func(), err error) {
	socket := "unix://" + filepath.Join(dir, "docker.sock")
	log, err := os.Create(filepath.Join(dir, "dockerd.log"))
	if err != nil {
		return nil, nil, err
	}
	daemon := exec.CommandContext(ctx, "dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs",
		"--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"), "-p", filepath.Join(dir, "pid"), "-H", socket)
	daemon.Stdout, daemon.Stderr = log, log
	daemon.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	daemon.Cancel = func() error { return daemon.Process.Signal(syscall.SIGTERM) }
	if err := daemon.Start(); err != nil {
		log.Close()
		return nil, nil, err
	}
	ended := make(chan struct{})
	go func() {
		daemon.Wait()
		close(ended)
	}()
	stop = func() {
		daemon.Process.Signal(syscall.SIGTERM)
		<-ended
		log.Close()
	}
	run = func(args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, "docker", append([]string{"-H", socket}, args...)...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("run docker %s: %w\n%s", args[0], err, strings.TrimSpace(stderr.String()))
		}
		return strings.TrimSpace(string(out)), nil
	}
	for end := time.Now().Add(30 * time.Second); ; {
		if _, err = run("version"); err == nil {
			return run, stop, nil
		}
		select {
		case <-ended:
			err = errors.New("it ended at once")
		case <-ctx.Done():
			err = ctx.Err()
		case <-time.After(100 * time.Millisecond):
			if time.Now().Before(end) {
				continue
			}
		}
		stop()
		text, _ := os.ReadFile(log.Name())
		return nil, nil, fmt.Errorf("start dockerd: %w\n%s", err, lastLines(text, 5))
	}
}

func lastLines(text []byte, n int) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// compressed packs a cached stream with the program itself, as its user would, and keeps the result.
func compressed(stream, program, suffix string, args ...string) (string, error) {
	packed := stream + suffix
	src, err := os.Stat(stream)
	if err != nil {
		return "", err
	}
	if st, err := os.Stat(packed); err == nil && !st.ModTime().Before(src.ModTime()) {
		return packed, nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := need(program, program); err != nil {
		return "", err
	}
	logf("packing it with %s", program)
	in, err := os.Open(stream)
	if err != nil {
		return "", err
	}
	defer in.Close()
	out, err := os.Create(packed + ".part")
	if err != nil {
		return "", err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("run %s: %w", program, err)
	}
	if err := out.Close(); err != nil {
		return "", err
	}
	return packed, os.Rename(out.Name(), packed)
}
