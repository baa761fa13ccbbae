// Probe runs inside a container and tells what it finds there. Each argument is a question; each
// answer is a line "question = answer".
package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	for _, q := range os.Args[1:] {
		if q == "wait" {
			stop := make(chan os.Signal, 1)
			signal.Notify(stop, syscall.SIGTERM)
			<-stop
			return
		}
		kind, arg, _ := strings.Cut(q, ":")
		fmt.Printf("%s = %s\n", q, answer(kind, arg))
	}
}

func answer(kind, arg string) string {
	switch kind {
	case "ids":
		groups, err := os.Getgroups()
		if err != nil {
			return err.Error()
		}
		slices.Sort(groups)
		return fmt.Sprintf("%d:%d %v", os.Getuid(), os.Getgid(), groups)
	case "env":
		v, ok := os.LookupEnv(arg)
		if !ok {
			return "(unset)"
		}
		return v
	case "cwd":
		dir, err := os.Getwd()
		return or(dir, err)
	case "hostname":
		name, err := os.Hostname()
		return or(name, err)
	case "tty":
		_, err := unix.IoctlGetTermios(0, unix.TCGETS)
		return fmt.Sprint(err == nil)
	case "read":
		text, err := os.ReadFile(arg)
		return or(strings.Join(strings.Fields(string(text)), " "), err)
	case "write":
		f, err := os.OpenFile(arg, os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return reason(err)
		}
		f.Close()
		return "written"
	case "status": // a field of /proc/self/status
		return field("/proc/self/status", arg)
	case "limit":
		var l unix.Rlimit
		n := map[string]int{"nofile": unix.RLIMIT_NOFILE, "core": unix.RLIMIT_CORE, "nproc": unix.RLIMIT_NPROC}[arg]
		if err := unix.Getrlimit(n, &l); err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%d:%d", l.Cur, l.Max)
	case "ns":
		target, err := os.Readlink("/proc/self/ns/" + arg)
		return or(target, err)
	case "device":
		var st unix.Stat_t
		if err := unix.Stat(arg, &st); err != nil {
			return reason(err)
		}
		kind := map[uint32]string{unix.S_IFCHR: "c", unix.S_IFBLK: "b"}[st.Mode&unix.S_IFMT]
		return fmt.Sprintf("%s %d:%d", kind, unix.Major(st.Rdev), unix.Minor(st.Rdev))
	case "open":
		f, err := os.OpenFile(arg, os.O_RDWR, 0)
		if err != nil {
			return reason(err)
		}
		f.Close()
		return "opened"
	case "mount":
		return mount(arg)
	case "size":
		var st unix.Statfs_t
		if err := unix.Statfs(arg, &st); err != nil {
			return reason(err)
		}
		return fmt.Sprint(int64(st.Blocks) * st.Bsize)
	case "glob":
		names, err := filepath.Glob(arg)
		return or(strings.Join(names, " "), err)
	case "syscall": // what the seccomp profile says to a call that only root may make
		_, _, errno := unix.Syscall(unix.SYS_SWAPOFF, 0, 0, 0)
		return errno.Error()
	}
	return "what?"
}

func or(s string, err error) string {
	if err != nil {
		return reason(err)
	}
	return s
}

func reason(err error) string {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return err.Error()
		}
		err = u.Unwrap()
	}
}

func field(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return reason(err)
	}
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(line, ":"); ok && k == name {
			return strings.Join(strings.Fields(v), " ")
		}
	}
	return "(none)"
}

// mount tells type and the flags of the topmost mount at a place.
func mount(place string) string {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return reason(err)
	}
	found := "(none)"
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		dash := slices.Index(f, "-")
		if dash < 6 || f[4] != place {
			continue
		}
		var flags []string
		for _, o := range strings.Split(f[5], ",") {
			if slices.Contains([]string{"ro", "rw", "nosuid", "nodev", "noexec"}, o) {
				flags = append(flags, o)
			}
		}
		found = f[dash+1] + " " + strings.Join(flags, ",")
	}
	return found
}
