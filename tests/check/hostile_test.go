package check

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/tests/testenv"
)

// A hostile bundle costs no more than a sound one: nothing blocks, nothing outside is looked at, nothing is changed.
func TestHostile(t *testing.T) {
	h := asRoot(t)
	in := stream(t)
	for _, tt := range []struct {
		name string
		make func(t *testing.T, dir string)
		want string // in the findings; empty: none
	}{
		{"FIFO for a config", func(t *testing.T, dir string) {
			must(t, os.Remove(dir+"/config.json"))
			must(t, syscall.Mkfifo(dir+"/config.json", 0o666))
		}, "config config.json"},
		{"link for a config", func(t *testing.T, dir string) {
			must(t, os.Rename(dir+"/config.json", dir+"/c"))
			must(t, os.Symlink("c", dir+"/config.json"))
		}, "config config.json"},
		{"gigabytes of config", func(t *testing.T, dir string) { must(t, os.Truncate(dir+"/config.json", 8<<30)) }, "config config.json"},
		{"deep config", func(t *testing.T, dir string) {
			must(t, os.WriteFile(dir+"/config.json", bytes.Repeat([]byte("["), 1<<20), 0o644))
		}, "schema "},
		{"config of mistakes", func(t *testing.T, dir string) {
			change(t, dir, func(d document) {
				for i := range 50_000 {
					d[fmt.Sprintf("x%d", i)] = 1
				}
			})
		}, "schema /x0"},
		{"a config of empty strings", func(t *testing.T, dir string) {
			change(t, dir, func(d document) { d.process()["env"] = slices.Repeat([]any{""}, 200_000) })
		}, "schema "},
		{"a config of mounts", func(t *testing.T, dir string) {
			change(t, dir, func(d document) {
				for range 5_000 {
					d.mount(bind("/nothing", "/mnt"))
				}
			})
		}, "bind-source /mounts/7/source"},
		{"rootfs is a link", func(t *testing.T, dir string) {
			must(t, os.Rename(dir+"/rootfs", dir+"/r"))
			must(t, os.Symlink("r", dir+"/rootfs"))
		}, "rootfs rootfs"},
		{"FIFO for a command", func(t *testing.T, dir string) {
			must(t, os.Remove(dir+"/rootfs/bin/true"))
			must(t, syscall.Mkfifo(dir+"/rootfs/bin/true", 0o777))
		}, "command-not-found /process/args/0"},
		{"FIFO for an interpreter", func(t *testing.T, dir string) {
			must(t, os.WriteFile(dir+"/rootfs/bin/true", []byte("#!/bin/fifo\n"), 0o755))
			must(t, syscall.Mkfifo(dir+"/rootfs/bin/fifo", 0o777))
			must(t, os.Chmod(dir+"/rootfs/bin/fifo", 0o777))
		}, "interpreter /bin/true"},
		{"device for a command", func(t *testing.T, dir string) {
			must(t, os.Remove(dir+"/rootfs/bin/true"))
			must(t, unix.Mknod(dir+"/rootfs/bin/true", unix.S_IFCHR|0o777, int(unix.Mkdev(1, 5))))
		}, "command-not-found /process/args/0"},
		{"command loops", func(t *testing.T, dir string) {
			must(t, os.Remove(dir+"/rootfs/bin/true"))
			must(t, os.Symlink("true", dir+"/rootfs/bin/true"))
		}, "command-not-found /process/args/0"},
		{"the host's program by an absolute link", func(t *testing.T, dir string) {
			must(t, os.Remove(dir+"/rootfs/bin/true"))
			must(t, os.Symlink("/usr/bin/env", dir+"/rootfs/bin/true"))
		}, "command-not-found /process/args/0"},
		{"the host's program by dots", func(t *testing.T, dir string) {
			must(t, os.Remove(dir+"/rootfs/bin/true"))
			must(t, os.Symlink(strings.Repeat("../", 30)+"usr/bin/env", dir+"/rootfs/bin/true"))
		}, "command-not-found /process/args/0"},
		{"the host's directory by a link", func(t *testing.T, dir string) {
			must(t, os.RemoveAll(dir+"/rootfs/bin"))
			must(t, os.Symlink("/usr/bin", dir+"/rootfs/bin"))
			change(t, dir, func(d document) { d.process()["args"] = []any{"env"} })
		}, "command-not-found /process/args/0"},
		{"the checker's own files", func(t *testing.T, dir string) {
			must(t, os.Remove(dir+"/rootfs/bin/true"))
			must(t, os.Symlink("/proc/self/root/usr/bin/env", dir+"/rootfs/bin/true"))
			change(t, dir, func(d document) {
				d["mounts"] = without(d["mounts"], func(m map[string]any) bool { return m["destination"] == "/proc" })
			})
		}, "command-not-found /process/args/0"},
		{"mounts that link to each other", func(t *testing.T, dir string) {
			for i := range 60 {
				must(t, os.Symlink(fmt.Sprintf("/l%d", i+1), fmt.Sprintf("%s/rootfs/l%d", dir, i)))
			}
			change(t, dir, func(d document) { d.mount(tmpfs("/l0")) })
		}, "mount-symlink /mounts/7/destination"},
		{"a very long path", func(t *testing.T, dir string) {
			change(t, dir, func(d document) { d.mount(tmpfs("/" + strings.Repeat("x/", 100_000))) })
		}, "mount-target /mounts/7/destination"},
		{"a PATH of links that lead on and on", func(t *testing.T, dir string) {
			for i := range 39 {
				must(t, os.Symlink(strings.Repeat("./", 1000)+fmt.Sprintf("l%d", i+1), fmt.Sprintf("%s/rootfs/l%d", dir, i)))
			}
			change(t, dir, func(d document) {
				d.process()["env"] = []any{"PATH=" + strings.Repeat("/l0:", 200_000)}
			})
		}, "more config.json"},
		{"mounts below links that lead on and on", func(t *testing.T, dir string) {
			must(t, os.Symlink(strings.Repeat("./", 1000)+"etc", dir+"/rootfs/l"))
			change(t, dir, func(d document) {
				for i := range 5_000 {
					d.mount(tmpfs(fmt.Sprintf("/l/%d", i)))
				}
			})
		}, "more config.json"},
		{"the host's /etc", func(t *testing.T, dir string) {
			must(t, os.RemoveAll(dir+"/rootfs/etc"))
			must(t, os.Symlink("/etc", dir+"/rootfs/etc"))
			change(t, dir, func(d document) { d.process()["args"] = []any{"/etc/passwd"} })
		}, "command-not-found /process/args/0"},
		{"FIFO for a source", func(t *testing.T, dir string) {
			must(t, syscall.Mkfifo(dir+"/fifo", 0o777))
			change(t, dir, func(d document) {
				d.mount(bind(dir+"/fifo", "/fifo"))
				d.process()["args"] = []any{"/fifo"}
			})
		}, "command-not-found /process/args/0"},
		{"the kernel's files for a source", func(t *testing.T, dir string) {
			change(t, dir, func(d document) { d.mount(bind("/proc", "/host")); d.process()["args"] = []any{"/host/kmsg"} })
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := h.bundle(t, in)
			tt.make(t, dir)
			before := tree(t, dir)
			found := h.check(t, dir)
			if after := tree(t, dir); after != before {
				t.Errorf("the bundle was changed:\n%s\nwas\n%s", after, before)
			}
			if len(found) > 600 {
				t.Errorf("%d findings", len(found))
			}
			switch {
			case tt.want == "" && len(found) > 0, tt.want != "" && len(found) == 0:
				t.Errorf("found %+v, want %q", found, tt.want)
			case len(found) > 0 && found[0].Code+" "+found[0].where() != tt.want:
				t.Errorf("found %+v, want %q", found, tt.want)
			}
		})
	}
}

