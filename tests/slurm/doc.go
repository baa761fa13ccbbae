// Package slurm runs bundles under a real Slurm cluster: a controller and two compute nodes on the loopback address, with an
// authentication daemon of their own.
//
// The scripts and the configuration are those of docs/slurm.md, word by word but for the places where things are. Each node
// has its own /local, as machines have, and shares everything else. Nobody but an ordinary user makes or runs a bundle.
package slurm
