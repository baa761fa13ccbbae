package hostile

import (
	"fmt"
	"strconv"
	"strings"

	"ocibundle/tests/hostile/tarscript"
)

func mustBuild(script string) []byte {
	archive, err := tarscript.Build(script, nil)
	if err != nil {
		panic(err)
	}
	return archive
}

// quoteArchive is an archive as the inside of a string literal of tarscript.
func quoteArchive(script string) string {
	quoted := strconv.QuoteToASCII(string(mustBuild(script)))
	return quoted[1 : len(quoted)-1]
}

// cutCases: streams that end too early or too late.
func cutCases() []testCase {
	const row = "cut between entries, in a header, in padding; a second archive"
	return []testCase{
		{row: row, name: "empty", archive: "noend", want: 3, bites: []string{"gotar accepts"}},
		{row: row, name: "one byte", archive: "noend\nbytes x", want: 3, bites: []string{"bsdtar fails"}},
		{row: row, name: "no entries, only the end", archive: "end", want: 3, bites: []string{"gotar accepts"}},
		{row: row, name: "a lot of zeros", archive: "end\nzeros 102400", want: 3, bites: []string{"gotar accepts"}},
		{row: row, name: "one zero block", archive: "noend\nzeros 512", want: 3, bites: []string{"gotar accepts"}},
		{row: row, name: "no end marker", archive: "noend\nfile f = x", want: 3, bites: []string{"gotar accepts"}},
		{row: row, name: "no end marker after an empty file", archive: "noend\nfile f", want: 3, bites: []string{"gotar accepts"}},
		{row: row, name: "no end marker after a directory", archive: "noend\nfile f = x\ndir d", want: 3, bites: []string{"gotar accepts"}},
		{row: row, name: "half an end marker", archive: "noend\nfile f = x\nzeros 512", want: 3, bites: []string{"gotar accepts"}},
		{row: row, name: "an end marker that is a byte short", archive: "noend\nfile f = x\nzeros 1023", want: 3, bites: []string{"bsdtar accepts"}},
		{row: row, name: "cut in a header", archive: "file f = x\nfile g = y\ncut 1100", want: 3, bites: []string{"gnutar accepts"}},
		{row: row, name: "cut in a body", archive: "file f body=zeros:2000\ncut 1500", want: 3, bites: []string{"joins fails"}},
		{row: row, name: "cut in the padding", archive: "file f = x\ncut 600", want: 3, bites: []string{"gotar accepts"}},
		{row: row, name: "cut in a PAX header", archive: "file f pax.path=g = x\ncut 700", want: 3, bites: []string{"gotar accepts"}},
		{row: row, name: "cut after a PAX header", archive: "file f pax.path=g = x\ncut 1024", want: 3, bites: []string{"gotar accepts"}},
		{row: row, name: "ends after a PAX header", archive: "file f = x\npax path=g", want: 3, bites: []string{"gotar accepts"}},
		{row: row, name: "ends after a long name", archive: "file f = x\nlongname g", want: 3, bites: []string{"gotar accepts"}},
		{row: row, name: "ends after a long link", archive: "file f = x\nlonglink g", want: 3, bites: []string{"gotar accepts"}},
		{row: row, name: "a second archive behind it", archive: "file f = x\nend\nfile g = y\nend", want: 3, bites: []string{"gotar accepts", "gnutar leaves out g"}},
		{row: row, name: "GNU tar CVE-2025-45582: a second archive over the first one's symlink", archive: "sym l -> $OUT\nend\nfile l/new = owned\nend", want: 3, bites: []string{"gotar accepts"}},
		{row: row, name: "a second archive behind a full record", archive: "file f = x\nend\nzeros 8192\nfile g = y\nend", want: 3, bites: []string{"gnutar leaves out g"}},
		{row: row, name: "one byte behind it", archive: "file f = x\nend\nbytes x", want: 3, bites: []string{"gotar accepts"}},
		{row: row, name: "one byte far behind it", archive: "file f = x\nend\nzeros 1000000\nbytes x", want: 3, bites: []string{"gotar accepts"}},
		{row: row, name: "an entry behind one zero block", archive: "file f = x\nzeros 512\nfile g = y", want: 3, bites: []string{"gnutar leaves out g"}},
		{row: row, name: "zeros behind it are padding", archive: "file f = x\nend\nzeros 9216", tree: "file f = x", bites: []string{"gotar accepts"}},
		{row: row, name: "zeros that are no whole block", archive: "file f = x\nend\nzeros 100", tree: "file f = x", bites: []string{"gotar accepts"}},
		{row: row, name: "text", archive: "noend\nbytes " + strconv.Quote(strings.Repeat("This is not an archive. ", 100)), want: 3, bites: []string{"bsdtar fails"}},
		{row: row, name: "an error message behind an honest start", archive: "noend\nfile f = x\nbytes \"Error response from daemon: no such container\\n\"", want: 3, bites: []string{"gnutar accepts"}},
	}
}

