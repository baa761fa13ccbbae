package hostile

import (
	"fmt"
	"strings"
)

// metadataCases: mode, owner, time and attributes that reach beyond the entry.
func metadataCases() []testCase {
	const row = "containerd CVE-2021-32760: metadata of a link follows it"
	return []testCase{
		{row: row, name: "mode of a symlink", archive: "sym s -> $OUT/secret mode=04777", tree: "sym s -> $OUT/secret",
			bites: []string{"chmods: outside/secret: mode"}},
		{row: row, name: "mode of a hard link to a symlink", archive: "sym s -> $OUT/secret\nhard h => s mode=04777", tree: "sym s -> $OUT/secret\nhard h => s\nsym h -> $OUT/secret",
			bites: []string{"chmods: outside/secret: mode"}},
		{row: row, name: "mode of a symlink, relative", archive: "sym s -> ../../outside/dir mode=0777", tree: "sym s -> ../../outside/dir",
			bites: []string{"chmods: outside/dir: mode"}},
		{row: row, name: "time of a symlink", archive: "sym s -> $OUT/secret mtime=5", tree: "sym s -> $OUT/secret mtime=5",
			bites: []string{"chmods: outside/secret: mtime"}},
		{row: row, name: "owner of a symlink", archive: "sym s -> $OUT/secret uid=7 gid=8", tree: "sym s -> $OUT/secret uid=7 gid=8",
			bites: []string{"root: chmods: outside/secret: owner", "chmods: outside/secret: ctime"}},
		{row: row, name: "xattr of a symlink", archive: "sym s -> $OUT/secret xattr.user.evil=1", tree: "sym s -> $OUT/secret",
			bites: []string{"chmods: outside/secret: xattrs"}},
		{row: row, name: "mode of a symlink by a chain", archive: "sym a -> $OUT/secret\nsym s -> a mode=04777", tree: "sym a -> $OUT/secret\nsym s -> a",
			bites: []string{"chmods: outside/secret: mode"}},
		{row: row, name: "xattr of a hard link to a symlink", archive: "sym s -> $OUT/secret\nhard h => s xattr.user.evil=1", tree: "sym s -> $OUT/secret\nhard h => s\nsym h -> $OUT/secret",
			bites: []string{"chmods: outside/secret: xattrs"}},
		{row: row, name: "setuid survives the change of owner", archive: "file su mode=06755 uid=7 gid=8 = x", tree: "file su mode=6755 uid=7 gid=8 = x",
			bites: []string{"joins makes file su mode=6755 = x"}},
		{row: row, name: "sticky and setgid directories", archive: "dir t mode=01777\ndir g mode=02770 gid=5", tree: "dir t mode=1777\ndir g mode=2770 gid=5",
			bites: []string{"joins accepts"}},
		{row: row, name: "a setgid directory does not hand on its group", archive: "dir g mode=02777 gid=5\nfile g/f = x\ndir g/d", tree: "dir g mode=2777 gid=5\nfile g/f gid=0 mode=0644 = x\ndir g/d gid=0 mode=0755",
			bites: []string{"joins accepts"}},
	}
}

