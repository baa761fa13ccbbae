package jsontree

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func parsed(t *testing.T, text string) *Node {
	t.Helper()
	n, err := Parse([]byte(text), "base")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// What no edit touches comes out as it went in.
func TestParseEncode(t *testing.T) {
	for _, text := range []string{
		`{"z":1,"a":{"y":[],"x":{}},"m":[1.0,1e0,-0,100000000000000000000000.5]}`,
		`"a && b < c é \u0001"`, `null`, `[true,false,null]`, `"\""`,
	} {
		n := parsed(t, text)
		if got := n.Compact(); got != text {
			t.Errorf("%s became %s", text, got)
		}
		var indented, direct any
		if err := json.Unmarshal(n.Encode(), &indented); err != nil {
			t.Errorf("%s encoded: %v", text, err)
		}
		if err := json.Unmarshal([]byte(text), &direct); err != nil || !reflect.DeepEqual(indented, direct) {
			t.Errorf("%s encoded: %s", text, n.Encode())
		}
	}
	if got, want := string(parsed(t, `{"a":[1,{"b":2}],"c":[]}`).Encode()), "{\n\t\"a\": [\n\t\t1,\n\t\t{\n\t\t\t\"b\": 2\n\t\t}\n\t],\n\t\"c\": []\n}\n"; got != want {
		t.Errorf("encoded as\n%s", got)
	}
}

// What encoding/json would repair in silence is an error that says where.
func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "line 1, column 1: no JSON in it",
		" \n ":                    "no JSON in it",
		"{\n\"a\": 1,\n\"a\": 2}": `line 3, column 4: member "a" appears twice in one object`,
		"{\n \"a\": x}":           "line 2, column 7: invalid character 'x'",
		`{"a":1} {}`:              "more text after the JSON value",
		`{"a":`:                   "unexpected EOF",
		"\"\xff\"":                "is not valid Unicode",
		`"\ud800"`:                "is not valid Unicode",
		strings.Repeat("[", 300):  "nested more than 200 levels deep",
	} {
		if _, err := Parse([]byte(text), ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %s", text, err, want)
		}
	}
	if _, err := Parse([]byte("\xef\xbb\xbf{}"), ""); err != nil {
		t.Errorf("with a byte order mark: %v", err)
	}
}

func TestSplitPointer(t *testing.T) {
	for arg, want := range map[string][2]string{
		"/a=b":                      {"/a", "b"},
		"/a=b=c":                    {"/a", "b=c"},
		"/l/[type=network]/path=/x": {"/l/[type=network]/path", "/x"},
		"/l/[dst=/a=b/c]=x":         {"/l/[dst=/a=b/c]", "x"},
		"/l/[open=1":                {"/l/[open", "1"},
		"/a[b=c]=d":                 {"/a[b", "c]=d"},
		"=":                         {"", ""},
	} {
		pointer, value, ok := SplitPointer(arg)
		if !ok || [2]string{pointer, value} != want {
			t.Errorf("%s: %q and %q", arg, pointer, value)
		}
	}
	for _, arg := range []string{"/a", "/l/[type=network]"} {
		if pointer, _, ok := SplitPointer(arg); ok || pointer != arg {
			t.Errorf("%s has a value", arg)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"hostname", "process", "mounts", "args"}
	for name, want := range map[string]string{
		"hostnmae": "hostname", "PROCESS": "process", "mount": "mounts", "arsg": "args", "linux": "", "": "",
	} {
		if got := Nearest(name, names); got != want {
			t.Errorf("%q: %q, not %q", name, got, want)
		}
	}
	if got := Nearest("late", append(make([]string, MaxCandidates), "late")); got != "" {
		t.Errorf("candidate %d was looked at", MaxCandidates+1)
	}
}

// Every write is marked with the label at work, and parents are made on the way.
func TestTreeWrites(t *testing.T) {
	tree := &Tree{Root: parsed(t, `{"list":[{"k":"a","v":1},{"k":"b"},{"k":"a","v":2}],"s":"x"}`), By: "edit"}
	if err := tree.Put([]string{"sh"}, "process", "args"); err != nil {
		t.Fatal(err)
	}
	if err := tree.Upsert("k", map[string]any{"k": "a", "v": 3}, "list"); err != nil {
		t.Fatal(err)
	}
	if err := tree.Upsert("k", map[string]any{"k": "c"}, "list"); err != nil {
		t.Fatal(err)
	}
	tree.Drop("s")
	tree.Drop("nothing", "here")
	want := `{"list":[{"k":"a","v":3},{"k":"b"},{"k":"c"}],"process":{"args":["sh"]}}`
	if got := tree.Root.Compact(); got != want {
		t.Errorf("%s\nnot\n%s", got, want)
	}
	if by := tree.Get("process", "args").By; by != "edit" {
		t.Errorf("written by %q", by)
	}
	if by := tree.Get("list").List[1].By; by != "base" {
		t.Errorf("what was not touched is by %q", by)
	}
	if by := tree.Root.Gone["s"]; by != "edit" {
		t.Errorf("removed by %q", by)
	}
	for _, err := range []error{tree.Put(1, "list", "x"), tree.Upsert("k", map[string]any{"k": 1}, "process")} {
		if err == nil || !strings.Contains(err.Error(), "expected an") {
			t.Errorf("written into a value of another type: %v", err)
		}
	}
}

// A diff, applied, gives the other document, also where only the writing differs.
func TestDiff(t *testing.T) {
	for _, pair := range [][2]string{
		{`{"a":1,"b":2}`, `{"b":2,"c":[1]}`},
		{`[1,2,3,4]`, `[2,3,5,4]`},
		{`{"o":["a","b","c","d"]}`, `{"o":["d"]}`},
		{`{"m":[{"d":"/a","o":["ro"]},{"d":"/b"}]}`, `{"m":[{"d":"/b"},{"d":"/a","o":["rw"]}]}`},
		{`{"n":1.0}`, `{"n":1}`},
		{`{"a/b":1,"c~d":2}`, `{"a/b":2}`},
		{`{}`, `[]`},
	} {
		a, b := parsed(t, pair[0]), parsed(t, pair[1])
		ops, err := ParsePatch(Diff(a, b).Encode())
		if err != nil {
			t.Fatal(err)
		}
		tree := &Tree{Root: a.Clone("")}
		for _, o := range ops {
			if err := tree.Operate(o); err != nil {
				t.Fatalf("%s to %s: %v", pair[0], pair[1], err)
			}
		}
		if !tree.Root.Equal(b) || !sameText(tree.Root, b) {
			t.Errorf("%s to %s gave %s", pair[0], pair[1], tree.Root.Compact())
		}
		if again := Diff(b, b.Clone("")); len(again.List) != 0 {
			t.Errorf("%s differs from itself: %s", pair[1], again.Compact())
		}
	}
}

// Numbers are equal by value, without their exponent being expanded.
func TestNumbers(t *testing.T) {
	for _, same := range [][]string{{"1", "1.0", "1e0", "10e-1", "0.1E1"}, {"0", "-0", "0e9"}, {"1e999999999", "10e999999998"}, {"-2.50", "-25e-1"}} {
		for _, s := range same {
			if CanonicalNumber(s) != CanonicalNumber(same[0]) {
				t.Errorf("%s is not %s", s, same[0])
			}
		}
	}
	if CanonicalNumber("1e99999999999999999999") == CanonicalNumber("1e99999999999999999998") || CanonicalNumber("1") == CanonicalNumber("-1") {
		t.Error("different numbers are the same")
	}
}
