package userns

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"ocibundle/tests/testenv"
)

// The test binary stands in for the program: with roleVar set it does what main would do, in whatever namespace Enter
// finds, as whatever user the test started it.
const (
	roleVar    = "USERNS_TEST_ROLE"
	requestVar = "USERNS_TEST_REQUEST"
	scriptVar  = "USERNS_TEST_SCRIPT"
)

// report is what the stand-in prints.
type report struct {
	State   State
	Kind    Kind   // of an *Error
	Error   string // of any error
	Subject string
	Args    []string
	Environ []string
	CapEff  string
	Name    string // as ps(1) has it
	Output  string // of the script
}

func TestMain(m *testing.M) {
	role := os.Getenv(roleVar)
	if role == "" {
		os.Exit(m.Run())
	}
	os.Exit(standIn(role))
}

// cameEarly is a signal that came before Enter.
type cameEarly struct{}

func (cameEarly) Error() string          { return "hung up" }
func (cameEarly) Signal() syscall.Signal { return syscall.SIGHUP }

func standIn(role string) int {
	if rule, ok := strings.CutPrefix(role, "seccomp:"); ok {
		return underFilter(rule)
	}
	if count, ok := strings.CutPrefix(role, "nest:"); ok {
		return nest(count)
	}
	if then, ok := strings.CutPrefix(role, "nested:"); ok {
		return nested(then)
	}
	var r Request
	if err := json.Unmarshal([]byte(os.Getenv(requestVar)), &r); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 99
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if role == "early" && inner == nil {
		early, end := context.WithCancelCause(ctx)
		end(cameEarly{})
		ctx = early
	}
	s, err := Enter(ctx, r)
	if e, ok := errors.AsType[*Exited](err); ok {
		return e.Code
	}
	out := report{State: s, Args: os.Args[1:], Environ: os.Environ()}
	if err != nil {
		out.Error = err.Error()
		if e, ok := errors.AsType[*Error](err); ok {
			out.Kind, out.Subject = e.Kind, e.Subject
		}
		json.NewEncoder(os.Stdout).Encode(out)
		return 0
	}
	switch role {
	case "exit":
		return 7
	case "killed":
		unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	case "wait", "early":
		fmt.Println("ready")
		<-ctx.Done()
		fmt.Println("cancelled")
		return 5
	}
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 99
	}
	out.Name = strings.TrimSpace(string(comm))
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 99
	}
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, "CapEff:"); ok {
			out.CapEff = strings.TrimSpace(v)
		}
	}
	if script := os.Getenv(scriptVar); script != "" {
		cmd := exec.Command("/bin/sh", "-euc", script)
		cmd.Stdin = os.Stdin
		text, err := cmd.CombinedOutput()
		out.Output = string(text)
		if err != nil {
			out.Error = err.Error()
		}
	}
	json.NewEncoder(os.Stdout).Encode(out)
	return 0
}

// underFilter runs the stand-in as an ordinary user with a seccomp filter that answers EPERM to what rule names, as a
// container engine's default profile does. Root needs no no_new_privs for that.
func underFilter(rule string) int {
	runtime.LockOSThread()
	type ins = unix.SockFilter
	load := func(offset uint32) ins { return ins{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset} }
	deny := ins{Code: unix.BPF_RET | unix.BPF_K, K: 0x00050000 | uint32(unix.EPERM)} // SECCOMP_RET_ERRNO
	allow := ins{Code: unix.BPF_RET | unix.BPF_K, K: 0x7fff0000}                     // SECCOMP_RET_ALLOW
	var prog []ins
	switch rule {
	case "clone":
		prog = []ins{
			load(0),
			{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_CLONE, Jf: 3},
			load(16), // the lower half of the first argument
			{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: unix.CLONE_NEWUSER, Jf: 1},
			deny, allow,
		}
	case "fchown":
		prog = []ins{load(0), {Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_FCHOWN, Jf: 1}, deny, allow}
	case "fsetxattr":
		prog = []ins{load(0), {Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_FSETXATTR, Jf: 1}, deny, allow}
	}
	filter := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&filter)), 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "set filter:", err)
		return 99
	}
	return again("report", userAttr())
}

// nest runs the stand-in in a user namespace that has the first ids of this one, and there does what then says: "root"
// stays root, "user" does not, "limit" does not either and allows no further namespace (the sysctl belongs to the
// namespace, so the host's is not touched).
func nest(spec string) int {
	number, then, _ := strings.Cut(spec, ":")
	count, err := strconv.Atoi(number)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 99
	}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: count}}
	return again("nested:"+then, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true})
}

func nested(then string) int {
	if then == "root" {
		return again("report", nil)
	}
	if then == "limit" {
		if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 99
		}
	}
	return again("report", userAttr())
}