// headerCases: headers that do not hold together.
func headerCases() []testCase {
	const row = "headers that do not hold together"
	return []testCase{
		{row: row, name: "a wrong checksum", archive: "file f = x\nfile g chksum=bad = y", want: 3, bites: []string{"reads-no-checksum accepts"}},
		{row: row, name: "a wrong checksum at the start", archive: "file f chksum=bad = x", want: 3, bites: []string{"reads-no-checksum accepts"}},
		{row: row, name: "no checksum", archive: `file f chksum=raw:"        " = x`, want: 3, bites: []string{"reads-no-checksum accepts"}},
		{row: row, name: "a checksum of zeros", archive: `file f chksum=raw:"\x00\x00\x00\x00\x00\x00\x00\x00" = x`, want: 3, bites: []string{"reads-no-checksum accepts"}},
		{row: row, name: "a checksum that is a word", archive: `file f chksum=raw:checksum = x`, want: 3, bites: []string{"reads-no-checksum accepts"}},
		{row: row, name: "a wrong checksum on a PAX header", archive: "pax path=g hdr.chksum=bad\nfile f = x", want: 3, bites: []string{"reads-no-checksum accepts"}},
		{row: row, name: "a wrong checksum on a long name", archive: "longname g hdr.chksum=bad\nfile f = x", want: 3, bites: []string{"reads-no-checksum accepts"}},
		{row: row, name: "a checksum over signed bytes", archive: `file "caf\xe9" chksum=signed = x`, tree: `file "caf\xe9" = x`, bites: []string{"gotar accepts"}},
		{row: row, name: "no magic", archive: "file f magic=v7 = x\nsym s magic=v7 -> f", tree: "file f = x\nsym s -> f", bites: []string{"gotar accepts"}},
		{row: row, name: "a magic that nobody knows", archive: `file f magic="unknown\x00" = x`, tree: "file f = x", bites: []string{"gotar accepts"}},
		{row: row, name: "v7 has no prefix", archive: "file f magic=v7 prefix=p = x", tree: "file f = x", bites: []string{"gotar accepts"}},
		{row: row, name: "GNU has no prefix, but Go once wrote one", archive: "file f magic=gnu prefix=p = x", tree: "file p/f = x", bites: []string{"gotar | gnutar differ"}},
		{row: row, name: "owners by name are not looked up", archive: "file f uid=7 gid=7 uname=root gname=root = x", tree: "file f uid=7 gid=7 = x", bites: []string{"root: gnutar makes file f uid=0 gid=0 = x", "gotar accepts"}},
		{row: row, name: "two headers of a kind", archive: "pax path=a\npax path=b\nfile f = x", tree: "file b = x", bites: []string{"gotar accepts"}},
		{row: row, name: "an endless chain of PAX headers", archive: strings.Repeat("pax comment=x\n", 20000) + "file f = x", tree: "file f = x", bites: []string{"gotar accepts"}},
		{row: row, name: "the same directory a hundred thousand times", make: manyEntries, tree: "dir d", bites: []string{"gotar accepts"}},
		{row: row, name: "the same file a thousand times", archive: strings.Repeat("file f = old\n", 1000) + "file f = new", tree: "file f = new", bites: []string{"gotar accepts"}},
	}
}

