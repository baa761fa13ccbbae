package hostile

import "fmt"

// upwardCases: names with a ".." that leaves the root.
func upwardCases() []testCase {
	const row = "archiver CVE-2024-0406, kubectl CVE-2019-1002101, GNU tar CVE-2016-6321: ../"
	var cases []testCase
	for _, form := range []struct{ name, prefix string }{
		{"plain", "../../outside"},
		{"through a name", "x/../../../outside"},
		{"behind a dot", "./../../outside"},
		{"behind a slash", "/../../outside"},
		{"with empty components", "x//..//..///../outside"},
		{"down and up", "x/y/../z/../../../../outside"},
	} {
		for _, entry := range []struct{ name, line, bite string }{
			{"a new file", `file %s/new = owned`, "outside/new: appeared"},
			{"over a file", `file %s/secret = owned`, "outside/secret: content"},
			{"a directory", `dir %s/dir mode=0777`, "outside/dir: mode"},
			{"a symlink", `sym %s/new -> /`, "outside/new: appeared"},
			{"a fifo", `fifo %s/new`, "outside/new: appeared"},
			{"a hard link", `hard %s/new => inside`, "outside/new: appeared"},
		} {
			cases = append(cases, testCase{
				row: row, name: form.name + ", " + entry.name,
				archive: "dir x\nfile inside = i\n" + fmt.Sprintf(entry.line, form.prefix),
				want:    4, bites: []string{"joins: " + entry.bite},
			})
		}
	}
	return append(cases,
		testCase{row: row, name: "the parent of the root", archive: `dir .. mode=0777`, want: 4,
			bites: []string{"joins: naive: mode"}},
		testCase{row: row, name: "the parent of the root, with a slash", archive: `dir ../ mode=0777`, want: 4,
			bites: []string{"joins: naive: mode"}},
		testCase{row: row, name: "the parent of the root, by a way around", archive: "dir x\ndir x/../.. mode=0777", want: 4,
			bites: []string{"joins: naive: mode"}},
		testCase{row: row, name: "up and back into the root", archive: `file ../rootfs/f = x`, want: 4,
			bites: []string{"joins accepts"}},
		testCase{row: row, name: "after honest entries", archive: "dir d\nfile d/f = x\nsym l -> d\nfile ../../outside/new = owned", want: 4,
			bites: []string{"joins: outside/new: appeared"}},
		testCase{row: row, name: "in a PAX path", archive: `file f pax.path=../../outside/new = owned`, want: 4,
			bites: []string{"joins: outside/new: appeared"}},
		testCase{row: row, name: "in a GNU long name", archive: "longname ../../outside/new\nfile f magic=gnu = owned", want: 4,
			bites: []string{"joins: outside/new: appeared"}},
		testCase{row: row, name: "in a ustar prefix", archive: `file new prefix=../../outside = owned`, want: 4,
			bites: []string{"joins: outside/new: appeared"}},
		testCase{row: row, name: "half in the prefix", archive: `file ../outside/new prefix=.. = owned`, want: 4,
			bites: []string{"joins: outside/new: appeared"}},
		testCase{row: row, name: "stripped into something else",
			archive: "sym e -> $OUT\nfile ../e/new = owned", want: 4,
			bites: []string{"strips: outside/new: appeared"}},
		testCase{row: row, name: "inside and harmless",
			archive: "dir a\ndir b\nfile a/../b/f = x\nfile a/./../c = y", want: 0,
			tree:  "dir a\ndir b\nfile b/f = x\nfile c = y",
			bites: []string{"gnutar fails"}},
		testCase{row: row, name: "a name that only looks like it",
			archive: "dir ..x\nfile ..x/... = a\nfile x.. = b", want: 0,
			tree:  "dir ..x\nfile ..x/... = a\nfile x.. = b",
			bites: []string{"strings accepts"}},
		testCase{row: row, name: "back through a symlink that leads elsewhere",
			archive: "dir a/b\nsym l -> a/b\nfile l/../f = x", want: 0,
			tree:  "dir a\ndir a/b\nsym l -> a/b\nfile a/f = x",
			bites: []string{"joins makes file f = x"}},
		testCase{row: row, name: "back through an absolute symlink",
			archive: "dir $REL\nsym l -> $OUT/dir\ndir $REL/dir\nfile l/../new = x", want: 0,
			tree:  "dir $REL/dir\nsym l -> $OUT/dir\nfile $REL/new = x",
			bites: []string{"gnutar -P: outside/new: appeared"}},
	)
}