// typeCases: types with a size that have no body, and types nobody knows.
func typeCases() []testCase {
	const row = "header-only types with a size"
	var cases []testCase
	for _, entry := range []struct{ name, line string }{
		{"symlink", "sym e -> t"}, {"hard link", "hard e => f"}, {"directory", "dir e"},
		{"fifo", "fifo e"}, {"character device", "char e dev=1:3"}, {"block device", "block e dev=7:0"},
	} {
		for _, size := range []struct{ name, attrs string }{
			{"512 bytes", "size=512 body=zeros:512"},
			{"one byte", "size=1 = x"},
			{"a header for a body", "size=512 = " + `"smuggled"`},
			{"in base-256", "size=b256/512 body=zeros:512"},
			{"in a PAX record", "size=0 pax.size=512 body=zeros:512"},
			{"8 EiB", "size=b256/9223372036854775807"},
			{"negative", "size=b256/-512"},
		} {
			c := testCase{row: row, name: entry.name + ", " + size.name,
				archive: "file f = x\n" + entry.line + " " + size.attrs + "\nfile g = y", want: 3,
				bites: []string{"reads-bodies | gotar differ"}}
			if size.name == "in a PAX record" {
				c.bites = []string{"gotar | gnutar differ"}
			}
			cases = append(cases, c)
		}
	}
	// A size that no data stands behind is read in one way by those who extract: modern-tar issue 114, tar-rs issue 314.
	for _, entry := range []struct{ name, line, tree string }{
		{"symlink", "sym e size=9 -> nowhere", "sym e -> nowhere"}, {"hard link", "hard e size=700 => f", "hard e => f"},
		{"directory", "dir e size=4096", "dir e"}, {"fifo", "fifo e size=512", "fifo e"},
	} {
		for _, magic := range []string{"", " magic=gnu"} {
			head, rest, _ := strings.Cut(entry.line, " size")
			cases = append(cases, testCase{row: row, name: entry.name + ", a size and no body" + magic,
				archive: "file f = x\n" + head + magic + " size" + rest + "\nfile g = y", tree: "file f = x\n" + entry.tree + "\nfile g = y",
				bites: []string{"reads-bodies | gotar differ"}})
		}
	}
	for _, line := range []string{"sym e size=512 -> t", "fifo e size=512"} {
		cases = append(cases, testCase{row: row, name: strings.Fields(line)[0] + ", a size, and two ways to read on",
			archive: "file f = x\n" + line + "\nfile smuggled\nfile g = y", want: 3, bites: []string{"gnutar | gotar differ"}})
	}
	const unknown = "types that nobody knows"
	for _, t := range []string{"Z", "8", "9", "A", "N", "X", "a", "z", `"\xff"`, `"\x01"`} {
		cases = append(cases, testCase{row: unknown, name: t, archive: "file f = x\nfile e type=" + t + " = body\nfile g = y", want: 3,
			bites: []string{"joins leaves out e"}})
	}
	return append(cases,
		testCase{row: unknown, name: "V is a label", archive: "file label type=V\nfile f = x", tree: "file f = x", bites: []string{"gnutar accepts"}},
		testCase{row: unknown, name: "M is the rest of a file", archive: "file f = x\nfile e type=M = rest", tree: "file f = x", bites: []string{"gotar accepts"}},
		testCase{row: unknown, name: "D is a directory with a list", archive: "file e/ type=D = list\nfile e/f = x", tree: "dir e\nfile e/f = x", bites: []string{"gotar accepts"}},
		testCase{row: unknown, name: "D that says 8 EiB", archive: "file e/ type=D size=b256/9223372036854775807\nfile f = x", want: 3, bites: []string{"gnutar fails"}},
		testCase{row: unknown, name: "0 with a slash behind the name is a directory", archive: "file e/\nfile e/f = x", tree: "dir e\nfile e/f = x", bites: []string{"gnutar accepts"}},
		testCase{row: unknown, name: "0 with a slash behind the name and a body", archive: "file e/ = body\nfile f = x", want: 3, bites: []string{"gotar accepts"}},
		testCase{row: unknown, name: "7 is a regular file", archive: "file e type=7 = body", tree: "file e = body", bites: []string{"joins leaves out e"}},
		testCase{row: unknown, name: "NUL is a regular file", archive: "file e type=\"\\x00\" = body", tree: "file e = body", bites: []string{"gotar accepts"}},
		testCase{row: unknown, name: "NUL with a slash behind the name is a directory", archive: "file e/ type=\"\\x00\"\nfile e/f = x", tree: "dir e\nfile e/f = x", bites: []string{"gotar accepts"}},
	)
}

