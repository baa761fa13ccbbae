package cli

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"ocibundle/tests/testenv"
)

// TestSignal ends runs in the middle of their stream.
func TestSignal(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGXCPU} {
		t.Run(sig.String(), func(t *testing.T) {
			dir := workDir(t)
			cmd, in := started(t, dir, "-o", "b")
			defer in.Close()
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			wantStatus(t, cmd.Wait(), 128+int(sig))
			if got := listing(t, dir); !slices.Equal(got, []string{"c.tar"}) {
				t.Errorf("left behind: %q", got)
			}
		})
	}
}

// TestSignalElsewhere ends runs that wait in other places than in the extractor's own read: behind
// a decoder, before a digest.
func TestSignalElsewhere(t *testing.T) {
	digest := []string{"--digest", "sha256:" + strings.Repeat("0", 64)}
	for name, c := range map[string]struct {
		pack    string // a program; none: the stream as it is
		args    []string
		nothing bool // has come so far
	}{
		"nothing": {nothing: true},
		"gzip":    {pack: "gzip"},
		"zstd":    {pack: "zstd"},
		"digest":  {args: digest},
		"both":    {pack: "gzip", args: digest},
		"limit":   {args: []string{"--max-bytes", "1g"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := workDir(t)
			packed, err := os.ReadFile(filepath.Join(dir, "c.tar"))
			if c.pack != "" {
				testenv.NeedTool(t, c.pack)
				packed, err = exec.Command(c.pack, "-qc", filepath.Join(dir, "c.tar")).Output()
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.nothing {
				packed = nil
			}
			cmd, in := startedOn(t, dir, packed[:len(packed)/2], append([]string{"-o", "b"}, c.args...)...)
			defer in.Close()
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			hung := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
			defer hung.Stop()
			wantStatus(t, cmd.Wait(), 128+int(syscall.SIGTERM))
			if got := listing(t, dir); !slices.Equal(got, []string{"c.tar"}) {
				t.Errorf("left behind: %q", got)
			}
		})
	}
}

// TestSignalFIFO ends a run whose FIFO nobody writes to.
func TestSignalFIFO(t *testing.T) {
	dir := workDir(t)
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd, in := startedOn(t, dir, nil, "-o", "b", "-i", "fifo")
	defer in.Close()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	hung := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
	defer hung.Stop()
	wantStatus(t, cmd.Wait(), 128+int(syscall.SIGTERM))
	if got := listing(t, dir); !slices.Equal(got, []string{"c.tar", "fifo"}) {
		t.Errorf("left behind: %q", got)
	}
}

// TestSignalEditFile ends runs that wait for a FIFO which a flag names.
func TestSignalEditFile(t *testing.T) {
	for _, args := range []string{
		"-o b -i c.tar --env-file fifo", "-o b -i c.tar --image-config fifo", "-o - -i c.tar --patch fifo",
		"spec --template fifo", "edit c --merge-patch fifo", "diff fifo fifo",
	} {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGQUIT} {
			t.Run(args+" "+sig.String(), func(t *testing.T) {
				dir := workDir(t)
				if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
					t.Fatal(err)
				}
				cmd := exec.Command(testenv.Binary(t), strings.Fields(args)...)
				cmd.Dir = dir
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				hung := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
				defer hung.Stop()
				waitForOpen(t, cmd.Process.Pid)
				if err := cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				wantStatus(t, cmd.Wait(), 128+int(sig))
				if got := stderr.String(); strings.Count(got, "\n") != 1 {
					t.Errorf("stderr: %s", got)
				}
				if got := listing(t, dir); !slices.Equal(got, []string{"c.tar", "fifo"}) {
					t.Errorf("left behind: %q", got)
				}
			})
		}
	}
}

// waitForOpen waits until a thread of a process, or of its child, hangs in open(2).
func waitForOpen(t *testing.T, pid int) {
	t.Helper()
	opens := fmt.Sprintf("%d ", unix.SYS_OPENAT)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		pids := []string{strconv.Itoa(pid)}
		children, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
		for _, c := range children {
			text, _ := os.ReadFile(c)
			pids = append(pids, strings.Fields(string(text))...)
		}
		for _, p := range pids {
			calls, _ := filepath.Glob("/proc/" + p + "/task/*/syscall")
			for _, c := range calls {
				if text, err := os.ReadFile(c); err == nil && strings.HasPrefix(string(text), opens) {
					return
				}
			}
		}
	}
	t.Fatal("no thread waits in open(2)")
}