// absoluteCases: names that start with a slash belong into the root.
func absoluteCases() []testCase {
	const row = "node-tar CVE-2021-32804: absolute names"
	var cases []testCase
	for _, slashes := range []string{"/", "//", "/./", "/../"} {
		for _, entry := range []struct{ name, line, tree, bite string }{
			{"a new file", `file %s/new = owned`, `file $REL/new = owned`, "outside/new: appeared"},
			{"over a file", `file %s/secret = owned`, `file $REL/secret = owned`, "outside/secret: content"},
			{"a directory", `dir %s/dir mode=0777`, `dir $REL/dir mode=0777`, "outside/dir: mode"},
			{"a symlink", `sym %s/new -> /`, `sym $REL/new -> /`, "outside/new: appeared"},
			{"a fifo", `fifo %s/new`, `fifo $REL/new`, "outside/new: appeared"},
		} {
			c := testCase{
				row: row, name: fmt.Sprintf("%q, %s", slashes, entry.name),
				archive: fmt.Sprintf(entry.line, slashes+"$REL"),
				tree:    entry.tree,
				bites:   []string{"gnutar -P: " + entry.bite},
			}
			if slashes == "/../" {
				c.want = 4
			}
			cases = append(cases, c)
		}
	}
	return append(cases, testCase{row: row, name: "in a ustar prefix",
		archive: "file secret prefix=$OUT = owned", tree: "file $REL/secret = owned",
		bites: []string{"gnutar -P: outside/secret: content"}})
}

// symlinkParentCases: a symlink first, then an entry below it. Where the symlink leads to nothing inside the root, the entry
// has no parent; where the stream has put a directory there, it goes into that.
func symlinkParentCases() []testCase {
	var cases []testCase
	for _, link := range []struct{ row, name, lines, tree, inside, victim string }{
		{"kubectl CVE-2019-11246", "absolute", "sym l -> $OUT", "sym l -> $OUT", "$REL", "joins"},
		{"kubectl CVE-2019-11249", "relative", "sym l -> ../../outside", "sym l -> ../../outside", "outside", "joins"},
		{"kubectl CVE-2019-11251", "two combined", "sym a -> $OUT\nsym l -> a", "sym a -> $OUT\nsym l -> a", "$REL", "joins"},
		{"go-archive CVE-2026-17106", "two hops, each harmless as a string",
			"dir x/y\nsym x/y/up -> ..\nsym l -> x/y/up/../../../outside",
			"sym x/y/up -> ..\nsym l -> x/y/up/../../../outside", "outside", "strings"},
		{"go-archive CVE-2026-17106", "three hops",
			"dir x/y/z\nsym x/y/z/up -> ../..\nsym m -> x/y/z/up/..\nsym l -> m/../../outside",
			"sym x/y/z/up -> ../..\nsym m -> x/y/z/up/..\nsym l -> m/../../outside", "outside", "joins"},
		{"CPython CVE-2025-4517", "behind a loop that is cut",
			"sym l -> l\nsym l -> ../../outside", "sym l -> ../../outside", "outside", "joins"},
	} {
		for _, entry := range []struct{ name, line, tree, bite string }{
			{"a new file", `file l/new = owned`, `file %s/new = owned`, "outside/new: appeared"},
			{"over a file", `file l/secret = owned`, `file %s/secret = owned`, "outside/secret: content"},
			{"a new directory", `dir l/new`, `dir %s/new`, "outside/new: appeared"},
			{"over a directory", `dir l/dir mode=0777`, `dir %s/dir mode=0777`, "outside/dir: mode"},
			{"below a directory", `file l/dir/inner = owned`, "dir %[1]s/dir\nfile %[1]s/dir/inner = owned", "outside/dir/inner: content"},
			{"a symlink", `sym l/new -> x`, `sym %s/new -> x`, "outside/new: appeared"},
			{"a fifo", `fifo l/new`, `fifo %s/new`, "outside/new: appeared"},
			{"a hard link out", "file i = i\nhard l/new => i", "file i = i\nhard %s/new => i", "outside/new: appeared"},
		} {
			refused := testCase{row: link.row, name: link.name + ", nothing there, " + entry.name,
				archive: link.lines + "\n" + entry.line, want: 3, bites: []string{link.victim + ": " + entry.bite}}
			contained := testCase{row: link.row, name: link.name + ", a directory there, " + entry.name,
				archive: "dir " + link.inside + "\n" + link.lines + "\n" + entry.line,
				tree:    fmt.Sprintf(entry.tree, link.inside) + "\n" + link.tree,
				bites:   refused.bites}
			cases = append(cases, refused, contained)
		}
	}
	return cases
}
