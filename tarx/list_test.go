package tarx

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"ocibundle/tests/testenv"
)

func TestList(t *testing.T) {
	body := strings.Repeat("x", ChunkSize+7)
	stream := testenv.TarLines(t, "f a one\nd d\nl d/l ../a\nh h a\np p\nf big "+body+"\nf last z")
	var got []string
	err := List(t.Context(), bytes.NewReader(stream), func(m Member) error {
		line := fmt.Sprintf("%d %s", m.Kind, m.Name)
		if m.Link != "" {
			line += " " + m.Link
		}
		if m.Size > 0 {
			text := string(stream[m.Offset : m.Offset+m.Size])
			if text == body {
				text = "BODY"
			}
			line += " " + text
		}
		got = append(got, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"1 a one", "2 d", "3 d/l ../a", "4 h a", "0 p", "1 big BODY", "1 last z"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	stop := errors.New("stop")
	err = List(t.Context(), bytes.NewReader(stream), func(m Member) error {
		if m.Name == "h" {
			return stop
		}
		return nil
	})
	if e, ok := errors.AsType[*EntryError](err); !ok || e.Index != 4 || e.Name != "h" || !errors.Is(err, stop) {
		t.Errorf("error %v", err)
	}
	for _, cut := range []int{0, 700, len(stream) - 1024, len(stream) - 512, ChunkSize} {
		if err := List(t.Context(), bytes.NewReader(stream[:cut]), func(Member) error { return nil }); !errors.Is(err, ErrMalformed) {
			t.Errorf("cut at %d: error %v", cut, err)
		}
	}
}
