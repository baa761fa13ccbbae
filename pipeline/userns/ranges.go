package userns

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
)

// maxID is the largest id there is: 2^32-1 stands for "no id" in chown(2) and setuid(2).
const maxID = 1<<32 - 2

// The kernel takes a map of at most 340 lines and less than a page in one write (user_namespaces(7), map_write in
// kernel/user_namespace.c). 4096 is the smallest page.
const (
	maxLines    = 340
	maxMapBytes = 4096 - 1
)

// idRange is Count ids from Start on.
type idRange struct{ Start, Count int64 }

func (r idRange) end() int64 { return r.Start + r.Count }

func (r idRange) valid() bool {
	return r.Count > 0 && r.Start >= 0 && r.Start <= maxID && r.Count <= maxID+1-r.Start
}

// parseSubIDs returns the ranges of a file in subuid(5) format that belong to one of owners (login names and the decimal
// uid alike), in the order of the file. Lines that newuidmap does not understand are left out, as it leaves them out.
func parseSubIDs(r io.Reader, owners []string) ([]idRange, error) {
	var out []idRange
	s := bufio.NewScanner(r)
	for s.Scan() {
		f := strings.Split(strings.TrimSpace(s.Text()), ":")
		if len(f) != 3 || !slices.Contains(owners, f[0]) {
			continue
		}
		start, err1 := strconv.ParseInt(f[1], 10, 64)
		count, err2 := strconv.ParseInt(f[2], 10, 64)
		if rng := (idRange{start, count}); err1 == nil && err2 == nil && rng.valid() {
			out = append(out, rng)
		}
	}
	return out, s.Err()
}

// intersect returns the parts of r that lie in one of within, in ascending order.
func intersect(r idRange, within []idRange) []idRange {
	var out []idRange
	for _, w := range within {
		start, end := max(r.Start, w.Start), min(r.end(), w.end())
		if start < end {
			out = append(out, idRange{start, end - start})
		}
	}
	slices.SortFunc(out, func(a, b idRange) int { return int(a.Start - b.Start) })
	return out
}

// subtract returns what remains of r without any of taken.
func subtract(r idRange, taken []idRange) []idRange {
	left := []idRange{r}
	for _, t := range taken {
		var next []idRange
		for _, l := range left {
			if end := min(l.end(), t.Start); l.Start < end {
				next = append(next, idRange{l.Start, end - l.Start})
			}
			if start := max(l.Start, t.end()); start < l.end() {
				next = append(next, idRange{start, l.end() - start})
			}
		}
		left = next
	}
	return left
}

// widest maps 0 to own and 1.. to the subordinate ranges, in their order. Ranges may overlap, contain own, and reach
// beyond what is mapped where we run: each host id is used once, and only if it is there. dropped counts the ids that
// the kernel's limits on a map leave out.
func widest(own int64, ranges, mapped []idRange) (maps []user.IDMap, dropped int64) {
	maps = []user.IDMap{{ID: 0, ParentID: own, Count: 1}}
	taken := []idRange{{own, 1}}
	next, size := int64(1), len(mapLine(maps[0]))
	for _, r := range ranges {
		for _, here := range intersect(r, mapped) {
			for _, piece := range subtract(here, taken) {
				piece.Count = min(piece.Count, maxID+1-next)
				m := user.IDMap{ID: next, ParentID: piece.Start, Count: piece.Count}
				if size += len(mapLine(m)); len(maps) == maxLines || size > maxMapBytes || m.Count == 0 {
					dropped += piece.Count
					size = maxMapBytes + 1 // what follows is left out too, so that the ids in use are the first ones
					continue
				}
				maps = append(maps, m)
				taken = append(taken, piece)
				next += piece.Count
			}
		}
	}
	return maps, dropped
}

func mapLine(m user.IDMap) string { return fmt.Sprintf("%d %d %d\n", m.ID, m.ParentID, m.Count) }

func formatMap(m user.IDMap) string { return fmt.Sprintf("%d:%d:%d", m.ID, m.ParentID, m.Count) }

// checkMaps says what is wrong with an explicit map, whoever the caller is. what is "uid" or "gid".
func checkMaps(what string, maps []user.IDMap) error {
	if len(maps) > maxLines {
		return &Error{Kind: KindBadMap, Detail: fmt.Sprintf("%d %s maps: the kernel takes %d", len(maps), what, maxLines)}
	}
	for i, m := range maps {
		inside, outside := idRange{m.ID, m.Count}, idRange{m.ParentID, m.Count}
		if m.Count <= 0 {
			return &Error{Kind: KindBadMap, Detail: fmt.Sprintf("%s map %s has no ids", what, formatMap(m))}
		}
		if !inside.valid() || !outside.valid() {
			return &Error{Kind: KindBadMap, Detail: fmt.Sprintf("%s map %s leaves the ids 0 to %d", what, formatMap(m), int64(maxID))}
		}
		for _, o := range maps[:i] {
			if len(intersect(inside, []idRange{{o.ID, o.Count}})) > 0 {
				return &Error{Kind: KindOverlap, Detail: fmt.Sprintf("%s maps %s and %s share container ids", what, formatMap(o), formatMap(m))}
			}
			if len(intersect(outside, []idRange{{o.ParentID, o.Count}})) > 0 {
				return &Error{Kind: KindOverlap, Detail: fmt.Sprintf("%s maps %s and %s share host ids", what, formatMap(o), formatMap(m))}
			}
		}
	}
	if !slices.ContainsFunc(maps, func(m user.IDMap) bool { return m.ID == 0 }) {
		return &Error{Kind: KindNoRoot, Detail: fmt.Sprintf("%s map lacks container id 0", what)}
	}
	return nil
}

// checkWithin demands that the host ids of maps lie in allowed; whose names allowed in the error.
func checkWithin(what string, maps []user.IDMap, allowed []idRange, whose string) error {
	for _, m := range maps {
		if left := subtract(idRange{m.ParentID, m.Count}, allowed); len(left) > 0 {
			return &Error{Kind: KindOutside, Subject: formatMap(m),
				Detail: fmt.Sprintf("%s map %s: host id %d is not %s", what, formatMap(m), left[0].Start, whose)}
		}
	}
	return nil
}

// compose translates container -> host into container -> id in a namespace that maps its ids to host ids by ns.
func compose(what string, host, ns []user.IDMap) ([]user.IDMap, error) {
	parents := make([]idRange, len(ns))
	for i, n := range ns {
		parents[i] = idRange{n.ParentID, n.Count}
	}
	if err := checkWithin(what, host, parents, "in this user namespace"); err != nil {
		return nil, err
	}
	var out []user.IDMap
	for _, h := range host {
		for _, n := range ns {
			start, end := max(h.ParentID, n.ParentID), min(h.ParentID+h.Count, n.ParentID+n.Count)
			if start < end {
				out = append(out, user.IDMap{ID: h.ID + start - h.ParentID, ParentID: n.ID + start - n.ParentID, Count: end - start})
			}
		}
	}
	slices.SortFunc(out, func(a, b user.IDMap) int { return int(a.ID - b.ID) })
	return out, nil
}
