package main

// Tools are named as in the tables.
const (
	ours       = "ocibundle"
	gnuTar     = "GNU tar"
	bsdtar     = "bsdtar"
	goArchive  = "go-archive"
	containerd = "containerd"
	umoci      = "umoci"
	floor      = "floor"
)

var peers = []string{bsdtar, goArchive, containerd, umoci}

// A kind says what is done with a case.
type kind int

const (
	race    kind = iota // wall time against GNU tar
	memory              // peak memory of one run
	linear              // time per entry at several sizes
	startup             // ocibundle spec against runc spec
	other               // two commands: see duel
)

type kase struct {
	name   string
	title  string
	kind   kind
	stream string   // redis, or a name that generate knows; of linear, the shape
	target float64  // race, startup: at most this ratio; linear: largest over smallest time per entry; memory: MiB, 0 is 16
	file   bool     // the stream is a file on stdin, not a pipe
	pack   string   // gzip, zstd
	window float64  // MiB that the decoder may take beyond the limit
	user   bool     // ocibundle runs as a user with subordinate ids
	digest bool     // ocibundle verifies the digest
	ext4   bool     // on ext4, not tmpfs
	busy   bool     // something else keeps one processor busy meanwhile
	duel   *duel    // of other
	others []string // besides ocibundle and GNU tar
}

const (
	memoryLimit  = 16   // MiB
	linearLimit  = 1.15 // largest over smallest time per entry
	startupLimit = 1.5
)

var cases = []kase{
	{name: "redis", title: "docker export of a Debian root with redis", stream: "redis", target: 0.45,
		others: append([]string{floor}, peers...)},
	{name: "small", title: "100,000 files of 1 KiB in 2,000 directories", stream: "small", target: 0.42,
		others: append([]string{floor}, peers...)},
	{name: "big", title: "4 files of 512 MiB", stream: "big", target: 0.30, others: append([]string{floor}, peers...)},
	{name: "redis-file", title: "redis, a file on stdin", stream: "redis", target: 0.62, file: true, others: []string{bsdtar}},
	{name: "redis-subid", title: "redis, as a user with `--remap subid`, against GNU tar as root", stream: "redis", target: 0.60, user: true},
	{name: "redis-digest", title: "redis with `--digest`", stream: "redis", target: 0.75, digest: true},
	// zstd's own default level 3 has a window of 2 MiB, gzip one of 32 KiB.
	{name: "redis-zstd", title: "redis, zstd, against `zstd -dc \\| tar`", stream: "redis", target: 0.60, pack: "zstd", window: 2,
		others: []string{bsdtar}},
	{name: "redis-gzip", title: "redis, gzip, against `gzip -dc \\| tar`", stream: "redis", target: 0.60, pack: "gzip", window: 0.03,
		others: []string{bsdtar}},
	{name: "ext4-small", title: "100,000 files of 1 KiB on ext4", stream: "small", target: 0.50, ext4: true,
		others: append([]string{floor}, peers...)},
	{name: "redis-busy", title: "redis, while something else keeps one processor busy", stream: "redis", target: 0.80, busy: true},
	{name: "container", title: "a small container, 540 entries and 8 MB", stream: "container", target: 0.90, others: []string{floor}},
	{name: "container-subid", title: "the small container, as a user with `--remap subid`, against GNU tar as root", stream: "container",
		target: 1.08, user: true},
	{name: "image", title: "`--image -i FILE`, one layer that is not compressed", kind: other, stream: "redis", target: 0.80,
		duel: imageDuel(1, false)},
	{name: "image-gzip", title: "`--image -i FILE`, four layers, gzip", kind: other, stream: "redis", target: 0.60,
		duel: imageDuel(4, true)},
	{name: "export", title: "`export`", kind: other, stream: "redis", target: 0.75, duel: exportDuel},
	{name: "rm", title: "`rm`, 100,000 files of 1 KiB", kind: other, stream: "small", target: 0.80, duel: rmDuel},
	{name: "version", title: "`--version`", kind: other, target: 1.5, duel: versionDuel},
	{name: "rss-big", title: "8 files of 512 MiB, 4 GiB in all", kind: memory, stream: "4g"},
	{name: "rss-million", title: "1,000,000 entries", kind: memory, stream: "1000000-spread"},
	{name: "rss-wide", title: "1,000,000 entries in one directory", kind: memory, stream: "1000000-wide"},
	{name: "rss-dirs", title: "100,000 directories", kind: memory, stream: "dirs"},
	{name: "rss-pit", title: "a chain of 1,000 directories", kind: memory, stream: "pit"},
	{name: "linear-spread", title: "50 entries to a directory", kind: linear, stream: "spread", target: linearLimit},
	{name: "linear-wide", title: "all entries in one directory", kind: linear, stream: "wide", target: linearLimit},
	{name: "linear-deep", title: "chains of 20 directories", kind: linear, stream: "deep", target: linearLimit},
	{name: "startup", title: "`ocibundle spec` against `runc spec`", kind: startup, target: startupLimit},
}

// linearSizes are the numbers of entries; smaller ones get more rounds, for they take less time and scatter more.
var linearSizes = []struct{ entries, factor int }{{10_000, 4}, {100_000, 1}, {1_000_000, 0}}
