package specedit_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"ocibundle/specedit"
	"ocibundle/tests/testenv"
)

func accountFiles(passwd, group string) specedit.FileUsers {
	return specedit.FileUsers{Read: func(name string) ([]byte, error) {
		if name == "etc/passwd" {
			return []byte(passwd), nil
		}
		return []byte(group), nil
	}}
}

// Engines ask user.GetExecUser: what it says of a spec is right, empty halves included
// (moby/moby#22998, runc#3036).
func TestUserOracle(t *testing.T) {
	const (
		passwd = "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/:/x\ntwin:x:1000:7::/:/x\napp:x:5:5::/:/x\n\n  blank:x:12:13::/:/x  \n77:x:78:79::/:/x\n"
		group  = "root:x:0:\nwww:x:33:\nstaff:x:50:app,root\napp:x:1001:\nextra:x:1005:other,app\nstaff:x:51:app\n"
	)
	files := accountFiles(passwd, group)
	for _, spec := range []string{
		":", "1000:", "app:", ":www", ":33", ":50", ":4444", "app:staff", "1000", "1001", "1001:",
		"app", "twin", "twin:", "blank", "root", "0", "0:", "root:www", "77", "77:", "78", "2147483647", "999:extra", "+5", "nobody", "app:nogroup",
	} {
		var got, want string
		u, err := user.GetExecUser(spec, nil, strings.NewReader(passwd), strings.NewReader(group))
		if err == nil {
			want = fmt.Sprint(u.Uid, u.Gid, append([]int{}, u.Sgids...))
		}
		if u, err := files.User(spec); err == nil {
			got = fmt.Sprint(u.Uid, u.Gid, append([]int{}, u.Sgids...))
		}
		if got != want {
			t.Errorf("%q is %q, an engine has %q", spec, got, want)
		}
	}
	// Engines with a library older than this one ignore what follows a second colon.
	if u, err := files.User("app:staff:x"); err != nil || u.Uid != 1000 || u.Gid != 50 {
		t.Errorf("app:staff:x is %+v, %v", u, err)
	}
}

// No line is too long: one of more than 64 KiB hides neither itself nor what follows it.
func TestLongAccountLines(t *testing.T) {
	files := accountFiles("x:x:7:7:"+strings.Repeat("g", 70000)+":/:/bin/sh\napp:x:1000:1001::/:/bin/sh\n",
		"wide:x:1007:"+strings.Repeat("user,", 20000)+"app\nafter:x:1008:app\n")
	u, err := files.User("app")
	if err != nil || u.Uid != 1000 || !reflect.DeepEqual(u.Sgids, []int{1007, 1008}) {
		t.Errorf("%+v, %v", u, err)
	}
	if gid, err := files.Group("after"); err != nil || gid != 1008 {
		t.Errorf("%d, %v", gid, err)
	}
}

// Whoever makes the rootfs makes 16 MiB of whatever costs the most. What is allocated in all is
// held to, not the peak: it is the same number every time.
func TestHostileAccountMemory(t *testing.T) {
	testenv.Long(t)
	fill := func(line string) string { return strings.Repeat(line, (16<<20)/len(line)) }
	for _, c := range []struct {
		name, passwd, group, spec string
		fails                     bool
	}{
		{"colons", fill(":"), fill(":"), "nobody", true},
		{"colons behind a name", "a:x:0:0" + fill(":"), "a:x:0" + fill(":"), "a", false},
		{"one user a million times", fill("a:x:0:0\n"), "", "0", false},
		{"a million users", fill("a:x:1:1\n"), "", "ab", true},
		{"commas", "a:x:1:1\n", "g:x:1:" + fill(","), "a", false},
		{"a million groups", "a:x:1:1\n", fill("g:x:1:a\n"), "a", true},
		{"a million groups, one meant", "a:x:1:1\n", fill("g:x:1:a\n"), "a:g", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := accountFiles(c.passwd, c.group)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := files.User(c.spec)
			runtime.ReadMemStats(&after)
			if (err != nil) != c.fails {
				t.Errorf("%v", err)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 100<<20 {
				t.Errorf("%d MiB were allocated", used>>20)
			}
		})
	}
}

// A disk that fails is not an unknown user, and no edit's fault: not that of --user, of
// --group-add, or of the template, which asks for the groups of root.
func TestUnreadableAccounts(t *testing.T) {
	files := specedit.FileUsers{Read: func(string) ([]byte, error) { return nil, unix.EIO }}
	for name, edits := range map[string][]specedit.Edit{
		"user": {must(specedit.User("-u app", "app"))}, "group": {must(specedit.GroupAdd("--group-add app", "app"))}, "template": nil,
	} {
		p := specedit.Plan{Edits: edits}
		if name != "template" {
			p.Template = specedit.TemplateRunc
		}
		_, err := p.Build(files)
		if _, unreadable := errors.AsType[*specedit.FileError](err); !unreadable || !errors.Is(err, unix.EIO) {
			t.Errorf("%s: %v", name, err)
		}
		if _, edit := errors.AsType[*specedit.EditError](err); edit {
			t.Errorf("%s: %v is told as a wrong edit", name, err)
		}
	}
}

// A passwd that cannot be one is no reason to refuse a bundle for which no user was asked: the
// template does without root's groups, and says so.
func TestTemplateWithoutAccounts(t *testing.T) {
	files := specedit.FileUsers{Read: func(string) ([]byte, error) { return nil, errors.New("it is a FIFO") }}
	p := specedit.Plan{}
	text, err := p.Build(files)
	if err != nil || !bytes.Contains(text, []byte("additionalGids")) {
		t.Errorf("%v\n%s", err, text)
	}
	if w := p.Warnings(); len(w) != 1 || !strings.Contains(w[0], "it is a FIFO") {
		t.Errorf("%q", w)
	}
}
