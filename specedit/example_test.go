package specedit_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"

	"github.com/opencontainers/runtime-spec/specs-go"

	"ocibundle/specedit"
)

// A plan is a base and edits in order. Check says what is wrong with them before there is a rootfs,
// Build makes the text of config.json.
func ExamplePlan() {
	env, err := specedit.Env("--env LANG=C.UTF-8", "LANG=C.UTF-8", nil)
	if err != nil {
		log.Fatal(err)
	}
	team, err := specedit.Set("--set /annotations/team=storage", "/annotations/team", "storage")
	if err != nil {
		log.Fatal(err)
	}
	plan := specedit.Plan{
		Template: specedit.TemplateRunc,
		Edits:    []specedit.Edit{env, team, specedit.Args([]string{"redis-server", "--bind", "0.0.0.0"})},
	}
	if err := plan.Check(); err != nil {
		log.Fatal(err)
	}
	text, err := plan.Build(nil)
	if err != nil {
		log.Fatal(err)
	}
	var spec specs.Spec
	if err := json.Unmarshal(text, &spec); err != nil {
		log.Fatal(err)
	}
	fmt.Println(spec.Process.Args, spec.Annotations)
	// Output: [redis-server --bind 0.0.0.0] map[team:storage]
}

// Only the end of all edits is checked, and what is wrong with it is blamed on the edit that
// brought it in, in the words of whoever typed it.
func ExamplePlan_Check() {
	typo, err := specedit.Set("--set /process/argz=sh", "/process/argz", "sh")
	if err != nil {
		log.Fatal(err)
	}
	plan := specedit.Plan{Edits: []specedit.Edit{typo}}
	var wrong *specedit.EditError
	if errors.As(plan.Check(), &wrong) {
		fmt.Println(wrong.Label)
	}
	// Output: --set /process/argz=sh
}

// Diff makes a patch of an edit by hand, which Patch takes.
func ExampleDiff() {
	patch, err := specedit.Diff(
		[]byte(`{"ociVersion": "1.0.0", "hostname": "old"}`),
		[]byte(`{"ociVersion": "1.0.0", "hostname": "new"}`))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(patch))
	// Output:
	// [
	// 	{
	// 		"op": "replace",
	// 		"path": "/hostname",
	// 		"value": "new"
	// 	}
	// ]
}
