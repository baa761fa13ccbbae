package runtime

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"ocibundle/tests/testenv"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run fails also where every test has passed but something is left behind.
func run(m *testing.M) int {
	status := m.Run()
	if err := testenv.Cleanup(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	// The test binary and its directory belong to the go command.
	self := strconv.Itoa(os.Getpid())
	for _, left := range leftovers(testenv.Tag) {
		if !strings.HasPrefix(left, "/proc/"+self+":") {
			fmt.Fprintln(os.Stderr, "left behind:", left)
			status = 1
		}
	}
	return status
}

// The search at the end of run finds what it is there for.
func TestLeftovers(t *testing.T) {
	testenv.NeedRoot(t)
	tag := testenv.Name()
	dir := filepath.Join(t.TempDir(), tag)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	sleep := exec.CommandContext(t.Context(), "sleep", "1000")
	sleep.Args[0] = tag
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sleep.Wait() })
	found := strings.Join(leftovers(tag), "\n")
	for _, want := range []string{dir, "/proc/self/mountinfo: ", fmt.Sprintf("/proc/%d: ", sleep.Process.Pid)} {
		if !slices.ContainsFunc(strings.Split(found, "\n"), func(line string) bool { return strings.HasPrefix(line, want) }) {
			t.Errorf("no %s found among\n%s", want, found)
		}
	}
}

// A server is a bundle of the redis container and the port its redis is to listen on.
type server struct {
	dir  string
	port int
}

// makeBundle pipes a real engine's export of the redis container into the program, as
// root or, where u is not nil, as an ordinary user.
func makeBundle(t *testing.T, u *testenv.User, flags ...string) server {
	t.Helper()
	engine, container := testenv.RedisContainer(t)
	program := testenv.Binary(t)
	var parent string
	if u == nil {
		parent = testenv.Dir(t)
	} else {
		parent = u.Home
	}
	s := server{filepath.Join(parent, "redis"), testenv.FreePort(t)}
	args := append([]string{"-o", s.dir, "--net", "host"}, flags...)
	args = append(args, "--", "redis-server", "--bind", "127.0.0.1", "--port", strconv.Itoa(s.port))

	export := engine.Docker(t.Context(), "export", container)
	ocibundle := exec.CommandContext(t.Context(), program, args...)
	if u != nil {
		ocibundle = u.Command(t.Context(), program, args...)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var exportSays, says bytes.Buffer
	export.Stdout, export.Stderr = w, &exportSays
	ocibundle.Stdin, ocibundle.Stdout, ocibundle.Stderr = r, &says, &says
	if err := export.Start(); err != nil {
		t.Fatal(err)
	}
	err = ocibundle.Start()
	// The two processes are to be the only holders of the pipe.
	r.Close()
	w.Close()
	if err == nil {
		err = ocibundle.Wait()
	}
	if exportErr := export.Wait(); exportErr != nil {
		t.Errorf("docker export: %v\n%s", exportErr, exportSays.Bytes())
	}
	if err != nil {
		t.Fatalf("ocibundle %s: %v\n%s", strings.Join(args, " "), err, says.Bytes())
	}
	if says.Len() > 0 {
		t.Errorf("ocibundle is not silent:\n%s", says.Bytes())
	}
	return s
}

// serve runs a command that runs the server's container in the foreground until redis
// is told to stop; on the way redis has to answer. remove is a command that ends the
// container by force, where it comes to that.
func (s server) serve(t *testing.T, run, remove *exec.Cmd) {
	t.Helper()
	testenv.ServeRedis(t, s.port, run, remove, nil)
}

// onTerminal makes the command line of a command that is given a terminal.
func onTerminal(args ...string) []string {
	for _, arg := range args {
		if strings.ContainsAny(arg, " '\"\\$`") {
			panic("an argument that needs quoting: " + arg)
		}
	}
	return []string{"script", "--quiet", "--flush", "--return", "--command", strings.Join(args, " "), "/dev/null"}
}

func command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, args[0], args[1:]...)
}