// sizeCases: readers that disagree on where a body ends see different archives.
func sizeCases() []testCase {
	const size = "tar-rs CVE-2025-62518: PAX size against ustar size"
	const long = "tar-rs CVE-2026-53655: PAX applied to a header before the entry's"
	inner := `"` + quoteArchive("noend\nfile smuggled = owned") + `"`
	return []testCase{
		{row: size, name: "an archive inside a file of size 0", archive: "file f size=0 pax.size=1024 = " + inner + "\nfile g = y",
			tree: "file f = " + inner + "\nfile g = y", bites: []string{"reads-ustar-size | gotar differ"}},
		{row: size, name: "an archive after a file that PAX says is empty", archive: "file f size=1024 pax.size=0\nfile smuggled = owned\nfile g = y",
			tree: "file f\nfile smuggled = owned\nfile g = y", bites: []string{"reads-ustar-size | gotar differ"}},
		{row: size, name: "PAX is smaller", archive: "file f size=1024 pax.size=512 body=zeros:512\nfile g = y", tree: "file f body=zeros:512\nfile g = y",
			bites: []string{"reads-ustar-size | gotar differ"}},
		{row: size, name: "PAX is more than there is", archive: "file f size=4 pax.size=4096 = body\nfile g = y", want: 3,
			bites: []string{"reads-ustar-size accepts"}},
		{row: size, name: "ustar is more than there is", archive: "file f size=4096 pax.size=4 = body\nfile g = y", tree: "file f = body\nfile g = y",
			bites: []string{"reads-ustar-size | gotar differ"}},
		{row: size, name: "twice, the last one wins", archive: "pax size=512 size=4\nfile f size=1536 = body\nfile g = y", tree: "file f = body\nfile g = y",
			bites: []string{"reads-ustar-size | gotar differ"}},
		{row: size, name: "empty record falls back", archive: "pax size=\nfile f size=4 = body\nfile g = y", tree: "file f = body\nfile g = y",
			bites: []string{"gotar accepts"}},
		{row: long, name: "PAX, then a long name", archive: "pax size=1024\nlongname renamed\nfile f size=4 magic=gnu = " + inner + "\nfile g = y",
			tree: "file renamed = " + inner + "\nfile g = y", bites: []string{"reads-pax-on-longname | gotar differ"}},
		{row: long, name: "PAX, then a long link", archive: "pax size=1024\nlonglink renamed\nfile f size=4 magic=gnu = " + inner + "\nfile g = y",
			tree: "file f = " + inner + "\nfile g = y", bites: []string{"reads-pax-on-longname | gotar differ"}},
		{row: long, name: "a long name, then PAX: the long name wins", archive: "longname long\npax path=pax\nfile f = x", tree: "file long = x",
			bites: []string{"reads-no-checksum | gotar differ"}},
		{row: long, name: "two long names: the last one", archive: "longname one\nlongname two\nfile f magic=gnu = x", tree: "file two = x",
			bites: []string{"gotar accepts"}},
		{row: long, name: "global size applies to nobody's long name", archive: "global size=1024\nlongname renamed\nfile f magic=gnu = x", tree: "file renamed = x",
			bites: []string{"gotar accepts"}},
	}
}

