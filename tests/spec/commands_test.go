package spec

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ocibundle/tests/testenv"
)

// Every mistake is one clear line, and a hint where there is something to try.
func TestMistakes(t *testing.T) {
	dir := flagFiles(t)
	for _, c := range []struct{ flags, message, hint string }{
		{`-e =x`, "`-e =x`: the name of the variable is missing: expected NAME=VALUE or NAME", ""},
		{`--env-file nowhere`, "--env-file: open nowhere: no such file or directory", ""},
		{`--env-file patch.json --env-file vars --env-file bad-vars`, "--env-file: open bad-vars: no such file or directory", ""},
		{`-w data`, "`-w data`: \"data\" is not an absolute path in the container", ""},
		{`-w /proc/self/fd/8`, "`-w /proc/self/fd/8`: /process/cwd is \"/proc/self/fd/8\", which leads through a process, out of the container", ""},
		{`-w /proc/self/cwd`, "`-w /proc/self/cwd`: /process/cwd is \"/proc/self/cwd\", which leads through a process, out of the container", ""},
		{`--remove /root`, "`--remove /root`: /root is required and missing", ""},
		{`-u redis`, "`-u redis`: resolve user \"redis\": there is no rootfs to look the name up in, give ids", ""},
		{`-u :www`, "`-u :www`: resolve user \":www\": there is no rootfs to look the name up in, give ids", ""},
		{`-u 4294967296`, "`-u 4294967296`: resolve id 4294967296: uids and gids must be in range 0-2147483647", ""},
		{`-t=maybe`, "`-t=maybe`: \"maybe\" is neither true nor false", ""},
		{`--hostname a/b`, "`--hostname a/b`: \"a/b\" is not a host name", ""},
		{`--oom-score-adj 1001`, "`--oom-score-adj 1001`: \"1001\" is not a number from -1000 to 1000", ""},
		{`--annotation a`, "`--annotation a`: \"a\" is not an annotation: expected KEY=VALUE", ""},
		{`--net bridge`, "`--net bridge`: \"bridge\" is neither private, host, nor the path of a namespace", "there are no named networks here: private, host, or a path such as /run/netns/NAME"},
		{`--pid container:x`, "`--pid container:x`: \"container:x\" is neither private, host, nor the path of a namespace", "join the namespace of a running process by path: /proc/PID/ns/pid"},
		{`-v data:/data`, "`-v data:/data`: \"data\" is a named volume, which only an engine has", "for the directory data here, write ./data"},
		{`-v a/b:/data`, "`-v a/b:/data`: \"a/b\" is neither an absolute path nor one that starts with a dot", "for the directory a/b here, write ./a/b"},
		{`-v /data`, "`-v /data`: \"/data\" is an anonymous volume, which only an engine has", "SRC:DST binds a directory of the host; a tmpfs is an empty one in memory"},
		{`-v /a:/b:ro,rw`, "`-v /a:/b:ro,rw`: more than one of the ro and rw", ""},
		{`-v /a:/b:idmap`, "`-v /a:/b:idmap`: the ids of a mount are mapped as the container's user namespace maps them, and there is none", "--uidmap 0:100000:65536"},
		{`--rootless -v /a:/b:ridmap`, "`-v /a:/b:ridmap`: an ordinary user cannot have the ids of a mount mapped: the kernel wants CAP_SYS_ADMIN over its filesystem", "is root's in the container"},
		{`-v /a:/b:idmap,ridmap`, "`-v /a:/b:idmap,ridmap`: more than one of the idmap and ridmap", ""},
		{`--device vendor.com/gpu=all --cdi-spec-dir none`, "`--device vendor.com/gpu=all`: there is no CDI device \"vendor.com/gpu=all\" in none", "a vendor's own program writes these files"},
		{`--device vendor.com/gpu=2 --cdi-spec-dir cdi`, "`--device vendor.com/gpu=2`: there is no CDI device \"vendor.com/gpu=2\" in cdi, and \"cdi/broken.json\" cannot be used: failed to load CDI Spec invalid CDI Spec: invalid version \"9\"",
			"there are vendor.com/gpu=0, vendor.com/gpu=1, vendor.com/gpu=gone"},
		{`--device vendor.com/gpu=gone --cdi-spec-dir cdi`, "`--device vendor.com/gpu=gone`: look at the device: failed to inject devices: failed to stat CDI host device \"/dev/no-such\": no such file or directory", ""},
		{`--device vendor.com/gpu=0 --cdi-spec-dir vars`, "`--device vendor.com/gpu=0`: look for the CDI device \"vendor.com/gpu=0\": ", ""},
		{`-v /a:/b:rslav`, "`-v /a:/b:rslav`: \"rslav\" is not an option of a bind mount: did you mean \"rslave\"?", ""},
		{`-v /a:b`, "`-v /a:b`: the destination \"b\" is not an absolute path in the container", ""},
		{`-v /a:/b/..`, "`-v /a:/b/..`: nothing can be mounted over the root of the container", ""},
		{`-v /a:/b:/c:ro`, "`-v /a:/b:/c:ro`: \"/a:/b:/c:ro\" is not a mount: expected SRC:DST[:OPTIONS]", ""},
		{`--mount src=/a,dst=/b`, "`--mount src=/a,dst=/b`: a mount without type=bind or type=tmpfs is a volume, which only an engine has", "type=bind,src=DIR,dst=PATH binds a directory of the host"},
		{`--mount type=bind,src=/a`, "`--mount type=bind,src=/a`: the destination is missing: dst=PATH", ""},
		{`--mount type=bind,src=/a,dest=/b`, "`--mount type=bind,src=/a,dest=/b`: \"dest\" is not a field of a mount: did you mean \"dst\"?", ""},
		{`--mount type=tmpfs,src=/a,dst=/b`, "`--mount type=tmpfs,src=/a,dst=/b`: a tmpfs has no source", ""},
		{`--mount type=bind,src=/a,dst=/b,tmpfs-size=1m`, "`--mount type=bind,src=/a,dst=/b,tmpfs-size=1m`: tmpfs-size is for type=tmpfs, this is type=bind", ""},
		{`--mount type=cluster,src=/a,dst=/b`, "`--mount type=cluster,src=/a,dst=/b`: type=cluster is not supported: bind and tmpfs are", ""},
		{`--tmpfs /t:sise=1m`, "`--tmpfs /t:sise=1m`: \"sise=1m\" is not an option of a tmpfs: did you mean \"size\"?", ""},
		{`--shm-size 1x`, "`--shm-size 1x`: \"1x\" is not a size: expected a number with a unit, as 512m or 1.5g", ""},
		{`--device /dev/no-such`, "`--device /dev/no-such`: look at the device: stat /dev/no-such: no such file or directory", ""},
		{`--device /etc/passwd`, "`--device /etc/passwd`: /etc/passwd is not a device node, or a directory with device nodes", ""},
		{`--ulimit nofile`, "`--ulimit nofile`: \"nofile\" is not a limit: expected NAME=SOFT[:HARD]", ""},
		{`--ulimit nofiles=1`, "`--ulimit nofiles=1`: \"nofiles\" is not a limit of getrlimit(2): did you mean \"nofile\"?", ""},
		{`--ulimit nofile=2:1`, "`--ulimit nofile=2:1`: the soft limit (2) is above the hard one (1)", ""},
		{`--memory 1m`, "`--memory 1m`: \"1m\" is too little: a container needs at least 6m", ""},
		{`--memory 64m --memory-swap 10m`, "`--memory-swap 10m`: /linux/resources/memory/swap is 10485760, less than the memory limit (67108864): it counts memory and swap together", ""},
		{`--cpus 0`, "`--cpus 0`: \"0\" is not a number of CPUs: expected 0.01 or more, as 1.5", ""},
		{`--cpuset-cpus 3-1`, "`--cpuset-cpus 3-1`: \"3-1\" is not a list of CPUs: expected numbers and ranges, as 0-3,7", ""},
		{`--pids-limit -2`, "`--pids-limit -2`: \"-2\" is not a number of processes: expected a whole number, or -1 for no limit", ""},
		{`--sysctl kernel.hostname=x`, "`--sysctl kernel.hostname=x`: kernel.hostname has no value of its own in a container: only net.*, fs.mqueue.* and the kernel.* parameters of System V IPC have", ""},
		{`--cap-add NET_ADMN`, "`--cap-add NET_ADMN`: \"NET_ADMN\" is not a capability of capabilities(7): did you mean NET_ADMIN?", ""},
		{`--security-opt seccomp=nowhere`, "--security-opt: open nowhere: no such file or directory", ""},
		{`--security-opt seccomp={"defaultAction":"SCMP_ACT_ALLOW","sycalls":[]}`, "`--security-opt seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\",\"sycalls\":[]}`: read the seccomp profile: json: unknown field \"sycalls\"", ""},
		{`--security-opt seccomp={"defaultAction":"SCMP_ACT_ALOW"}`, "`--security-opt seccomp={\"defaultAction\":\"SCMP_ACT_ALOW\"}`: /linux/seccomp/defaultAction is \"SCMP_ACT_ALOW\"", ""},
		{`--security-opt label=disable`, "`--security-opt label=disable`: SELinux labels are given whole, not in parts", "--set /process/selinuxLabel=LABEL and --set /linux/mountLabel=LABEL"},
		{`--security-opt nonsense`, "`--security-opt nonsense`: not supported: seccomp=, no-new-privileges and apparmor= are", ""},
		{`--set /hostname`, "`--set /hostname`: expected PTR=VALUE, as in /process/cwd=/data", ""},
		{`--set hostname=x`, "`--set hostname=x`: hostname: a pointer starts with \"/\": did you mean /hostname?", ""},
		{`--set /annotations/a~b=x`, "`--set /annotations/a~b=x`: /annotations/a~b: in a pointer \"~\" is written ~0, and \"/\" within a name ~1", ""},
		{`--remove /hostname=x`, "`--remove /hostname=x`: expected a pointer without a value", "--remove '/hostname'"},
		{`--copy /hostname`, "`--copy /hostname`: expected two pointers, FROM=TO", ""},
		{`--replace /proces/args=["x"]`, "`--replace /proces/args=[\"x\"]`: /proces does not exist: did you mean /process/args?", ""},
		{`--set /hostname=12`, "`--set /hostname=12`: /hostname is a number (12), expected a string", `a string that looks like JSON needs its own quotes: '"12"'`},
		{`--patch nowhere.json`, "--patch: open nowhere.json: no such file or directory", ""},
		{`--patch vars`, "`--patch vars`: read the patch: line 1, column 1: invalid character '#'", ""},
		{`--patch {"op":"remove"}`, "`--patch {\"op\":\"remove\"}`: an RFC 6902 patch is an array of operations, this is an object", ""},
		{`--merge-patch [`, "`--merge-patch [`: read the merge patch: line 1, column 2: unexpected EOF", ""},
		{`--patch - --merge-patch -`, "--patch and --merge-patch both read standard input", ""},
		{`--template nowhere.json`, "--template: open nowhere.json: no such file or directory", ""},
		{`--template patch.json`, "`--template patch.json`: a config is a JSON object, this is an array", ""},
		{`-p 80:80`, "there is no flag -p", "--net host"},
		{`--name x`, "there is no flag --name", "runc run"},
		{`--entrypoint x`, "there is no flag --entrypoint", "after --"},
		{`--dns 1.1.1.1`, "there is no flag --dns", "--resolv FILE"},
		{`--label a=b`, "there is no flag --label", "--annotation K=V"},
		{`--userns host`, "there is no flag --userns", "--remap"},
		{`--cap-ad X`, "there is no flag --cap-ad", "--cap-add"},
		{`--env`, "--env needs a value", ""},
		{`sh`, "unexpected argument \"sh\"", "ocibundle spec -- sh"},
	} {
		t.Run(c.flags, func(t *testing.T) {
			r := ocibundle(t, dir, `[]`, append([]string{"spec"}, strings.Fields(c.flags)...)...)
			lines := strings.Split(strings.TrimSuffix(r.stderr, "\n"), "\n")
			if r.code != 2 || r.stdout != "" {
				t.Errorf("exit %d, stdout %q", r.code, r.stdout)
			}
			if !strings.HasPrefix(lines[0], "ocibundle: "+c.message) {
				t.Errorf("got  %s\nwant ocibundle: %s", lines[0], c.message)
			}
			hints := strings.Join(lines[1:], "\n")
			if c.hint != "" && !strings.Contains(hints, c.hint) || c.hint == "" && strings.Contains(c.message, "`") && hints != "" {
				t.Errorf("hints are %q, want %q", hints, c.hint)
			}
			for _, l := range lines[1:] {
				if !strings.HasPrefix(l, "ocibundle: hint: ") {
					t.Errorf("a line that is not a hint: %q", l)
				}
			}
		})
	}
}

