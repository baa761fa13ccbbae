package imageconfig

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// An explanation is a difference between the engine's config and ours that is meant.
type explanation struct {
	pointer string // the pointer, or with /** at the end all that is below it
	why     string
	// oneSided says that the difference is meant only where the engine has nothing,
	// or only where we have nothing.
	oneSided side
	// some says that only some versions of the engine differ, so that the difference need
	// not be there.
	some bool
}

type side string

const (
	weAlone   side = "we alone have it"
	theyAlone side = "the engine alone has it"
)

// ofDocker are the differences that any container of docker may have.
var ofDocker = []explanation{
	{"/ociVersion", "ours is the lowest version that has every feature used", "", false},
	{"/root/path", "the engine's is its own storage", "", false},
	{"/hooks/**", "the engine's hooks connect its networks", theyAlone, false},
	{"/linux/cgroupsPath", "the runtime names a control group after the container's id", theyAlone, false},
	{"/mounts/[/etc/resolv.conf]/**", "a file of the engine's, which is gone with the container", theyAlone, false},
	{"/mounts/[/etc/hostname]/**", "a file of the engine's, which is gone with the container", theyAlone, false},
	{"/mounts/[/etc/hosts]/**", "a file of the engine's, which is gone with the container", theyAlone, false},
	{"/annotations/**", "labels, stop signal and ports as image-spec has them (conversion.md); the engine keeps them to itself", weAlone, false},
	{"/linux/resources/devices/[deny c 10:229 rwm]", "the first rule denies all devices already", theyAlone, false},
	{"/linux/seccomp/defaultErrnoRet", "1 is EPERM, which the runtime takes where an older engine says nothing", weAlone, false},
	{"/linux/seccomp/syscalls", "each engine has the profile of its time; TestSeccomp looks into it", "", false},
	{"/process/capabilities/effective/**", "an engine before 23.0 leaves out for other users than root what execve(2) takes from them", weAlone, false},
	{"/process/capabilities/permitted/**", "an engine before 23.0 leaves out for other users than root what execve(2) takes from them", weAlone, false},
}

// ofPodman are the differences that any container of podman may have.
var ofPodman = []explanation{
	{"/ociVersion", "ours is the lowest version that has every feature used", "", false},
	{"/root/path", "podman's is its own storage", "", false},
	{"/linux/cgroupsPath", "the runtime names a control group after the container's id", theyAlone, false},
	{"/mounts/[/run/.containerenv]/**", "a file of podman's, which is gone with the container", theyAlone, false},
	{"/mounts/[/run/secrets]/**", "a directory of podman's, which is gone with the container", theyAlone, false},
	{"/mounts/[/etc/resolv.conf]/**", "a file of podman's, which is gone with the container", theyAlone, false},
	{"/mounts/[/etc/hostname]/**", "a file of podman's, which is gone with the container", theyAlone, false},
	{"/mounts/[/etc/hosts]/**", "a file of podman's, which is gone with the container", theyAlone, false},
	{"/mounts/[/etc/passwd]/**", "a file of podman's, which is gone with the container", theyAlone, false},
	{"/mounts/[/dev]/options", "podman's /dev is noexec, docker's is not", "", false},
	{"/mounts/[/dev/shm]/**", "podman binds a directory of its own, which is gone with the container", "", false},
	{"/mounts/[/sys/fs/cgroup]/options", "podman says relatime and rprivate, which are the kernel's defaults", "", false},
	{"/linux/resources/devices/**", "the devices that a runtime allows anyway", weAlone, false},
	{"/linux/maskedPaths/**", "inspect does not list them: docker's stand in", "", false},
	{"/linux/readonlyPaths/**", "inspect does not list them: docker's stand in", "", false},
	{"/linux/seccomp/**", "inspect does not have the profile: docker's stands in", "", false},
	{"/linux/sysctl/net.ipv4.ping_group_range", "a default of podman's, which inspect does not list: docker's stands in", "", false},
	{"/linux/sysctl/net.ipv4.ip_unprivileged_port_start", "a default of docker's", weAlone, false},
	{"/process/user/umask", "022 is what runtimes take anyway", theyAlone, false},
	{"/process/oomScoreAdj", "0 is what runtimes take anyway", weAlone, false},
	{"/process/env", "podman sets HOME, and its order is random", "", false},
	{"/annotations/**", "podman notes there what inspect has elsewhere, and the labels are ours", "", false},
}

// compare holds our config against the engine's, member by member. Each difference
// must be explained, and each explanation that is for this container alone must be
// needed.
func compare(t *testing.T, engine, ours []byte, general, own []explanation) {
	t.Helper()
	a, b := flatten(t, engine), flatten(t, ours)
	used := map[string]bool{}
	pointers := slices.Sorted(maps.Keys(a))
	for pointer := range b {
		if _, ok := a[pointer]; !ok {
			pointers = append(pointers, pointer)
		}
	}
	slices.Sort(pointers)
	compareOrder(t, engine, ours)
	for _, pointer := range pointers {
		theirs, inTheirs := a[pointer]
		mine, inMine := b[pointer]
		if inTheirs == inMine && theirs == mine {
			continue
		}
		// The engine writes the zero value where nothing is asked for.
		if !inMine && slices.Contains([]string{"0", "false", "{}", "[]", "null"}, theirs) {
			continue
		}
		var at side
		switch {
		case !inTheirs:
			at = weAlone
		case !inMine:
			at = theyAlone
		}
		if e := find(own, pointer, at); e != nil {
			used[e.pointer] = true
		} else if find(general, pointer, at) == nil {
			t.Errorf("%s\n\tengine %s\n\tours   %s", pointer, shown(theirs, inTheirs), shown(mine, inMine))
		}
	}
	for _, e := range own {
		if !used[e.pointer] && !e.some {
			t.Errorf("no difference at %s, which is explained with: %s", e.pointer, e.why)
		}
	}
}

