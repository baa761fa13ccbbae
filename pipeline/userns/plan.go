package userns

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/moby/sys/user"
)

// caller is everything the choice of a mapping depends on. Ids are those of the namespace this process runs in.
type caller struct {
	uid, gid         int64
	name             string    // for messages
	subUIDs, subGIDs []idRange // its ranges, in file order
	uids, gids       []idRange // the ids that exist here: all, unless we run in a user namespace
	bounded          bool      // we run in a user namespace that lacks some ids
	newuidmap        string    // path; empty: not found
	newgidmap        string
}

func gather() (caller, error) {
	c := caller{uid: int64(os.Geteuid()), gid: int64(os.Getegid())}
	owners := []string{strconv.FormatInt(c.uid, 10)}
	c.name = "uid " + owners[0]
	// A name service other than files is not asked: that takes cgo. $USER serves users who are not in /etc/passwd, and
	// is safe to believe: newuidmap checks for itself.
	entries, err := user.ParsePasswdFileFilter("/etc/passwd", func(u user.User) bool { return int64(u.Uid) == c.uid })
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return caller{}, fmt.Errorf("read password file: %w", err)
	}
	for _, e := range entries {
		owners = append(owners, e.Name)
	}
	if len(entries) == 0 && os.Getenv("USER") != "" {
		owners = append(owners, os.Getenv("USER"))
	}
	if len(owners) > 1 {
		c.name = owners[1]
	}
	if c.subUIDs, err = readSubIDs(subuidFile, owners); err != nil {
		return caller{}, err
	}
	if c.subGIDs, err = readSubIDs(subgidFile, owners); err != nil {
		return caller{}, err
	}
	if c.uids, err = readMapped("/proc/self/uid_map"); err != nil {
		return caller{}, err
	}
	if c.gids, err = readMapped("/proc/self/gid_map"); err != nil {
		return caller{}, err
	}
	all := idRange{0, maxID + 1}
	c.bounded = len(subtract(all, c.uids)) > 0 || len(subtract(all, c.gids)) > 0
	c.newuidmap, c.newgidmap = helper("newuidmap"), helper("newgidmap")
	return c, nil
}

// helper finds a program in PATH; empty: not found. One in a directory that PATH does not name in full may be anybody's
// (os/exec.ErrDot).
func helper(name string) string {
	path, err := exec.LookPath(name)
	if err != nil || !filepath.IsAbs(path) {
		return ""
	}
	return path
}

const (
	subuidFile = "/etc/subuid"
	subgidFile = "/etc/subgid"
)

func readSubIDs(path string, owners []string) ([]idRange, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read subordinate ids: %w", err)
	}
	defer f.Close()
	ranges, err := parseSubIDs(f, owners)
	if err != nil {
		return nil, fmt.Errorf("read subordinate ids %s: %w", path, err)
	}
	return ranges, nil
}

