// Package extract extracts a tar stream below a directory handle.
//
// [Stream] does it in one call. An [Extractor] puts several streams on top of each other, as
// the layers of an image are.
//
// # What it promises
//
// The stream is written by an attacker. Whatever it holds, in whatever order,
// extraction creates, changes, links to and follows nothing outside the root
// directory it was given. Names are resolved by the kernel inside that root
// (openat2 with RESOLVE_IN_ROOT), as if the process had been chrooted:
// absolute symlinks and ".." in symlinks stay within. A path is resolved once;
// from there on there are only a directory handle with one component, or a
// file handle. Nothing is checked as a string and then used as a path.
//
// A second attacker may run at the same time and rename, replace or unlink
// things below the root. The promise holds against that one too: extraction
// may fail, or the tree may differ, but nothing outside is touched.
//
// A stream is accepted only when it is complete: the end-of-archive marker was
// seen and nothing but zeros follows it. What the stream asks for and cannot
// be had (a device node, an extended attribute) is counted in the [tarx.Report],
// never dropped silently.
//
// The same stream gives the same tree: what the workers do in parallel cannot
// be told from doing it entry by entry.
//
// Memory is bounded by the header limits below, the number of directories in
// the stream (some 50 bytes each), and a constant.
//
// # What it does not promise
//
// A process that may move directories of the tree out of the root may take
// what is in them along, files written through an open handle included. The
// caller keeps such processes out, with a root that nobody else can reach.
//
// What the tree holds is the stream's business: setuid files, device nodes,
// symlinks that lead out of the root when a program follows them without a
// chroot. Whoever walks the tree later has to take the same care.
//
// # What a failure leaves
//
// A partial tree, with directories still at mode 0700 or more. Removing it is
// for the caller; [ocibundle/tarx/remove] does it with the same care.
//
// # How it works
//
// One goroutine parses headers and does everything that depends on what is there
// already, in the order of the stream, which it reads in chunks or has read
// ahead by another (source says when). The workers get files that are open, or
// that are to be created under names that nothing in the tree has (usedNames
// knows), with contents and metadata, a batch per chunk: such a file makes no
// difference to any other name, and an entry that may meet one on its way waits
// for it (Extractor.settle). So there is nothing about names that the workers
// could reorder. A directory gets its metadata when the stream has left it, or
// else at the end, children before parents.
package extract
