package main

const usageText = `docker export CONTAINER | ocibundle -o DIR [flags] [-- ARG...]
   ocibundle COMMAND [flags]`

// appHelp is the page of --help.
const appHelp = `{{.Name}} - {{.Usage}}

Usage:
   {{.UsageText}}

Reads a container's filesystem as a tar stream, extracts it safely into
DIR/rootfs and writes DIR/config.json. DIR appears only when all of it is there.
ARG... is the command that the container runs.
{{if .VisibleCommands}}
Commands:{{range .VisibleCommands}}
   {{join .Names ", "}}{{"\t"}}{{.Usage}}{{end}}
{{end}}{{range .VisibleFlagCategories}}
{{if .Name}}{{.Name}}{{else}}Help{{end}}:{{range .Flags}}
   {{.}}{{end}}
{{end}}
Edits are applied in the order of the command line. PTR is a JSON pointer, in
which [key=value] picks an element of an array: /linux/namespaces/[type=network].
VALUE is JSON, or else a string. FILE may be the JSON text itself.

Exit status: 0 done; 1 I/O; 2 usage or a bad edit; 3 malformed or cut stream;
4 refused; 5 the destination exists or is in use; 128+N ended by signal N.
`
