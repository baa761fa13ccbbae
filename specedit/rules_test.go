package specedit_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ocibundle/specedit"
)

// The specification's own test vectors of configs: what its schema takes is taken, what it refuses
// is refused. Those of the features and state documents are about no config.
func TestSpecificationVectors(t *testing.T) {
	exceptions := map[string]string{
		"good/freebsd-example.json":     "its host name is a jail's; on Linux it would be the host's that changes",
		"good/zos-example.json":         "likewise",
		"good/spec-example.json":        "/linux/resources/oomScoreAdj was never a member; the schema takes misspelt names, and we do not",
		"bad/freebsd-vnet-disable.json": "sections of other systems are checked for types and names only",
	}
	for _, verdict := range []string{"good", "bad"} {
		files, err := filepath.Glob(filepath.Join(specDir(t), "schema/test/config", verdict, "*.json"))
		if err != nil || len(files) < 5 {
			t.Fatalf("%d %s vectors, %v", len(files), verdict, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			name := verdict + "/" + filepath.Base(file)
			err = (&specedit.Plan{Base: text}).Check()
			_, except := exceptions[name]
			delete(exceptions, name)
			if agrees := (err == nil) == (verdict == "good"); agrees == except {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for name := range exceptions {
		t.Errorf("there is no %s any more", name)
	}
}

// What config.md and the schema demand beyond the types.
func TestRules(t *testing.T) {
	for _, c := range []struct{ pointer, bad, good, want string }{
		{"/linux/resources/hugepageLimits", `[{"pageSize":"64kB","limit":1}]`, `[{"pageSize":"64KB","limit":1}]`, "expected a size such as"},
		{"/linux/resources/hugepageLimits", `[{"pageSize":"0MB","limit":1}]`, `[{"pageSize":"2MB","limit":1}]`, "expected a size such as"},
		{"/linux/resources/hugepageLimits", `[{"pageSize":"1GMB","limit":1}]`, `[{"pageSize":"1GB","limit":1}]`, "expected a size such as"},
		{"/linux/resources/hugepageLimits", `[{"pageSize":"","limit":1}]`, `[]`, "expected a size such as"},
		{"/linux/seccomp/syscalls", `[{"names":[],"action":"SCMP_ACT_ERRNO"}]`, `[{"names":["a"],"action":"SCMP_ACT_ERRNO"}]`, "expected the name of a system call"},
		{"/linux/seccomp/syscalls", `[{"names":["a",""],"action":"SCMP_ACT_ERRNO"}]`, `[]`, "expected the name of a system call"},
		{"/linux/intelRdt/memBwSchema", "L3:0=1", "MB:0=1", "begins with MB:"},
		{"/process/execCPUAffinity/initial", "all", "0-3,7", "expected a list of CPUs"},
		{"/linux/rootfsPropagation", "up", "rslave", "is none of"},
		{"/linux/maskedPaths", `["proc"]`, `["/proc/x"]`, "expected an absolute path"},
		{"/linux/readonlyPaths", `["proc"]`, `["/proc/x"]`, "expected an absolute path"},
		{"/linux/namespaces/0", `{"type":"pid","path":"x"}`, `{"type":"pid","path":"/x"}`, "expected an absolute path"},
		{"/linux/devices", `[{"path":"x","type":"p"}]`, `[{"path":"/x","type":"p"}]`, "expected an absolute path"},
		{"/linux/devices", `[{"path":"/x","type":"pipe"}]`, `[]`, "expected one of c, b, u, p"},
		{"/hooks/poststop", `[{"path":"x"}]`, `[{"path":"/x","timeout":1}]`, "expected an absolute path"},
		{"/hooks/poststop", `[{"path":"/x","timeout":0}]`, `[]`, "expected 1 or more"},
		{"/annotations", `{"":"x"}`, `{"x":""}`, "without a name"},
		{"/process/cwd", "/proc/self/cwd", "/proc/selfish/cwd", "leads through a process"},
		{"/process/cwd", "/proc/thread-self/root/x", "/proc", "leads through a process"},
		{"/process/cwd", "/proc/1/task/2/fd/3", "/proc/1/task", "leads through a process"},
		{"/process/cwd", "//dev/./fd", "/dev/fd0", "leads through a process"},
	} {
		for _, value := range []string{c.bad, c.good} {
			p := specedit.Plan{Template: specedit.TemplateRunc, Edits: []specedit.Edit{must(specedit.Set("--set "+c.pointer, "/linux/seccomp/defaultAction", "SCMP_ACT_ALLOW")), must(specedit.Set("--set", c.pointer, value))}}
			err := p.Check()
			if value == c.good && err != nil || value == c.bad && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s=%s: %v", c.pointer, value, err)
			}
		}
	}
	p := specedit.Plan{Edits: []specedit.Edit{remove(t, "/root")}}
	if err := p.Check(); err == nil || err.Error() != "`--remove /root`: /root is required and missing" {
		t.Errorf("%v", err)
	}
}
