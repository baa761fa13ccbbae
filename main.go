// Ocibundle turns a container's filesystem stream into an OCI bundle.
package main

import (
	"os"

	"ocibundle/cli"
)

func main() {
	os.Exit(cli.Run(os.Args, os.Stdin, os.Stdout, os.Stderr))
}
