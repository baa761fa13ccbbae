package jsontree

import (
	"slices"
	"strconv"
)

// Diff is the patch that makes b out of a.
func Diff(a, b *Node) *Node { return operationNodes(appendDiff(nil, "", a, b)...) }

func appendDiff(ops []Operation, path string, a, b *Node) []Operation {
	if a.Equal(b) && sameText(a, b) {
		return ops
	}
	switch {
	case a.Kind == KindObject && b.Kind == KindObject:
		for _, k := range a.Keys {
			if _, ok := b.Obj[k]; !ok {
				ops = append(ops, Operation{Op: "remove", Path: path + "/" + escape(k)})
			}
		}
		for _, k := range b.Keys {
			p := path + "/" + escape(k)
			if v, ok := a.Obj[k]; ok {
				ops = appendDiff(ops, p, v, b.Obj[k])
			} else {
				ops = append(ops, Operation{Op: "add", Path: p, Value: b.Obj[k]})
			}
		}
		return ops
	case a.Kind == KindArray && b.Kind == KindArray:
		parts := appendArrayDiff(nil, path, a.List, b.List)
		whole := Operation{Op: "replace", Path: path, Value: b}
		if scalars(a) && scalars(b) && !onlyAdds(parts) && len(operationNodes(whole).Compact()) < len(operationNodes(parts...).Compact()) {
			return append(ops, whole)
		}
		return append(ops, parts...)
	}
	return append(ops, Operation{Op: "replace", Path: path, Value: b})
}

func scalars(n *Node) bool {
	return !slices.ContainsFunc(n.List, func(e *Node) bool { return e.Kind == KindArray || e.Kind == KindObject })
}

func onlyAdds(ops []Operation) bool {
	return !slices.ContainsFunc(ops, func(o Operation) bool { return o.Op != "add" })
}

// operationNodes is a patch as a JSON value.
func operationNodes(ops ...Operation) *Node {
	list := NewArray("")
	for _, o := range ops {
		n := NewObject("")
		n.SetMember("op", NewString(o.Op, ""))
		n.SetMember("path", NewString(o.Path, ""))
		if o.Value != nil {
			n.SetMember("value", o.Value)
		}
		list.List = append(list.List, n)
	}
	return list
}

// sameText tells values that are equal but not written the same, as 1 and 1.0.
func sameText(a, b *Node) bool {
	switch a.Kind {
	case KindNumber:
		return a.Text == b.Text
	case KindArray:
		for i := range a.List {
			if !sameText(a.List[i], b.List[i]) {
				return false
			}
		}
	case KindObject:
		for k, v := range a.Obj {
			if !sameText(v, b.Obj[k]) {
				return false
			}
		}
	}
	return true
}

// appendArrayDiff keeps a longest common subsequence of elements and removes, changes and adds
// between them.
func appendArrayDiff(ops []Operation, path string, a, b []*Node) []Operation {
	same := func(x, y *Node) bool { return x.Equal(y) && sameText(x, y) }
	start := 0
	for start < len(a) && start < len(b) && same(a[start], b[start]) {
		start++
	}
	endA, endB := len(a), len(b)
	for endA > start && endB > start && same(a[endA-1], b[endB-1]) {
		endA--
		endB--
	}
	midA, midB := a[start:endA], b[start:endB]
	const limit = 4 << 20 // cells of the table below: beyond it, a config is no longer edited by hand
	if len(midA) > limit/max(1, len(midB)) {
		return append(ops, Operation{Op: "replace", Path: path, Value: &Node{Kind: KindArray, List: b}})
	}
	// lcs[i][j]: length of the common subsequence of midA[i:] and midB[j:].
	lcs := make([][]int, len(midA)+1)
	for i := range lcs {
		lcs[i] = make([]int, len(midB)+1)
	}
	for i := len(midA) - 1; i >= 0; i-- {
		for j := len(midB) - 1; j >= 0; j-- {
			if same(midA[i], midB[j]) {
				lcs[i][j] = lcs[i+1][j+1] + 1
			} else {
				lcs[i][j] = max(lcs[i+1][j], lcs[i][j+1])
			}
		}
	}
	// at is the index in the array as it is once the operations so far are done.
	i, j, at := 0, 0, start
	for i < len(midA) || j < len(midB) {
		p := path + "/" + strconv.Itoa(at)
		switch {
		case i < len(midA) && j < len(midB) && same(midA[i], midB[j]):
			i, j, at = i+1, j+1, at+1
		case i < len(midA) && j < len(midB) && lcs[i+1][j+1] == lcs[i][j]:
			ops = appendDiff(ops, p, midA[i], midB[j])
			i, j, at = i+1, j+1, at+1
		case i < len(midA) && (j == len(midB) || lcs[i+1][j] == lcs[i][j]):
			ops = append(ops, Operation{Op: "remove", Path: p})
			i++
		default:
			ops = append(ops, Operation{Op: "add", Path: p, Value: midB[j]})
			j, at = j+1, at+1
		}
	}
	return ops
}
