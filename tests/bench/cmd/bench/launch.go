package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A job is a pipeline of processes, as a shell would start it. The last process is the one that is measured.
type job struct {
	Stages []stage
	Stdin  string // a file, or nothing
	Nice   int    // of all processes, and of their session against others (sched(7), "The autogroup feature")
	Dir    string // working directory
}

type stage struct {
	Argv     []string
	UID, GID uint32
}

// An outcome is what a job cost.
type outcome struct {
	Wall     time.Duration // from before the first start to the last exit
	CPU      time.Duration // of all processes
	MaxRSS   int64         // bytes, of the last process and its children
	Launcher int64         // bytes, of the launcher: a smaller MaxRSS cannot be seen
	Stdout   []byte        // of the last process
	Stderr   []byte        // of all
	Err      string
	Foreign  float64 // share of all processors that somebody else used; the harness fills it in
}

// launchArg makes the harness a launcher. A process inherits its parent's peak memory at exec (the kernel keeps the
// largest of both), so a harness with a stream in memory would spoil the figure of everything it starts itself.
const launchArg = "launch-one-job"

// launch runs a job in a fresh, small launcher process.
func launch(j job) (outcome, error) {
	in, err := json.Marshal(j)
	if err != nil {
		return outcome{}, err
	}
	exe, err := os.Executable()
	if err != nil {
		return outcome{}, err
	}
	before := sampleCPU()
	cmd := exec.Command(exe, launchArg)
	cmd.Stdin = bytes.NewReader(in)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: j.Nice != 0}
	out, err := cmd.Output()
	if err != nil {
		return outcome{}, fmt.Errorf("launch %q: %w", j.Stages[len(j.Stages)-1].Argv, err)
	}
	after := sampleCPU()
	var o outcome
	if err := json.Unmarshal(out, &o); err != nil {
		return outcome{}, fmt.Errorf("launch %q: %w", j.Stages[len(j.Stages)-1].Argv, err)
	}
	o.Foreign = foreign(before, after, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	if o.Err != "" {
		return o, fmt.Errorf("run %q: %s\n%s", j.Stages[len(j.Stages)-1].Argv, o.Err, bytes.TrimSpace(o.Stderr))
	}
	return o, nil
}

// launcher is the other end: it reads a job on stdin and writes its outcome on stdout.
func launcher() int {
	var j job
	if err := json.NewDecoder(os.Stdin).Decode(&j); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	o := runJob(j)
	if err := json.NewEncoder(os.Stdout).Encode(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

func runJob(j job) (o outcome) {
	fail := func(err error) outcome {
		o.Err = err.Error()
		return o
	}
	if j.Nice != 0 {
		if err := syscall.Setpriority(syscall.PRIO_PROCESS, 0, j.Nice); err != nil {
			return fail(fmt.Errorf("set the priority: %w", err))
		}
		err := os.WriteFile("/proc/self/autogroup", []byte(strconv.Itoa(j.Nice)), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fail(err)
		}
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fail(err)
	}
	stdin := null
	if j.Stdin != "" {
		if stdin, err = os.Open(j.Stdin); err != nil {
			return fail(err)
		}
	}
	stdout, err := memfd("stdout")
	if err != nil {
		return fail(err)
	}
	stderr, err := memfd("stderr")
	if err != nil {
		return fail(err)
	}
	paths := make([]string, len(j.Stages))
	for i, s := range j.Stages {
		if paths[i], err = exec.LookPath(s.Argv[0]); err != nil {
			return fail(err)
		}
	}

	procs := make([]*os.Process, len(j.Stages))
	in := stdin
	start := time.Now()
	for i, s := range j.Stages {
		out, next := stdout, (*os.File)(nil)
		if i < len(j.Stages)-1 {
			if next, out, err = os.Pipe(); err != nil {
				return fail(err)
			}
		}
		attr := &os.ProcAttr{
			Dir:   j.Dir,
			Env:   []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/"},
			Files: []*os.File{in, out, stderr},
			Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
		}
		if s.UID != 0 {
			attr.Sys.Credential = &syscall.Credential{Uid: s.UID, Gid: s.GID}
		}
		procs[i], err = os.StartProcess(paths[i], s.Argv, attr)
		if err != nil {
			return fail(err)
		}
		// A pipe's end that stays open here would keep the next process waiting for ever.
		if in != stdin {
			in.Close()
		}
		if out != stdout {
			out.Close()
		}
		in = next
	}
	var errs []error
	states := make([]*os.ProcessState, len(procs))
	for i := len(procs) - 1; i >= 0; i-- {
		st, err := procs[i].Wait()
		if err != nil {
			return fail(err)
		}
		states[i] = st
		if !st.Success() {
			errs = append(errs, fmt.Errorf("%s: %s", j.Stages[i].Argv[0], st))
		}
	}
	o.Wall = time.Since(start)
	for _, st := range states {
		o.CPU += st.UserTime() + st.SystemTime()
	}
	o.MaxRSS = maxRSS(states[len(states)-1])
	var self syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &self)
	o.Launcher = self.Maxrss << 10
	o.Stdout = readBack(stdout)
	o.Stderr = readBack(stderr)
	if err := errors.Join(errs...); err != nil {
		return fail(err)
	}
	return o
}

// maxRSS is in bytes; the kernel counts KiB (getrusage(2)).
func maxRSS(st *os.ProcessState) int64 {
	if u, ok := st.SysUsage().(*syscall.Rusage); ok {
		return u.Maxrss << 10
	}
	return 0
}

// readBack gives the first 64 KiB of what a process wrote.
func readBack(f *os.File) []byte {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 64<<10))
	if err != nil {
		return []byte(err.Error())
	}
	return b
}

// command runs a helper program outside of any measurement.
func command(argv ...string) error {
	cmd := exec.Command(argv[0], argv[1:]...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run %q: %w\n%s", strings.Join(argv, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// need says which package brings a missing program.
func need(program, pkg string) error {
	if _, err := exec.LookPath(program); err != nil {
		return fmt.Errorf("find %s: %w (apt-get install %s)", program, err, pkg)
	}
	return nil
}
