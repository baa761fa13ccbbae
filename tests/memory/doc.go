// Package memory holds the program to what it promises of memory, by the kernel's own figure: 64 MiB for a million entries of any
// kind, 256 MiB for the worst stream that anyone can write.
package memory
