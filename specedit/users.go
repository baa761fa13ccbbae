package specedit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"ocibundle/specedit/jsontree"
)

// UserLookup resolves the names of users and groups as the container sees
// them. [RootUsers] is the one that reads a rootfs.
type UserLookup interface {
	// User resolves NAME|UID[:GROUP|GID] into ids and supplementary groups, as
	// `docker run --user` does.
	User(spec string) (user.ExecUser, error)
	// Group resolves the name or id of a group.
	Group(name string) (int, error)
}

// accountFileLimit bounds passwd and group: they are read whole.
const accountFileLimit = 16 << 20

// RootUsers looks names up in etc/passwd and etc/group below a rootfs, which
// is hostile: the path is resolved by the kernel with the handle as its root,
// only a regular file of reasonable size is opened, and ids are taken only
// where they are whole numbers in range. A missing file is an empty one.
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

// FileUsers looks names up in account files that come from wherever Read has
// them. What they say is as little believed as with [RootUsers].
type FileUsers struct {
	// Read gives the content of "etc/passwd" or "etc/group". A missing file,
	// fs.ErrNotExist, is an empty one.
	Read func(name string) ([]byte, error)
}

// User implements [UserLookup].
func (r FileUsers) User(spec string) (user.ExecUser, error) {
	passwd, err := r.read("etc/passwd", 4)
	if err != nil {
		return user.ExecUser{}, err
	}
	group, err := r.read("etc/group", 3)
	if err != nil {
		return user.ExecUser{}, err
	}
	u, err := user.GetExecUser(spec, nil, bytes.NewReader(passwd), bytes.NewReader(group))
	switch {
	case errors.Is(err, user.ErrNoPasswdEntries):
		name, _, _ := strings.Cut(spec, ":")
		return user.ExecUser{}, fmt.Errorf("find user %q: the rootfs has none of that name in /etc/passwd%s", name, known(passwd, name))
	case errors.Is(err, user.ErrNoGroupEntries):
		_, name, _ := strings.Cut(spec, ":")
		return user.ExecUser{}, fmt.Errorf("find group %q: the rootfs has none of that name in /etc/group%s", name, known(group, name))
	case err != nil:
		return user.ExecUser{}, fmt.Errorf("resolve user %q: %w", spec, err)
	}
	return *u, nil
}

// Group implements [UserLookup].
func (r FileUsers) Group(name string) (int, error) {
	if name == "" {
		return 0, errors.New("find a group: its name is empty")
	}
	group, err := r.read("etc/group", 3)
	if err != nil {
		return 0, err
	}
	gids, err := user.GetAdditionalGroups([]string{name}, bytes.NewReader(group))
	if err != nil || len(gids) == 0 {
		if errors.Is(err, user.ErrRange) {
			return 0, fmt.Errorf("find group %q: %w", name, err)
		}
		return 0, fmt.Errorf("find group %q: the rootfs has none of that name in /etc/group%s", name, known(group, name))
	}
	return gids[0], nil
}

// known names the entries there are, for an error about one that is not.
func known(file []byte, wanted string) string {
	var names []string
	for line := range bytes.Lines(file) {
		name, _, _ := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
		names = append(names, string(name))
	}
	if s := jsontree.Nearest(wanted, names); s != "" {
		return fmt.Sprintf(": did you mean %q?", s)
	}
	return ""
}

// read returns the well-formed lines of an account file with at least the
// given number of fields. The parser behind it takes a field that is no number
// for 0, so a line such as "redis:x:4294967296:0" would give root.
func (r FileUsers) read(name string, fields int) ([]byte, error) {
	data, err := r.Read(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read /%s of the rootfs: %w", name, err)
	}
	var clean bytes.Buffer
	s := bufio.NewScanner(bytes.NewReader(data))
	s.Buffer(nil, accountFileLimit)
	for s.Scan() {
		parts := strings.Split(s.Text(), ":")
		if len(s.Bytes()) > 60<<10 || len(parts) < fields || parts[0] == "" {
			continue
		}
		ok := true
		for _, id := range parts[2:fields] {
			// The same range as the parser's own for ids given by number.
			_, err := strconv.ParseUint(id, 10, 31)
			ok = ok && err == nil
		}
		if ok {
			clean.WriteString(s.Text())
			clean.WriteByte('\n')
		}
	}
	return clean.Bytes(), s.Err()
}

// readRegular reads a regular file below root. The first handle is O_PATH, so
// that a FIFO or a device is never opened.
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
		return nil, fmt.Errorf("it is no regular file (%s)", info.Mode().Type())
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("it has %d bytes, more than the %d that are read", info.Size(), limit)
	}
	f, err := pathrs.Reopen(handle, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("it grew beyond %d bytes while it was read", limit)
	}
	return data, err
}

// standIn answers before the rootfs exists: any name is the container's root.
type standIn struct{}

func (standIn) User(spec string) (user.ExecUser, error) {
	u := user.ExecUser{}
	name, group, _ := strings.Cut(spec, ":")
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
	name, group, grouped := strings.Cut(spec, ":")
	for _, part := range []struct {
		text string
		id   *int
	}{{name, &u.Uid}, {group, &u.Gid}} {
		id, numeric, err := number(part.text)
		if err != nil {
			return u, err
		}
		if !numeric && (part.text != "" || !grouped && part.id == &u.Uid) {
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

// number reads an id. What is no number is a name: 0, false.
func number(s string) (id int, numeric bool, err error) {
	v, err := strconv.Atoi(s)
	if errors.Is(err, strconv.ErrRange) || err == nil && (v < 0 || v > 1<<31-1) {
		return 0, true, fmt.Errorf("resolve id %s: %w", s, user.ErrRange)
	}
	return v, err == nil, nil
}
