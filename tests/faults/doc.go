// Package faults makes everything fail that can fail under the program: each system call of each command, one at a
// time, disks, quotas, the power, limits of files, processes and memory, readers that go away, and signals at any
// moment; as root and as ordinary users with and without subordinate ids.
//
// One rule judges them all: the exit status is 0 and what the command makes is right, or it is the one that fits, there is
// one line that says what happened, the destination is as it was, nothing is left beside it, and nobody hangs or shows
// a Go stack. What breaks the rule is reported in groups, each with a name of a run:
//
//	go test ./tests/faults -only 'root/main/openat/3/EIO'
//
// Without flags a fixed sample is run; -all runs everything, and -only what matches a regular expression, out of
// everything.
package faults