func userAttr() *syscall.SysProcAttr {
	id := func(name string) uint32 {
		n, _ := strconv.Atoi(os.Getenv(name))
		return uint32(n)
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id("USERNS_TEST_UID"), Gid: id("USERNS_TEST_GID")}}
}

func again(role string, attr *syscall.SysProcAttr) int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), roleVar+"="+role)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = os.Stdout, os.Stderr, attr
	if err := cmd.Run(); err != nil {
		fmt.Fprintf(os.Stderr, "run as %s: %v\n", role, err)
		return 99
	}
	return 0
}

// world is a user and a directory of its own with the test binary beside it.
type world struct {
	t   *testing.T
	uid int
	gid int
	dir string
	bin string
	ids *strings.Replacer
}

var worlds int

// newWorld makes a user with the given lines in /etc/subuid and /etc/subgid, separated by blanks. NAME and UID in them
// stand for the user, B000 to B199, C000 to C099 and D000 to D099 for ids that nobody else uses. The world's ids does the
// same for what a test expects.
func newWorld(t *testing.T, subuid, subgid string) *world {
	t.Helper()
	testenv.NeedTool(t, "newuidmap", "newgidmap", "setpriv", "setcap", "getcap")
	u := testenv.TempUser(t, testenv.UserOptions{})
	worlds++
	first := 1_000_000 + os.Getpid()%10_000*100 + 3*worlds // below 2^31: getcap prints a signed number
	w := &world{t: t, uid: int(u.UID), gid: int(u.GID), dir: u.Home, bin: filepath.Join(testenv.Dir(t), "userns.test"),
		ids: strings.NewReplacer("NAME", u.Name, "UID", strconv.Itoa(int(u.UID)), "GID", strconv.Itoa(int(u.GID)),
			"B0", fmt.Sprintf("%d0", first), "B1", fmt.Sprintf("%d1", first), "C0", fmt.Sprintf("%d0", first+1), "D0", fmt.Sprintf("%d0", first+2))}
	for path, lines := range map[string]string{subuidFile: subuid, subgidFile: subgid} {
		for line := range strings.FieldsSeq(w.ids.Replace(lines)) {
			editSubIDs(t, path, func(old string) string { return old + line + "\n" })
			t.Cleanup(func() {
				editSubIDs(t, path, func(old string) string { return strings.Replace(old, line+"\n", "", 1) })
			})
		}
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.bin, self, 0o755); err != nil {
		t.Fatal(err)
	}
	return w
}

// editSubIDs changes a file under the lock that testenv holds while it makes users. usermod(8) writes no lines by uid.
func editSubIDs(t *testing.T, path string, change func(string) string) {
	t.Helper()
	etc, err := os.Open("/etc")
	if err != nil {
		t.Fatal(err)
	}
	defer etc.Close()
	if err := unix.Flock(int(etc.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// Other tests' programs read it meanwhile: they find all of it, before or after.
	next := path + "+" + filepath.Base(os.Args[0])
	if err := errors.Join(os.WriteFile(next, []byte(change(string(old))), 0o644), os.Rename(next, path)); err != nil {
		t.Fatal(err)
	}
}

func mustRun(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}

// command is the stand-in in a role, as the world's user, through the wrapper command if there is one.
func (w *world) command(role string, r Request, script string, wrapper ...string) *exec.Cmd {
	w.t.Helper()
	request, err := json.Marshal(r)
	if err != nil {
		w.t.Fatal(err)
	}
	argv := append(slices.Clone(wrapper), w.bin, "--one", "two words")
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = w.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), roleVar + "=" + role, requestVar + "=" + string(request), scriptVar + "=" + script,
		"USERNS_TEST_UID=" + strconv.Itoa(w.uid), "USERNS_TEST_GID=" + strconv.Itoa(w.gid),
		"GORACE=atexit_sleep_ms=0"} // under the race detector every one of the processes would sleep for a second
	cmd.Stderr = os.Stderr
	if len(wrapper) == 0 || wrapper[0] == "setpriv" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(w.uid), Gid: uint32(w.gid)}}
	}
	return cmd
}

func (w *world) run(cmd *exec.Cmd) report {
	w.t.Helper()
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("%q: %v: %s", cmd.Args, err, out)
	}
	var r report
	d := json.NewDecoder(bytes.NewReader(out))
	if err := d.Decode(&r); err != nil {
		w.t.Fatalf("%q: %v: %s", cmd.Args, err, out)
	}
	if d.More() {
		w.t.Fatalf("both the outer and the inner process worked: %s", out)
	}
	return r
}

func (w *world) report(r Request, script string, wrapper ...string) report {
	w.t.Helper()
	return w.run(w.command("report", r, script, wrapper...))
}

// needed is CapEff with neededCaps.
func needed() string {
	var set uint64
	for _, c := range neededCaps {
		set |= 1 << c
	}
	return fmt.Sprintf("%016x", set)
}

const mapScript = `cat /proc/self/uid_map /proc/self/gid_map`
