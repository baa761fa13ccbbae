package hostile

import (
	"fmt"
	"strings"
)

// replacedCases: a name is taken, by a symlink above all, and comes again.
func replacedCases() []testCase {
	const same = "kubectl CVE-2019-1002101, archiver CVE-2024-0406: a symlink, then a file of the same name"
	const cache = "node-tar CVE-2021-32803, CVE-2021-37701, CVE-2026-23745: a directory that was remembered"
	const fold = "node-tar CVE-2026-23950: caches that fold case"
	const late = "libarchive CVE-2021-31566, CVE-2021-23177: metadata at the end, by name"
	return []testCase{
		{row: same, name: "over a file", archive: "sym s -> $OUT/secret\nfile s = owned", tree: "file s = owned",
			bites: []string{"joins: outside/secret: content"}},
		{row: same, name: "over a file, relative", archive: "sym s -> ../../outside/secret\nfile s = owned", tree: "file s = owned",
			bites: []string{"joins: outside/secret: content"}},
		{row: same, name: "a new file", archive: "sym s -> $OUT/new\nfile s = owned", tree: "file s = owned",
			bites: []string{"joins: outside/new: appeared"}},
		{row: same, name: "by a chain", archive: "sym a -> $OUT/secret\nsym s -> a\nfile s = owned",
			tree: "sym a -> $OUT/secret\nfile s = owned", bites: []string{"joins: outside/secret: content"}},
		{row: same, name: "through a second name of the symlink", archive: "sym s -> $OUT/secret\nhard h => s\nfile h = owned",
			tree: "sym s -> $OUT/secret\nfile h = owned", bites: []string{"joins: outside/secret: content"}},
		{row: same, name: "below a directory", archive: "sym d/s -> $OUT/secret\nfile d/s = owned", tree: "file d/s = owned",
			bites: []string{"joins: outside/secret: content"}},
		{row: same, name: "with a slash behind it", archive: "sym s -> $OUT\ndir s/ mode=0777", tree: "dir s mode=0777",
			bites: []string{"joins: outside: mode"}},
		{row: same, name: "a directory over it", archive: "sym s -> $OUT/dir\ndir s mode=0777", tree: "dir s mode=0777",
			bites: []string{"joins: outside/dir: mode"}},
		{row: same, name: "a directory over it, then a file below", archive: "sym s -> $OUT/dir\ndir s\nfile s/inner = owned", tree: "dir s\nfile s/inner = owned",
			bites: []string{"joins: outside/dir/inner: content"}},
		{row: same, name: "a fifo over it", archive: "sym s -> $OUT/secret\nfifo s mode=0777", tree: "fifo s mode=0777",
			bites: []string{"joins accepts"}},
		{row: same, name: "a symlink over it", archive: "sym s -> $OUT/dir\nsym s -> x", tree: "sym s -> x",
			bites: []string{"joins accepts"}},
		{row: same, name: "a hard link over it", archive: "file f = x\nsym s -> $OUT/secret\nhard s => f\nfile s = y", tree: "file f = x\nfile s = y",
			bites: []string{"joins makes file f = y"}},
		{row: same, name: "os.Root CVE-2026-39822: a file with a slash over it", archive: "sym s -> $OUT/secret\nfile s/ = owned", want: 3,
			bites: []string{"joins: outside/secret: content"}},
		{row: same, name: "a file over a hard link leaves the other name", archive: "file a = a\nhard b => a\nfile b = b", tree: "file a = a\nfile b = b",
			bites: []string{"joins makes file a = b"}},
		{row: same, name: "a file over a fifo", archive: "fifo p\nfile p = x", tree: "file p = x",
			bites: []string{"joins fails"}},
		{row: same, name: "a file over a full directory", archive: "dir d\nfile d/a = a\ndir d/e\nfile d/e/b = b\nfile d = x", tree: "file d = x",
			bites: []string{"gnutar fails"}},
		{row: same, name: "a symlink over a full directory, then a file below", archive: "dir d\nfile d/a = a\nsym d -> $OUT\nfile d/new = owned", want: 3,
			bites: []string{"joins: outside/new: appeared"}},
		{row: same, name: "a directory over a directory keeps what is in it", archive: "dir d mode=0700\nfile d/a = a\ndir d mode=0750", tree: "dir d mode=0750\nfile d/a = a",
			bites: []string{"joins accepts"}},
		{row: same, name: "a directory over a file", archive: "file f = x\ndir f\nfile f/g = y", tree: "dir f\nfile f/g = y",
			bites: []string{"joins fails"}},
		{row: same, name: "an entry below a file", archive: "file f = x\nfile f/g = y", want: 3,
			bites: []string{"replaces fails"}},
		{row: same, name: "an entry below a fifo", archive: "fifo f\nfile f/g = y", want: 3,
			bites: []string{"replaces fails"}},
		{row: same, name: "an entry below a loop", archive: "sym a -> b\nsym b -> a\nfile a/f = y", want: 3,
			bites: []string{"replaces fails"}},
		{row: same, name: "an entry below a link to itself", archive: "sym a -> a/a\nfile a/f = y", want: 3,
			bites: []string{"replaces fails"}},

		{row: cache, name: "a directory becomes a symlink", archive: "dir d\nsym d -> $OUT\nfile d/new = owned", want: 3,
			bites: []string{"caches: outside/new: appeared"}},
		{row: cache, name: "a directory becomes a symlink to another", archive: "dir $REL\ndir d\nsym d -> $OUT\nfile d/new = owned",
			tree: "dir $REL\nsym d -> $OUT\nfile $REL/new = owned", bites: []string{"caches: outside/new: appeared"}},
		{row: cache, name: "a directory two above", archive: "dir d\ndir d/e\nfile d/e/f = 1\nsym d -> $OUT\nfile d/e/f = 2\n", want: 3,
			bites: []string{"caches: outside/e: appeared"}},
		{row: cache, name: "a directory becomes a symlink and a directory again", archive: "dir d\nsym d -> $OUT\ndir d\nfile d/f = x",
			tree: "dir d\nfile d/f = x", bites: []string{"joins: outside/f: appeared"}},
		{row: cache, name: "by a name with a slash behind it", archive: "dir d/\nsym d -> $OUT\nfile d/new = owned", want: 3,
			bites: []string{"caches: outside/new: appeared"}},
		{row: cache, name: "by a name with dots in it", archive: "dir ./d/.\nsym d -> $OUT\nfile ./d/new = owned", want: 3,
			bites: []string{"caches: outside/new: appeared"}},
		{row: cache, name: "a file between", archive: "dir d\nfile d = x\nsym d -> $OUT\nfile d/new = owned", want: 3,
			bites: []string{"caches: outside/new: appeared"}},
		{row: cache, name: "a hard link to a symlink takes its place", archive: "dir d\nsym s -> $OUT\nhard d => s\nfile d/new = owned", want: 3,
			bites: []string{"caches: outside/new: appeared"}},
		{row: cache, name: "the directory is reached by two names", archive: "dir a\ndir a/d\nsym b -> a\nsym b/d -> $OUT\nfile a/d/new = owned", want: 3,
			bites: []string{"joins: outside/new: appeared"}},

		{row: fold, name: "upper and lower", archive: "dir Foo\nsym foo -> $OUT\nfile foo/new = owned", want: 3,
			bites: []string{"folds: outside/new: appeared"}},
		{row: fold, name: "lower and upper", archive: "dir foo\nsym FOO -> $OUT\nfile FOO/new = owned", want: 3,
			bites: []string{"folds: outside/new: appeared"}},
		{row: fold, name: "the Kelvin sign", archive: "dir k\nsym \"\\u212a\" -> $OUT\nfile \"\\u212a/new\" = owned", want: 3,
			bites: []string{"folds: outside/new: appeared"}},
		{row: fold, name: "composed and decomposed are two names", archive: "dir \"\\u00e9\"\nsym \"e\\u0301\" -> x\nfile \"\\u00e9/f\" = 1",
			tree: "dir \"\\u00e9\"\nsym \"e\\u0301\" -> x\nfile \"\\u00e9/f\" = 1", bites: []string{"folds accepts"}},
		{row: fold, name: "four spellings are four files", archive: "file ab = 1\nfile Ab = 2\nfile aB = 3\nfile AB = 4",
			tree: "file ab = 1\nfile Ab = 2\nfile aB = 3\nfile AB = 4", bites: []string{"folds accepts"}},

		{row: late, name: "mode through a symlink", archive: "dir d mode=0777\nsym d -> $OUT/dir", tree: "sym d -> $OUT/dir",
			bites: []string{"late: outside/dir: mode"}},
		{row: late, name: "time through a symlink", archive: "dir d mtime=5\nsym d -> $OUT/dir", tree: "sym d -> $OUT/dir",
			bites: []string{"late: outside/dir: mtime"}},
		{row: late, name: "owner through a symlink", archive: "dir d uid=1 gid=1\nsym d -> $OUT/dir", tree: "sym d -> $OUT/dir",
			bites: []string{"late: outside/dir: mode", "root: late: outside/dir: owner"}},
		{row: late, name: "xattrs through a symlink", archive: "dir d xattr.user.evil=1\nsym d -> $OUT/dir", tree: "sym d -> $OUT/dir",
			bites: []string{"late: outside/dir: xattrs"}},
		{row: late, name: "on a file that took its place", archive: "dir d mode=0777\nfile d mode=0600 mtime=7 = x", tree: "file d mode=0600 mtime=7 = x",
			bites: []string{"late makes file d mode=0777 = x"}},
		{row: late, name: "through a parent that became a symlink", archive: "dir d\ndir d/dir mode=0777\nsym d -> $OUT", tree: "sym d -> $OUT",
			bites: []string{"late: outside/dir: mode"}},
		{row: late, name: "on a directory made anew", archive: "dir d mode=0777 mtime=5\nfile d = x\ndir d mode=0700 mtime=7", tree: "dir d mode=0700 mtime=7",
			bites: []string{"late accepts"}},
		{row: late, name: "of a directory without write permission, which still takes its children", archive: "dir d mode=0555 mtime=5\nfile d/f = x\ndir d/e mode=0500 mtime=6\nfile d/e/g = y",
			tree: "dir d mode=0555 mtime=5\nfile d/f = x\ndir d/e mode=0500 mtime=6\nfile d/e/g = y", bites: []string{"joins makes dir d mode=0555"}},
	}
}

