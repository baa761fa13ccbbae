package specedit_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"ocibundle/specedit/jsontree"
)

// A tree made of Go values is that of the JSON which encoding/json makes of them.
func TestFromGo(t *testing.T) {
	values := []any{
		nil, true, -1, uint64(1 << 63), int8(-128), "a<b>\u2028\"\\\x00", "\xff\xfea\xc3", [2]uint{1, 2}, []byte("ab"), 1.5, 1e30, []string(nil), []any{nil, 1, "a"},
		map[string]int{"b": 1, "a": 2, "\xff": 3}, map[string]int(nil), map[int]string{2: "b", 1: "a"}, time.Unix(1, 5), []time.Time{{}}, json.RawMessage(`{"b": [1]}`),
		&specs.Spec{}, specs.Spec{Process: &specs.Process{Args: []string{}}}, struct {
			A int `json:"-"`
			B int `json:",omitempty"`
			c int
			D *int
			E any
			specs.Root
		}{c: 1},
	}
	for _, zero := range []bool{true, false} {
		spec := reflect.New(reflect.TypeFor[specs.Spec]())
		fill(spec.Elem(), zero)
		values = append(values, spec.Interface())
	}
	for _, v := range values {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		want, err := jsontree.Parse(text, "by")
		if err != nil {
			t.Fatal(err)
		}
		got, err := jsontree.FromGo(v, "by")
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("have %s, want %s", got.Compact(), want.Compact())
		}
	}
	if _, err := jsontree.FromGo([]any{func() {}}, ""); err == nil {
		t.Error("a function became JSON")
	}
}

// fill gives every member of a value a member of its own, and every scalar a value that is zero or
// is not.
func fill(v reflect.Value, zero bool) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), zero)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), zero)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(1), zero)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for _, key := range []string{"b", "a"} {
			e := reflect.New(v.Type().Elem()).Elem()
			fill(e, zero)
			v.SetMapIndex(reflect.ValueOf(key), e)
		}
	case reflect.Interface:
		v.Set(reflect.ValueOf("any"))
	case reflect.Bool:
		v.SetBool(!zero)
	case reflect.String:
		if !zero {
			v.SetString("text")
		}
	default:
		if !zero && v.CanInt() {
			v.SetInt(-1)
		} else if !zero {
			v.SetUint(1)
		}
	}
}
