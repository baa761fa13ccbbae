package specedit_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"

	"ocibundle/specedit"
	"ocibundle/tests/testenv"
)

// set is a --set that must be possible to make.
func set(t *testing.T, pointer, value string) specedit.Edit {
	t.Helper()
	e, err := specedit.Set("--set "+pointer+"="+value, pointer, value)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func remove(t *testing.T, pointer string) specedit.Edit {
	t.Helper()
	e, err := specedit.Remove("--remove "+pointer, pointer)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func patch(t *testing.T, text string) specedit.Edit {
	t.Helper()
	e, err := specedit.Patch("--patch fix.json", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func must(e specedit.Edit, err error) specedit.Edit {
	if err != nil {
		panic(err)
	}
	return e
}

// What is wrong at the end is blamed on the edit that brought it in, with the pointer, what was
// found, what was wanted, and the nearest known name.
func TestBlame(t *testing.T) {
	for _, c := range []struct {
		name  string
		edits []specedit.Edit
		want  string
	}{
		{"a misspelt parent", []specedit.Edit{must(specedit.Replace("--replace /proces/args=[]", "/proces/args", "[]"))},
			"`--replace /proces/args=[]`: /proces does not exist: did you mean /process/args?"},
		{"a misspelt member", []specedit.Edit{set(t, "/process/argz", `["x"]`)},
			"`--set /process/argz=[\"x\"]`: /process/argz is not a member of the runtime specification: did you mean /process/args?"},
		{"the wrong case", []specedit.Edit{set(t, "/process/Cwd", "/x")},
			"`--set /process/Cwd=/x`: /process/Cwd is not a member of the runtime specification: did you mean /process/cwd?"},
		{"the wrong place", []specedit.Edit{set(t, "/capabilities", `{}`)},
			"`--set /capabilities={}`: /capabilities is not a member of the runtime specification: did you mean /process/capabilities?"},
		{"nothing near", []specedit.Edit{set(t, "/frobnicate", `1`)},
			"`--set /frobnicate=1`: /frobnicate is not a member of the runtime specification"},
		{"deep in a value", []specedit.Edit{set(t, "/hooks", `{"prestart":[{"path":"/x","argz":[]}]}`)},
			"`--set /hooks={\"prestart\":[{\"path\":\"/x\",\"argz\":[]}]}`: /hooks/prestart/0/argz is not a member of the runtime specification: did you mean /hooks/prestart/0/args?"},
		{"a number for a string", []specedit.Edit{set(t, "/hostname", "12")},
			"`--set /hostname=12`: /hostname is a number (12), expected a string"},
		{"a string for a number", []specedit.Edit{set(t, "/process/user/uid", "root")},
			"`--set /process/user/uid=root`: /process/user/uid is a string (\"root\"), expected a number"},
		{"a string for an array", []specedit.Edit{set(t, "/process/args", "sh")},
			"`--set /process/args=sh`: /process/args is a string (\"sh\"), expected an array"},
		{"an array for an object", []specedit.Edit{set(t, "/linux", "[]")},
			"`--set /linux=[]`: /linux is an array, expected an object"},
		{"an object for a boolean", []specedit.Edit{set(t, "/process/terminal", "{}")},
			"`--set /process/terminal={}`: /process/terminal is an object, expected true or false"},
		{"null", []specedit.Edit{set(t, "/root", "null")},
			"`--set /root=null`: /root is null, expected an object"},
		{"a negative id", []specedit.Edit{set(t, "/process/user/uid", "-1")},
			"`--set /process/user/uid=-1`: /process/user/uid is -1, expected a number from 0 to 4294967295"},
		{"an id that would wrap to 0", []specedit.Edit{set(t, "/process/user/uid", "4294967296")},
			"`--set /process/user/uid=4294967296`: /process/user/uid is 4294967296, expected a number from 0 to 4294967295"},
		{"a fraction", []specedit.Edit{set(t, "/process/user/uid", "1.5")},
			"`--set /process/user/uid=1.5`: /process/user/uid is 1.5, expected a whole number in digits"},
		{"a required member goes", []specedit.Edit{remove(t, "/process/cwd"), must(specedit.Env("--env A=1", "A=1", nil))},
			"`--remove /process/cwd`: /process/cwd is required and missing"},
		{"the version goes", []specedit.Edit{remove(t, "/ociVersion")},
			"`--remove /ociVersion`: /ociVersion is required and missing"},
		{"a required member never came", []specedit.Edit{set(t, "/mounts/-", `{"source":"x"}`)},
			"`--set /mounts/-={\"source\":\"x\"}`: /mounts/7/destination is required and missing"},
		{"the later edit is not blamed for the earlier one", []specedit.Edit{set(t, "/mounts/-", `{"source":"x"}`), set(t, "/process/cwd", "/x")},
			"`--set /mounts/-={\"source\":\"x\"}`: /mounts/7/destination is required and missing"},
		{"a selector without a match", []specedit.Edit{remove(t, "/linux/namespaces/[type=netwrk]")},
			"`--remove /linux/namespaces/[type=netwrk]`: /linux/namespaces/[type=netwrk]: no element has type \"netwrk\"; there is pid, network, ipc, uts, mount: did you mean [type=network]?"},
		{"a selector for a member that none has", []specedit.Edit{remove(t, "/linux/namespaces/[kind=network]")},
			"`--remove /linux/namespaces/[kind=network]`: /linux/namespaces/[kind=network]: no element has a member \"kind\"; there is type"},
		{"a selector with two matches", []specedit.Edit{remove(t, "/mounts/[type=tmpfs]")},
			"`--remove /mounts/[type=tmpfs]`: /mounts/[type=tmpfs] selects 2 elements: /mounts/1, /mounts/3"},
		{"an index past the end", []specedit.Edit{remove(t, "/mounts/7")},
			"`--remove /mounts/7`: /mounts/7 is past the end: the array has 7 elements"},
		{"what was removed before", []specedit.Edit{remove(t, "/hostname"), must(specedit.Replace("--replace /hostname=x", "/hostname", "x"))},
			"`--replace /hostname=x`: /hostname does not exist any more: `--remove /hostname` removed it"},
		{"an operation of a patch", []specedit.Edit{patch(t, `[{"op":"test","path":"/hostname","value":"runc"},{"op":"test","path":"/process/cwd","value":"/x"}]`)},
			"`--patch fix.json, operation 1 (test)`: /process/cwd is \"/\", not \"/x\""},
		{"a value of a patch", []specedit.Edit{patch(t, `[{"op":"add","path":"/process/cwdd","value":"x"}]`)},
			"`--patch fix.json`: /process/cwdd is not a member of the runtime specification: did you mean /process/cwd?"},
		{"a namespace of no type", []specedit.Edit{set(t, "/linux/namespaces/-", `{"type":"net"}`)},
			"`--set /linux/namespaces/-={\"type\":\"net\"}`: /linux/namespaces/5/type is \"net\", which is none of mount, pid, network, uts, ipc, user, cgroup, time"},
		{"two namespaces of a type", []specedit.Edit{set(t, "/linux/namespaces/-", `{"type":"pid"}`)},
			"`--set /linux/namespaces/-={\"type\":\"pid\"}`: /linux/namespaces/5 has the same type, \"pid\", as /linux/namespaces/0"},
		{"no command", []specedit.Edit{set(t, "/process/args", "[]")},
			"`--set /process/args=[]`: /process/args is empty: there is no command to run"},
		{"the command goes", []specedit.Edit{remove(t, "/process/args")},
			"`--remove /process/args`: /process/args is required and missing"},
		{"a variable without a name", []specedit.Edit{set(t, "/process/env/-", "=x")},
			"`--set /process/env/-==x`: /process/env/2 is \"=x\", expected NAME=VALUE"},
		{"a relative directory", []specedit.Edit{set(t, "/process/cwd", "data")},
			"`--set /process/cwd=data`: /process/cwd is \"data\", expected an absolute path"},
		{"a directory behind a descriptor", []specedit.Edit{set(t, "/process/cwd", "/proc/self/./fd/7")},
			"`--set /process/cwd=/proc/self/./fd/7`: /process/cwd is \"/proc/self/./fd/7\", which leads through a process, out of the container"},
		{"a capability of no name", []specedit.Edit{set(t, "/process/capabilities/bounding/-", "CAP_KIL")},
			"`--set /process/capabilities/bounding/-=CAP_KIL`: /process/capabilities/bounding/3 is \"CAP_KIL\", which is not a capability of capabilities(7): did you mean \"CAP_KILL\"?"},
		{"a limit of no name", []specedit.Edit{set(t, "/process/rlimits/0/type", "RLIMIT_NOFILES")},
			"`--set /process/rlimits/0/type=RLIMIT_NOFILES`: /process/rlimits/0/type is \"RLIMIT_NOFILES\", which is not a limit of getrlimit(2): did you mean \"RLIMIT_NOFILE\"?"},
		{"a soft limit above the hard one", []specedit.Edit{set(t, "/process/rlimits/0", `{"type":"RLIMIT_NOFILE","soft":2,"hard":1}`)},
			"`--set /process/rlimits/0={\"type\":\"RLIMIT_NOFILE\",\"soft\":2,\"hard\":1}`: /process/rlimits/0 has a soft limit (2) above the hard one (1)"},
		{"a version that is none", []specedit.Edit{set(t, "/ociVersion", "v1.0.0")},
			"`--set /ociVersion=v1.0.0`: /ociVersion: \"v1.0.0\" is not a version: write it as 1.0.0"},
		{"a host name without a namespace for it", []specedit.Edit{remove(t, "/linux/namespaces/[type=uts]"), must(specedit.Hostname("--hostname x", "x"))},
			"`--hostname x`: /hostname needs a uts namespace: without one it would be the host's name that changes"},
		{"swap below memory", []specedit.Edit{must(specedit.MemorySwap("--memory-swap 10m", "10m")), must(specedit.Memory("--memory 20m", "20m"))},
			"`--memory-swap 10m`: /linux/resources/memory/swap is 10485760, less than the memory limit (20971520): it counts memory and swap together"},
		{"the whole document", []specedit.Edit{set(t, "", "[]")},
			"`--set =[]`: is an array, expected an object"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &specedit.Plan{Template: specedit.TemplateRunc, Edits: c.edits}
			err := p.Check()
			e, ok := errors.AsType[*specedit.EditError](err)
			if !ok {
				t.Fatalf("error is %v, want an EditError", err)
			}
			if got := e.Error(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if _, err2 := p.Build(nil); err2 == nil || err2.Error() != err.Error() {
				t.Errorf("Build says %v", err2)
			}
		})
	}
}

// Only the final document counts: a state in between may be invalid.
func TestInvalidInBetween(t *testing.T) {
	got := build(t, specedit.Plan{Template: specedit.TemplateRunc, Edits: []specedit.Edit{
		remove(t, "/process"), remove(t, "/ociVersion"), set(t, "/root", `"x"`),
		set(t, "/process", `{"cwd":"/","args":["sh"],"user":{"uid":0,"gid":0}}`), set(t, "/ociVersion", "1.0.2"), set(t, "/root", `{"path":"rootfs"}`),
	}})
	if got["ociVersion"] != "1.0.2" {
		t.Errorf("ociVersion is %v: that of an edit wins", got["ociVersion"])
	}
}

// The hint for a string that looks like JSON.
func TestStringHint(t *testing.T) {
	err := (&specedit.Plan{Template: specedit.TemplateRunc, Edits: []specedit.Edit{set(t, "/annotations/n", "1")}}).Check()
	e, _ := errors.AsType[*specedit.EditError](err)
	if e == nil || !strings.Contains(e.Hint, `'"1"'`) {
		t.Errorf("%#v", e)
	}
}

func specDir(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/opencontainers/runtime-spec")
	cmd.Dir = testenv.ModuleRoot(t)
	return strings.TrimSpace(testenv.Output(t, cmd))
}

// The required members and the choices are those of the specification's own JSON schema, all of
// them.
func TestSchemaTables(t *testing.T) {
	types := map[string]reflect.Type{
		"config-linux.json/linux/properties/resources/properties/pids":                 reflect.TypeFor[specs.LinuxPids](),
		"config-linux.json/linux/properties/resources/properties/hugepageLimits/items": reflect.TypeFor[specs.LinuxHugepageLimit](),
		"config-linux.json/linux/properties/seccomp":                                   reflect.TypeFor[specs.LinuxSeccomp](),
		"config-schema.json":                                                           reflect.TypeFor[specs.Spec](),
		"config-schema.json/properties/root":                                           reflect.TypeFor[specs.Root](),
		"config-schema.json/properties/process":                                        reflect.TypeFor[specs.Process](),
		"config-schema.json/properties/process/properties/consoleSize":                 reflect.TypeFor[specs.Box](),
		"config-schema.json/properties/process/properties/ioPriority":                  reflect.TypeFor[specs.LinuxIOPriority](),
		"config-schema.json/properties/process/properties/ioPriority/properties/class": reflect.TypeFor[specs.IOPriorityClass](),
		"config-schema.json/properties/process/properties/scheduler":                   reflect.TypeFor[specs.Scheduler](),
		"config-schema.json/properties/process/properties/rlimits/items":               reflect.TypeFor[specs.POSIXRlimit](),
		"defs-linux.json/definitions/SyscallArg":                                       reflect.TypeFor[specs.LinuxSeccompArg](),
		"defs-linux.json/definitions/Syscall":                                          reflect.TypeFor[specs.LinuxSyscall](),
		"defs-linux.json/definitions/Device":                                           reflect.TypeFor[specs.LinuxDevice](),
		"defs-linux.json/definitions/blockIODevice":                                    reflect.TypeFor[specs.LinuxWeightDevice](),
		"defs-linux.json/definitions/DeviceCgroup":                                     reflect.TypeFor[specs.LinuxDeviceCgroup](),
		"defs-linux.json/definitions/NetworkInterfacePriority":                         reflect.TypeFor[specs.LinuxInterfacePriority](),
		"defs-linux.json/definitions/NamespaceReference":                               reflect.TypeFor[specs.LinuxNamespace](),
		"defs-linux.json/definitions/PersonalityDomain":                                reflect.TypeFor[specs.LinuxPersonalityDomain](),
		"defs-linux.json/definitions/SeccompArch":                                      reflect.TypeFor[specs.Arch](),
		"defs-linux.json/definitions/SeccompAction":                                    reflect.TypeFor[specs.LinuxSeccompAction](),
		"defs-linux.json/definitions/SeccompFlag":                                      reflect.TypeFor[specs.LinuxSeccompFlag](),
		"defs-linux.json/definitions/SeccompOperators":                                 reflect.TypeFor[specs.LinuxSeccompOperator](),
		"defs-linux.json/definitions/MemoryPolicyMode":                                 reflect.TypeFor[specs.MemoryPolicyModeType](),
		"defs-linux.json/definitions/MemoryPolicyFlag":                                 reflect.TypeFor[specs.MemoryPolicyFlagType](),
		"defs-linux.json/definitions/NamespaceType":                                    reflect.TypeFor[specs.LinuxNamespaceType](),
		"defs-linux.json/definitions/SchedulerPolicy":                                  reflect.TypeFor[specs.LinuxSchedulerPolicy](),
		"defs-linux.json/definitions/SchedulerFlag":                                    reflect.TypeFor[specs.LinuxSchedulerFlag](),
		"defs.json/definitions/Hook":                                                   reflect.TypeFor[specs.Hook](),
		"defs.json/definitions/IDMapping":                                              reflect.TypeFor[specs.LinuxIDMapping](),
		"defs.json/definitions/Mount":                                                  reflect.TypeFor[specs.Mount](),
	}
	// A plain string in the types, so not in the table of choices.
	untyped := []string{"defs-linux.json/definitions/RootfsPropagation"}
	seen := map[reflect.Type]bool{}
	for _, file := range []string{"config-schema.json", "config-linux.json", "defs.json", "defs-linux.json"} {
		text, err := os.ReadFile(filepath.Join(specDir(t), "schema", file))
		if err != nil {
			t.Fatal(err)
		}
		var schema any
		if err := json.Unmarshal(text, &schema); err != nil {
			t.Fatal(err)
		}
		var walk func(at string, v any)
		walk = func(at string, v any) {
			m, ok := v.(map[string]any)
			if !ok {
				return
			}
			for keyword, table := range map[string]map[reflect.Type][]string{"required": specedit.Required(), "enum": specedit.Choices()} {
				list, ok := m[keyword].([]any)
				if !ok || slices.Contains(untyped, at) {
					continue
				}
				var want []string
				for _, e := range list {
					want = append(want, e.(string))
				}
				typ := types[at]
				if typ == nil {
					t.Errorf("the schema has %s at %s, which no type here stands for", keyword, at)
					continue
				}
				got := slices.Clone(table[typ])
				if typ == specedit.SpecType {
					// The schema is for Windows, too, where it is optional.
					got = slices.DeleteFunc(got, func(name string) bool { return name == "root" })
				}
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Errorf("%s of %v is %q here and %q in the schema", keyword, typ, got, want)
				}
				seen[typ] = true
			}
			for k, child := range m {
				walk(at+"/"+k, child)
			}
		}
		walk(file, schema)
	}
	seen[reflect.TypeFor[specs.LinuxThrottleDevice]()] = true // blockIODevice too
	for typ := range specedit.Required() {
		if !seen[typ] {
			t.Errorf("%v has required members here and not in the schema", typ)
		}
	}
	for typ := range specedit.Choices() {
		if !seen[typ] {
			t.Errorf("%v has choices here and not in the schema", typ)
		}
	}
}

// The feature table knows the first release of every member of the types, so a newer specification
// cannot come in without it.
func TestFeatureTable(t *testing.T) {
	text, err := os.ReadFile("testdata/members.txt")
	if err != nil {
		t.Fatal(err)
	}
	first := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if version, pointer, ok := strings.Cut(strings.TrimSpace(line), " "); ok && version != "#" {
			first[pointer] = version
		}
	}
	members := 0
	var walk func(path []string, typ reflect.Type)
	walk = func(path []string, typ reflect.Type) {
		for typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		switch typ.Kind() {
		case reflect.Slice, reflect.Map:
			walk(append(slices.Clone(path), "*"), typ.Elem())
		case reflect.Struct:
			fields := reflect.VisibleFields(typ)
			names := map[string]reflect.Type{}
			for _, f := range fields {
				if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
					names[name] = f.Type
				}
			}
			for _, f := range specedit.FieldsOf(typ) {
				name := specedit.FieldName(f)
				members++
				p := append(slices.Clone(path), name)
				pointer := "/" + strings.Join(p, "/")
				want := first[pointer]
				if want == "" {
					t.Errorf("%s is in no list of members: a newer specification needs a newer list", pointer)
				} else if got := specedit.FirstVersion(p); got != want {
					t.Errorf("%s is from %s, the table says %s", pointer, want, got)
				}
				delete(first, pointer)
				if child := names[name]; child != nil && (len(path) > 0 || !slices.Contains([]string{"solaris", "windows", "vm", "zos", "freebsd"}, name)) {
					walk(p, child)
				}
			}
		}
	}
	walk(nil, specedit.SpecType)
	if members < 200 {
		t.Errorf("only %d members were met", members)
	}
	for pointer := range first {
		t.Errorf("%s was a member once and is not known here", pointer)
	}
}

// ociVersion is what the features need; a file's own is kept where it suffices.
func TestVersion(t *testing.T) {
	old := func(version string) []byte {
		return []byte(`{"ociVersion":"` + version + `","process":{"cwd":"/","args":["sh"]},"root":{"path":"rootfs"},"linux":{"namespaces":[{"type":"uts"}]}}`)
	}
	seccomp, err := (&specedit.Plan{Template: specedit.TemplateDocker}).Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		base  []byte
		edits []specedit.Edit
		want  string
	}{
		{"plain", nil, nil, "1.0.0"},
		{"1.0.0 has a cgroup namespace", nil, []specedit.Edit{set(t, "/linux/namespaces/-", `{"type":"cgroup"}`)}, "1.0.0"},
		{"a modern hook", nil, []specedit.Edit{set(t, "/hooks/createRuntime/0/path", `/x`)}, "1.0.2"},
		{"umask", nil, []specedit.Edit{set(t, "/process/user/umask", `18`)}, "1.0.2"},
		{"a log action", nil, []specedit.Edit{set(t, "/linux/seccomp", `{"defaultAction":"SCMP_ACT_LOG"}`)}, "1.0.2"},
		{"domainname", nil, []specedit.Edit{set(t, "/domainname", `x`)}, "1.1.0"},
		{"a time namespace", nil, []specedit.Edit{set(t, "/linux/namespaces/-", `{"type":"time"}`)}, "1.1.0"},
		{"the error number of a call", nil, []specedit.Edit{set(t, "/linux/seccomp", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]}`)}, "1.1.0"},
		{"the idmap option", nil, []specedit.Edit{set(t, "/mounts/0/options/-", `idmap`)}, "1.2.0"},
		{"the idmap option beside a mapping", nil, []specedit.Edit{set(t, "/mounts/0/options/-", `idmap`), set(t, "/mounts/0/uidMappings", `[]`)}, "1.1.0"},
		{"the ridmap option beside a mapping", nil, []specedit.Edit{set(t, "/mounts/0/options/-", `ridmap`), set(t, "/mounts/0/uidMappings", `[]`)}, "1.2.0"},
		{"CPU affinity", nil, []specedit.Edit{set(t, "/process/execCPUAffinity/initial", `0`), set(t, "/process/execCPUAffinity/initial", `"0"`)}, "1.2.1"},
		{"a network device", nil, []specedit.Edit{set(t, "/linux/netDevices/eth0", `{}`)}, "1.3.0"},
		{"an edit wins, downwards too", nil, []specedit.Edit{set(t, "/domainname", `x`), set(t, "/ociVersion", "1.0.0")}, "1.0.0"},
		{"an edit wins, upwards too", nil, []specedit.Edit{set(t, "/ociVersion", "1.3.0")}, "1.3.0"},
		{"a patch is an edit", nil, []specedit.Edit{patch(t, `[{"op":"replace","path":"/ociVersion","value":"1.0.1"}]`)}, "1.0.1"},
		{"a feature that went again", nil, []specedit.Edit{set(t, "/domainname", `x`), remove(t, "/domainname")}, "1.0.0"},
		{"a file's own", old("1.1.0"), nil, "1.1.0"},
		{"a file's own, with what a runtime adds", old("1.0.2-dev"), nil, "1.0.2-dev"},
		{"a file's own with build metadata", old("1.0.0+x"), nil, "1.0.0+x"},
		{"a file that gets a feature", old("1.0.0"), []specedit.Edit{set(t, "/domainname", `x`)}, "1.1.0"},
		{"a file that has more", old("1.2.0"), []specedit.Edit{set(t, "/domainname", `x`)}, "1.2.0"},
		{"a pre-release of what is needed", old("1.0.2-dev"), []specedit.Edit{set(t, "/process/user/umask", `18`)}, "1.0.2-dev"},
		{"a pre-release that is too old", old("1.0.2-dev"), []specedit.Edit{set(t, "/domainname", `x`)}, "1.1.0"},
		{"a draft", old("0.4.0"), nil, "1.0.0"},
		{"the default profile of a file", seccomp, []specedit.Edit{set(t, "/process/cwd", `/tmp`)}, "1.0.0"},
		{"a file's profile that an edit touches", seccomp, []specedit.Edit{set(t, "/linux/seccomp/defaultErrnoRet", `38`)}, "1.1.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := build(t, specedit.Plan{Base: c.base, Edits: c.edits})["ociVersion"]; got != c.want {
				t.Errorf("ociVersion is %v, want %s", got, c.want)
			}
		})
	}
}

// A config of any release is taken, members that are gone since included.
func TestOldReleases(t *testing.T) {
	base := `{"ociVersion":"1.1.0","process":{"cwd":"/","args":["sh"]},"root":{"path":"rootfs"},"linux":{"intelRdt":{"closID":"a","enableCMT":true,"enableMBM":false}}}`
	build(t, specedit.Plan{Base: []byte(base)})
	if err := (&specedit.Plan{Base: []byte(strings.Replace(base, "true", `"yes"`, 1)), BaseLabel: "--template x.json"}).Check(); err == nil || err.Error() != "`--template x.json`: /linux/intelRdt/enableCMT is a string (\"yes\"), expected true or false" {
		t.Errorf("%v", err)
	}
	for name := range specedit.Retired {
		if len(specedit.Retired[name]) == 0 {
			t.Errorf("%v", name)
		}
	}
	// The drafts before 1.0.0 had one list of capabilities and a platform.
	draft := specedit.Plan{BaseLabel: "--template old.json", Base: []byte(`{"ociVersion":"0.4.0","platform":{"os":"linux","arch":"amd64"},
		"process":{"cwd":"/","args":["sh"],"capabilities":["CAP_KILL"]},"root":{"path":"rootfs"}}`)}
	got := build(t, draft)
	want := map[string]any{"bounding": []any{"CAP_KILL"}, "effective": []any{"CAP_KILL"}, "permitted": []any{"CAP_KILL"}, "ambient": []any{"CAP_KILL"}}
	if d := differences("", want, got["process"].(map[string]any)["capabilities"]); len(d) > 0 || got["platform"] != nil {
		t.Errorf("%v %v", d, got["platform"])
	}
	if err := draft.Check(); err != nil || len(draft.Warnings()) != 2 {
		t.Errorf("%v, warnings %q", err, draft.Warnings())
	}
	// Since 1.0.0 a platform is unknown, not old.
	if err := (&specedit.Plan{Base: []byte(`{"ociVersion":"1.0.0","platform":{"os":"linux"},"process":{"cwd":"/","args":["sh"]},"root":{"path":"rootfs"}}`)}).Check(); err == nil {
		t.Error("a platform was taken")
	}
}

// What is wrong in the file itself is blamed on the file.
func TestBaseBlame(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`{"ociVersion":"1.0.0","proces":{}}`, "`--template x.json`: /proces is not a member of the runtime specification: did you mean /process?"},
		{`{"process":{"cwd":"/","args":["sh"]}}`, "`--template x.json`: /ociVersion is required and missing"},
		{`[]`, "`--template x.json`: a config is a JSON object, this is an array"},
		{`{`, "`--template x.json`: read the config: line 1, column 2: unexpected EOF"},
		{`{"ociVersion":"1.0.0","ociVersion":"1.0.0"}`, "`--template x.json`: read the config: line 1, column 35: member \"ociVersion\" appears twice in one object"},
	} {
		err := (&specedit.Plan{Base: []byte(c.text), BaseLabel: "--template x.json"}).Check()
		if err == nil || err.Error() != c.want {
			t.Errorf("%s:\ngot  %v\nwant %s", c.text, err, c.want)
		}
	}
}

// The ids of the process must be in the mapping that the config itself has.
func TestMapping(t *testing.T) {
	host := specedit.Host{Mapping: user.IdentityMapping{
		UIDMaps: []user.IDMap{{ID: 0, ParentID: 1000, Count: 1}, {ID: 1, ParentID: 100000, Count: 999}},
		GIDMaps: []user.IDMap{{ID: 0, ParentID: 1000, Count: 1}, {ID: 1, ParentID: 100000, Count: 999}},
	}}
	for _, c := range []struct {
		spec string
		want string
	}{
		{"0:0", ""}, {"999:999", ""},
		{"1000:0", "`--user 1000:0`: /process/user/uid is user id 1000, which the mapping lacks (0:1000:1 1:100000:999)"},
		{"0:1000", "`--user 0:1000`: /process/user/gid is group id 1000, which the mapping lacks (0:1000:1 1:100000:999)"},
	} {
		e, err := specedit.User("--user "+c.spec, c.spec)
		if err != nil {
			t.Fatal(err)
		}
		p := &specedit.Plan{Template: specedit.TemplateRunc, Host: host, Edits: []specedit.Edit{e}}
		err = p.Check()
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.spec, err)
			}
			continue
		}
		if err == nil || err.Error() != c.want || !errors.Is(err, specedit.ErrUnmapped) {
			t.Errorf("%s:\ngot  %v\nwant %s", c.spec, err, c.want)
		}
	}
	// A group that was added is held to it too.
	e := must(specedit.GroupAdd("--group-add 5000", "5000"))
	if err := (&specedit.Plan{Template: specedit.TemplateRunc, Host: host, Edits: []specedit.Edit{e}}).Check(); !errors.Is(err, specedit.ErrUnmapped) {
		t.Errorf("%v", err)
	}
	// A template file gets the namespace and the mapping of the ownership on disk.
	base := []byte(`{"ociVersion":"1.0.0","process":{"cwd":"/","args":["sh"]},"root":{"path":"rootfs"},"linux":{"namespaces":[{"type":"uts"}]}}`)
	linux := build(t, specedit.Plan{Base: base, Host: host})["linux"].(map[string]any)
	if len(linux["namespaces"].([]any)) != 2 || len(linux["uidMappings"].([]any)) != 2 || len(linux["gidMappings"].([]any)) != 2 {
		t.Errorf("%v", linux)
	}
}
