// Package runtime has the bundles started by real runtimes. What it holds besides
// tests is the search for what they leave behind.
package runtime

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// leftovers lists every file, mount, process, user, control group and socket that has
// tag in its name, its command line or its root.
func leftovers(tag string) []string {
	var left []string
	for _, file := range []string{
		"/etc/passwd", "/etc/group", "/etc/subuid", "/etc/subgid", "/proc/self/mountinfo", "/proc/net/unix",
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, tag) {
				left = append(left, file+": "+strings.TrimSpace(line))
			}
		}
	}
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		left = append(left, err.Error())
	}
	for _, proc := range procs {
		cmdline, _ := os.ReadFile(filepath.Join(proc, "cmdline"))
		cgroup, _ := os.ReadFile(filepath.Join(proc, "cgroup"))
		root, _ := os.Readlink(filepath.Join(proc, "root"))
		if what := fmt.Sprintf("%q root %q in %q", cmdline, root, cgroup); strings.Contains(what, tag) {
			left = append(left, proc+": "+what)
		}
	}
	for _, dir := range []string{os.TempDir(), "/run", "/var/lib", "/opt", "/dev/shm", "/sys/fs/cgroup"} {
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			// What goes away under the walk belongs to somebody else.
			if err != nil {
				return nil
			}
			if strings.Contains(d.Name(), tag) {
				left = append(left, path)
				if d.IsDir() {
					return fs.SkipDir
				}
			}
			return nil
		})
	}
	return left
}