// rootEntryCases: the entry for the root itself.
func rootEntryCases() []testCase {
	const row = "umoci CVE-2021-29136: a root entry that is not a directory"
	var cases []testCase
	for _, name := range []string{".", "./", "/", "./.", "//", "/./", `""`} {
		for _, entry := range []struct{ name, line, bite string }{
			{"a symlink", "sym %s -> $OUT\nfile new = owned", "joins: outside/new: appeared"},
			{"a file", "file %s = x", "joins: naive/rootfs: type"},
			{"a fifo", "fifo %s", "joins: naive/rootfs: type"},
			{"a hard link", "file f = x\nhard %s => f", ""},
		} {
			c := testCase{row: row, name: fmt.Sprintf("%s: %s", name, entry.name), archive: fmt.Sprintf(entry.line, name), want: 3, bites: []string{"joins: naive/rootfs: gone"}}
			if entry.bite != "" {
				c.bites = []string{entry.bite}
			}
			cases = append(cases, c)
		}
	}
	for _, name := range []string{".", "./", "/", "./."} {
		cases = append(cases, testCase{row: row, name: name + ": a directory", archive: "dir " + name + " mode=0710 mtime=5 uid=3\nfile f = x",
			tree: "dir . mode=0710 mtime=5 uid=3\nfile f = x", bites: []string{"joins makes dir . mode=0710"}})
	}
	return append(cases,
		testCase{row: row, name: "by a way around", archive: "dir x\nsym x/.. -> $OUT\nfile new = owned", want: 3,
			bites: []string{"joins: outside/new: appeared"}},
		testCase{row: row, name: "after honest entries", archive: "dir .\nfile f = x\nsym . -> $OUT\nfile new = owned", want: 3,
			bites: []string{"joins: outside/new: appeared"}},
		testCase{row: row, name: "a device", archive: "char . dev=1:3", want: 3, bites: []string{"root: joins: naive/rootfs: type", "gotar accepts"}},
		testCase{row: row, name: "without one", archive: "file f mtime=7 = x\nfile g mtime=9 = y\nfile h mtime=3 = z",
			tree: "dir . mode=0755 mtime=9 uid=0 gid=0\nfile f = x\nfile g = y\nfile h = z", bites: []string{"gnutar makes dir . mode=0750"}},
		testCase{row: row, name: "parents without one", archive: "file a/b/f mtime=7 = x\nfile g mtime=9 = y",
			tree: "dir a mode=0755 mtime=9 uid=0 gid=0\ndir a/b mode=0755 mtime=9\nfile a/b/f = x\nfile g = y", bites: []string{"gnutar accepts"}},
		testCase{row: row, name: "locked", archive: "dir . mode=0000\nfile f = x\ndir d mode=0000\nfile d/f = x",
			tree: "dir . mode=0000\nfile f = x\ndir d mode=0000\nfile d/f = x", bites: []string{"joins makes dir . mode=0000"}},
	)
}

