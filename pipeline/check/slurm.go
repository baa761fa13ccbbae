package check

import (
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// checkSlurm looks for what stands in a job's way. Slurm starts a bundle as the job's user, on every node, in the node's
// network, with control groups of its own; a terminal in the config it sets itself, and root.path, too
// (https://slurm.schedmd.com/containers.html).
func (k *checker) checkSlurm() {
	for i, n := range namespaces(k.spec) {
		if n.Type == specs.NetworkNamespace {
			k.at(FindingSlurmNetwork, pointer("linux", "namespaces", i), "is a network of the container's own: it sees no other node and no port of Slurm's")
		}
	}
	for i, m := range k.spec.Mounts {
		if source := filepath.Clean(m.Source); isBind(m) && onOneNode(source) {
			k.at(FindingSlurmSource, pointer("mounts", i, "source"), "is %q, which is another place on every node", m.Source)
		}
	}
}

// onOneNode tells whether a path is one that no cluster shares (hier(7)).
func onOneNode(path string) bool {
	for _, dir := range []string{"/tmp", "/var/tmp", "/dev/shm", "/run/user"} {
		if path == dir || strings.HasPrefix(path, dir+"/") {
			return true
		}
	}
	return false
}