// What runc spec writes wants a terminal.
func TestRuncOnTerminal(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "runc", "script")
	s := makeBundle(t, nil, "--template", "runc")
	id := testenv.Name()
	s.serve(t, command(t.Context(), onTerminal("runc", "run", "--bundle", s.dir, id)...),
		exec.Command("runc", "delete", "--force", id))
}

func TestRuncAsRoot(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "runc")
	s := makeBundle(t, nil)
	id := testenv.Name()
	s.serve(t, exec.CommandContext(t.Context(), "runc", "run", "--bundle", s.dir, id),
		exec.Command("runc", "delete", "--force", id))
}

func TestRuncAsUser(t *testing.T) {
	runc := testenv.NeedTool(t, "runc")
	u := testenv.TempUser(t, testenv.UserOptions{})
	s := makeBundle(t, u)
	id := testenv.Name()
	state := filepath.Join(u.Home, "runc")
	s.serve(t, u.Command(t.Context(), runc, "--root", state, "run", "--bundle", s.dir, id),
		u.Command(context.Background(), runc, "--root", state, "delete", "--force", id))
}

// crun refuses the hybrid layout of control groups, where the unified hierarchy is
// mounted below the old ones: such a mount is taken away, for crun alone.
const withoutHybrid = `if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi; exec "$@"`

func TestCrunAsRoot(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "crun", "unshare")
	s := makeBundle(t, nil)
	id := testenv.Name()
	crun := func(args ...string) []string {
		return append([]string{"unshare", "--mount", "sh", "-c", withoutHybrid, "sh"}, args...)
	}
	s.serve(t, command(t.Context(), crun("crun", "run", "--bundle", s.dir, id)...),
		command(context.Background(), crun("crun", "delete", "--force", id)...))
}

func TestContainerd(t *testing.T) {
	engine := testenv.StartContainerd(t)
	s := makeBundle(t, nil, "--absolute-root")
	id := testenv.Name()
	s.serve(t, engine.Ctr(t.Context(), "run", "--rm", "--config", filepath.Join(s.dir, "config.json"), id),
		engine.Ctr(context.Background(), "task", "rm", "--force", id))
}

// nspawn wants to be among systemd's: a /run in memory with the things masked paths
// are covered with, and control groups in one of its layouts. Its own groups it makes
// below the one it is started in.
const (
	amongSystemd = `set -e
group=/sys/fs/cgroup/$1
shift
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/inaccessible/dir
: >/run/systemd/inaccessible/reg
umount --recursive /sys/fs/cgroup
mount -t cgroup2 cgroup /sys/fs/cgroup
mkdir "$group"
echo $$ >"$group/cgroup.procs"
exec "$@"`
	// It makes groups in systemd's old hierarchy, too. A group is busy until its last
	// process is gone.
	afterwards = `group=/sys/fs/cgroup/$1
remove() {
    mount -t "$@" cgroup /sys/fs/cgroup || return 0
    for _ in $(seq 100); do
        if ! [ -e "$group" ] || find "$group" -depth -type d -exec rmdir {} +; then return 0; fi
        sleep 0.1
    done
    return 1
}
umount --recursive /sys/fs/cgroup && remove cgroup2 && remove cgroup -o none,name=systemd`
)

func TestNspawn(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "systemd-nspawn", "unshare")
	// It takes no limits, of a seccomp profile no errnoRet, and of a bind no option but
	// rbind; the default config has all three. Files to resolve names with are its own.
	s := makeBundle(t, nil, "--set", "/linux/resources={}", "--security-opt", "seccomp=unconfined", "--resolv", "none")
	id := testenv.Name()
	t.Cleanup(func() {
		testenv.Output(t, exec.Command("unshare", "--mount", "bash", "-c", afterwards, "bash", id))
	})
	run := exec.CommandContext(t.Context(), "unshare", "--mount", "bash", "-c", amongSystemd, "bash", id,
		"systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--machine", id, "--oci-bundle", s.dir)
	// Killed, it takes the container with it.
	s.serve(t, run, exec.Command("true"))
}