// tree lists a directory with what a look at it must not change.
func tree(t *testing.T, dir string) string {
	t.Helper()
	return testenv.Output(t, exec.CommandContext(t.Context(), "find", dir, "-printf", "%P %y %m %U:%G %s %T@ %C@ %l\n"))
}

// A tree deeper than the number of open files, with the one file of a stranger at its end.
func TestDeepTree(t *testing.T) {
	h := asRoot(t)
	dir := h.bundle(t, stream(t), "--uidmap", "0:300000:65536")
	fd, err := unix.Open(dir+"/rootfs", unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	const deep = 3000
	for i := range deep {
		must(t, unix.Mkdirat(fd, "d", 0o755))
		must(t, unix.Fchownat(fd, "d", 300000, 300000, 0))
		for j := range 3 { // what is left to be read on the way back
			name := fmt.Sprintf("s%d", j)
			must(t, unix.Mkdirat(fd, name, 0o755))
			must(t, unix.Fchownat(fd, name, 300000, 300000, 0))
		}
		next, err := unix.Openat(fd, "d", unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, err)
		unix.Close(fd)
		fd = next
		if i == deep-1 {
			must(t, unix.Mkdirat(fd, "stranger", 0o755))
		}
	}
	unix.Close(fd)
	got := h.check(t, dir)
	if len(got) != 1 || got[0].Code != "owner" || !strings.HasSuffix(got[0].Path, "/d/stranger") || !strings.HasPrefix(got[0].Message, "1 file ") {
		t.Errorf("found %+v", got)
	}
	remove := h.command(t.Context(), testenv.Binary(t), "rm", dir)
	if out, err := remove.CombinedOutput(); err != nil {
		t.Fatalf("rm: %v\n%s", err, out)
	}
}
