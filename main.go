// Ocibundle turns a container's filesystem stream into an OCI bundle.
package main

import (
	_ "embed"
	"os"

	"ocibundle/cli"
)

//go:embed VERSION
var version string

func main() {
	os.Exit(cli.Run(version, os.Args, os.Stdout, os.Stderr))
}
