package check

import (
	"errors"
	"io"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"ocibundle/pipeline/host"
)

// checkNames looks at what names are resolved with in the host's network, or in one that others have made; one of the
// container's own leads nowhere. docker export leaves both files empty, for the engine mounts its own. A host that has no
// name server itself does not expect one to be found.
func (k *checker) checkNames() {
	joined := false
	for _, n := range namespaces(k.spec) {
		if n.Type == specs.NetworkNamespace {
			if n.Path == "" {
				return
			}
			joined = true
		}
	}
	if text, known := k.textOf("/etc/hosts"); known && len(text) == 0 {
		k.file(FindingHosts, "/etc/hosts", "is missing or empty: not even localhost resolves")
	}
	text, known := k.textOf("/etc/resolv.conf")
	if !known {
		return
	}
	theirs, err := host.ReadResolver("/etc/resolv.conf")
	k.view.note("the host's /etc/resolv.conf", err)
	ours, own := host.ParseResolver(text).Servers, theirs.Servers
	switch {
	case len(own) == 0:
	case len(ours) == 0:
		k.file(FindingResolv, "/etc/resolv.conf", "has no name server: no name resolves")
	case joined && !slices.ContainsFunc(ours, func(s string) bool { return !host.OnLoopback(s) || !slices.Contains(own, s) }):
		k.file(FindingResolv, "/etc/resolv.conf", "has the name server %s, which is the host's own: the network namespace does not reach it", ours[0])
	}
}

// maxText is how much is read of a file that should have a few lines.
const maxText = 1 << 20

// textOf reads a small file as the container will see it; where there is none it is empty. Not known: a mount or a lack of
// privilege hides it, or it is not a small file.
func (k *checker) textOf(name string) (text []byte, known bool) {
	r, err := k.view.walk(name, walkLook)
	if err != nil {
		return nil, errors.Is(err, unix.ENOENT)
	}
	defer r.close()
	if r.unknown || r.file == nil {
		return nil, false
	}
	f, err := r.openFile()
	if err == nil {
		defer f.Close()
		text, err = io.ReadAll(io.LimitReader(f, maxText+1))
	}
	k.view.note(name, err)
	return text, err == nil && len(text) <= maxText
}
