// Package docs holds the manual page, made from ocibundle.1.md.
package docs

import _ "embed"

// Manual is the page ocibundle(1) in the language of man(7).
//
//go:generate go tool go-md2man -in ocibundle.1.md -out ocibundle.1
//go:embed ocibundle.1
var Manual string
