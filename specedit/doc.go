// Package specedit makes config.json: a template, changed by an ordered list of edits, checked
// against the OCI runtime specification.
//
// [Plan] is what others begin with: a base, a list of [Edit], and then [Plan.Check] and
// [Plan.Build]. The functions that make an Edit take what the flags of that name take, and a label,
// the user's own words for it, for errors to blame. [Diff] makes a patch of two configs, [Inspect]
// says what is dubious in one. What else is exported serves the program.
//
// The config is held as an ordered tree of raw JSON, not as Go structs, so that whatever no edit
// touches comes out as it went in: the order of the keys, the digits of the numbers, and members
// that are newer than this program's idea of the specification, up to the point where the check at
// the end names them.
//
// Every node of the tree remembers the label of the edit that wrote it. Only the final document is
// checked, and what is wrong with it is blamed on that label. A state in between may be invalid.
//
// An edit is a pure function of the document. [Plan.Check] and [Plan.Build] apply the same list,
// before and after the rootfs exists; the only difference is who answers for user names. Files that
// an edit needs are read by its caller, once, before the edit is made.
//
// The package prints nothing, ends no process, opens no file but passwd and group below a directory
// handle, and knows nothing of archives.
package specedit
