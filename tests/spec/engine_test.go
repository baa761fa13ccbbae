package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ocibundle/specedit"
	"ocibundle/tests/testenv"
)

// engineConfig runs a container on a real engine and returns the config.json that the engine gave
// to its runtime.
func engineConfig(t *testing.T, e *testenv.Engine, image string, flags ...string) map[string]any {
	t.Helper()
	args := append([]string{"run", "--detach"}, flags...)
	out, err := e.Docker(t.Context(), append(args, image, "/probe", "wait")...).CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	id := lines[len(lines)-1]
	if err != nil {
		t.Fatalf("docker %q: %v\n%s", args, err, out)
	}
	defer func() {
		if out, err := e.Docker(t.Context(), "rm", "--force", id).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}()
	text := testenv.Output(t, e.Inside(t.Context(), "cat", "/run/containerd-state/io.containerd.runtime.v2.task/moby/"+id+"/config.json"))
	return decoded(t, text)
}

func decoded(t *testing.T, text string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return m
}

func at(m map[string]any, path ...string) map[string]any {
	for _, p := range path {
		m, _ = m[p].(map[string]any)
	}
	return m
}

// withoutEngine takes away what only an engine has or writes: each line is a difference with its
// reason.
func withoutEngine(m map[string]any) {
	delete(m, "ociVersion")               // ours is the lowest that fits
	delete(at(m, "root"), "path")         // the engine's own storage
	delete(m, "hooks")                    // sets up the engine's network
	delete(at(m, "linux"), "cgroupsPath") // below the engine's own group
	// Files with which the engine keeps names and addresses up to date.
	m["mounts"] = slices.DeleteFunc(m["mounts"].([]any), func(e any) bool {
		return slices.Contains([]string{"/etc/resolv.conf", "/etc/hostname", "/etc/hosts"}, e.(map[string]any)["destination"].(string))
	})
	// What was not asked for is written as zero, which runtimes take for unset.
	resources := at(m, "linux", "resources")
	delete(at(resources, "memory"), "disableOOMKiller")
	for member, key := range map[string]string{"cpu": "shares", "blockIO": "weight"} {
		if at(resources, member)[key] == 0.0 {
			delete(at(resources, member), key)
		}
	}
	for _, member := range []string{"memory", "cpu", "blockIO"} {
		if len(at(resources, member)) == 0 {
			delete(resources, member)
		}
	}
	// /dev/fuse is denied by name though all that is not allowed is denied.
	resources["devices"] = slices.DeleteFunc(resources["devices"].([]any), func(e any) bool {
		rule := e.(map[string]any)
		return rule["allow"] == false && rule["major"] == 10.0 && rule["minor"] == 229.0
	})
	// Docker 26 writes the default rules twice.
	rules := resources["devices"].([]any)
	for n := len(rules) / 2; n > 0; n-- {
		if jsonText(rules[:n]) == jsonText(rules[n:2*n]) {
			resources["devices"] = rules[n:]
			break
		}
	}
	// The engine joins the host's network by a path of its own.
	linux := at(m, "linux")
	linux["namespaces"] = slices.DeleteFunc(linux["namespaces"].([]any), func(e any) bool {
		path, _ := e.(map[string]any)["path"].(string)
		return strings.HasPrefix(path, "/run/docker/netns/")
	})
	// Newer engines mask these too; this one may be older.
	linux["maskedPaths"] = slices.DeleteFunc(linux["maskedPaths"].([]any), func(e any) bool {
		return e == "/proc/interrupts" || e == "/sys/devices/virtual/powercap" || strings.HasSuffix(e.(string), "/thermal_throttle")
	})
	delete(linux, "seccomp") // compared on its own
	// The engine sorts these, or has no order of its own for them.
	for _, list := range []struct {
		in  map[string]any
		key string
	}{{m, "mounts"}, {at(m, "process"), "rlimits"}, {at(m, "process"), "env"}, {linux, "devices"}, {linux, "namespaces"},
		{at(m, "process", "capabilities"), "bounding"}, {at(m, "process", "capabilities"), "effective"}, {at(m, "process", "capabilities"), "permitted"},
		{at(m, "process", "user"), "additionalGids"}} {
		if values, ok := list.in[list.key].([]any); ok {
			slices.SortFunc(values, func(a, b any) int { return strings.Compare(jsonText(a), jsonText(b)) })
		}
	}
}

