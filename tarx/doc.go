// Package tarx knows the tar format and nothing of any filesystem: it reads and
// writes headers, pax records, sparse maps, ids and extended attributes, and has
// the errors and the report that the engines share.
//
// The engines are the packages below it. [ocibundle/tarx/extract] makes a tree of a
// stream, [ocibundle/tarx/rewrite] a stream of a stream, [ocibundle/tarx/export] a
// stream of a tree, and [ocibundle/tarx/remove] takes a tree away.
//
// A stream is hostile. The parser holds a bounded amount of memory, whatever the
// stream says of its own sizes, and takes a stream for whole only when it has its
// end-of-archive marker with nothing but zeros behind it.
//
// For use outside this module there are: [ocibundle/tarx/extract.Stream] with this package's
// [Options], [Report] and errors; [ocibundle/tarx/export.Tree]; [ocibundle/tarx/remove.All];
// and [List], which reads a stream without making anything. What else is exported here serves
// the engines, and may change with them.
package tarx