// manyEntries is one directory a hundred thousand times.
func manyEntries(map[string]string) []byte {
	one := mustBuild("noend\ndir d")
	return append([]byte(strings.Repeat(string(one), 100000)), make([]byte, 1024)...)
}

// paxCases: records that do not hold together.
func paxCases() []testCase {
	const row = "PAX records that do not hold together"
	var cases []testCase
	for _, r := range []struct{ name, text string }{
		{"no length", `"path=g\n"`},
		{"a length of 0", `"0 path=g\n"`},
		{"a length of 1", `"1 path=g\n"`},
		{"a length too short", `"8 path=g\n"`},
		{"a length too long", `"99 path=g\n"`},
		{"a negative length", `"-10 path=g\n"`},
		{"a length with a sign", `"+10 path=g\n"`},
		{"a length of 2^63", `"9223372036854775808 path=g\n"`},
		{"a length of 2^64 + 10", `"18446744073709551626 path=g\n"`},
		{"a length in hexadecimal", `"0xa path=g\n"`},
		{"no newline", `"10 path=gg"`},
		{"no equals sign", `"9 path g\n"`},
		{"no key", `"5 =g\n"`},
		{"no blank", `"10path=gg\n"`},
		{"one record and a half", `"10 path=g\n10 pat"`},
		{"text", `"this is not a record"`},
	} {
		cases = append(cases, testCase{row: row, name: r.name, archive: "paxraw " + r.text + "\nfile f = x", want: 3,
			bites: []string{"reads-pax-loosely | gotar differ"}})
	}
	const memory = "Go CVE-2022-2879: a 1 MiB PAX value, unbounded headers"
	mib := strings.Repeat("v", 1<<20)
	return append(cases,
		testCase{row: row, name: "in a global header", archive: "globalraw \"99 comment=g\\n\"\nfile f = x", want: 3, bites: []string{"bsdtar accepts"}},
		testCase{row: row, name: "a global path renames nobody", archive: "global path=../../outside/new\nfile f = x", tree: "file f = x", bites: []string{"gnutar fails"}},
		testCase{row: row, name: "an empty path falls back", archive: "pax path=\nfile f = x", tree: "file f = x", bites: []string{"gotar accepts"}},
		testCase{row: row, name: "keys that nobody knows", archive: "file f pax.VENDOR.key=value pax.comment=c = x", tree: "file f = x", bites: []string{"gotar accepts"}},
		testCase{row: row, name: "an equals sign in a value", archive: "file f pax.path=a=b = x", tree: "file a=b = x", bites: []string{"gotar accepts"}},
		testCase{row: row, name: "a newline in a value", archive: `file f pax.path="a` + `\n` + `b" = x`, tree: `file "a\nb" = x`, bites: []string{"gotar accepts"}},
		testCase{row: memory, name: "a value of just under 1 MiB", archive: "file f pax.comment=" + mib[:1<<20-100] + " = x", tree: "file f = x", bites: []string{"gotar accepts"}},
		testCase{row: memory, name: "a value of 4 MiB", archive: "file f pax.comment=" + mib + mib + mib + mib + " = x", want: 3, bites: []string{"gnutar accepts"}},
		testCase{row: memory, name: "a path of 1 MiB", archive: "file f pax.path=" + mib[:1<<20-100] + " = x", want: 3, bites: []string{"gotar accepts"}},
		testCase{row: memory, name: "a header that says 8 GiB", archive: "pax comment=x hdr.size=8589934591\nfile f = x", want: 3, bites: []string{"bsdtar fails"}},
		testCase{row: memory, name: "a header that says 8 EiB", archive: "pax comment=x hdr.size=b256/9223372036854775807\nfile f = x", want: 3, bites: []string{"bsdtar fails"}},
		testCase{row: memory, name: "a long name of 2 MiB", archive: "longname " + mib + mib + "\nfile f = x", want: 3, bites: []string{"gnutar fails"}},
		testCase{row: memory, name: "a long name that says 8 GiB", archive: "longname x hdr.size=8589934591\nfile f = x", want: 3, bites: []string{"bsdtar fails"}},
		testCase{row: memory, name: "a long name that says -1", archive: "longname x hdr.size=b256/-1\nfile f = x", want: 3, bites: []string{"bsdtar fails"}},
		testCase{row: memory, name: "a global header of 4 MiB", archive: "global comment=" + mib + mib + mib + mib + "\nfile f = x", want: 3, bites: []string{"gnutar accepts"}},
	)
}

