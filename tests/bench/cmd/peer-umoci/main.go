// Peer-umoci extracts standard input into DIR with umoci's layer unpacker.
package main

import (
	"fmt"
	"os"

	"github.com/opencontainers/umoci/oci/layer"
	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: peer-umoci DIR < STREAM")
		os.Exit(2)
	}
	unix.Umask(0)
	if err := layer.UnpackLayer(os.Args[1], os.Stdin, &layer.UnpackOptions{OnDiskFormat: layer.DirRootfs{}}); err != nil {
		fmt.Fprintln(os.Stderr, "peer-umoci:", err)
		os.Exit(1)
	}
}
