package jsontree

import (
	"fmt"
	"strings"
	"testing"
)

// Documents and patches that are small as text and large or slow as anything else.
func TestHostileDocuments(t *testing.T) {
	const document = `{"a":{"b":[1,2,3]},"list":[%s]}`
	long := fmt.Sprintf(document, strings.Repeat(`{"k":"x"},`, 20000)+`{"k":"y"}`)
	var copies []string
	for i := range 40 {
		copies = append(copies, fmt.Sprintf(`{"op":"copy","from":"","path":"/x%d"}`, i))
	}
	doubling := "[" + strings.Join(copies, ",") + "]"
	for name, c := range map[string]struct{ document, patch, want string }{
		"many values":       {fmt.Sprintf(document, strings.Repeat("0,", MaxValues)+"0"), `[]`, "more than"},
		"copies of itself":  {fmt.Sprintf(document, "0"), doubling, "copies and moves more than"},
		"a move many times": {long, "[" + strings.TrimSuffix(strings.Repeat(`{"op":"move","from":"/list","path":"/l"},{"op":"move","from":"/l","path":"/list"},`, 20), ",") + "]", "copies and moves more than"},
		"selectors":         {long, "[" + strings.TrimSuffix(strings.Repeat(`{"op":"test","path":"/list/[k=y]/k","value":"y"},`, 2000), ",") + "]", "too many operations"},
		"insertions":        {long, "[" + strings.TrimSuffix(strings.Repeat(`{"op":"add","path":"/list/0","value":0},`, 2000), ",") + "]", "too many operations"},
		"removals":          {long, "[" + strings.TrimSuffix(strings.Repeat(`{"op":"remove","path":"/list/0"},`, 2000), ",") + "]", "too many operations"},
	} {
		t.Run(name, func(t *testing.T) {
			root, err := Parse([]byte(c.document), "")
			ops, perr := ParsePatch([]byte(c.patch))
			if perr != nil {
				t.Fatal(perr)
			}
			tree := Tree{Root: root}
			for _, o := range ops {
				if err == nil {
					err = tree.Operate(o)
				}
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}
