package faults

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"runtime"
	"testing"
	"time"
)

// rootfs are the entries of a small filesystem that has something of every kind.
func rootfs() []entry {
	when := time.Unix(1700000000, 123456789)
	dir := func(name string) entry {
		return entry{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: when}, nil}
	}
	file := func(name string, mode int64, uid, gid int, body []byte) entry {
		return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Uid: uid, Gid: gid, Size: int64(len(body)), ModTime: when}, body}
	}
	withXattr := file("etc/tagged", 0o644, 0, 0, []byte("tagged\n"))
	withXattr.h.PAXRecords = map[string]string{"SCHILY.xattr.user.tag": "value"}
	capable := file("bin/ping", 0o755, 0, 0, program())
	capable.h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
	return []entry{
		dir("bin/"), dir("etc/"), dir("proc/"), dir("dev/"), dir("sys/"), dir("tmp/"), dir("usr/"), dir("data/"),
		file("etc/passwd", 0o644, 0, 0, []byte("root:x:0:0::/:/bin/sh\napp:x:100:101::/:/bin/sh\n")),
		file("etc/group", 0o644, 0, 0, []byte("root:x:0:\napp:x:101:\n")),
		file("bin/sh", 0o755, 0, 0, program()),
		file("bin/su", 0o4755, 100, 101, program()),
		{tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/link", Linkname: "sh", Mode: 0o777, ModTime: when}, nil},
		{tar.Header{Typeflag: tar.TypeLink, Name: "bin/ash", Linkname: "bin/sh", Mode: 0o755, ModTime: when}, nil},
		{tar.Header{Typeflag: tar.TypeFifo, Name: "tmp/fifo", Mode: 0o644, ModTime: when}, nil},
		{tar.Header{Typeflag: tar.TypeChar, Name: "dev/null", Mode: 0o666, Devmajor: 1, Devminor: 3, ModTime: when}, nil},
		withXattr, capable,
		file("data/app", 0o640, 100, 101, []byte("of app's\n")),
		file("data/holes", 0o644, 0, 0, append(append([]byte("x"), make([]byte, 128<<10)...), 'y')),
		file("usr/big", 0o644, 0, 0, bytes.Repeat([]byte("not much of a surprise\n"), 20000)),
	}
}

type entry struct {
	h    tar.Header
	body []byte
}

func archive(t testing.TB, entries []entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, e := range entries {
		e.h.Format = tar.FormatPAX
		if err := tw.WriteHeader(&e.h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// program is the least that is an executable of this machine: an ELF header, and no interpreter (elf(5)).
func program() []byte {
	machine := map[string]uint16{"amd64": 62, "arm64": 183}[runtime.GOARCH]
	var b bytes.Buffer
	b.WriteString("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	for _, field := range []any{uint16(2), machine, uint32(1), uint64(0x400078), uint64(64), uint64(0), uint32(0),
		uint16(64), uint16(56), uint16(1), uint16(64), uint16(0), uint16(0),
		uint32(1), uint32(5), uint64(0), uint64(0x400000), uint64(0x400000), uint64(128), uint64(128), uint64(4096)} {
		binary.Write(&b, binary.LittleEndian, field)
	}
	return append(b.Bytes(), make([]byte, 8)...)
}

// image is an OCI archive with layers, the first one as it is and the others compressed.
func image(t testing.TB, layers ...[]byte) []byte {
	t.Helper()
	blobs := []entry{{tar.Header{Typeflag: tar.TypeReg, Name: "oci-layout", Mode: 0o644}, []byte(`{"imageLayoutVersion":"1.0.0"}`)}}
	add := func(data []byte, media string) map[string]any {
		sum := sha256.Sum256(data)
		digest := hex.EncodeToString(sum[:])
		blobs = append(blobs, entry{tar.Header{Typeflag: tar.TypeReg, Name: "blobs/sha256/" + digest, Mode: 0o644}, data})
		return map[string]any{"mediaType": "application/vnd.oci.image." + media, "digest": "sha256:" + digest, "size": len(data)}
	}
	doc := func(v any) []byte {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	var descriptors []any
	var diffs []string
	for i, layer := range layers {
		sum := sha256.Sum256(layer)
		diffs = append(diffs, "sha256:"+hex.EncodeToString(sum[:]))
		media := "layer.v1.tar"
		if i > 0 {
			var packed bytes.Buffer
			z := gzip.NewWriter(&packed)
			z.Write(layer)
			z.Close()
			layer, media = packed.Bytes(), "layer.v1.tar+gzip"
		}
		descriptors = append(descriptors, add(layer, media))
	}
	config := add(doc(map[string]any{"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{"Cmd": []string{"/bin/sh"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs}}), "config.v1+json")
	manifest := add(doc(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": descriptors}), "manifest.v1+json")
	index := doc(map[string]any{"schemaVersion": 2, "manifests": []any{manifest}})
	blobs = append(blobs, entry{tar.Header{Typeflag: tar.TypeReg, Name: "index.json", Mode: 0o644}, index})
	for i := range blobs {
		blobs[i].h.Size = int64(len(blobs[i].body))
	}
	return archive(t, blobs)
}
