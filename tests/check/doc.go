// Package check runs `ocibundle check` on sound, broken and hostile bundles, and asks real runtimes whether it is right.
package check