// numberCases: numbers that do not fit, wrap, or are none.
func numberCases() []testCase {
	const ids = "containerd CVE-2024-40635: an id that wraps"
	const numbers = "negative numbers, 2^63, 8 EiB"
	var cases []testCase
	for _, id := range []struct{ name, attrs, bite string }{
		{"a uid of 2^32", "pax.uid=4294967296", "root: wraps makes file f uid=0 mode=4755 = x"},
		{"a gid of 2^32", "pax.gid=4294967296", "root: wraps makes file f gid=0 mode=4755 = x"},
		{"a uid of 2^32-1, which chown leaves alone", "uid=4294967295", "root: wraps makes file f uid=0 mode=4755 = x"},
		{"a gid of 2^32-1", "gid=4294967295", "root: wraps makes file f gid=0 mode=4755 = x"},
		{"a uid of 2^32 in base-256", "uid=b256/4294967296", "root: wraps makes file f uid=0 mode=4755 = x"},
		{"a uid of 2^61", "uid=b256/2305843009213693952", "reads-no-checksum accepts"},
		{"a uid of 2^63 in PAX", "pax.uid=9223372036854775808", "reads-no-checksum accepts"},
		{"a uid of 2^64 in PAX", "pax.uid=18446744073709551616", "reads-no-checksum accepts"},
		{"a negative uid", "uid=b256/-1", "root: wraps makes file f uid=0 mode=4755 = x"},
		{"a negative gid in PAX", "pax.gid=-1", "root: wraps makes file f gid=0 mode=4755 = x"},
		{"a negative uid in PAX", "pax.uid=-4294967296", "root: wraps makes file f uid=0 mode=4755 = x"},
		{"a uid that is a word", "pax.uid=root", "reads-no-checksum accepts"},
		{"a uid with a fraction", "pax.uid=1.5", "reads-no-checksum accepts"},
		{"a uid field that is not a number", "uid=raw:zzzzzzz", "reads-no-checksum accepts"},
		{"a uid field with an 8", "uid=raw:0000008", "reads-no-checksum accepts"},
	} {
		c := testCase{row: ids, name: id.name, archive: "file f mode=04755 " + id.attrs + " = x", want: 3, bites: []string{id.bite}}
		if strings.HasPrefix(id.bite, "root: ") {
			c.bites = append(c.bites, "reads-no-checksum accepts")
		}
		cases = append(cases, c)
	}
	for _, n := range []struct{ name, attrs string }{
		{"a size of -1", "size=b256/-1"},
		{"a size of -512", "size=b256/-512"},
		{"a size of 2^63", "size=b256/9223372036854775808"},
		{"a size of 2^63-1", "size=b256/9223372036854775807"},
		{"a size of 2^63-512, which overflows when rounded up", "size=b256/9223372036854775297"},
		{"a size of 2^95-1", "size=b256/39614081257132168796771975167"},
		{"a size of 8 GiB and nothing behind it", "size=8589934591"},
		{"a size that is not a number", "size=raw:zzzzzzzzzzz"},
		{"a size with a sign", "size=raw:-0000000001"},
		{"a size with a blank in it", `size=raw:"000 0000001"`},
		{"a PAX size of -1", "pax.size=-1"},
		{"a PAX size of 2^63", "pax.size=9223372036854775808"},
		{"a PAX size of 2^63-1", "pax.size=9223372036854775807"},
		{"a PAX size that is a word", "pax.size=big"},
		{"a PAX size in hexadecimal", "pax.size=0x10"},
		{"a mode that is not a number", "mode=raw:rwxr-x"},
		{"a time that is not a number", "mtime=raw:yesterday.."},
		{"a PAX time that is a word", "pax.mtime=yesterday"},
		{"a PAX time with two points", "pax.mtime=1.2.3"},
		{"a PAX time with an exponent", "pax.mtime=1e9"},
		{"a PAX time of 2^64", "pax.mtime=18446744073709551616"},
	} {
		bite := "reads-numbers-loosely | gotar differ"
		if !strings.Contains(n.name, "size") || strings.Contains(n.name, "8 GiB") {
			bite = "reads-no-checksum | gotar differ"
		}
		cases = append(cases, testCase{row: numbers, name: n.name, archive: "file a = x\nfile f " + n.attrs + " = body\nfile g = y", want: 3, bites: []string{bite}})
	}
	return append(cases,
		testCase{row: ids, name: "the greatest id there is", archive: "file f uid=4294967294 gid=4294967294 = x", tree: "file f uid=4294967294 gid=4294967294 = x", bites: []string{"gotar accepts"}},
		testCase{row: ids, name: "an id that only base-256 can say", archive: "file f uid=2097152 gid=3000000000 = x", tree: "file f uid=2097152 gid=3000000000 = x", bites: []string{"gotar accepts"}},
		testCase{row: numbers, name: "a time before 1970", archive: "file f mtime=b256/-86400 = x", tree: "file f mtime=-86400 = x", bites: []string{"gotar accepts"}},
		testCase{row: numbers, name: "a PAX time before 1970, with a fraction", archive: "file f pax.mtime=-1.25 = x", tree: "file f mtime=-2.75 = x", bites: []string{"gotar accepts"}},
		testCase{row: numbers, name: "a PAX time with more digits than nanoseconds", archive: "file f pax.mtime=1.123456789987 = x", tree: "file f mtime=1.123456789 = x", bites: []string{"gotar accepts"}},
		testCase{row: numbers, name: "bits in the mode that no file has", archive: "file f mode=0170644 = x\ndir d mode=0100755\nfile g mode=b256/4294967295 = y", tree: "file f mode=0644 = x\ndir d mode=0755\nfile g mode=7777 = y", bites: []string{"gotar accepts"}},
		testCase{row: numbers, name: "fields without a NUL behind them", archive: "file f mode=raw:00000644 uid=raw:00000007 = x", tree: "file f mode=0644 uid=7 = x", bites: []string{"gotar accepts"}},
		testCase{row: numbers, name: "fields with blanks before them", archive: `file f mode=raw:"   644 " size=raw:"          1 " = x`, tree: "file f mode=0644 = x", bites: []string{"gotar accepts"}},
		testCase{row: numbers, name: "empty fields are 0", archive: `file f mode=raw: uid=raw: gid=raw: mtime=raw: size=raw:`, tree: "file f mode=0000 mtime=0", bites: []string{"gotar accepts"}},
		testCase{row: numbers, name: "a negative device", archive: "char c dev=b256/-1:b256/-1\nfile f = x", want: 3, bites: []string{"bsdtar accepts"}},
		testCase{row: numbers, name: "a device beyond what the kernel has", archive: "char c dev=b256/4294967296:3\nfile f = x", want: 3, bites: []string{"gotar accepts"}},
	)
}

