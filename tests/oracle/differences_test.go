package oracle

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"path"
	"strings"
	"testing"
)

// namesIn are the clean names of a stream's entries.
func namesIn(t testing.TB, stream []byte) map[string]bool {
	t.Helper()
	named := map[string]bool{}
	for r := tar.NewReader(bytes.NewReader(stream)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return named
		}
		if err != nil {
			t.Fatal(err)
		}
		named[path.Clean("/" + h.Name)[1:]] = true
	}
}

// meantOfGoArchive says why a difference from go-archive is meant, or nothing.
func meantOfGoArchive(named map[string]bool) func(difference) string {
	return func(d difference) string {
		metadata := d.property == "mode" || d.property == "owner" || d.property == "mtime"
		switch {
		case d.path == "." && (metadata || strings.HasPrefix(d.property, "xattr ")):
			return "the root's own metadata: go-archive passes over its entry"
		case metadata && d.ours != "" && !named[d.path]:
			return "a parent that the stream does not name: ours is 0755, root's, with the newest mtime in the stream; go-archive's is as made"
		case d.property == "mtime" && d.theirs == "0" && strings.HasPrefix(d.ours, "-"):
			return "a time before 1970, which go-archive makes 1970"
		case d.property == "xattr security.selinux", d.property == "xattr security.ima", d.property == "xattr security.evm":
			return "labels of the host's security modules, which ours skips and counts"
		}
		return ""
	}
}

// meantOfGNUTar says why a difference from GNU tar is meant, or nothing.
func meantOfGNUTar(named map[string]bool, ours view) func(difference) string {
	return func(d difference) string {
		metadata := d.property == "mode" || d.property == "owner" || d.property == "mtime"
		switch {
		case d.path == "." && metadata && !named[""]:
			return "the root's own metadata where the stream has no entry for it"
		case metadata && !named[d.path] && d.path != ".":
			return "a parent that the stream does not name: ours is 0755, root's, with the newest mtime in the stream; GNU tar's is as made"
		case strings.HasPrefix(d.property, "xattr ") && d.theirs == "" && ours[d.path]["type"] == "dir":
			return "attributes of a directory that was there before its entry, which GNU tar does not set"
		case d.property == "xattr security.selinux", d.property == "xattr security.ima", d.property == "xattr security.evm":
			return "labels of the host's security modules, which ours skips and counts"
		}
		return ""
	}
}
