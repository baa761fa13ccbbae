// Package oracle holds extracted trees against those that others make of the same stream: go-archive, which Docker extracts
// with, and GNU tar. Two trees are compared name by name: type, mode, ids, size, content, mtime to the nanosecond, symlink
// target, hard-link group, device number, extended attributes. Every difference that is meant is named in differences_test.go;
// any other fails.
package oracle