// compareOrder holds the order of what has one against the engine's: of two device
// rules for the same device the later counts, and a mount hides what is mounted below
// its place before it.
func compareOrder(t *testing.T, engine, ours []byte) {
	t.Helper()
	rules := func(text []byte) []string {
		var list []string
		var c struct {
			Linux struct {
				Resources struct{ Devices []map[string]any }
			}
		}
		dec := json.NewDecoder(strings.NewReader(string(text)))
		dec.UseNumber()
		if err := dec.Decode(&c); err != nil {
			t.Fatal(err)
		}
		for _, rule := range c.Linux.Resources.Devices {
			list = append(list, deviceRule(rule))
		}
		return list
	}
	theirs, mine := once(rules(engine)), rules(ours)
	theirs = slices.DeleteFunc(theirs, func(r string) bool { return !slices.Contains(mine, r) })
	mine = slices.DeleteFunc(mine, func(r string) bool { return !slices.Contains(theirs, r) })
	if !slices.Equal(theirs, mine) {
		t.Errorf("device rules in the order %q, the engine has %q", mine, theirs)
	}
	var c struct {
		Mounts []struct{ Destination string }
	}
	if err := json.Unmarshal(ours, &c); err != nil {
		t.Fatal(err)
	}
	for i, m := range c.Mounts {
		for _, earlier := range c.Mounts[:i] {
			if strings.HasPrefix(earlier.Destination, m.Destination+"/") {
				t.Errorf("the mount at %s comes after the one at %s and hides it", m.Destination, earlier.Destination)
			}
		}
	}
}

// once takes away what a list says twice at its beginning: Docker 26 writes the default
// rules two times.
func once(list []string) []string {
	for n := len(list) / 2; n > 0; n-- {
		if slices.Equal(list[:n], list[n:2*n]) {
			return list[n:]
		}
	}
	return list
}

func shown(s string, ok bool) string {
	if !ok {
		return "(nothing)"
	}
	return s[:min(len(s), 200)]
}

func find(list []explanation, pointer string, at side) *explanation {
	for i, e := range list {
		above, below := strings.CutSuffix(e.pointer, "**")
		if (e.oneSided == "" || e.oneSided == at) && (pointer == e.pointer || below && strings.HasPrefix(pointer, above)) {
			return &list[i]
		}
	}
	return nil
}

// keys are the members that tell the elements of an array apart; the order of such an
// array has no meaning, or is compareOrder's concern.
var keys = map[string]string{
	"/mounts": "destination", "/linux/namespaces": "type", "/linux/devices": "path", "/process/rlimits": "type",
}

// isSet tells arrays of plain values without an order. Engines have the additional
// groups in a map, and in another order at each start.
func isSet(pointer string) bool {
	return strings.HasPrefix(pointer, "/process/capabilities/") || pointer == "/process/user/additionalGids" || pointer == "/linux/maskedPaths" || pointer == "/linux/readonlyPaths"
}

// deviceRule writes a rule as one line.
func deviceRule(m map[string]any) string {
	number := func(name string) any {
		if m[name] == nil || fmt.Sprint(m[name]) == "-1" {
			return "*"
		}
		return m[name]
	}
	verb, kind := "deny", m["type"]
	if m["allow"] == true {
		verb = "allow"
	}
	if kind == nil {
		kind = "a"
	}
	return fmt.Sprintf("%s %v %v:%v %v", verb, kind, number("major"), number("minor"), m["access"])
}

// flatten maps the pointer of every value that has none below it to its JSON text.
func flatten(t *testing.T, text []byte) map[string]string {
	t.Helper()
	var root any
	dec := json.NewDecoder(strings.NewReader(string(text)))
	dec.UseNumber()
	if err := dec.Decode(&root); err != nil {
		t.Fatal(err)
	}
	flat := map[string]string{}
	var walk func(pointer string, v any)
	walk = func(pointer string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, member := range v {
				walk(pointer+"/"+name, member)
			}
			if len(v) > 0 {
				return
			}
		case []any:
			if isSet(pointer) {
				for _, e := range v {
					flat[fmt.Sprintf("%s/[%s]", pointer, e)] = "true"
				}
				return
			}
			if pointer == "/linux/resources/devices" {
				for _, e := range v {
					flat[pointer+"/["+deviceRule(e.(map[string]any))+"]"] = "true"
				}
				return
			}
			if key := keys[pointer]; key != "" {
				for _, e := range v {
					walk(fmt.Sprintf("%s/[%s]", pointer, e.(map[string]any)[key]), e)
				}
				return
			}
			// The filter is long, and the order of its rules matters: its parts one by one.
			if len(v) > 0 && pointer != "/linux/seccomp/syscalls" {
				if _, ok := v[0].(map[string]any); ok {
					for i, e := range v {
						walk(fmt.Sprintf("%s/%d", pointer, i), e)
					}
					return
				}
			}
		}
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		flat[pointer] = string(data)
	}
	walk("", root)
	return flat
}
