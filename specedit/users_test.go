package specedit_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/specedit"
)

const passwd = `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1::/:
redis:x:999:998:Redis:/data:/usr/sbin/nologin
wraps:x:4294967296:4294967296::/:
negative:x:-1:-1::/:
words:x:zero:0::/:
hex:x:0x0:0::/:
plus:x:+5:5::/:
huge:x:2147483648:0::/:
badgroup:x:1000:wheel::/:
short:x:1000
:x:1001:1001::/:
12345:x:777:777::/:
`

const group = `# a comment
root:x:0:
daemon:x:1:redis
redis:x:998:
extra:x:5000:other,redis
wraps:x:4294967296:redis
nonsense:x:many:redis
`

func rootUsers(t *testing.T, dir string) specedit.RootUsers {
	t.Helper()
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return specedit.RootUsers{Root: root}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestRootUsers(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "etc/passwd"), passwd)
	write(t, filepath.Join(dir, "etc/group"), group)
	users := rootUsers(t, dir)
	for _, c := range []struct {
		spec string
		want string // uid:gid supplementary, or part of the error
	}{
		{"root", "0:0 []"},
		{"0", "0:0 []"},
		{"redis", "999:998 [1 5000]"},
		{"999", "999:998 [1 5000]"}, // by number the entry counts too, as for docker
		{"redis:root", "999:0 []"},
		{"redis:extra", "999:5000 []"},
		{"redis:7", "999:7 []"},
		{"4242", "4242:0 []"},
		{"4242:redis", "4242:998 []"},
		{"12345", "12345:0 []"}, // a number is an id, whatever a user is called
		{"redi", `did you mean "redis"?`},
		{"nobody", "none of that name"},
		{"redis:nogroup", "none of that name"},
		// Ids that are no number in range are never taken for 0.
		{"wraps", "none of that name"},
		{"negative", "none of that name"},
		{"words", "none of that name"},
		{"hex", "none of that name"},
		{"plus", "none of that name"},
		{"huge", "none of that name"},
		{"badgroup", "none of that name"},
		{"short", "none of that name"},
		{"redis:wraps", "none of that name"},
		{"redis:nonsense", "none of that name"},
		{"4294967296", "in range"},
		{"0:4294967296", "in range"},
		{"2147483648", "in range"},
		{"-1", "in range"},
	} {
		u, err := users.User(c.spec)
		got := fmt.Sprintf("%d:%d %v", u.Uid, u.Gid, u.Sgids)
		if err != nil {
			got = err.Error()
			if !strings.Contains(got, c.want) {
				t.Errorf("%s: %v, want %s", c.spec, err, c.want)
			}
		} else if got != c.want {
			t.Errorf("%s: %s, want %s", c.spec, got, c.want)
		}
	}
	for name, want := range map[string]int{"extra": 5000, "7": 7, "998": 998} {
		if gid, err := users.Group(name); err != nil || gid != want {
			t.Errorf("group %s: %d, %v", name, gid, err)
		}
	}
	for _, name := range []string{"wraps", "nonsense", "exta", "4294967296", "-1", ""} {
		if gid, err := users.Group(name); err == nil {
			t.Errorf("group %q is %d", name, gid)
		}
	}
}