// A bad edit of the main job costs nothing: not a byte of the stream is read,
// and there is no output directory.
func TestMistakeReadsNothing(t *testing.T) {
	for _, flags := range []string{"--set /hostname=12", "--replace /proces=1", "--cap-add X", "-v data:/data", "--patch nowhere", "--template nowhere"} {
		t.Run(flags, func(t *testing.T) {
			dir := t.TempDir()
			read, write, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer read.Close()
			const stream = "not a byte of this is read"
			if _, err := write.WriteString(stream); err != nil {
				t.Fatal(err)
			}
			write.Close()
			cmd := exec.CommandContext(t.Context(), testenv.Binary(t), append([]string{"-o", "out"}, strings.Fields(flags)...)...)
			cmd.Dir, cmd.Stdin = dir, read
			out, _ := cmd.CombinedOutput()
			if cmd.ProcessState.ExitCode() != 2 {
				t.Errorf("%v\n%s", cmd.ProcessState, out)
			}
			left := make([]byte, 100)
			if n, _ := read.Read(left); string(left[:n]) != stream {
				t.Errorf("of the stream %q is left", left[:n])
			}
			if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
				t.Errorf("%v %v was left", names, err)
			}
		})
	}
}

// spec is a filter for config.json: what runc writes goes through unchanged,
// and every edit of the table applies to it.
func TestSpecFilter(t *testing.T) {
	testenv.Long(t)
	testenv.NeedTool(t, "runc")
	dir := flagFiles(t)
	testenv.Output(t, exec.CommandContext(t.Context(), "runc", "spec", "--bundle", dir))
	text, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if got := good(t, dir, string(text), "spec", "--template", "-"); strings.TrimSpace(got) != strings.TrimSpace(string(text)) {
		t.Errorf("differs by\n%s", changes(t, string(text), got))
	}
	for _, c := range flagCases {
		if strings.Contains(c.flags, " -") && strings.Contains(c.flags, "=-") {
			continue
		}
		args := append([]string{"spec", "--template", "-"}, strings.Fields(c.flags)...)
		once := good(t, dir, string(text), args...)
		// What came out is a valid config again.
		if again := good(t, dir, once, "spec", "--template", "-"); again != once {
			t.Errorf("%s: what came out is changed by going through again", c.flags)
		}
	}
	// A template may be a pipe.
	cmd := exec.CommandContext(t.Context(), "bash", "-c", `"$1" spec --template <(cat config.json) --patch <(echo '[{"op":"remove","path":"/hostname"}]')`, "bash", testenv.Binary(t))
	cmd.Dir = dir
	if got := changes(t, string(text), testenv.Output(t, cmd)); got != "remove /hostname" {
		t.Errorf("%s", got)
	}
}