// readMapped reads the ids that exist in the namespace of a file like /proc/self/uid_map.
func readMapped(path string) ([]idRange, error) {
	maps, err := user.ParseIDMapFile(path)
	if errors.Is(err, os.ErrNotExist) { // a kernel without user namespaces
		return []idRange{{0, maxID + 1}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read id map: %w", err)
	}
	out := make([]idRange, len(maps))
	for i, m := range maps {
		out[i] = idRange{m.ID, m.Count}
	}
	return out, nil
}

func total(ranges []idRange) (n int64) {
	for _, r := range ranges {
		n += r.Count
	}
	return n
}

// attempt is one way to do what was asked; decide lists them from best to worst.
type attempt struct {
	state State
	lost  string // what is lost this way, for a note
}

func (a attempt) note(failed error) []string {
	if a.lost == "" {
		return nil
	}
	return []string{a.lost + ": " + failed.Error()}
}

// decide chooses the mapping. Where several attempts are returned, the next one is for when the kernel or a helper
// refuses the one before.
func decide(c caller, r Request) ([]attempt, error) {
	mode := c.mode(r)
	if c.uid != 0 {
		return c.asUser(mode, r)
	}
	s, err := c.asRoot(mode, r)
	if err != nil {
		return nil, err
	}
	return []attempt{{state: withCapRoot(s)}}, nil
}

// asRoot is the State of root, who needs neither a helper nor a namespace to write any id that exists here.
func (c caller) asRoot(mode Mode, r Request) (s State, err error) {
	s.Mode = mode
	switch mode {
	case ModeWidest:
	case ModeNone:
		if c.bounded {
			s.Disk = user.IdentityMapping{UIDMaps: identity(c.uids), GIDMaps: identity(c.gids)}
		}
		return s, nil
	case ModeSelf:
		s.Host = c.own()
	case ModeSubid:
		err = c.noRange()
		s.Host, s.Notes = c.wide()
	case ModeExplicit:
		if s.Host, err = r.maps(); err == nil {
			err = checkWithin("uid", s.Host.UIDMaps, c.uids, "mapped in this user namespace")
		}
		if err == nil {
			err = checkWithin("gid", s.Host.GIDMaps, c.gids, "mapped in this user namespace")
		}
	default:
		err = fmt.Errorf("unknown ownership mode %q", mode)
	}
	s.Disk = s.Host // as the caller sees them
	return s, err
}

// asUser lists the attempts of an ordinary user, who writes other ids than its own only in a namespace.
func (c caller) asUser(mode Mode, r Request) ([]attempt, error) {
	switch mode {
	case ModeNone:
		return nil, &Error{Kind: KindNeedsRoot}
	case ModeWidest:
		attempts, err := c.best(mode, user.IdentityMapping{}, "")
		if err == nil {
			c.noteOwn(attempts)
		}
		return attempts, err
	case ModeSelf:
		return c.best(mode, c.own(), "no user namespace, so file capabilities cannot be kept")
	case ModeSubid:
		if err := c.missing(); err != nil {
			return nil, err
		}
		wide, _ := c.wide()
		return c.inside(mode, wide, wide)
	case ModeExplicit:
		host, err := r.maps()
		if err != nil {
			return nil, err
		}
		return c.explicit(host)
	}
	return nil, fmt.Errorf("unknown ownership mode %q", mode)
}

// inside is a State in a namespace with the ids ns.
func (c caller) inside(mode Mode, host, ns user.IdentityMapping) ([]attempt, error) {
	_, notes := c.wide()
	s := State{Mode: mode, InNamespace: true, Host: host, Namespace: ns, Notes: notes}
	var err error
	s.Disk, err = s.ToDisk(host)
	return []attempt{{state: withCapRoot(s)}}, err
}

// best lists what serves a caller who can do without a namespace, widest first.
func (c caller) best(mode Mode, host user.IdentityMapping, lost string) (out []attempt, err error) {
	wide, _ := c.wide()
	namespaces := []user.IdentityMapping{wide, c.own()}
	if c.missing() != nil {
		namespaces = namespaces[1:]
	}
	for _, ns := range namespaces {
		a, err := c.inside(mode, host, ns)
		if err != nil {
			return nil, err
		}
		out = append(out, a...)
	}
	return append(out, attempt{withCapRoot(State{Mode: mode, Host: host, Disk: host}), lost}), nil
}

// noteOwn has the attempts that lack the caller's subordinate ids say why: all of them, or those behind the first.
func (c caller) noteOwn(attempts []attempt) {
	const lost = "the subordinate ids of the user are not there"
	missing := c.missing()
	for i := range attempts {
		switch a := &attempts[i]; {
		case missing != nil:
			a.state.Notes = append(a.state.Notes, attempt{lost: lost}.note(missing)...)
		case i > 0:
			a.lost = lost
		}
	}
}

// mode is the one that r asks for, auto resolved.
func (c caller) mode(r Request) Mode {
	switch {
	case r.Mode != "" && r.Mode != ModeAuto:
		return r.Mode
	case c.uid == 0 && total(c.uids) > 1 && total(c.gids) > 1:
		return ModeNone
	case c.uid == 0 || c.missing() != nil:
		return ModeSelf
	}
	return ModeSubid
}

// own is the mapping of one id each: the caller's.
func (c caller) own() user.IdentityMapping {
	return user.IdentityMapping{
		UIDMaps: []user.IDMap{{ID: 0, ParentID: c.uid, Count: 1}},
		GIDMaps: []user.IDMap{{ID: 0, ParentID: c.gid, Count: 1}},
	}
}

// maps is an explicit mapping, as far as it can be wrong by itself.
func (r Request) maps() (user.IdentityMapping, error) {
	host := user.IdentityMapping{UIDMaps: r.UIDMap, GIDMaps: r.GIDMap}
	// The one that was given is named in errors, so it is looked at first.
	if len(r.UIDMap) == 0 && len(r.GIDMap) > 0 {
		if err := checkMaps("gid", r.GIDMap); err != nil {
			return host, err
		}
		host.UIDMaps = r.GIDMap
	}
	if err := checkMaps("uid", host.UIDMaps); err != nil {
		return host, err
	}
	if len(host.GIDMaps) == 0 {
		host.GIDMaps = host.UIDMaps
	}
	return host, checkMaps("gid", host.GIDMaps)
}

// headers is the State of ids that are written into headers and not to a disk.
func headers(c caller, r Request) (State, error) {
	s := State{Mode: c.mode(r)}
	var err error
	switch s.Mode {
	case ModeNone:
	case ModeSelf:
		s.Host = c.own()
	case ModeSubid:
		err = c.noRange()
		s.Host, s.Notes = c.wide()
	case ModeExplicit:
		s.Host, err = r.maps()
	default:
		err = fmt.Errorf("unknown ownership mode %q", s.Mode)
	}
	s.Disk = s.Host
	return withCapRoot(s), err
}

// explicit is ModeExplicit for an ordinary user: its own id needs no range and no helper, everything else does.
func (c caller) explicit(host user.IdentityMapping) ([]attempt, error) {
	ns, _ := c.wide()
	missing := c.missing()
	if missing != nil {
		ns = c.own()
	}
	err := checkWithin("uid", host.UIDMaps, parents(ns.UIDMaps), c.name+"'s own id or in its range in "+subuidFile)
	if err == nil {
		err = checkWithin("gid", host.GIDMaps, parents(ns.GIDMaps), c.name+"'s own id or in its range in "+subgidFile)
	}
	if err != nil {
		return nil, cmp.Or(missing, err) // the cause, rather than what follows from it
	}
	return c.inside(ModeExplicit, host, ns)
}

// wide is the largest mapping that the caller's ranges make.
func (c caller) wide() (user.IdentityMapping, []string) {
	uids, droppedUIDs := widest(c.uid, c.subUIDs, c.uids)
	gids, droppedGIDs := widest(c.gid, c.subGIDs, c.gids)
	var notes []string
	if droppedUIDs > 0 {
		notes = append(notes, fmt.Sprintf("%d ids of the ranges in %s are not used: the kernel takes no longer map", droppedUIDs, subuidFile))
	}
	if droppedGIDs > 0 {
		notes = append(notes, fmt.Sprintf("%d ids of the ranges in %s are not used: the kernel takes no longer map", droppedGIDs, subgidFile))
	}
	return user.IdentityMapping{UIDMaps: uids, GIDMaps: gids}, notes
}

// missing says what an ordinary user lacks for a mapping of more than its own ids.
func (c caller) missing() error {
	if err := c.noRange(); err != nil {
		return err
	}
	if c.newuidmap == "" {
		return &Error{Kind: KindNoHelper, Subject: "newuidmap"}
	}
	if c.newgidmap == "" {
		return &Error{Kind: KindNoHelper, Subject: "newgidmap"}
	}
	return nil
}

// noRange says which of the two files has no ids for the caller, other than its own and those that do not exist here.
func (c caller) noRange() error {
	wide, _ := c.wide()
	who := c.name
	if c.bounded {
		who += " that is mapped in this user namespace"
	}
	if len(wide.UIDMaps) == 1 {
		return &Error{Kind: KindNoRange, Subject: subuidFile, Detail: who}
	}
	if len(wide.GIDMaps) == 1 {
		return &Error{Kind: KindNoRange, Subject: subgidFile, Detail: who}
	}
	return nil
}

// withCapRoot sets CapRootID: what this process calls the container's root.
func withCapRoot(s State) State {
	if uid, _, err := s.Disk.ToHost(0, 0); err == nil {
		s.CapRootID = uint32(uid)
	}
	return s
}

func parents(maps []user.IDMap) []idRange {
	out := make([]idRange, len(maps))
	for i, m := range maps {
		out[i] = idRange{m.ParentID, m.Count}
	}
	return out
}

func identity(ranges []idRange) []user.IDMap {
	out := make([]user.IDMap, len(ranges))
	for i, r := range ranges {
		out[i] = user.IDMap{ID: r.Start, ParentID: r.Start, Count: r.Count}
	}
	return out
}
