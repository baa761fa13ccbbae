// Peer-go-archive extracts standard input into DIR with github.com/moby/go-archive, Docker's own library.
package main

import (
	"fmt"
	"os"

	"github.com/moby/go-archive"
	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: peer-go-archive DIR < STREAM")
		os.Exit(2)
	}
	unix.Umask(0) // as dockerd does
	if err := archive.UntarUncompressed(os.Stdin, os.Args[1], &archive.TarOptions{}); err != nil {
		fmt.Fprintln(os.Stderr, "peer-go-archive:", err)
		os.Exit(1)
	}
}