func TestDiffThenPatch(t *testing.T) {
	testenv.Long(t)
	dir := flagFiles(t)
	runc, docker := good(t, dir, "", "spec", "--template", "runc"), good(t, dir, "", "spec")
	configs := []string{runc, docker, good(t, dir, "", "spec", "--rootless")}
	for _, c := range flagCases {
		if r := ocibundle(t, dir, "", append([]string{"spec"}, strings.Fields(c.flags)...)...); r.code == 0 {
			configs = append(configs, r.stdout)
		}
	}
	for i := range configs {
		a, b := configs[i], configs[(i*7+1)%len(configs)]
		for name, text := range map[string]string{"a.json": a, "b.json": b} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		patch := good(t, dir, "", "diff", "a.json", "b.json")
		got := good(t, dir, patch, "spec", "--template", "a.json", "--patch", "-")
		sameJSON(t, got, b)
	}
	for _, args := range [][]string{{"diff"}, {"diff", "a.json"}, {"diff", "a.json", "b.json", "a.json"}, {"diff", "a.json", "nowhere"}, {"diff", "a.json", "vars"}, {"diff", "-", "-"}} {
		if r := ocibundle(t, dir, "{}", args...); r.code != 2 || r.stdout != "" {
			t.Errorf("%q: exit %d\n%s%s", args, r.code, r.stdout, r.stderr)
		}
	}
}

