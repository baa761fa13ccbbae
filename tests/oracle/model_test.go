package oracle

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"ocibundle/tests/hostile/tarscript"
)

// model is a filesystem in memory to which entries are applied one after the other: what "the outcome is that of the serial
// order" means, without a kernel or a goroutine in it.
type model struct {
	root   *inode
	newest stamp
	seen   bool
}

// stamp is a time in seconds and nanoseconds, the latter counted forwards also before 1970.
type stamp struct{ sec, nsec int64 }

func (t stamp) after(u stamp) bool { return t.sec > u.sec || t.sec == u.sec && t.nsec > u.nsec }

func (t stamp) String() string {
	if t.nsec == 0 {
		return fmt.Sprint(t.sec)
	}
	return strings.TrimRight(fmt.Sprintf("%d.%09d", t.sec, t.nsec), "0")
}

type inode struct {
	verb, mode, owner, target, device string
	mtime                             stamp
	content                           []byte
	xattrs                            map[string]string
	children                          map[string]*inode
	implied                           bool
}

func newModel() *model { return &model{root: impliedDir()} }

func impliedDir() *inode {
	return &inode{verb: "dir", mode: "0755", owner: "0:0", children: map[string]*inode{}, implied: true}
}

// generated is an entry as the generator thinks of it.
type generated struct {
	tarscript.Entry
	inode
}

var errModel = errors.New("the model has no place for it")

// parent resolves all of a name but its last component, within the root. What is missing of the name itself is made, if create
// is set; what a symlink lacks is not.
func (m *model) parent(name string, create bool) (*inode, string, error) {
	type step struct {
		part string
		own  bool
	}
	var todo []step
	for part := range strings.SplitSeq(name, "/") {
		todo = append(todo, step{part, true})
	}
	base := todo[len(todo)-1].part
	todo = todo[:len(todo)-1]
	stack := []*inode{m.root}
	for followed := 0; len(todo) > 0; {
		part, own := todo[0].part, todo[0].own
		todo = todo[1:]
		here := stack[len(stack)-1]
		switch next := here.children[part]; {
		case part == "" || part == ".":
		case part == "..":
			stack = stack[:max(1, len(stack)-1)]
		case next == nil && create && own:
			next = impliedDir()
			here.children[part] = next
			stack = append(stack, next)
		case next == nil:
			return nil, "", errModel
		case next.verb == "sym":
			if followed++; followed > 39 {
				return nil, "", errModel
			}
			if strings.HasPrefix(next.target, "/") {
				stack = stack[:1]
			}
			var steps []step
			for part := range strings.SplitSeq(next.target, "/") {
				steps = append(steps, step{part, false})
			}
			todo = slices.Concat(steps, todo)
		case next.verb == "dir":
			stack = append(stack, next)
		default:
			return nil, "", errModel
		}
	}
	return stack[len(stack)-1], base, nil
}

// apply does what an entry says, or changes nothing and says why it cannot.
func (m *model) apply(g *generated) error {
	var target *inode
	if g.Verb == "hard" {
		from, name, err := m.parent(g.Target, false)
		if err != nil {
			return err
		}
		if target = from.children[name]; target == nil || target.verb == "dir" {
			return errModel
		}
	}
	dir, base, err := m.parent(g.Name, true)
	if err != nil {
		return err
	}
	old := dir.children[base]
	n := g.inode
	switch {
	case g.Verb == "hard":
		if old != nil && old.verb == "dir" && contains(old, target) {
			return errModel
		}
		dir.children[base] = target
	case g.Verb == "dir" && old != nil && old.verb == "dir":
		// As with go-archive and GNU tar, the directory is the same one: attributes join those it has.
		n.children, n.xattrs = old.children, merge(old.xattrs, n.xattrs)
		*old = n
	default:
		if g.Verb == "dir" {
			n.children = map[string]*inode{}
		}
		dir.children[base] = &n
	}
	if !m.seen || n.mtime.after(m.newest) {
		m.newest, m.seen = n.mtime, true
	}
	return nil
}

func merge(a, b map[string]string) map[string]string {
	all := map[string]string{}
	maps.Copy(all, a)
	maps.Copy(all, b)
	return all
}

// contains reports whether target can be reached below a directory: the link would go with what it replaces.
func contains(dir, target *inode) bool {
	for _, child := range dir.children {
		if child == target || child.verb == "dir" && contains(child, target) {
			return true
		}
	}
	return false
}

// view is the model as a tree is looked at.
func (m *model) view() view {
	v := view{}
	names := map[*inode][]string{}
	var walk func(path string, n *inode)
	walk = func(path string, n *inode) {
		if n.verb != "dir" {
			names[n] = append(names[n], path)
		}
		p := map[string]string{"type": n.verb, "mode": n.mode, "owner": n.owner, "mtime": n.mtime.String(), "target": n.target, "links": ""}
		if n.implied {
			p["mtime"] = m.newest.String()
		}
		if n.verb == "sym" {
			p["mode"] = "0777"
		}
		if n.verb == "file" {
			p["size"] = fmt.Sprint(len(n.content))
			p["content"] = fmt.Sprintf("%x", sum(n.content))
		}
		if n.device != "" {
			p["device"] = n.device
		}
		for name, value := range n.xattrs {
			p["xattr "+name] = fmt.Sprintf("%q", value)
		}
		v[path] = p
		for name, child := range n.children {
			below := path + "/" + name
			if path == "." {
				below = name
			}
			walk(below, child)
		}
	}
	walk(".", m.root)
	for _, paths := range names {
		slices.Sort(paths)
		if len(paths) > 1 {
			for _, p := range paths {
				v[p]["links"] = strings.Join(paths, " ")
			}
		}
	}
	return v
}

func sum(content []byte) []byte {
	s := sha256.Sum256(content)
	return s[:8]
}
