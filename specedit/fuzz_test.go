package specedit_test

import (
	"encoding/json"
	"testing"

	"ocibundle/specedit"
)

// Whatever is read is written again as the same value, and is JSON for others.
func FuzzDocument(f *testing.F) {
	for _, c := range patchCases {
		f.Add([]byte(c.doc), []byte(c.patch))
	}
	f.Fuzz(func(t *testing.T, doc, patch []byte) {
		out, err := specedit.ApplyPatch(doc, []byte("[]"))
		if err == nil {
			if !json.Valid(out) || !specedit.Equal(doc, out) {
				t.Fatalf("%q became %q", doc, out)
			}
			again, err := specedit.ApplyPatch(out, []byte("[]"))
			if err != nil || string(again) != string(out) {
				t.Fatalf("%q became %q (%v)", out, again, err)
			}
		}
		// Any patch applies or does not, without harm, and the same twice.
		one, err1 := specedit.ApplyPatch(doc, patch)
		two, err2 := specedit.ApplyPatch(doc, patch)
		if (err1 == nil) != (err2 == nil) || string(one) != string(two) {
			t.Fatalf("%q %v, then %q %v", one, err1, two, err2)
		}
		if err1 == nil {
			back, err := specedit.Diff(one, doc)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := specedit.ApplyPatch(one, back); err != nil || !specedit.Equal(got, doc) {
				t.Fatalf("back from %q by %q: %q %v", one, back, got, err)
			}
		}
		// As a template it is a config or an error.
		p := specedit.Plan{Base: doc, BaseLabel: "--template x"}
		if text, err := p.Build(nil); err == nil {
			again := specedit.Plan{Base: text}
			if same, err := again.Build(nil); err != nil || string(same) != string(text) {
				t.Fatalf("%s is not a config any more: %v", text, err)
			}
		}
	})
}