// sparseCases: maps of sparse files.
func sparseCases() []testCase {
	const row = "Go CVE-2025-58183, CVE-2026-32288: sparse maps"
	pax := func(attrs, body string) string {
		return "file f " + attrs + " = " + body + "\nfile g = y"
	}
	const v10 = "pax.GNU.sparse.major=1 pax.GNU.sparse.minor=0 pax.GNU.sparse.name=sparse pax.GNU.sparse.realsize="
	block := func(text string) string {
		return `"` + text + `"` + zeros(512-strings.Count(text, `\n`)-(len(text)-2*strings.Count(text, `\n`)))
	}
	var cases []testCase
	for _, m := range []struct{ name, attrs string }{
		{"overlapping", "gnusparse=0:3,2:2 realsize=10 = abcde"},
		{"out of order", "gnusparse=5:2,0:3 realsize=10 = abcde"},
		{"beyond the size", "gnusparse=0:3,9:2 realsize=10 = abcde"},
		{"negative offset", "gnusparse=b256/-1:5 realsize=10 = abcde"},
		{"negative length", "gnusparse=0:b256/-5 realsize=10 = abcde"},
		{"an end that overflows", "gnusparse=9223372036854775807:5 realsize=10 = abcde"},
		{"more data than the map has", "gnusparse=0:3 realsize=10 = abcde"},
		{"less data than the map has", "gnusparse=0:9 realsize=10 = abcde"},
		{"a negative size", "gnusparse=0:5 realsize=b256/-1 = abcde"},
	} {
		cases = append(cases, testCase{row: row, name: "old GNU: " + m.name, archive: "file f type=S " + m.attrs + "\nfile g = y", want: 3, bites: []string{"reads-no-checksum accepts"}})
	}
	for _, m := range []struct{ name, attrs, body string }{
		{"0.1: an odd number of numbers", "pax.GNU.sparse.major=0 pax.GNU.sparse.minor=1 pax.GNU.sparse.numblocks=1 pax.GNU.sparse.size=10 pax.GNU.sparse.map=0,5,3", "abcde"},
		{"0.1: a map that is text", "pax.GNU.sparse.major=0 pax.GNU.sparse.minor=1 pax.GNU.sparse.numblocks=1 pax.GNU.sparse.size=10 pax.GNU.sparse.map=a,b", "abcde"},
		{"0.1: fewer pieces than it says", "pax.GNU.sparse.major=0 pax.GNU.sparse.minor=1 pax.GNU.sparse.numblocks=3 pax.GNU.sparse.size=10 pax.GNU.sparse.map=0,5", "abcde"},
		{"0.1: 2^62 pieces", "pax.GNU.sparse.major=0 pax.GNU.sparse.minor=1 pax.GNU.sparse.numblocks=4611686018427387904 pax.GNU.sparse.size=10 pax.GNU.sparse.map=0,5", "abcde"},
		{"0.1: overlapping", "pax.GNU.sparse.major=0 pax.GNU.sparse.minor=1 pax.GNU.sparse.numblocks=2 pax.GNU.sparse.size=10 pax.GNU.sparse.map=0,3,1,2", "abcde"},
		{"1.0: a map that is text", v10 + "10", block(`many\n`)},
		{"1.0: 2^62 pieces", v10 + "10", block(`4611686018427387904\n`)},
		{"1.0: a negative offset", v10 + "10", block(`1\n-1\n5\n`) + "abcde"},
		{"1.0: beyond the size", v10 + "10", block(`1\n8\n5\n`) + "abcde"},
		{"1.0: a map longer than the body", v10 + "10", `"1000\n1\n"`},
		{"1.0: a number longer than the body", v10 + "10", `"` + strings.Repeat("1", 400) + `"`},
	} {
		cases = append(cases, testCase{row: row, name: m.name, archive: pax(m.attrs, m.body), want: 3, bites: []string{"reads-no-checksum accepts"}})
	}
	return append(cases,
		testCase{row: row, name: "old GNU: an honest one", archive: "file f type=S gnusparse=0:3,512:2 realsize=1024 = abcde\nfile g = y",
			tree: "file f = \"abc\"" + zeros(509) + "de" + zeros(510) + "\nfile g = y", bites: []string{"reads-no-checksum accepts"}},
		testCase{row: row, name: "old GNU: more pieces than a header has", archive: "file f type=S gnusparse=0:1,2:1,4:1,6:1,8:1,10:1 realsize=12 = abcdef\nfile g = y",
			tree: `file f = "a\x00b\x00c\x00d\x00e\x00f\x00"` + "\nfile g = y", bites: []string{"reads-no-checksum | gotar differ"}},
		testCase{row: row, name: "0.1: an honest one", archive: pax("pax.GNU.sparse.major=0 pax.GNU.sparse.minor=1 pax.GNU.sparse.name=sparse pax.GNU.sparse.numblocks=2 pax.GNU.sparse.size=10 pax.GNU.sparse.map=0,2,5,3", "abcde"),
			tree: `file sparse = "ab\x00\x00\x00cde\x00\x00"` + "\nfile g = y", bites: []string{"reads-no-checksum | gotar differ"}},
		testCase{row: row, name: "1.0: an honest one", archive: pax(v10+"10", block(`1\n3\n5\n`)+"abcde"),
			tree: `file sparse = "\x00\x00\x00abcde\x00\x00"` + "\nfile g = y", bites: []string{"reads-no-checksum | gotar differ"}},
		testCase{row: row, name: "1.0: no size", archive: pax(strings.TrimSuffix(v10, "pax.GNU.sparse.realsize="), block(`1\n0\n5\n`)+"abcde"),
			tree: "file sparse = abcde" + zeros(512) + "\nfile g = y", bites: []string{"reads-no-checksum | gotar differ"}},
		testCase{row: row, name: "1.0: a name that goes up", archive: pax(strings.Replace(v10, "name=sparse", "name=../../outside/new", 1)+"10", block(`1\n3\n5\n`)+"abcde"), want: 4,
			bites: []string{"joins: outside/new: appeared"}},
		testCase{row: row, name: "1.0: more than a file can be", archive: pax(v10+"9223372036854775807", block(`1\n9223372036854775802\n5\n`)+"abcde"), want: 1,
			bites: []string{"reads-no-checksum accepts"}},
		testCase{row: row, name: "old GNU: all hole", archive: "file f type=S gnusparse=1048576:0 realsize=1048576\nfile g = y",
			tree: "file f body=zeros:1048576\nfile g = y", bites: []string{"reads-no-checksum accepts"}},
	)
}

