package slurm

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ocibundle/tests/testenv"
)

//go:embed cluster.sh
var clusterScript string

// A cluster is a running Slurm of two nodes and the user who has jobs on it.
type cluster struct {
	dir  string // holds its configuration, state and logs
	user *testenv.User
}

// startCluster starts a cluster, which ends with the test.
func startCluster(t *testing.T, user *testenv.User) *cluster {
	t.Helper()
	testenv.NeedTool(t, "unshare", "munged", "slurmctld", "slurmd", "srun")
	c := &cluster{dir: testenv.Dir(t), user: user}
	write(t, c.path("prolog"), c.here(page(t, "prolog")), 0o755)
	c.configure(t, "runc")

	args := []string{"--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc",
		"bash", "-c", clusterScript, "cluster.sh", c.dir}
	for range 3 {
		args = append(args, strconv.Itoa(testenv.FreePort(t)))
	}
	cmd := exec.Command("unshare", args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	stop, err := testenv.StartUnshare(cmd)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		// A job has ended for its user before its node has deleted the container.
		for start := time.Now(); len(c.containers(t)) > 0 && time.Since(start) < time.Minute; {
			time.Sleep(100 * time.Millisecond)
		}
		if err := stop(); err != nil {
			t.Errorf("stop the cluster: %v", err)
		}
		<-ended
		if t.Failed() {
			t.Logf("the cluster said:\n%s", log.Bytes())
		}
		for _, left := range c.leftovers(t) {
			t.Errorf("left behind: %s", left)
		}
	})
	for range 600 {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the cluster ended: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
		if c.run(t, "sinfo", "--noheader", "--Node", "--format=%t").stdout == "idle\nidle\n" {
			return c
		}
	}
	t.Fatal("the nodes are not idle after a minute")
	return nil
}

// leftovers lists the processes of the cluster and its jobs, the sockets and mounts in its directory, and what of a
// container is in the spool or state directories: all of it is to be gone with the cluster.
func (c *cluster) leftovers(t *testing.T) []string {
	t.Helper()
	var left []string
	add := func(file string) {
		text, err := os.ReadFile(file)
		if err != nil {
			return // a process that has ended
		}
		if bytes.Contains(text, []byte(c.dir)) {
			left = append(left, file)
		}
	}
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, proc := range procs {
		add(proc + "/cmdline")
		add(proc + "/environ")
	}
	add("/proc/self/mountinfo")
	add("/proc/net/unix")
	return append(left, c.containers(t)...)
}

// containers lists what of containers is in the spool and state directories.
func (c *cluster) containers(t *testing.T) (all []string) {
	t.Helper()
	for _, pattern := range []string{"n[12]/oci-*", "oci/*/*"} {
		files, err := filepath.Glob(c.path(pattern))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, files...)
	}
	return all
}

// configure has the jobs from now on use the runtime as docs/slurm.md says.
func (c *cluster) configure(t *testing.T, runtime string) {
	t.Helper()
	write(t, c.path("oci.conf"), c.here(page(t, "oci.conf for "+runtime)), 0o644)
}

func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }

// here puts the cluster's places into a text for those of docs/slurm.md.
func (c *cluster) here(text string) string {
	return strings.NewReplacer("/run/slurm-oci", c.path("oci"), "/local", c.path("local")).Replace(text)
}

// page returns the block of docs/slurm.md that has the line "# NAME" among its first two.
func page(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(testenv.ModuleRoot(t), "docs", "slurm.md"))
	if err != nil {
		t.Fatal(err)
	}
	// Every second part stands between two fences, behind the name of its language.
	for i, part := range strings.Split(string(text), "\n```") {
		if i%2 == 0 {
			continue
		}
		_, block, _ := strings.Cut(part, "\n")
		lines := strings.SplitN(block, "\n", 3)
		if lines[0] == "# "+name || len(lines) > 1 && lines[1] == "# "+name {
			return block + "\n"
		}
	}
	t.Fatalf("docs/slurm.md has no block %q", name)
	return ""
}

func write(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	// Whatever the umask.
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// A result is how a command ended.
type result struct {
	code           int
	stdout, stderr string
}

// run runs a command as the user, in the user's home, with the program and the cluster at hand. A command that takes
// minutes hangs.
func (c *cluster) run(t *testing.T, name string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	program := testenv.Binary(t)
	if name == "ocibundle" {
		name = program
	}
	cmd := c.user.Command(ctx, name, args...)
	cmd.Env = append(cmd.Env, "SLURM_CONF="+c.path("slurm.conf"), "PATH="+filepath.Dir(program)+":/usr/sbin:/usr/bin:/bin")
	cmd.WaitDelay = 10 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited || ctx.Err() != nil {
		t.Fatalf("run %q: %v %v\n%s%s", cmd.Args, err, ctx.Err(), stdout.Bytes(), stderr.Bytes())
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// output is run for a command that has to succeed. It returns its standard output.
func (c *cluster) output(t *testing.T, name string, args ...string) string {
	t.Helper()
	r := c.run(t, name, args...)
	if r.code != 0 {
		t.Fatalf("%s %q: exit %d\n%s%s", name, args, r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// batch submits a script with sbatch and waits for the end of its job. The arguments are sbatch's. The code is 0 if every
// task of the job has completed; stdout and stderr are those of all tasks.
func (c *cluster) batch(t *testing.T, text string, args ...string) result {
	t.Helper()
	script := filepath.Join(c.user.Home, testenv.Name()+".sh")
	write(t, script, text, 0o755)
	args = append([]string{"--parsable", "--no-requeue", "--output", script + ".%a.out", "--error", script + ".%a.err"}, args...)
	id := strings.TrimSpace(c.output(t, "sbatch", append(args, script)...))
	c.idle(t)
	var r result
	jobs := c.output(t, "scontrol", "show", "--oneliner", "job", id)
	if strings.Count(jobs, "JobState=COMPLETED") != strings.Count(jobs, "JobState=") {
		r.code = 1
	}
	for to, pattern := range map[*string]string{&r.stdout: ".*.out", &r.stderr: ".*.err"} {
		logs, err := filepath.Glob(script + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, log := range logs {
			text, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			*to += string(text)
		}
	}
	return r
}

// idle waits until there are no jobs.
func (c *cluster) idle(t *testing.T) {
	t.Helper()
	waitFor(t, "there are no jobs", func() bool { return c.output(t, "squeue", "--noheader") == "" })
}

// waitFor waits until something is so. What is not so after minutes never will be.
func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 3000 {
		if is() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("after five minutes it is not so that %s", what)
}