// TestNohup sends a signal that was ignored when the run started.
func TestNohup(t *testing.T) {
	dir := workDir(t)
	stream, err := os.ReadFile(filepath.Join(dir, "c.tar"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `trap "" HUP; exec "$0" -o b`, testenv.Binary(t))
	in := startedCommand(t, cmd, dir, stream[:1536])
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(stream[1536:]); err != nil {
		t.Fatal(err)
	}
	in.Close()
	wantStatus(t, cmd.Wait(), 0)
	if got := listing(t, dir); !slices.Equal(got, []string{"b", "c.tar"}) {
		t.Errorf("there is %q", got)
	}
}

// TestNobodyReads has a reader of standard output or error that has gone away. A bundle is made all
// the same; what goes to standard output ends as by SIGPIPE.
func TestNobodyReads(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
	}{
		{"-o b -i c.tar --json", 0},
		{"-o b -i c.tar --verbose", 0},
		{"-o b -i c.tar --progress always", 0},
		{"-o - -i c.tar", 128 + int(syscall.SIGPIPE)},
		{"export old", 128 + int(syscall.SIGPIPE)},
		{"spec", 128 + int(syscall.SIGPIPE)},
		{"--help", 128 + int(syscall.SIGPIPE)},
	} {
		t.Run(c.args, func(t *testing.T) {
			dir := workDir(t)
			prepare := exec.Command(testenv.Binary(t), "-q", "-o", "old", "-i", "c.tar")
			prepare.Dir = dir
			testenv.Output(t, prepare)
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			r.Close()
			cmd := exec.Command(testenv.Binary(t), strings.Fields(c.args)...)
			cmd.Dir, cmd.Stdout, cmd.Stderr = dir, w, w
			wantStatus(t, cmd.Run(), c.code)
			w.Close()
			want := []string{"b", "c.tar", "old"}
			if c.code != 0 {
				want = want[1:]
			}
			if got := listing(t, dir); !slices.Equal(got, want) {
				t.Errorf("there is %q, not %q", got, want)
			}
		})
	}
}

// TestOutputLost has a standard output that takes nothing. That is an error of what has no other
// outcome, and none of a bundle that is there.
func TestOutputLost(t *testing.T) {
	for _, c := range []struct {
		args         string
		full, closed int // the exit status
	}{
		{"-o b -i c.tar --json", 0, 0},
		{"-o b -i c.tar", 0, 0},
		{"-o - -i c.tar", 1, 1},
		{"export old", 1, 1},
		{"spec", 1, 1},
		{"diff old old", 1, 0},
		{"--help", 1, 0},
		{"help rm", 1, 0},
		{"--version", 1, 0},
		{"man", 1, 0},
	} {
		for to, code := range map[string]int{
			">/dev/full":   c.full,
			">&-":          c.closed,
			"1<>/dev/null": c.closed, // not to be told from a closed one
		} {
			t.Run(c.args+to, func(t *testing.T) {
				dir := workDir(t)
				bin := testenv.Binary(t)
				if strings.Contains(c.args, "old") {
					prepare := exec.Command(bin, "-q", "-o", "old", "-i", "c.tar")
					prepare.Dir = dir
					testenv.Output(t, prepare)
				}
				cmd := exec.Command("sh", append([]string{"-c", `exec "$0" "$@" ` + to, bin}, strings.Fields(c.args)...)...)
				cmd.Dir = dir
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				wantStatus(t, cmd.Run(), code)
				_, err := os.Stat(filepath.Join(dir, "b"))
				if there := err == nil; there != strings.HasPrefix(c.args, "-o b") {
					t.Errorf("is a bundle there: %v", there)
				}
				if code != 0 && !strings.Contains(stderr.String(), "write to standard output: ") {
					t.Errorf("stderr: %s", stderr.String())
				}
			})
		}
	}
}

// TestEscapes prints names that a terminal would act on.
func TestEscapes(t *testing.T) {
	dir := t.TempDir()
	name := "a\u202egpj.exe\u009b31m\x9b31m"
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	stream := filepath.Join(dir, "c.tar")
	if out, err := exec.Command("tar", "-C", dir, "-cf", stream, "--pax-option=SCHILY.xattr.security.nosuch:=1", name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command(testenv.Binary(t), "--json", "--verbose", "--set", "/annotations/x=\u202e", "-o", filepath.Join(dir, "b\u202e\u009b"), "-i", stream)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	wantStatus(t, cmd.Run(), 0)
	for _, printed := range []string{stdout.String(), stderr.String()} {
		if !strings.Contains(printed, `b\u202e\u009b`) {
			t.Errorf("the bundle's name is not in %s", printed)
		}
		for _, bad := range []string{"\u202e", "\u009b"} {
			if strings.Contains(printed, bad) {
				t.Errorf("%q is printed as it is in %q", bad, printed)
			}
		}
		if !utf8.ValidString(printed) {
			t.Errorf("bytes that are not UTF-8 are printed in %q", printed)
		}
	}
}
