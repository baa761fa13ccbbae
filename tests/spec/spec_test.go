// Package spec tests the flags that edit the config, and the subcommands that are about it, as a
// user types them.
package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ocibundle/specedit"
	"ocibundle/tests/testenv"
)

// run is one run of the program.
type run struct {
	stdout, stderr string
	code           int
}

// ocibundle runs the program in dir with a small, known environment.
func ocibundle(t testing.TB, dir, stdin string, args ...string) run {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testenv.Binary(t), args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "FROM_CALLER=yes"}
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		t.Fatalf("run the program: %v", err)
	}
	return run{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// good is ocibundle for what must work without a word.
func good(t testing.TB, dir, stdin string, args ...string) string {
	t.Helper()
	r := ocibundle(t, dir, stdin, args...)
	if r.code != 0 || r.stderr != "" {
		t.Fatalf("ocibundle %q: exit %d\n%s", args, r.code, r.stderr)
	}
	return r.stdout
}

// changes writes the patch from one config to another a line per operation.
func changes(t testing.TB, before, after string) string {
	t.Helper()
	patch, err := specedit.Diff([]byte(before), []byte(after))
	if err != nil {
		t.Fatal(err)
	}
	var ops []struct {
		Op, Path string
		Value    json.RawMessage
	}
	if err := json.Unmarshal(patch, &ops); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, o := range ops {
		line := o.Op + " " + o.Path
		if o.Value != nil {
			var compact bytes.Buffer
			if err := json.Compact(&compact, o.Value); err != nil {
				t.Fatal(err)
			}
			line += " " + compact.String()
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// files makes files in a new directory. A name that ends in "/" is a directory.
func files(t testing.TB, tree map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range tree {
		p := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(p, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const allCaps = `CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP
CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK CAP_IPC_OWNER CAP_SYS_MODULE
CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE CAP_SYS_RESOURCE CAP_SYS_TIME
CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE CAP_AUDIT_WRITE CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG
CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE`

// Every edit flag, and exactly what it changes in what runc spec writes. DIR stands for the
// directory the program runs in. Where the rootless config gets something else but for the numbers
// of the namespaces, that is in rootless.
var flagCases = []struct{ flags, want, rootless string }{
	{flags: `-e A=1`, want: `add /process/env/2 "A=1"`},
	{flags: `--env A=1 -e B=2,3`, want: `add /process/env/2 "A=1"` + "\n" + `add /process/env/3 "B=2,3"`},
	{flags: `-e A=1 -e A=2`, want: `add /process/env/2 "A=2"`},
	{flags: `-e TERM=vt100`, want: `replace /process/env/1 "TERM=vt100"`},
	{flags: `-e A=`, want: `add /process/env/2 "A="`},
	{flags: `-e A=b=c`, want: `add /process/env/2 "A=b=c"`},
	{flags: `-e FROM_CALLER`, want: `add /process/env/2 "FROM_CALLER=yes"`},
	{flags: `-e TERM`, want: `remove /process/env/1`}, // not set here: unset, as docker run does
	{flags: `--env-file vars`, want: `add /process/env/2 "X=1"` + "\n" + `add /process/env/3 "Y= two words # and no comment"` + "\n" +
		`add /process/env/4 "FROM_CALLER=yes"`},
	{flags: `--unsetenv TERM --unsetenv NOT_THERE`, want: `remove /process/env/1`},
	{flags: `-w /data`, want: `replace /process/cwd "/data"`},
	{flags: `--workdir /data --workdir /`, want: ``},
	{flags: `-u 5:6`, want: "replace /process/user/uid 5\nreplace /process/user/gid 6\nadd /process/user/additionalGids [6]",
		rootless: `exit 4`}, // one id is mapped
	{flags: `-u 0`, want: "add /process/user/additionalGids [0]", rootless: `nothing`},
	{flags: `--group-add 7 --group-add 7`, want: "add /process/user/additionalGids [7]", rootless: `exit 4`},
	{flags: `--group-add 7 -u 5:6`, want: "replace /process/user/uid 5\nreplace /process/user/gid 6\nadd /process/user/additionalGids [6,7]", rootless: `exit 4`},
	{flags: `--hostname h`, want: `replace /hostname "h"`},
	{flags: `-t`, want: ``},
	{flags: `-t=false`, want: `remove /process/terminal`},
	{flags: `--tty=false --tty`, want: ``},
	{flags: `--unsetenv TERM -t`, want: ``},
	{flags: `--read-only=false`, want: `remove /root/readonly`},
	{flags: `--read-only=false --read-only`, want: ``},
	{flags: `--oom-score-adj -500`, want: `add /process/oomScoreAdj -500`},
	{flags: `--annotation a.b/c=d=e`, want: `add /annotations {"a.b/c":"d=e"}`},

	{flags: `--net host`, want: "remove /linux/namespaces/1", rootless: `nothing`},
	{flags: `--network private`, want: ``,
		rootless: "replace /mounts/5/type \"sysfs\"\nreplace /mounts/5/source \"sysfs\"\nremove /mounts/5/options/0\nadd /linux/namespaces/5 {\"type\":\"network\"}"},
	{flags: `--net /run/netns/x`, want: `add /linux/namespaces/1/path "/run/netns/x"`,
		rootless: `add /linux/namespaces/5 {"type":"network","path":"/run/netns/x"}`},
	{flags: `--net ./ns`, want: `add /linux/namespaces/1/path "DIR/ns"`, rootless: `add /linux/namespaces/5 {"type":"network","path":"DIR/ns"}`},
	{flags: `--net host --net private`, want: "remove /linux/namespaces/1\nadd /linux/namespaces/4 {\"type\":\"network\"}",
		rootless: "replace /mounts/5/type \"sysfs\"\nreplace /mounts/5/source \"sysfs\"\nremove /mounts/5/options/0\nadd /linux/namespaces/5 {\"type\":\"network\"}"},
	{flags: `--pid host`, want: `remove /linux/namespaces/0`,
		rootless: "replace /mounts/0/type \"none\"\nreplace /mounts/0/source \"/proc\"\nadd /mounts/0/options [\"rbind\",\"nosuid\",\"noexec\",\"nodev\"]\nremove /linux/namespaces/0"},
	{flags: `--ipc host`, want: "replace /mounts/3/type \"bind\"\nreplace /mounts/3/source \"/dev/shm\"\nreplace /mounts/3/options [\"rbind\",\"rprivate\"]\nremove /linux/namespaces/2",
		rootless: "replace /mounts/3/type \"bind\"\nreplace /mounts/3/source \"/dev/shm\"\nreplace /mounts/3/options [\"rbind\",\"rprivate\"]\n" +
			"remove /mounts/4\nremove /linux/namespaces/1"},
	{flags: `--ipc host --ipc private`, want: "remove /linux/namespaces/2\nadd /linux/namespaces/4 {\"type\":\"ipc\"}"},
	{flags: `--uts host`, want: "remove /hostname\nremove /linux/namespaces/3"},
	{flags: `--cgroupns private`, want: `add /linux/namespaces/5 {"type":"cgroup"}`},
	{flags: `--cgroupns private --cgroupns host`, want: ``},

	{flags: `-v /srv:/data`, want: `add /mounts/7 {"destination":"/data","type":"bind","source":"/srv","options":["rbind","rprivate"]}`},
	{flags: `-v ./data:/data/:ro`, want: `add /mounts/7 {"destination":"/data","type":"bind","source":"DIR/data","options":["rbind","ro","rprivate"]}`},
	{flags: `-v .:/data:rw,rslave`, want: `add /mounts/7 {"destination":"/data","type":"bind","source":"DIR","options":["rbind","rslave"]}`},
	{flags: `-v ../x:/data`, want: `add /mounts/7 {"destination":"/data","type":"bind","source":"PARENT/x","options":["rbind","rprivate"]}`},
	{flags: `-v /a:/data -v /b:/data`, want: `add /mounts/7 {"destination":"/data","type":"bind","source":"/b","options":["rbind","rprivate"]}`},
	// A mount does not hide one below it that was named first.
	{flags: `-v /a:/data/sub -v /b:/data`, want: `add /mounts/7 {"destination":"/data","type":"bind","source":"/b","options":["rbind","rprivate"]}` + "\n" +
		`add /mounts/8 {"destination":"/data/sub","type":"bind","source":"/a","options":["rbind","rprivate"]}`},
	{flags: `--mount type=bind,src=/a,dst=/data,ro`, want: `add /mounts/7 {"destination":"/data","type":"bind","source":"/a","options":["rbind","ro","rprivate"]}`},
	{flags: `--mount type=bind,source=data,target=/data,readonly=false,bind-propagation=rshared`,
		want: `add /mounts/7 {"destination":"/data","type":"bind","source":"DIR/data","options":["rbind","rshared"]}`},
	{flags: `--mount type=bind,src=/a,dst=/data,bind-recursive=disabled`, want: `add /mounts/7 {"destination":"/data","type":"bind","source":"/a","options":["bind","rprivate"]}`},
	{flags: `--mount "type=bind","src=/a,b",dst=/data`, want: `add /mounts/7 {"destination":"/data","type":"bind","source":"/a,b","options":["rbind","rprivate"]}`},
	{flags: `--mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770`,
		want: `add /mounts/7 {"destination":"/t","type":"tmpfs","source":"tmpfs","options":["noexec","nosuid","nodev","rprivate","mode=1770","size=1048576"]}`},
	{flags: `--tmpfs /t`, want: `add /mounts/7 {"destination":"/t","type":"tmpfs","source":"tmpfs","options":["noexec","nosuid","nodev","rprivate"]}`},
	{flags: `--tmpfs /t:size=64m,exec,mode=1777`,
		want: `add /mounts/7 {"destination":"/t","type":"tmpfs","source":"tmpfs","options":["nosuid","nodev","rprivate","size=64m","exec","mode=1777"]}`},
	{flags: `--tmpfs /dev/shm`, want: "replace /mounts/3/source \"tmpfs\"\nreplace /mounts/3/options [\"noexec\",\"nosuid\",\"nodev\",\"rprivate\"]"},
	{flags: `--shm-size 1g`, want: `replace /mounts/3/options/4 "size=1073741824"`},
	{flags: `--device /dev/full`, want: `add /linux/resources/devices/1 {"allow":true,"type":"c","major":1,"minor":7,"access":"rwm"}` + "\n" +
		`add /linux/devices [{"path":"/dev/full","type":"c","major":1,"minor":7,"fileMode":438,"uid":0,"gid":0}]`,
		rootless: `add /mounts/7 {"destination":"/dev/full","type":"bind","source":"/dev/full","options":["bind","rprivate"]}`},
	{flags: `--device vendor.com/gpu=0 --device vendor.com/gpu=1 --cdi-spec-dir cdi`, want: `replace /ociVersion "1.0.2"` + "\n" + `add /process/env/2 "VENDOR=yes"` + "\n" +
		`add /process/env/3 "GPU=1"` + "\n" +
		`add /mounts/7 {"destination":"/usr/lib/vendor","source":"/usr/lib/vendor","options":["ro","rbind"]}` + "\n" +
		`add /linux/resources/devices/1 {"allow":true,"type":"c","major":1,"minor":7,"access":"rwm"}` + "\n" +
		`add /linux/devices [{"path":"/dev/gpu0","type":"c","major":1,"minor":7,"fileMode":438}]` + "\n" +
		`add /hooks {"createContainer":[{"path":"/usr/bin/vendor-hook","args":["vendor-hook","link"]}]}`,
		rootless: `replace /ociVersion "1.0.2"` + "\n" + `add /process/env/2 "VENDOR=yes"` + "\n" + `add /process/env/3 "GPU=1"` + "\n" +
			`add /mounts/7 {"destination":"/dev/gpu0","type":"bind","source":"/dev/full","options":["bind","rprivate"]}` + "\n" +
			`add /mounts/8 {"destination":"/usr/lib/vendor","source":"/usr/lib/vendor","options":["ro","rbind"]}` + "\n" +
			`add /hooks {"createContainer":[{"path":"/usr/bin/vendor-hook","args":["vendor-hook","link"]}]}`},
	{flags: `--device /dev/zero:/dev/nil:r --device /dev/zero:/dev/nil:rw`, want: `add /linux/resources/devices/1 {"allow":true,"type":"c","major":1,"minor":5,"access":"rw"}` + "\n" +
		`add /linux/devices [{"path":"/dev/nil","type":"c","major":1,"minor":5,"fileMode":438,"uid":0,"gid":0}]`,
		rootless: `add /mounts/7 {"destination":"/dev/nil","type":"bind","source":"/dev/zero","options":["bind","rprivate"]}`},

	{flags: `--ulimit nofile=100:200`, want: "replace /process/rlimits/0/hard 200\nreplace /process/rlimits/0/soft 100"},
	{flags: `--ulimit RLIMIT_CORE=unlimited --ulimit nproc=-1`,
		want: `add /process/rlimits/1 {"type":"RLIMIT_CORE","hard":18446744073709551615,"soft":18446744073709551615}` + "\n" +
			`add /process/rlimits/2 {"type":"RLIMIT_NPROC","hard":18446744073709551615,"soft":18446744073709551615}`},
	{flags: `--memory 64m`, want: `add /linux/resources/memory {"limit":67108864,"swap":134217728}`, rootless: `add /linux/resources {"memory":{"limit":67108864,"swap":134217728}}`},
	{flags: `-m 1.5g --memory-swap -1`, want: `add /linux/resources/memory {"limit":1610612736,"swap":-1}`, rootless: `add /linux/resources {"memory":{"limit":1610612736,"swap":-1}}`},
	{flags: `--memory-swap 100m --memory 64m`, want: `add /linux/resources/memory {"swap":104857600,"limit":67108864}`, rootless: `add /linux/resources {"memory":{"swap":104857600,"limit":67108864}}`},
	{flags: `--memory 64m --memory-swap 0`, want: `add /linux/resources/memory {"limit":67108864}`, rootless: `add /linux/resources {"memory":{"limit":67108864}}`},
	{flags: `--cpus 1.5 --cpu-shares 512 --cpuset-cpus 0-3,7`, want: `add /linux/resources/cpu {"quota":150000,"period":100000,"shares":512,"cpus":"0-3,7"}`,
		rootless: `add /linux/resources {"cpu":{"quota":150000,"period":100000,"shares":512,"cpus":"0-3,7"}}`},
	{flags: `--pids-limit 10`, want: `add /linux/resources/pids {"limit":10}`, rootless: `add /linux/resources {"pids":{"limit":10}}`},
	{flags: `--pids-limit -1`, want: `add /linux/resources/pids {"limit":-1}`, rootless: `add /linux/resources {"pids":{"limit":-1}}`},
	{flags: `--sysctl net.core.somaxconn=1024 --sysctl kernel/msgmax=1`, want: `add /linux/sysctl {"net.core.somaxconn":"1024","kernel.msgmax":"1"}`},

	{flags: `--cap-add SYS_TIME`, want: "add /process/capabilities/bounding/3 \"CAP_SYS_TIME\"\nadd /process/capabilities/effective/3 \"CAP_SYS_TIME\"\n" +
		"add /process/capabilities/permitted/3 \"CAP_SYS_TIME\"\nadd /process/capabilities/ambient/3 \"CAP_SYS_TIME\""},
	{flags: `--cap-add kill --cap-add CAP_KILL`, want: ``},
	{flags: `--cap-drop CAP_KILL`, want: "remove /process/capabilities/bounding/1\nremove /process/capabilities/effective/1\n" +
		"remove /process/capabilities/permitted/1\nremove /process/capabilities/ambient/1"},
	{flags: `--security-opt no-new-privileges=false`, want: `remove /process/noNewPrivileges`},
	{flags: `--security-opt no-new-privileges=false --security-opt no-new-privileges`, want: ``},
	{flags: `--security-opt apparmor=unconfined`, want: `add /process/apparmorProfile "unconfined"`},
	{flags: `--security-opt seccomp=unconfined`, want: ``},
	{flags: `--security-opt seccomp={"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["swapon"],"action":"SCMP_ACT_ERRNO"}]}`,
		want: `add /linux/seccomp {"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["swapon"],"action":"SCMP_ACT_ERRNO"}]}`},
	{flags: `--security-opt seccomp=profile.json`, want: `add /linux/seccomp {"defaultAction":"SCMP_ACT_ALLOW"}`},
	{flags: `--security-opt seccomp=default --security-opt seccomp=unconfined`, want: ``},

	{flags: `--set /hostname=h`, want: `replace /hostname "h"`},
	{flags: `--set /hooks/poststop/-/path=/bin/true`, want: `add /hooks {"poststop":[{"path":"/bin/true"}]}`},
	{flags: `--add /process/env/0=A=1`, want: `add /process/env/0 "A=1"`},
	{flags: `--replace /process/args=["a","b&&c"]`, want: `replace /process/args ["a","b&&c"]`},
	{flags: `--remove /linux/namespaces/[type=network]`, want: `remove /linux/namespaces/1`, rootless: `exit 2`},
	{flags: `--remove /mounts/[destination=/dev/mqueue]`, want: `remove /mounts/4`},
	{flags: `--set /mounts/[destination=/proc]/options=["nosuid"]`, want: `add /mounts/0/options ["nosuid"]`},
	{flags: `--test /hostname=runc --set /hostname=h`, want: `replace /hostname "h"`},
	{flags: `--copy /process/cwd=/hostname --set /process/cwd=/x`, want: "replace /process/cwd \"/x\"\nreplace /hostname \"/\""},
	{flags: `--move /process/env/0=/process/env/-`, want: `replace /process/env ["TERM=xterm","PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]`},
	{flags: `--patch [{"op":"remove","path":"/hostname"}]`, want: `remove /hostname`},
	{flags: `--patch patch.json`, want: `replace /hostname "p"`},
	{flags: `--merge-patch {"hostname":null,"process":{"cwd":"/x"}}`, want: "remove /hostname\nreplace /process/cwd \"/x\""},
	{flags: `--merge-patch merge.json`, want: `replace /hostname "m"`},
	// In the order of the command line, whatever the kind.
	{flags: `--hostname a --patch patch.json --set /hostname=b --merge-patch merge.json --hostname c`, want: `replace /hostname "c"`},
	{flags: `--hostname a --merge-patch merge.json --patch patch.json`, want: `replace /hostname "p"`},
}

func flagFiles(t testing.TB) string {
	return files(t, map[string]string{
		"vars":         "\ufeff# a comment\n\nX=1\r\n  Y= two words # and no comment\nFROM_CALLER\nNOT_SET\n",
		"profile.json": `{"defaultAction":"SCMP_ACT_ALLOW"}`,
		"patch.json":   `[{"op":"replace","path":"/hostname","value":"p"}]`,
		"merge.json":   `{"hostname":"m"}`,
		"cdi/vendor.yaml": `cdiVersion: 0.6.0
kind: vendor.com/gpu
containerEdits:
  env: [VENDOR=yes]
  mounts: [{hostPath: /usr/lib/vendor, containerPath: /usr/lib/vendor, options: [ro, rbind]}]
  hooks: [{hookName: createContainer, path: /usr/bin/vendor-hook, args: [vendor-hook, link]}]
devices:
- {name: "0", containerEdits: {env: [GPU=0], deviceNodes: [{path: /dev/gpu0, hostPath: /dev/full}]}}
- {name: "1", containerEdits: {env: [GPU=1]}}
- {name: gone, containerEdits: {deviceNodes: [{path: /dev/no-such}]}}
`,
		"cdi/broken.json": `{"cdiVersion":"9","kind":"other.com/nic","devices":[]}`,
	})
}

func TestFlags(t *testing.T) {
	dir := flagFiles(t)
	for _, form := range []struct {
		name string
		args []string
	}{{"root", []string{"--template", "runc"}}, {"rootless", []string{"--template", "runc", "--rootless"}}} {
		if testenv.Unit() && form.name == "rootless" {
			continue // as long again
		}
		plain := good(t, dir, "", append([]string{"spec"}, form.args...)...)
		// The table is for hosts without a cgroup namespace in that config.
		if strings.Contains(plain, `"cgroup"
			}`) {
			form.args = append(form.args, "--cgroupns", "host")
			plain = good(t, dir, "", append([]string{"spec"}, form.args...)...)
		}
		for _, c := range flagCases {
			t.Run(form.name+" "+c.flags, func(t *testing.T) {
				want := c.want
				if form.name == "rootless" {
					switch {
					case c.rootless != "":
						want = c.rootless
					default:
						want = rootlessIndexes(c.want)
					}
					if want == "nothing" {
						want = ""
					}
				}
				args := append(append([]string{"spec"}, form.args...), strings.Fields(c.flags)...)
				r := ocibundle(t, dir, "", args...)
				if code, refused := strings.CutPrefix(want, "exit "); refused {
					if fmt.Sprint(r.code) != code {
						t.Fatalf("exit %d, want %s\n%s", r.code, code, r.stderr)
					}
					return
				}
				// A user's runtime takes less than root's, which is warned of.
				warned := strings.Contains(c.flags, "-500") || strings.Contains(c.want, "/linux/resources/") && !strings.Contains(c.flags, "--device")
				if r.code != 0 || (r.stderr != "") != (warned && form.name == "rootless") {
					t.Fatalf("exit %d\n%s", r.code, r.stderr)
				}
				got := changes(t, plain, r.stdout)
				got = strings.ReplaceAll(strings.ReplaceAll(got, dir, "DIR"), filepath.Dir(dir), "PARENT")
				if got != want {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
				// A named flag given twice is as good as once.
				if name := args[len(form.args)+1]; !rawFlags[name] && !testenv.Unit() {
					again := append(append([]string{}, args...), strings.Fields(c.flags)...)
					if second := ocibundle(t, dir, "", again...); second.stdout != r.stdout {
						t.Errorf("given twice it makes something else:\n%s", changes(t, r.stdout, second.stdout))
					}
				}
			})
		}
	}
}

// rawFlags are not idempotent, nor meant to be.
var rawFlags = map[string]bool{"--add": true, "--remove": true, "--move": true, "--test": true, "--copy": true, "--patch": true, "--set": true, "--merge-patch": true, "--hostname": true}

// rootlessIndexes renumbers the namespaces: pid ipc uts mount user, where root has pid network ipc
// uts mount.
func rootlessIndexes(want string) string {
	return strings.NewReplacer("/namespaces/2", "/namespaces/1", "/namespaces/3", "/namespaces/2", "/namespaces/4", "/namespaces/4").Replace(want)
}

func TestCapAll(t *testing.T) {
	dir := t.TempDir()
	var c struct {
		Process struct{ Capabilities map[string][]string }
	}
	if err := json.Unmarshal([]byte(good(t, dir, "", "spec", "--template", "runc", "--cap-drop", "all", "--cap-add", "ALL", "--cap-drop", "MKNOD")), &c); err != nil {
		t.Fatal(err)
	}
	want := strings.Fields(strings.ReplaceAll(allCaps, "CAP_MKNOD", ""))
	for _, set := range []string{"bounding", "effective", "permitted", "ambient"} {
		if got := c.Process.Capabilities[set]; strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s is %q", set, got)
		}
	}
	// In the order of the command line: what is dropped last is gone.
	if err := json.Unmarshal([]byte(good(t, dir, "", "spec", "--template", "runc", "--cap-add", "SYS_TIME", "--cap-drop", "ALL")), &c); err != nil {
		t.Fatal(err)
	}
	for set, list := range c.Process.Capabilities {
		if len(list) > 0 {
			t.Errorf("%s still has %q", set, list)
		}
	}
}