// nameCases: names that some layer reads otherwise.
func nameCases() []testCase {
	const nul = "NUL in names"
	const length = "names of 255 and 256 bytes, a path of 4096 components"
	const bytes = "names that are not UTF-8"
	n255, n256 := strings.Repeat("n", 255), strings.Repeat("n", 256)
	deep := strings.Repeat("d/", 1000) + "f"
	deeper := strings.Repeat("d/", 4095) + "f"
	return []testCase{
		{row: nul, name: "in a PAX path", archive: `file f pax.path="good\x00../../outside/new" = x`, want: 3, bites: []string{"bsdtar accepts"}},
		{row: nul, name: "in a PAX linkpath", archive: `sym s pax.linkpath="a\x00b" -> x`, want: 3, bites: []string{"bsdtar accepts"}},
		{row: nul, name: "in a PAX path of nothing else", archive: `file f pax.path="\x00" = x`, want: 3, bites: []string{"reads-no-checksum accepts"}},
		{row: nul, name: "in a hard link's PAX linkpath", archive: `file a = x` + "\n" + `hard h pax.linkpath="a\x00b" => x`, want: 3, bites: []string{"bsdtar accepts"}},
		{row: nul, name: "in the name of an xattr", archive: `file f pax.SCHILY.xattr.user."a\x00b"=1 = x`, want: 3, bites: []string{"reads-no-checksum accepts"}},
		{row: nul, name: "in a GNU long name, which ends there", archive: `longname "good\x00bad"` + "\nfile f magic=gnu = x", tree: "file good = x", bites: []string{"gotar accepts"}},
		{row: nul, name: "in a ustar name, which ends there", archive: `file f name="good\x00bad" = x`, tree: "file good = x", bites: []string{"gotar accepts"}},

		{row: length, name: "255 bytes", archive: "file " + n255 + " = x\nsym l" + n255[1:] + " -> t", tree: "file " + n255 + " = x\nsym l" + n255[1:] + " -> t", bites: []string{"gotar accepts"}},
		{row: length, name: "256 bytes", archive: "file " + n256 + " = x", want: 3, bites: []string{"gotar accepts"}},
		{row: length, name: "a directory of 256 bytes", archive: "file " + n256 + "/f = x", want: 3, bites: []string{"gotar accepts"}},
		{row: length, name: "256 bytes in a GNU long name", archive: "file " + n256 + " long=gnu = x", want: 3, bites: []string{"gotar accepts"}},
		{row: length, name: "a hard link of 256 bytes", archive: "file f = x\nhard " + n256 + " => f", want: 3, bites: []string{"gotar accepts"}},
		{row: length, name: "a hard link to 256 bytes", archive: "hard f => " + n256, want: 3, bites: []string{"gotar accepts"}},
		{row: length, name: "a thousand components", archive: "file " + deep + " = x", tree: "file " + deep + " = x", bites: []string{"gotar accepts"}},
		{row: length, name: "4096 components", archive: "file " + deeper + " = x", want: 3, bites: []string{"gotar accepts"}},
		{row: length, name: "2000 components, by entries", make: func(map[string]string) []byte { return deepArchive(2000) }, tree: deepTree(2000), bites: []string{"gotar accepts"}},
		{row: length, name: "100,000 components", archive: "file " + strings.Repeat("d/", 99999) + "f = x", want: 3, bites: []string{"gotar accepts"}},
		{row: length, name: "a symlink target of 4095 bytes", archive: "sym s -> " + strings.Repeat("t", 4095), tree: "sym s -> " + strings.Repeat("t", 4095), bites: []string{"gotar accepts"}},
		{row: length, name: "a symlink target of 4096 bytes", archive: "sym s -> " + strings.Repeat("t", 4096), want: 3, bites: []string{"gotar accepts"}},
		{row: length, name: "an empty symlink target", archive: `sym s -> ""`, want: 3, bites: []string{"gotar accepts"}},
		{row: length, name: "a full ustar prefix", archive: "file " + strings.Repeat("n", 100) + " prefix=" + strings.Repeat("p", 155) + " long=none = x",
			tree: "file " + strings.Repeat("p", 155) + "/" + strings.Repeat("n", 100) + " = x", bites: []string{"gotar accepts"}},

		{row: bytes, name: "Latin-1", archive: `file "caf\xe9" = x`, tree: `file "caf\xe9" = x`, bites: []string{"gotar accepts"}},
		{row: bytes, name: "in a PAX path", archive: `file f pax.path="\xff\xfe/caf\xe9" = x`, tree: `file "\xff\xfe/caf\xe9" = x`, bites: []string{"gotar accepts"}},
		{row: bytes, name: "control characters", archive: `file "a\nb\tc\x1b[31m\x7f" = x`, tree: `file "a\nb\tc\x1b[31m\x7f" = x`, bites: []string{"gotar accepts"}},
		{row: bytes, name: "backslashes and drive letters", archive: `file "..\\..\\x" = 1` + "\n" + `file C:/x = 2`, tree: `file "..\\..\\x" = 1` + "\n" + `file C:/x = 2`, bites: []string{"gotar accepts"}},
		{row: bytes, name: "options for a shell", archive: "file --checkpoint-action=exec=sh = x\nfile -rf = y", tree: "file --checkpoint-action=exec=sh = x\nfile -rf = y", bites: []string{"gotar accepts"}},
		{row: bytes, name: "blanks", archive: `file " " = x` + "\n" + `file "a " = y`, tree: `file " " = x` + "\n" + `file "a " = y`, bites: []string{"gotar accepts"}},
		{row: bytes, name: "whiteouts are ordinary names", archive: "dir d\nfile d/a = x\nfile d/.wh.a\nfile d/.wh..wh..opq\nfile .wh.d", tree: "dir d\nfile d/a = x\nfile d/.wh.a\nfile d/.wh..wh..opq\nfile .wh.d", bites: []string{"gotar accepts"}},
	}
}

func deepArchive(n int) []byte {
	var b strings.Builder
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&b, "dir %s\n", strings.Repeat("d/", i))
	}
	fmt.Fprintf(&b, "file %sf = x\n", strings.Repeat("d/", n))
	return mustBuild(b.String())
}

func deepTree(n int) string { return "file " + strings.Repeat("d/", n) + "f = x" }
