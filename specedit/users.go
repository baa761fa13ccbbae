package specedit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"strconv"
	"strings"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"ocibundle/specedit/jsontree"
)

// UserLookup resolves the names of users and groups as the container sees them. [RootUsers] is the
// one that reads a rootfs.
type UserLookup interface {
	// User resolves NAME|UID[:GROUP|GID] into ids and supplementary groups, as `docker run --user`
	// does.
	User(spec string) (user.ExecUser, error)
	// Group resolves the name or id of a group.
	Group(name string) (int, error)
}

// accountFileLimit bounds passwd and group: they are read whole.
const accountFileLimit = 16 << 20

// RootUsers looks names up in etc/passwd and etc/group below a rootfs, which is hostile: the path
// is resolved by the kernel with the handle as its root, only a regular file of reasonable size is
// opened, and ids are taken only where they are whole numbers in range. A missing file is an empty
// one.
type RootUsers struct {
	// Root is an open handle of the rootfs directory.
	Root *os.File
}

// User implements [UserLookup].
func (r RootUsers) User(spec string) (user.ExecUser, error) { return r.files().User(spec) }

// Group implements [UserLookup].
func (r RootUsers) Group(name string) (int, error) { return r.files().Group(name) }

func (r RootUsers) files() FileUsers {
	return FileUsers{Read: func(name string) ([]byte, error) { return readRegular(r.Root, name, accountFileLimit) }}
}

// FileUsers looks names up in account files that come from wherever Read has them. What they say is
// as little believed as with [RootUsers].
type FileUsers struct {
	// Read gives the content of "etc/passwd" or "etc/group". A missing file, fs.ErrNotExist, is an
	// empty one.
	Read func(name string) ([]byte, error)
}

// FileError is an account file that could not be read though it is there. No edit is to blame for
// it.
type FileError struct {
	Name string // "etc/passwd"
	Err  error
}

func (e *FileError) Error() string { return fmt.Sprintf("read /%s of the rootfs: %v", e.Name, e.Err) }

// Unwrap gives the cause.
func (e *FileError) Unwrap() error { return e.Err }

// maxGroups is NGROUPS_MAX of Linux: setgroups(2) takes no more.
const maxGroups = 1 << 16

// User implements [UserLookup]. It reads a spec as moby's user.GetExecUser does, which is what
// engines ask: an empty half is as if it were not there. What follows a second colon is ignored, as
// by the releases of it that engines still have. That function keeps every entry that matches in
// memory, and loses what follows a line of more than 64 KiB.
func (r FileUsers) User(spec string) (user.ExecUser, error) {
	var u user.ExecUser
	name, group := userAndGroup(spec)
	uid, numeric, err := number(name)
	if err != nil {
		return u, err
	}
	u.Uid = uid // 0 for an empty name
	passwd, err := r.read("etc/passwd")
	if err != nil {
		return u, err
	}
	login := ""
	for e := range accounts(passwd, 2) {
		if numeric || name == "" {
			if e.ids[0] != uid {
				continue
			}
		} else if e.name != name {
			continue
		}
		login, u.Uid, u.Gid = e.name, e.ids[0], e.ids[1]
		break
	}
	if login == "" && name != "" && !numeric {
		return u, fmt.Errorf("find user %q: the rootfs has none of that name in /etc/passwd%s", name, known(passwd, 2, name))
	}
	if group != "" {
		u.Gid, err = r.Group(group)
		return u, err
	}
	if login == "" {
		return u, nil
	}
	groups, err := r.read("etc/group")
	if err != nil {
		return u, err
	}
	for e := range accounts(groups, 1) {
		if !e.lists(login) {
			continue
		}
		if len(u.Sgids) == maxGroups {
			return u, fmt.Errorf("find the groups of user %q: /etc/group has more than the %d that the kernel takes", login, maxGroups)
		}
		u.Sgids = append(u.Sgids, e.ids[0])
	}
	return u, nil
}

// Group implements [UserLookup].
func (r FileUsers) Group(name string) (int, error) {
	if name == "" {
		return 0, errors.New("find a group: the name is empty")
	}
	if gid, numeric, err := number(name); numeric {
		return gid, err
	}
	group, err := r.read("etc/group")
	if err != nil {
		return 0, err
	}
	for e := range accounts(group, 1) {
		if e.name == name {
			return e.ids[0], nil
		}
	}
	return 0, fmt.Errorf("find group %q: the rootfs has none of that name in /etc/group%s", name, known(group, 1, name))
}

// userAndGroup cuts the halves out of a spec; either may be empty.
func userAndGroup(spec string) (name, group string) {
	name, rest, _ := strings.Cut(spec, ":")
	group, _, _ = strings.Cut(rest, ":")
	return name, group
}