func bundle(t *testing.T) string {
	t.Helper()
	dir := files(t, map[string]string{
		"b/rootfs/etc/passwd": "root:x:0:0::/:\nredis:x:999:998::/:\n",
		"b/rootfs/etc/group":  "root:x:0:\nredis:x:998:\nextra:x:5:redis\n",
	})
	b := filepath.Join(dir, "b")
	if err := os.WriteFile(filepath.Join(b, "config.json"), []byte(good(t, dir, "", "spec", "--template", "runc")), 0o640); err != nil {
		t.Fatal(err)
	}
	return b
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestEdit(t *testing.T) {
	testenv.NeedRoot(t)
	b := bundle(t)
	dir, config := filepath.Dir(b), filepath.Join(b, "config.json")
	before := read(t, config)
	if err := os.Chown(config, 1234, 4321); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(config, 0o604); err != nil {
		t.Fatal(err)
	}
	// Flags may stand on either side of the directory.
	if out := good(t, dir, "", "edit", "-e", "A=1", "b", "--user", "redis", "--group-add", "7", "--", "redis-server", "--edit"); out != "" {
		t.Errorf("printed %q", out)
	}
	want := "replace /process/user/uid 999\nreplace /process/user/gid 998\nadd /process/user/additionalGids [998,5,7]\n" +
		"replace /process/args [\"redis-server\",\"--edit\"]\nadd /process/env/2 \"A=1\""
	if got := changes(t, before, read(t, config)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	info, err := os.Stat(config)
	if err != nil {
		t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); st.Uid != 1234 || st.Gid != 4321 || info.Mode() != 0o604 {
		t.Errorf("owner %d:%d, mode %v", st.Uid, st.Gid, info.Mode())
	}
	// What changes nothing leaves the file alone, for make.
	past := time.Unix(1e9, 0)
	if err := os.Chtimes(config, past, past); err != nil {
		t.Fatal(err)
	}
	good(t, dir, "", "edit", "b", "-e", "A=1")
	if info, err := os.Stat(config); err != nil || !info.ModTime().Equal(past) {
		t.Errorf("%v %v", info.ModTime(), err)
	}
	// So does what fails, and nothing is left beside it.
	after := read(t, config)
	for _, args := range [][]string{
		{"edit", "b", "-e", "B=2", "--test", "/hostname=x"}, {"edit", "b", "--remove", "/ociVersion"}, {"edit", "b", "-u", "nobody"},
		{"edit", "b"}, {"edit"}, {"edit", "b", "b", "-e", "A=2"}, {"-e", "A=2", "edit", "b"},
	} {
		if r := ocibundle(t, dir, "", args...); r.code != 2 || r.stderr == "" {
			t.Errorf("%q: exit %d, %s", args, r.code, r.stderr)
		}
		if info, err := os.Stat(config); err != nil || !info.ModTime().Equal(past) || read(t, config) != after {
			t.Errorf("%q: the config was touched", args)
		}
		if names, _ := os.ReadDir(b); len(names) != 2 {
			t.Errorf("%q: left %v", args, names)
		}
	}
	// A --help in the midst of it edits nothing.
	if r := ocibundle(t, dir, "", "edit", "b", "-e", "B=2", "--help"); r.code != 0 || !strings.Contains(r.stdout, "--group-add") || read(t, config) != after {
		t.Errorf("exit %d\n%s", r.code, r.stdout)
	}
	// What an edit left that was killed goes with the next.
	if err := os.WriteFile(filepath.Join(b, ".config.json.0123456789abcdef"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	good(t, dir, "", "edit", "b", "-e", "A=3")
	if names, _ := os.ReadDir(b); len(names) != 2 {
		t.Errorf("left %v", names)
	}
}

func TestEditNoBundle(t *testing.T) {
	b := bundle(t)
	dir := filepath.Dir(b)
	for _, c := range []struct {
		make string
		want string
		code int
	}{
		{"true", "", 0},
		{"rm b/config.json", "it has no config.json", 2},
		{"mkdir b/config.json", "of its config.json: it is not a regular file", 2},
		{"rmdir b/config.json; ln -s ../b/x b/config.json; echo '{}' > b/x", "of its config.json: it is not a regular file", 2},
		{"rm b/config.json; mkfifo b/config.json", "of its config.json: it is not a regular file", 2},
		{"rm b/config.json; echo '{}' > b/config.json", "its config.json has no ociVersion", 2},
		{`echo '{"ociVersion":"1.0.0","process":{"cwd":"/","args":["a"]}}' > b/config.json; mv b/rootfs b/elsewhere`, "it has no directory rootfs", 2},
		{"ln -s elsewhere b/rootfs", "it has no directory rootfs", 2},
		{"rm -r b; touch b", "it is not a directory", 2},
		{"rm b", "does not exist", 2},
	} {
		cmd := exec.CommandContext(t.Context(), "sh", "-ec", c.make)
		cmd.Dir = dir
		testenv.Output(t, cmd)
		r := ocibundle(t, dir, "", "edit", "b", "-e", "A=1")
		if r.code != c.code || !strings.Contains(r.stderr, c.want) {
			t.Errorf("after %q: exit %d, %s; want exit %d, %s", c.make, r.code, r.stderr, c.code, c.want)
		}
	}
}

// A rootfs is hostile also to who edits its bundle: names are looked up inside
// it, without waiting for anybody and without much memory.
func TestEditHostileRootfs(t *testing.T) {
	for _, c := range []struct{ name, make, want string }{
		{"FIFO", "rm etc/passwd; mkfifo etc/passwd", "it is not a regular file"},
		{"symlink out", "rm etc/passwd; ln -s /etc/passwd.outside etc/passwd", "none of that name"},
		{"symlink out, far", "rm -r etc; ln -s ../../outside etc", "none of that name"},
		{"terabyte", "truncate -s 1T etc/passwd", "more than the"},
		{"an id that wraps", "echo 'secret:x:4294967296:0::/:' > etc/passwd", "none of that name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := bundle(t)
			if err := os.MkdirAll(filepath.Join(b, "..", "outside"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(b, "..", "outside/passwd"), []byte("secret:x:4711:4711::/:\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "sh", "-ec", c.make)
			cmd.Dir = filepath.Join(b, "rootfs")
			testenv.Output(t, cmd)
			before := read(t, filepath.Join(b, "config.json"))
			r := ocibundle(t, filepath.Dir(b), "", "edit", "b", "-u", "secret")
			if r.code != 2 || !strings.Contains(r.stderr, c.want) {
				t.Errorf("exit %d, %s; want %s", r.code, r.stderr, c.want)
			}
			if read(t, filepath.Join(b, "config.json")) != before {
				t.Error("the config was changed")
			}
		})
	}
}

// Edits at the same time all take effect, and no reader sees half a config.
func TestEditTogether(t *testing.T) {
	b := bundle(t)
	binary := testenv.Binary(t)
	stop := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if text, err := os.ReadFile(filepath.Join(b, "config.json")); err != nil || !strings.HasSuffix(string(text), "\n}\n") {
				t.Errorf("a reader saw %d bytes, %v", len(text), err)
				return
			}
		}
	})
	var editors sync.WaitGroup
	for i := range 12 {
		editors.Go(func() {
			if out, err := exec.CommandContext(t.Context(), binary, "edit", b, "-e", fmt.Sprintf("V%d=1", i)).CombinedOutput(); err != nil {
				t.Errorf("%v %s", err, out)
			}
		})
	}
	editors.Wait()
	close(stop)
	reader.Wait()
	text := read(t, filepath.Join(b, "config.json"))
	for i := range 12 {
		if !strings.Contains(text, fmt.Sprintf(`"V%d=1"`, i)) {
			t.Errorf("V%d was lost", i)
		}
	}
}