// hardLinkCases: the targets of hard links.
func hardLinkCases() []testCase {
	const targets = "node-tar CVE-2021-37712, CVE-2026-24842, CVE-2026-26960: hard-link targets"
	const cwd = "oras-go CVE-2026-50163: a target that is checked here and used there"
	const recreate = "CPython CVE-2025-4330, CVE-2026-11940: a link made again elsewhere"
	const body = "libarchive CVE-2016-5418: a hard link with a body"
	const ids = "CPython CVE-2026-4360: owners through hard links"
	many := func(n int) (archive, tree string) {
		var a, b strings.Builder
		a.WriteString("file f = x\n")
		b.WriteString("file f = x links=" + fmt.Sprint(n+1) + "\n")
		for i := range n {
			fmt.Fprintf(&a, "hard h%d => f\n", i)
			fmt.Fprintf(&b, "hard h%d => f\n", i)
		}
		return a.String(), strings.Replace(b.String(), "file f = x links", "file f links", 1)
	}
	manyArchive, manyTree := many(10000)
	manyTree = strings.Replace(manyTree, "links=10001", "links=10001 = x", 1)
	var cases []testCase
	for _, target := range []struct {
		name, lines, target string
		want                int
		victim              string
	}{
		{"absolute", "", "$OUT/secret", 3, "gnutar -P"},
		{"upwards", "", "../../outside/secret", 4, "joins"},
		{"through a name and up", "dir x\n", "x/../../../outside/secret", 4, "joins"},
		{"behind a slash and up", "", "/../../outside/secret", 4, "joins"},
		{"behind dots and up", "", "./.././../outside/secret", 4, "joins"},
		{"through an absolute symlink", "sym l -> $OUT\n", "l/secret", 3, "joins"},
		{"through a relative symlink", "sym l -> ../../outside\n", "l/secret", 3, "joins"},
		{"through a chain", "sym a -> $OUT\nsym l -> a\n", "l/secret", 3, "joins"},
		{"through two hops", "dir x/y\nsym x/y/up -> ..\nsym l -> x/y/up/../../../outside\n", "l/secret", 3, "strings"},
	} {
		cases = append(cases,
			testCase{row: targets, name: target.name + ", the link alone", archive: target.lines + "hard h => " + target.target, want: target.want,
				bites: []string{target.victim + ": outside/secret: links"}},
			testCase{row: targets, name: target.name + ", then written through", archive: target.lines + "hard h => " + target.target + "\nfile h = owned", want: target.want,
				bites: []string{strings.Replace(target.victim, "gnutar -P", "gnutar -P --overwrite", 1) + ": outside/secret: content"}},
			testCase{row: targets, name: target.name + ", then its mode changed", archive: target.lines + "hard h => " + target.target + " mode=0777", want: target.want,
				bites: []string{strings.NewReplacer("joins", "chmods-joins", "strings", "chmods-joins", "gnutar -P", "bsdtar -P").Replace(target.victim) + ": outside/secret: ctime"}},
		)
	}
	return append(cases,
		testCase{row: targets, name: "in a PAX linkpath", archive: "hard h pax.linkpath=../../outside/secret => x", want: 4,
			bites: []string{"joins: outside/secret: links"}},
		testCase{row: targets, name: "in a GNU long link", archive: "longlink ../../outside/secret\nhard h magic=gnu => x", want: 4,
			bites: []string{"joins: outside/secret: links"}},
		testCase{row: targets, name: "never a copy", archive: "hard h => ../../outside/secret", want: 4,
			bites: []string{"joins: outside/secret: links"}},
		testCase{row: targets, name: "never a copy of what a symlink leads to", archive: "sym l -> $OUT/secret\nhard h => l",
			tree: "sym l -> $OUT/secret\nhard h => l\nsym h -> $OUT/secret", bites: []string{"copies makes file h = \"canary secret\\n\""}},
		testCase{row: targets, name: "missing", archive: "hard h => nothing", want: 3, bites: []string{"gotar accepts"}},
		testCase{row: targets, name: "later in the stream", archive: "hard h => f\nfile f = x", want: 3, bites: []string{"gotar accepts"}},
		testCase{row: targets, name: "a directory", archive: "dir d\nhard h => d", want: 3, bites: []string{"gotar accepts"}},
		testCase{row: targets, name: "the root", archive: "file f = x\nhard h => .", want: 3, bites: []string{"gotar accepts"}},
		testCase{row: targets, name: "the root, as a slash", archive: "file f = x\nhard h => /", want: 3, bites: []string{"gotar accepts"}},
		testCase{row: targets, name: "empty", archive: `hard h => ""`, want: 3, bites: []string{"gotar accepts"}},
		testCase{row: targets, name: "below a file", archive: "file f = x\nhard h => f/g", want: 3, bites: []string{"gotar accepts"}},
		testCase{row: targets, name: "the link is below its target", archive: "file f = x\nhard f/h => f", want: 3, bites: []string{"gotar accepts"}},
		testCase{row: targets, name: "gone with its directory", archive: "dir d\nfile d/f = x\nfile d = y\nhard h => d/f", want: 3, bites: []string{"gotar accepts"}},
		testCase{row: targets, name: "itself", archive: "file f = precious\nhard f => f", tree: "file f = precious links=1",
			bites: []string{"replaces fails"}},
		testCase{row: targets, name: "itself by another spelling", archive: "dir d\nfile d/f = precious\nsym l -> d\nhard l/f => d/./f", tree: "dir d\nfile d/f = precious\nsym l -> d",
			bites: []string{"joins fails"}},
		testCase{row: targets, name: "itself and nothing there", archive: "hard f => f", want: 3, bites: []string{"gotar accepts"}},
		testCase{row: targets, name: "absolute, inside", archive: "file a/f = x\nhard h => /a/f", tree: "file a/f = x\nhard h => a/f", bites: []string{"gnutar -P fails"}},
		testCase{row: targets, name: "up and down, inside", archive: "file f = x\ndir d\nhard h => d/../f", tree: "file f = x\ndir d\nhard h => f", bites: []string{"joins accepts"}},
		testCase{row: targets, name: "through a symlink, inside", archive: "file $REL/f = x\nsym l -> $OUT\nhard h => l/f", tree: "file $REL/f = x\nsym l -> $OUT\nhard h => $REL/f",
			bites: []string{"joins fails"}},
		testCase{row: targets, name: "to a fifo", archive: "fifo p mode=0600\nhard q => p", tree: "fifo p mode=0600 links=2\nfifo q", bites: []string{"joins accepts"}},
		testCase{row: targets, name: "to a device", archive: "char c dev=1:3 mode=0600\nhard d => c\nfile f = x", tree: "char c dev=1:3 links=2\nchar d dev=1:3\nfile f = x", bites: []string{"gotar accepts"}},
		testCase{row: targets, name: "to a link to a link", archive: "file a = x\nhard b => a\nhard c => b", tree: "file a links=3 = x\nhard b => a\nhard c => a", bites: []string{"joins accepts"}},
		testCase{row: targets, name: "target replaced between", archive: "file a = 1\nhard b => a\nfile a = 2\nhard c => a", tree: "file a = 2 links=2\nfile b = 1 links=1\nhard c => a",
			bites: []string{"joins makes file b = 2"}},
		testCase{row: targets, name: "ten thousand", archive: manyArchive, tree: manyTree, bites: []string{"copies makes file h9999 links=1 = x"}},

		testCase{row: cwd, name: "beside the working directory's file", archive: "file secret = x\nhard h => secret\nfile h = owned", tree: "file secret = x\nfile h = owned",
			bites: []string{"cwd: outside/secret: content"}},
		testCase{row: cwd, name: "one that is only in the working directory", archive: "hard h => secret\nfile h = owned", want: 3,
			bites: []string{"cwd: outside/secret: content"}},
		testCase{row: cwd, name: "below it", archive: "hard h => dir/inner\nfile h = owned", want: 3,
			bites: []string{"cwd: outside/dir/inner: content"}},

		testCase{row: recreate, name: "a deep symlink at the top", archive: "dir a/b\nsym a/b/l -> ../../outside\ndir outside\nhard l => a/b/l\nfile l/new = x",
			tree: "sym a/b/l -> ../../outside\nhard l => a/b/l\nsym l -> ../../outside\nfile outside/new = x", bites: []string{"recreates: outside/new: appeared"}},
		testCase{row: recreate, name: "a deep symlink at the top, nothing there", archive: "dir a/b\nsym a/b/l -> ../../outside\nhard l => a/b/l\nfile l/new = x",
			want: 3, bites: []string{"recreates: outside/new: appeared"}},
		testCase{row: recreate, name: "one inode, not two", archive: "sym s -> x\nhard h => s", tree: "sym s -> x links=2\nsym h -> x", bites: []string{"recreates makes sym h -> x links=1"}},
		testCase{row: recreate, name: "a link to it is overwritten", archive: "dir a/b\nsym a/b/l -> ../../../../outside/secret\nhard l => a/b/l\nfile l = owned",
			tree: "sym a/b/l -> ../../../../outside/secret\nfile l = owned", bites: []string{"joins fails"}},
		testCase{row: recreate, name: "CVE-2025-4517: a path beyond PATH_MAX", archive: longChain() + "file escape/new = owned", want: 3,
			bites: []string{"joins: outside/new: appeared"}},

		testCase{row: body, name: "on an honest link", archive: "file f = x\nhard h => f size=5 = owned", want: 3,
			bites: []string{"reads-bodies | gotar differ"}},
		testCase{row: body, name: "through a symlink", archive: "sym s -> $OUT/secret\nhard h => s size=5 = owned", want: 3,
			bites: []string{"reads-bodies | gotar differ"}},
		testCase{row: body, name: "in a PAX size", archive: "file f = x\nhard h => f pax.size=5 size=0 = owned", want: 3,
			bites: []string{"reads-bodies | gotar differ"}},

		testCase{row: ids, name: "another owner", archive: "file f uid=1 gid=1 mode=0600 = x\nhard h => f uid=2 gid=2 mode=0600", tree: "file f uid=1 gid=1 mode=0600 = x\nhard h => f",
			bites: []string{"root: chmods makes file f uid=2 gid=2 = x", "gnutar accepts"}},
		testCase{row: ids, name: "setuid", archive: "file f mode=0755 = x\nhard h => f mode=04777", tree: "file f mode=0755 = x\nhard h => f",
			bites: []string{"chmods makes file f mode=4777 = x"}},
		testCase{row: ids, name: "another time", archive: "file f mtime=5 = x\nhard h => f mtime=9", tree: "file f mtime=5 = x\nhard h => f",
			bites: []string{"chmods makes file f mtime=9 = x"}},
		testCase{row: ids, name: "attributes", archive: "file f = x\nhard h => f xattr.user.evil=1", tree: "file f xattr.user.evil= = x\nhard h => f",
			bites: []string{"chmods makes file f xattr.user.evil=1 = x"}},
	)
}

// longChain makes a symlink that realpath(3) gives up on: sixteen directories of 247 bytes, each reached by a short link as well,
// and a way up that is only as long as it should be where the links are followed.
func longChain() string {
	var b strings.Builder
	long := strings.Repeat("d", 247)
	path := ""
	for i := range 16 {
		fmt.Fprintf(&b, "dir %s%s\n", path, long)
		short := string(rune('a' + i))
		fmt.Fprintf(&b, "sym %s%s -> %s\n", path, short, long)
		path += short + "/"
	}
	fmt.Fprintf(&b, "sym %slong -> %s\n", path, strings.Repeat("../", 16))
	fmt.Fprintf(&b, "sym escape -> %slong/../../outside\n", path)
	return b.String()
}