func zeros(n int) string { return `"` + strings.Repeat(`\x00`, n) + `"` }

// xattrCases: extended attributes.
func xattrCases() []testCase {
	const row = "extended attributes that are too large, too many, not for us"
	acl := `file f xattr.system.posix_acl_access="\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x06\x00\xe8\x03\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x06\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff" = x`
	many := ""
	for i := range 3000 {
		many += fmt.Sprintf(" xattr.user.x%d=v", i)
	}
	return []testCase{
		{row: row, name: "a value beyond 64 KiB", archive: "file f xattr.user.big=" + strings.Repeat("v", 65537) + " = x", tree: "file f xattr.user.big= = x", bites: []string{"joins fails"}},
		{row: row, name: "a name beyond 255 bytes", archive: "file f xattr.user." + strings.Repeat("n", 256) + "=v = x", tree: "file f = x", bites: []string{"joins fails"}},
		{row: row, name: "no name", archive: "file f xattr.=v = x", tree: "file f = x", bites: []string{"gotar accepts"}},
		{row: row, name: "more than a filesystem takes", archive: "file f" + many + " = x", tree: "file f = x", bites: []string{"joins fails"}},
		{row: row, name: "a namespace that nobody knows", archive: "file f xattr.evil.x=v = x", tree: "file f = x", bites: []string{"gotar accepts"}},
		{row: row, name: "trusted is root's", archive: "file f xattr.trusted.x=v = x", tree: "file f xattr.trusted.x=v = x", bites: []string{"gotar accepts"}},
		{row: row, name: "labels and integrity", archive: "file f xattr.security.selinux=label xattr.security.ima=x xattr.security.evm=y = x",
			tree: "file f xattr.security.selinux= xattr.security.ima= xattr.security.evm= = x", bites: []string{"root: joins makes file f xattr.security.selinux=label = x", "gotar accepts"}},
		{row: row, name: "an access control list that names an id", archive: acl,
			tree: acl, bites: []string{"joins accepts", "gotar accepts"}},
		{row: row, name: "a capability that is none", archive: "file f xattr.security.capability=junk = x", tree: "file f xattr.security.capability= = x", bites: []string{"gotar accepts"}},
		{row: row, name: "binary values", archive: `file f xattr.user.bin="a\x00\xff\n=" mode=0444 = x`, tree: `file f xattr.user.bin="a\x00\xff\n=" mode=0444 = x`, bites: []string{"gotar accepts"}},
		{row: row, name: "on a read-only file and a locked directory", archive: "file f mode=0000 xattr.user.k=v = x\ndir d mode=0000 xattr.user.k=v", tree: "file f mode=0000 xattr.user.k=v = x\ndir d mode=0000 xattr.user.k=v", bites: []string{"gotar accepts"}},
		{row: row, name: "the stream's own rootless ids", archive: `file f xattr.user.rootlesscontainers="\x08\x01" = x`, tree: "file f = x", bites: []string{"joins makes file f xattr.user.rootlesscontainers=\"\\x08\\x01\" = x"}},
		{row: row, name: "on fifos, which have none", archive: "fifo p xattr.user.k=v\nfile f = x", tree: "fifo p\nfile f = x", bites: []string{"joins accepts"}},
	}
}

// limitCases: limits that the caller sets.
func limitCases() []testCase {
	const row = "limits"
	return []testCase{
		{row: row, name: "one entry too many", archive: "file a = x\nfile b = y\nfile c = z", flags: []string{"--max-entries", "2"}, want: 4, bites: []string{"joins accepts"}},
		{row: row, name: "as many entries as there may be", archive: "file a = x\nfile b = y", flags: []string{"--max-entries", "2"}, tree: "file a = x\nfile b = y", bites: []string{"joins accepts"}},
		{row: row, name: "the same name again and again", make: manyEntries, flags: []string{"--max-entries", "1000"}, want: 4, bites: []string{"joins accepts"}},
		{row: row, name: "too many bytes", archive: "file a body=zeros:100000", flags: []string{"--max-bytes", "64k"}, want: 4, bites: []string{"joins accepts"}},
		{row: row, name: "too many bytes behind the end", archive: "file a = x\nend\nzeros 100000", flags: []string{"--max-bytes", "64k"}, want: 4, bites: []string{"joins accepts"}},
		{row: row, name: "a size beyond the limit and no body", archive: "file a size=8589934591 = x", flags: []string{"--max-bytes", "64k"}, want: 3, bites: []string{"joins fails"}},
	}
}
