package extract

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"

	"ocibundle/tarx"
	"ocibundle/tests/testenv"
)

// A stream that keeps going back to directories it has left gets room for more
// of them, in a table that is large enough for all.
func TestHandleRoom(t *testing.T) {
	testenv.NeedRoot(t) // the entries are root's
	var headers []tar.Header
	for i := range growMisses {
		headers = append(headers, tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("d%d/f%d", i%(2*earlyDirs), i), Mode: 0o644,
			ModTime: testenv.SomeTime})
	}
	first, second := testenv.TarStream(t, headers...), testenv.TarStream(t, headers[:2*earlyDirs]...)
	root := testenv.OpenRoot(t)
	x, err := New(root, tarx.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	extract := func(data []byte) {
		t.Helper()
		if err := x.Extract(t.Context(), bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
	}
	extract(first)
	if x.room.grown != nil || x.dirs.room != earlyDirs {
		t.Errorf("%d misses: %d directories", x.room.misses, x.dirs.room)
	}
	extract(second)
	if x.room.grown == nil {
		t.Fatalf("%d misses: no more room was asked for", x.room.misses)
	}
	<-x.room.grown
	extract(second)
	if x.dirs.room != x.room.dirs || x.room.dirs <= earlyDirs {
		t.Errorf("there is room for %d directories; want %d", x.dirs.room, x.room.dirs)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^FDSize:\s+(\d+)$`).FindSubmatch(status)
	if m == nil {
		t.Fatal("no FDSize in /proc/self/status")
	}
	if n, _ := strconv.Atoi(string(m[1])); n < x.room.places {
		t.Errorf("the table of open files has %d places; want %d", n, x.room.places)
	}
	if _, err := x.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
}
