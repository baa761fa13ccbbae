package extract_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/moby/sys/user"

	"ocibundle/tarx"
	"ocibundle/tarx/extract"
)

// ownIDs makes what is root's in the stream the caller's on the disk, who need not be root.
var ownIDs = user.IdentityMapping{
	UIDMaps: []user.IDMap{{ParentID: int64(os.Getuid()), Count: 1}},
	GIDMaps: []user.IDMap{{ParentID: int64(os.Getgid()), Count: 1}},
}

// archive writes entries as a stream; a name with a target is a symbolic link.
func archive(entries ...[2]string) *bytes.Buffer {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e[0], Mode: 0o644, Size: int64(len(e[1]))}
		if e[0] == "link" {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, e[1], 0
		}
		if err := w.WriteHeader(h); err != nil {
			log.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte(e[1])); err != nil {
				log.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	return &b
}

// The root is an empty directory, handed over as an open file, that nobody else reaches.
func ExampleStream() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	root, err := os.Open(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer root.Close()

	stream := archive([2]string{"etc/motd", "hello\n"}, [2]string{"link", "/etc/motd"})
	report, err := extract.Stream(context.Background(), stream, root, tarx.Options{Mapping: ownIDs})
	if err != nil {
		log.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "etc/motd"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d entries, %d bytes: %s", report.Entries, report.Bytes, text)
	// Output: 2 entries, 6 bytes: hello
}

// What leaves the root is refused, and what ends too early is malformed; the error says
// which entry it was.
func ExampleStream_hostile() {
	extractTo := func(stream *bytes.Buffer) error {
		dir, err := os.MkdirTemp("", "")
		if err != nil {
			log.Fatal(err)
		}
		defer os.RemoveAll(dir)
		root, err := os.Open(dir)
		if err != nil {
			log.Fatal(err)
		}
		defer root.Close()
		_, err = extract.Stream(context.Background(), stream, root, tarx.Options{Mapping: ownIDs})
		return err
	}

	err := extractTo(archive([2]string{"../escaped", "boo"}))
	fmt.Println(errors.Is(err, tarx.ErrRefused), err)

	cut := archive([2]string{"a", "1"}, [2]string{"b", "2"})
	cut.Truncate(1024) // between the two entries, where tar(1) sees nothing wrong
	err = extractTo(cut)
	fmt.Println(errors.Is(err, tarx.ErrMalformed), err)
	// Output:
	// true entry 1 "../escaped": the name leaves the root directory
	// true the stream ends before its end-of-archive marker (at byte 1024, after 1 entries)
}
