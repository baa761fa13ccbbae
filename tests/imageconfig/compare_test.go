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
	// older says that only older engines differ, so that the difference need not be there.
	older bool
}

type side string

const (
	weAlone   side = "we alone have it"
	theyAlone side = "the engine alone has it"
)

// explained are the differences that any container may have.
var explained = []explanation{
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
	{"/process/capabilities/effective", "an engine before 23.0 leaves out for other users than root what execve(2) takes from them", weAlone, false},
	{"/process/capabilities/permitted", "an engine before 23.0 leaves out for other users than root what execve(2) takes from them", weAlone, false},
}

// compare holds our config against the engine's, member by member. Each difference
// must be explained, and each explanation that is for this container alone must be
// needed.
func compare(t *testing.T, engine, ours []byte, own []explanation) {
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
		} else if find(explained, pointer, at) == nil {
			t.Errorf("%s\n\tengine %s\n\tours   %s", pointer, shown(theirs, inTheirs), shown(mine, inMine))
		}
	}
	for _, e := range own {
		if !used[e.pointer] && !e.older {
			t.Errorf("no difference at %s, which is explained with: %s", e.pointer, e.why)
		}
	}
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
// array has no meaning but for mounts, which TestOrder is about.
var keys = map[string]string{
	"/mounts": "destination", "/linux/namespaces": "type", "/linux/devices": "path", "/process/rlimits": "type",
}

// sets are arrays of strings without an order.
func isSet(pointer string) bool {
	return strings.HasPrefix(pointer, "/process/capabilities/") || pointer == "/linux/maskedPaths" || pointer == "/linux/readonlyPaths"
}

// deviceRule writes a rule as one line. TestOrder is about the order of rules.
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
				slices.SortFunc(v, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
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
