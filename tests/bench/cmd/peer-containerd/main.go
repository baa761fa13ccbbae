// Peer-containerd extracts standard input into DIR with containerd's archive.Apply.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/containerd/containerd/v2/pkg/archive"
	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: peer-containerd DIR < STREAM")
		os.Exit(2)
	}
	unix.Umask(0)
	if _, err := archive.Apply(context.Background(), os.Args[1], os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "peer-containerd:", err)
		os.Exit(1)
	}
}