// account is a line of passwd or group.
type account struct {
	name string
	ids  [2]int // uid and gid, or gid alone
	rest []byte // what follows them
}

// lists reports whether a user is among the members of a group.
func (a account) lists(login string) bool {
	members, _, _ := bytes.Cut(a.rest, []byte(":"))
	for m := range bytes.SplitSeq(members, []byte(",")) {
		if string(m) == login {
			return true
		}
	}
	return false
}

// accounts are the well-formed lines of an account file, with the given number of ids. A field that
// is not a number in range is not taken for 0, or a line such as "redis:x:4294967296:0" would give
// root.
func accounts(file []byte, ids int) iter.Seq[account] {
	return func(yield func(account) bool) {
	lines:
		for line := range bytes.Lines(file) {
			name, rest, _ := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
			if len(name) == 0 {
				continue
			}
			_, rest, _ = bytes.Cut(rest, []byte(":")) // the password
			a := account{rest: rest}
			for i := range ids {
				var field []byte
				field, a.rest, _ = bytes.Cut(a.rest, []byte(":"))
				if len(field) > 20 {
					continue lines
				}
				id, err := strconv.ParseUint(string(field), 10, 31)
				if err != nil {
					continue lines
				}
				a.ids[i] = int(id)
			}
			a.name = string(name)
			if !yield(a) {
				return
			}
		}
	}
}

// known names the entry that was probably meant, for an error about one that is not there.
func known(file []byte, ids int, wanted string) string {
	var names []string
	for e := range accounts(file, ids) {
		names = append(names, e.name)
		if len(names) == jsontree.MaxCandidates {
			break
		}
	}
	return suggest(wanted, names)
}

func (r FileUsers) read(name string) ([]byte, error) {
	data, err := r.Read(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if errno, ok := errors.AsType[unix.Errno](err); ok && errno != unix.ELOOP {
		return nil, &FileError{Name: name, Err: err}
	}
	if err != nil {
		return nil, fmt.Errorf("read /%s of the rootfs: %w", name, err)
	}
	return data, nil
}

// readRegular reads a regular file below root. The first handle is O_PATH, so that a FIFO or a
// device is never opened.
func readRegular(root *os.File, name string, limit int64) ([]byte, error) {
	if root == nil {
		return nil, fs.ErrNotExist
	}
	handle, err := pathrs.OpenatInRoot(root, name)
	if err != nil {
		return nil, err
	}
	defer handle.Close()
	info, err := handle.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("it is not a regular file (%s)", info.Mode().Type())
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("it has %d bytes, more than the %d that are read", info.Size(), limit)
	}
	f, err := pathrs.Reopen(handle, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var data bytes.Buffer
	data.Grow(int(info.Size()) + bytes.MinRead)
	_, err = data.ReadFrom(io.LimitReader(f, limit+1))
	if err == nil && int64(data.Len()) > limit {
		err = fmt.Errorf("it grew beyond %d bytes while it was read", limit)
	}
	return data.Bytes(), err
}

// standIn answers before the rootfs exists: any name is the container's root.
type standIn struct{}

func (standIn) User(spec string) (user.ExecUser, error) {
	u := user.ExecUser{}
	name, group := userAndGroup(spec)
	var err error
	if u.Uid, _, err = number(name); err != nil {
		return u, err
	}
	u.Gid, _, err = number(group)
	return u, err
}

func (standIn) Group(name string) (int, error) {
	id, _, err := number(name)
	return id, err
}

// noRootfs answers where there is none to look in.
type noRootfs struct{}

func (noRootfs) User(spec string) (user.ExecUser, error) {
	u := user.ExecUser{}
	name, group := userAndGroup(spec)
	for _, part := range []struct {
		text string
		id   *int
	}{{name, &u.Uid}, {group, &u.Gid}} {
		id, numeric, err := number(part.text)
		if err != nil {
			return u, err
		}
		if !numeric && part.text != "" {
			return u, fmt.Errorf("resolve user %q: there is no rootfs to look the name up in, give ids", spec)
		}
		*part.id = id
	}
	return u, nil
}

func (noRootfs) Group(name string) (int, error) {
	id, numeric, err := number(name)
	if err == nil && !numeric {
		err = fmt.Errorf("resolve group %q: there is no rootfs to look the name up in, give an id", name)
	}
	return id, err
}

// number reads an id. What is not a number is a name: 0, false.
func number(s string) (id int, numeric bool, err error) {
	v, err := strconv.Atoi(s)
	if errors.Is(err, strconv.ErrRange) || err == nil && (v < 0 || v > 1<<31-1) {
		return 0, true, fmt.Errorf("resolve id %s: %w", s, user.ErrRange)
	}
	return v, err == nil, nil
}
