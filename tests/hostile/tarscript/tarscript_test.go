package tarscript

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
)

// An honest script must be an archive that archive/tar reads as it was meant: else the hostile ones prove nothing.
func TestHonestScriptIsReadByArchiveTar(t *testing.T) {
	long := strings.Repeat("n", 150)
	archive, err := Build(`
		dir d mode=0700 uid=7 mtime=5
		file "d/with blank" mode=04755 = "two words"
		file `+long+` = x
		file `+long+`g long=gnu = y
		sym l -> $T
		hard h => d/with" "blank
		char c dev=1:3
		file x xattr.user.k=v pax.mtime=7.5
		file s type=S gnusparse=0:1,1024:2 realsize=2048 = abc
		file big uid=4294967294 size=b256/1 = z
	`, map[string]string{"T": "../target"})
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatalf("read %q: %v", h.Name, err)
		}
		got.WriteString(strings.Join([]string{string(h.Typeflag), h.Name, h.Linkname, strings.ReplaceAll(string(body), "\x00", "")}, "|") + "\n")
		switch h.Name {
		case "d":
			if h.Mode != 0o700 || h.Uid != 7 || h.ModTime.Unix() != 5 {
				t.Errorf("d: %+v", h)
			}
		case "c":
			if h.Devmajor != 1 || h.Devminor != 3 {
				t.Errorf("c: %+v", h)
			}
		case "x":
			if h.PAXRecords["SCHILY.xattr.user.k"] != "v" || h.ModTime.Nanosecond() != 5e8 {
				t.Errorf("x: %+v", h)
			}
		case "s":
			if h.Size != 2048 || body[1024] != 'b' {
				t.Errorf("s: size %d", h.Size)
			}
		case "big":
			if h.Uid != 4294967294 {
				t.Errorf("big: uid %d", h.Uid)
			}
		}
	}
	want := "5|d||\n0|d/with blank||two words\n0|" + long + "||x\n0|" + long + "g||y\n2|l|../target|\n1|h|d/with blank|\n3|c||\n0|x||\nS|s||abc\n0|big||z\n"
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
}

func TestRecordCountsItself(t *testing.T) {
	for n := range 120 {
		record := Record("k", strings.Repeat("v", n))
		if length, _, _ := strings.Cut(record, " "); length != strconv.Itoa(len(record)) {
			t.Fatalf("record of %d bytes says %s", len(record), length)
		}
	}
}