func jsonText(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// allowed lists the system calls that a profile allows in some way.
func allowed(m map[string]any) []string {
	names := map[string]bool{}
	syscalls, _ := at(m, "linux", "seccomp")["syscalls"].([]any)
	for _, rule := range syscalls {
		if r := rule.(map[string]any); r["action"] == "SCMP_ACT_ALLOW" {
			for _, name := range r["names"].([]any) {
				names[name.(string)] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// The docker template with flags is what a real engine makes of `docker run` with the same flags,
// member by member.
func TestEngine(t *testing.T) {
	e := testenv.StartDocker(t)
	stream := probeStream(t)
	image := testenv.Name()
	load := e.Docker(t.Context(), "import", "-", image)
	load.Stdin = bytes.NewReader(stream)
	testenv.Output(t, load)
	t.Cleanup(func() { _ = e.Docker(t.Context(), "rmi", "--force", image).Run() })

	dir := testenv.Dir(t)
	if err := os.WriteFile(filepath.Join(dir, "vars"), []byte("# none\nX=1\n Y=two words\nFROM_CALLER\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var plainOurs, plainTheirs []string
	for i, c := range []struct {
		flags string
		want  string // the differences that remain, with the reason behind //; those with a "?" are to some engines alone
	}{
		{flags: ""},
		{flags: "-e A=1 -e B=2,3 -e A=4 -e PATH=/bin -e FROM_CALLER -e NOT_SET"},
		{flags: "--env-file " + dir + "/vars --workdir /data"},
		{flags: "-u 1234:55", want: `
?add /process/capabilities/effective [...] // an engine before 23.0 drops these for users; the kernel does so at exec,
?add /process/capabilities/permitted [...] // for they are not ambient`},
		{flags: "-u 0:5"},
		{flags: "-u redis", want: `
?add /process/capabilities/effective [...]
?add /process/capabilities/permitted [...]`},
		{flags: "-u 999", want: `
?add /process/capabilities/effective [...]
?add /process/capabilities/permitted [...]`},
		{flags: "--group-add 77 --group-add extra"},
		{flags: "--tty"},
		{flags: "--read-only"},
		{flags: "--ipc host"},
		{flags: "--pid host"},
		{flags: "--net host"},
		{flags: "--memory 64m"},
		{flags: "--memory 64m --memory-swap 100m"},
		{flags: "--memory 1.5g --memory-swap -1", want: `add /linux/resources/memory/swap // said, not left out: a template may have had another`},
		{flags: "--cpus 1.5 --cpu-shares 512 --cpuset-cpus 0-1 --pids-limit 50"},
		{flags: "--ulimit nofile=100:200 --ulimit core=-1 --ulimit nproc=77"},
		{flags: "--shm-size 1m"},
		{flags: "--sysctl kernel.msgmax=65000 --sysctl net.ipv4.ip_forward=1"},
		{flags: "--device /dev/full --device /dev/zero:/dev/nil:r"},
		{flags: "--cap-add NET_ADMIN --cap-drop kill"},
		{flags: "--cap-drop ALL --cap-add SYS_TIME"},
		{flags: "--cap-add SYS_ADMIN --cap-add SYS_PTRACE"},
		{flags: "--security-opt seccomp=unconfined"},
		{flags: "--security-opt no-new-privileges"},
		{flags: "--oom-score-adj 500"},
		{flags: "-v /usr:/a -v /usr:/b:ro --mount type=bind,src=/usr,dst=/c,ro --mount type=bind,src=/usr,dst=/d", want: `
?replace /mounts/1/options/1 // an engine since 25.0 makes what is mounted below read-only, too (rro), which not every runtime knows
?replace /mounts/2/options/1`},
		{flags: "--tmpfs /a --tmpfs /b:size=1m,exec --mount type=tmpfs,dst=/c,tmpfs-size=1m,tmpfs-mode=1777 --mount type=tmpfs,dst=/d", want: `replace /mounts/2/options/5 // size=1m in bytes`},
	} {
		t.Run(c.flags, func(t *testing.T) {
			// The host name of the container is that of the bundle.
			name := fmt.Sprintf("h%d", i)
			common := strings.Fields(c.flags)
			flags := slices.Clone(common)
			if !slices.Contains(common, "--net") {
				flags = append(flags, "--net", "none") // the engine is without networks; the namespace is private as by default
			}
			flags = append(flags, "--hostname", name)
			t.Setenv("FROM_CALLER", "yes")
			theirs := engineConfig(t, e, image, flags...)
			bundle := filepath.Join(dir, name)
			cmd := exec.CommandContext(t.Context(), testenv.Binary(t), append(append([]string{"-o", bundle}, common...), "--", "/probe", "wait")...)
			cmd.Stdin = bytes.NewReader(stream)
			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				t.Fatalf("%v\n%s", err, out)
			}
			ours := decoded(t, read(t, filepath.Join(bundle, "config.json")))
			ourCalls, theirCalls := allowed(ours), allowed(theirs)
			if a, b := at(ours, "linux", "seccomp")["defaultAction"], at(theirs, "linux", "seccomp")["defaultAction"]; a != b {
				t.Errorf("the default action is %v, the engine's %v", a, b)
			}
			if a, b := jsonText(at(ours, "linux", "seccomp")["architectures"]), jsonText(at(theirs, "linux", "seccomp")["architectures"]); a != b {
				t.Errorf("the architectures are %v, the engine's %v", a, b)
			}
			withoutEngine(ours)
			withoutEngine(theirs)
			patch, err := specedit.Diff([]byte(jsonText(theirs)), []byte(jsonText(ours)))
			if err != nil {
				t.Fatal(err)
			}
			var ops []struct{ Op, Path string }
			if err := json.Unmarshal(patch, &ops); err != nil {
				t.Fatal(err)
			}
			var got, want, some []string
			for line := range strings.Lines(strings.TrimSpace(c.want)) {
				line, _, _ = strings.Cut(line, " //")
				line, _, _ = strings.Cut(line, " [")
				if name, ok := strings.CutPrefix(strings.TrimSpace(line), "?"); ok {
					some = append(some, name)
				} else if name != "" {
					want = append(want, name)
				}
			}
			for _, o := range ops {
				if line := o.Op + " " + o.Path; !slices.Contains(some, line) {
					got = append(got, line)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("differs from the engine's by\n%s\nwant differences at %q", patch, want)
			}
			// Profiles differ from release to release in the calls they know. What a flag adds and
			// takes must be the same among those both know.
			if c.flags == "" {
				plainOurs, plainTheirs = ourCalls, theirCalls
				if len(theirCalls) < 300 || len(ourCalls) < 300 {
					t.Errorf("%d and %d calls", len(ourCalls), len(theirCalls))
				}
				return
			}
			for _, call := range slices.Concat(plainTheirs, theirCalls) {
				known := slices.Contains(plainOurs, call) || slices.Contains(ourCalls, call)
				if !known || slices.Contains(plainOurs, call) != slices.Contains(plainTheirs, call) {
					continue
				}
				if slices.Contains(ourCalls, call) != slices.Contains(theirCalls, call) {
					t.Errorf("%s: allowed %v, by the engine %v", call, slices.Contains(ourCalls, call), slices.Contains(theirCalls, call))
				}
			}
		})
	}
}
