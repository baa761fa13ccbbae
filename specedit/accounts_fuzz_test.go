package specedit_test

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/moby/sys/user"
)

// Lines of which moby's library and this one think alike: with ids that are numbers in range.
var (
	passwdLines = regexp.MustCompile(`^([^:\s]+:[^:\s]*:\d{1,9}:\d{1,9}:[^:\s]*:[^:\s]*:[^:\s]*\n)*$`)
	groupLines  = regexp.MustCompile(`^([^:\s]+:[^:\s]*:\d{1,9}:[^:\s]*\n)*$`)
)

// Whoever wrote the account files: an id is in range, a name is one that is in them, and where they are
// well formed, engines find the same.
func FuzzAccounts(f *testing.F) {
	f.Add("app", "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/:/x\n", "staff:x:50:app,root\napp:x:1001:\n")
	f.Add("app:staff", "app:x:5:5::/:/x\napp:x:6:6::/:/x\n", "staff:x:50:\nstaff:x:51:app\n")
	f.Add("1000", "a:x:4294967296:0::/:\nb::1000:-1\n:x:1:1\n", "g:x:99999999999:a\n")
	f.Add(":", "", "\n\n:::\n")
	f.Fuzz(func(t *testing.T, spec, passwd, group string) {
		show := func(u user.ExecUser, err error) string {
			if err != nil {
				return "an error"
			}
			return fmt.Sprint(u.Uid, u.Gid, append([]int{}, u.Sgids...))
		}
		u, err := accountFiles(passwd, group).User(spec)
		if err == nil {
			for _, id := range append([]int{u.Uid, u.Gid}, u.Sgids...) {
				if id < 0 || id > math.MaxInt32 {
					t.Fatalf("%q has id %d", spec, id)
				}
			}
			name, _, _ := strings.Cut(spec, ":")
			if numeric := regexp.MustCompile(`^[+-]?\d*$`).MatchString(name); !numeric && !strings.Contains(passwd, name+":") {
				t.Fatalf("%q was found", name)
			}
		}
		plain := regexp.MustCompile(`^[a-z0-9]*(:[a-z0-9]*)?$`).MatchString(spec)
		if !plain || len(passwd)+len(group) > 60<<10 || !passwdLines.MatchString(passwd) || !groupLines.MatchString(group) {
			return
		}
		e, eerr := user.GetExecUser(spec, nil, strings.NewReader(passwd), strings.NewReader(group))
		want := user.ExecUser{}
		if eerr == nil {
			want = *e
		}
		if got, engine := show(u, err), show(want, eerr); got != engine {
			t.Fatalf("%q in %q and %q is %s (%v), an engine has %s (%v)", spec, passwd, group, got, err, engine, eerr)
		}
	})
}