// A rootfs whose passwd is a trap: the host's own is never read, nothing blocks, and nothing large
// is taken into memory.
func TestHostileAccounts(t *testing.T) {
	outside := t.TempDir()
	write(t, filepath.Join(outside, "passwd"), "secret:x:4711:4711::/:\n")
	lookup := func(dir string) string {
		u, err := rootUsers(t, dir).User("secret")
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(u.Uid)
	}
	for _, c := range []struct {
		name string
		make func(root string) error
		want string
	}{
		{"absolute symlink out", func(root string) error {
			return os.Symlink(filepath.Join(outside, "passwd"), filepath.Join(root, "etc/passwd"))
		}, "none of that name"},
		{"relative symlink out", func(root string) error {
			return os.Symlink(strings.Repeat("../", 40)+filepath.Join(outside, "passwd"), filepath.Join(root, "etc/passwd"))
		}, "none of that name"},
		{"etc is a symlink out", func(root string) error {
			if err := os.Remove(filepath.Join(root, "etc")); err != nil {
				return err
			}
			return os.Symlink(outside, filepath.Join(root, "etc"))
		}, "none of that name"},
		{"symlink to itself", func(root string) error { return os.Symlink("passwd", filepath.Join(root, "etc/passwd")) }, "read /etc/passwd"},
		{"symlink within", func(root string) error {
			write(t, filepath.Join(root, "usr/etc/passwd"), "secret:x:5:6::/:\n")
			return os.Symlink("/usr/etc/passwd", filepath.Join(root, "etc/passwd"))
		}, "5"},
		{"FIFO", func(root string) error { return unix.Mkfifo(filepath.Join(root, "etc/passwd"), 0o666) }, "not a regular file"},
		{"socket", func(root string) error { return unix.Mknod(filepath.Join(root, "etc/passwd"), unix.S_IFSOCK|0o666, 0) }, "not a regular file"},
		{"directory", func(root string) error { return os.Mkdir(filepath.Join(root, "etc/passwd"), 0o755) }, "not a regular file"},
		{"a process's file", func(root string) error {
			return os.Symlink("/proc/self/environ", filepath.Join(root, "etc/passwd"))
		}, "none of that name"},
		{"gigabytes", func(root string) error {
			write(t, filepath.Join(root, "etc/passwd"), "")
			return os.Truncate(filepath.Join(root, "etc/passwd"), 1<<40)
		}, "more than the"},
		{"one very long line", func(root string) error {
			write(t, filepath.Join(root, "etc/passwd"), strings.Repeat("x", 8<<20)+"\nsecret:x:5:6::/:\n")
			return nil
		}, "5"},
		{"no etc", func(root string) error { return os.Remove(filepath.Join(root, "etc")) }, "none of that name"},
		{"etc is a file", func(root string) error {
			if err := os.Remove(filepath.Join(root, "etc")); err != nil {
				return err
			}
			write(t, filepath.Join(root, "etc"), "x")
			return nil
		}, "none of that name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := c.make(root); err != nil {
				t.Fatal(err)
			}
			if got := lookup(root); !strings.Contains(got, c.want) {
				t.Errorf("%s, want %s", got, c.want)
			}
			// What the trap is: a careless reader would have gone out.
			if strings.Contains(c.name, " out") {
				if text, err := os.ReadFile(filepath.Join(root, "etc/passwd")); err != nil || !strings.HasPrefix(string(text), "secret") {
					t.Errorf("the trap does not bite: %q %v", text, err)
				}
			}
		})
	}
}

// --user puts the primary group among the supplementary ones and keeps what --group-add added; the
// rootless form sets no groups but those.
func TestUserEdit(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "etc/passwd"), passwd)
	write(t, filepath.Join(dir, "etc/group"), group)
	users := rootUsers(t, dir)
	plan := specedit.Plan{Template: specedit.TemplateRunc, Edits: []specedit.Edit{
		must(specedit.GroupAdd("--group-add extra", "extra")), must(specedit.User("-u root", "root")), must(specedit.User("-u redis", "redis")),
	}}
	// The dry pass needs no rootfs.
	if err := plan.Check(); err != nil {
		t.Fatal(err)
	}
	text, err := plan.Build(users)
	if err != nil {
		t.Fatal(err)
	}
	got := decode(t, text)["process"].(map[string]any)["user"]
	want := map[string]any{"uid": 999.0, "gid": 998.0, "additionalGids": []any{998.0, 1.0, 5000.0}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("user is %v, want %v", got, want)
	}
	// Without a rootfs a name is an error, an id is not.
	if _, err := plan.Build(nil); err == nil || !strings.Contains(err.Error(), "no rootfs") {
		t.Errorf("%v", err)
	}
	bad := specedit.Plan{Template: specedit.TemplateRunc, Edits: []specedit.Edit{must(specedit.User("-u rediss", "rediss"))}}
	if err := bad.Check(); err != nil {
		t.Error(err)
	}
	if _, err := bad.Build(users); err == nil || err.Error() != "`-u rediss`: find user \"rediss\": the rootfs has none of that name in /etc/passwd: did you mean \"redis\"?" {
		t.Errorf("%v", err)
	}
}

// TestUserOverridden names a user that the rootfs lacks, as an image's config may, and then another
// one: only the last counts.
func TestUserOverridden(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "etc/passwd"), passwd)
	edit := func(make func(label, arg string) (specedit.Edit, error), label, arg string) specedit.Edit {
		t.Helper()
		e, err := make(label, arg)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	set := func(label, arg string) (specedit.Edit, error) { return specedit.Set(label, "/process/user/uid", arg) }
	nobody := edit(specedit.User, "-u nobody", "nobody")
	for _, c := range []struct {
		name  string
		edits []specedit.Edit
		want  string // in the error; empty for none
	}{
		{"alone", []specedit.Edit{nobody}, "`-u nobody`"},
		{"a name after it", []specedit.Edit{nobody, edit(specedit.User, "-u redis", "redis")}, ""},
		{"an id after it", []specedit.Edit{nobody, edit(specedit.User, "-u 0", "0")}, ""},
		{"set after it", []specedit.Edit{nobody, edit(set, "--set /process/user/uid=5", "5")}, ""},
		{"before it", []specedit.Edit{edit(specedit.User, "-u redis", "redis"), nobody}, "`-u nobody`"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := specedit.Plan{Template: specedit.TemplateRunc, Edits: c.edits}
			if err := p.Check(); err != nil {
				t.Errorf("before there is a rootfs: %v", err)
			}
			_, err := p.Build(rootUsers(t, dir))
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("error %v, want one with %s", err, c.want)
			}
		})
	}
}
