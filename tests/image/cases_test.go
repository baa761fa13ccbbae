package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
)

// other is an architecture that this machine is not.
var other = map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]

// archiveCase is an archive and what becomes of it.
type archiveCase struct {
	name   string
	make   func(a *archiver)
	raw    func(a *archiver) []byte // where it is not an archive
	flags  []string
	code   int
	stderr string // a regular expression; empty: silence
	tree   string // in tarscript
}

func cases() []archiveCase {
	host := "linux/" + runtime.GOARCH
	here := "file x = " + host
	single := func(f func(a *archiver, m object)) func(*archiver) {
		return func(a *archiver) {
			l := a.layer(here)
			m := object{"schemaVersion": 2, "config": a.blob(typeConfig, a.json(a.config("", l))), "layers": []object{a.blob(typeLayer, l)}}
			f(a, m)
			a.layout(a.blob(typeManifest, a.json(m)))
		}
	}
	configured := func(f func(c object)) func(*archiver) {
		return func(a *archiver) {
			l := a.layer(here)
			c := a.config("", l)
			f(c)
			a.layout(a.manifest(c, l))
		}
	}
	packed := func(pack func([]byte) []byte) func(*archiver) {
		return func(a *archiver) {
			one, two := a.layer(here+"\nfile gone = g"), a.layer("file .wh.gone\nfile y = y")
			a.layout(a.manifest(a.config("", one, two), pack(one), pack(two)))
		}
	}
	docker := func(f func(a *archiver, d object)) func(*archiver) {
		return func(a *archiver) {
			l := a.layer(here)
			d := a.docker(a.config("", l), l)
			f(a, d)
			a.add("manifest.json", a.json([]object{d}))
		}
	}
	several := func(a *archiver) {
		a.layout(a.blob(typeIndex, a.json(a.index(
			forPlatform(a.image("linux/"+other), "linux/"+other),
			forPlatform(a.image("linux/arm/v6"), "linux/arm/v6"),
			forPlatform(a.image("linux/arm/v7"), "linux/arm/v7"),
			annotated(forPlatform(a.manifest(object{}, []byte("{}")), "unknown/unknown"), "vnd.docker.reference.type", "attestation-manifest"),
			forPlatform(a.image("linux/riscv64"), "linux/riscv64"),
			forPlatform(a.image("windows/"+runtime.GOARCH), "windows/"+runtime.GOARCH),
			forPlatform(a.image(""), host)))))
	}
	hostile := func(script string) func(*archiver) {
		return func(a *archiver) {
			one, two := a.layer("dir d\nfile d/f = f"), a.layer(script)
			a.layout(a.manifest(a.config("", one, two), one, two))
		}
	}
	three := func(a *archiver) {
		one, b, c := a.image(""), a.layer("file x = b"), a.layer("file x = c")
		a.layout(named(one, "a:1"), named(a.manifest(a.config("", b), b), "b:1"), named(a.manifest(a.config("", c), c), "localhost/c:latest"), named(one, "a:2"))
	}
	savedLayer := (&archiver{}).layer("file b = b")
	twoSavedID := (&archiver{}).digest((&archiver{}).json((&archiver{}).config("", savedLayer)))[7:19]
	twoSaved := func(a *archiver) {
		l := a.layer("file a = a")
		one := a.docker(a.config("", l), l)
		two := a.docker(a.config("", savedLayer), savedLayer)
		last := len(a.members) - 1
		a.members[last].Name = "b/layer.tar"
		two["RepoTags"], two["Layers"] = []string{"y:1", "y:2"}, []string{"b/layer.tar"}
		a.add("manifest.json", a.json([]object{one, two}))
	}
	// dirForm gives an image's blobs the names that they have in skopeo's dir:.
	dirForm := func(a *archiver, top object) {
		for i := range a.members {
			hex := strings.TrimPrefix(a.members[i].Name, "blobs/sha256/")
			switch {
			case "sha256:"+hex == top["digest"]:
				hex = "manifest.json"
			case bytes.Contains(a.bodies[i], []byte(`"schemaVersion"`)):
				hex += ".manifest.json"
			}
			a.members[i].Name = hex
		}
		a.add("version", []byte("Directory Transport Version: 1.1\n"))
	}
	list := []archiveCase{
		{name: "a layout", make: func(a *archiver) { a.layout(a.image("")) }, tree: here},
		{name: "index.json first", make: func(a *archiver) {
			a.layout(a.image(""))
			slices.Reverse(a.members)
			slices.Reverse(a.bodies)
		}, tree: here},
		{name: "names with dots", make: func(a *archiver) {
			a.layout(a.image(""))
			for i := range a.members {
				a.members[i].Name = "./" + a.members[i].Name
			}
		}, tree: here},
		{name: "no oci-layout", make: func(a *archiver) { a.add("index.json", a.json(a.index(a.image("")))) }, tree: here},
		{name: "gzip", make: packed(gzipped), tree: here + "\nfile y = y"},
		{name: "zstd", make: packed(zstandard), tree: here + "\nfile y = y"},
		{name: "a chain of zstd frames", make: packed(func(b []byte) []byte { return append(zstandard(b[:700]), zstandard(b[700:])...) }), tree: here + "\nfile y = y"},
		{name: "sha512", make: func(a *archiver) {
			a.sums = sha512.New
			packed(gzipped)(a)
		}, tree: here + "\nfile y = y"},
		{name: "all of it in gzip", raw: func(a *archiver) []byte { a.layout(a.image("")); return gzipped(a.bytes()) }, tree: here},
		{name: "no layers", make: func(a *archiver) { a.layout(a.manifest(a.config(""))) }, tree: ""},
		{name: "an empty layer", make: func(a *archiver) {
			l := a.layer(here)
			a.layout(a.manifest(a.config("", l, make([]byte, 1024), nil), l, gzipped(make([]byte, 1024)), nil))
		}, tree: here},
		{name: "the same layer twice", make: func(a *archiver) {
			l, w := a.layer(here), a.layer("file .wh.x")
			a.layout(a.manifest(a.config("", l, w, l), l, w, l))
		}, tree: here},
		{name: "many layers", make: func(a *archiver) {
			var all [][]byte
			for i := range 200 {
				all = append(all, a.layer(fmt.Sprintf("file f%d = %d\nfile .wh.f%d", i, i, i-1)))
			}
			a.layout(a.manifest(a.config("", all...), all...))
		}, tree: "file f199 = 199"},

		// Platforms.
		{name: "for several, this machine", make: several, tree: here},
		{name: "for several, another", make: several, flags: []string{"--platform", "linux/riscv64"}, tree: "file x = linux/riscv64",
			stderr: "warning: the image is for linux/riscv64, and this machine is " + host},
		{name: "for several, a variant", make: several, flags: []string{"--platform", "linux/arm/v6"}, tree: "file x = linux/arm/v6", stderr: "warning"},
		{name: "for several, the usual variant", make: several, flags: []string{"--platform", "linux/arm"}, tree: "file x = linux/arm/v7", stderr: "warning"},
		{name: "for several, an absent one", make: several, flags: []string{"--platform", "linux/s390x"}, code: 4,
			stderr: "not for linux/s390x: it is for linux/" + other + ", linux/arm/v6, linux/arm, linux/riscv64, windows.*\nocibundle: hint: --platform linux/" + other + " takes"},
		{name: "for several, not for this machine", make: func(a *archiver) {
			a.layout(a.blob(typeIndex, a.json(a.index(forPlatform(a.image("linux/riscv64"), "linux/riscv64"), forPlatform(a.image("linux/s390x"), "linux/s390x")))))
		}, code: 4, stderr: "not for " + host + ": it is for linux/riscv64, linux/s390x"},
		{name: "for several, of which one is there", make: func(a *archiver) {
			away := &archiver{t: a.t}
			a.layout(a.blob(typeIndex, a.json(a.index(forPlatform(away.image(""), host), forPlatform(a.image("linux/"+other), "linux/"+other)))))
		}, tree: "file x = linux/" + other, stderr: "warning: the image is for linux/" + other},
		{name: "for several, in index.json", make: func(a *archiver) {
			a.layout(named(forPlatform(a.image("linux/"+other), "linux/"+other), "x"), named(forPlatform(a.image(""), host), "x"))
		}, tree: here},
		{name: "for one, another", make: func(a *archiver) { a.layout(a.image("linux/" + other)) }, tree: "file x = linux/" + other, stderr: "warning: the image is for linux/" + other},
		{name: "for one, wanted", make: func(a *archiver) { a.layout(a.image("")) }, flags: []string{"--platform", host}, tree: here},
		{name: "for one, another wanted", make: func(a *archiver) { a.layout(a.image("")) }, flags: []string{"--platform", "linux/" + other}, code: 4,
			stderr: "not for linux/" + other + ": it is for " + host},
		{name: "for one, another wanted, docker", make: docker(func(*archiver, object) {}), flags: []string{"--platform", "linux/" + other}, code: 4,
			stderr: "not for linux/" + other + ": it is for " + host},
		{name: "for one, by another name", make: func(a *archiver) { a.layout(a.image("linux/amd64")) }, flags: []string{"--platform", "linux/x86_64/v1", "-q"}, tree: "file x = linux/amd64"},
		{name: "windows", make: func(a *archiver) { a.layout(a.image("windows/amd64")) }, code: 4, stderr: "it is for windows/amd64"},

		// Which image.
		{name: "two images", make: func(a *archiver) { a.layout(named(a.image(""), "a:1"), named(a.image("linux/"+other), "b:1")) }, code: 2,
			stderr: "the archive has 2 images: a:1, b:1\nocibundle: hint: --ref NAME picks one"},
		{name: "two images without names", make: func(a *archiver) { a.layout(a.image(""), a.image("linux/"+other)) }, code: 2, stderr: "has 2 images: sha256:[0-9a-f]*, sha256"},
		{name: "one image with two names", make: func(a *archiver) { d := a.image(""); a.layout(named(d, "a:1"), named(d, "b:1")) }, tree: here},
		{name: "two images, docker", make: func(a *archiver) {
			l, m := a.layer("file a = a"), a.layer("file b = b")
			one, two := a.docker(a.config("", l), l), (&archiver{t: a.t}).docker(a.config("", m), m)
			two["RepoTags"] = []string{"y:1", "y:2"}
			a.add("manifest.json", a.json([]object{one, two}))
		}, code: 2, stderr: "has 2 images: x:latest, y:1 = y:2"},
		// go-containerregistry gives an image's descriptor the type of its config (crane pull
		// --format=oci).
		{name: "an artifact that is an image", make: func(a *archiver) {
			d := a.image("")
			d["artifactType"] = typeConfig
			a.layout(d)
		}, tree: here},
		// Docker 25.0, docker save of an image's id: index.json is empty, manifest.json whole
		// (go-containerregistry keeps one as pkg/v1/tarball/testdata/hello-world-v25.tar).
		{name: "no image in the index, docker", make: func(a *archiver) {
			docker(func(*archiver, object) {})(a)
			a.add("index.json", []byte(`{"schemaVersion":2,"manifests":null}`))
		}, tree: here},
		{name: "by name", make: three, flags: []string{"--ref", "docker.io/library/b:1"}, tree: "file x = b"},
		{name: "by short name", make: three, flags: []string{"--ref", "c"}, tree: "file x = c"},
		{name: "by tag", make: three, flags: []string{"--ref", "2"}, tree: here},
		{name: "by name, a tag that two have", make: three, flags: []string{"--ref", "1"}, code: 2, stderr: "the archive has 3 images"},
		{name: "by name, a registry's", make: three, flags: []string{"--ref", "docker.io/b:latest"}, code: 2,
			stderr: `the archive has no image "docker.io/b:latest": it has a:1 = a:2, b:1, localhost/c:latest`},
		{name: "by digest", make: func(a *archiver) { a.layout(a.image(""), a.image("linux/"+other)) },
			flags: []string{"--ref", (&archiver{}).image("")["digest"].(string)}, tree: here},
		{name: "by the beginning of a digest", make: func(a *archiver) { a.layout(a.image(""), a.image("linux/"+other)) },
			flags: []string{"--ref", (&archiver{}).image("")["digest"].(string)[7:19]}, tree: here},
		{name: "by the digest of another", make: func(a *archiver) { a.layout(a.image(""), a.image("linux/"+other)) },
			flags: []string{"--ref", "a:1@sha256:" + strings.Repeat("0", 64)}, code: 2, stderr: "the archive has no image"},
		{name: "by name, docker", make: twoSaved, flags: []string{"--ref", "y:2"}, tree: "file b = b"},
		{name: "by id, docker", make: twoSaved, flags: []string{"--ref", twoSavedID}, tree: "file b = b"},
		{name: "by name, of one", make: func(a *archiver) { a.layout(named(a.image(""), "a:1")) }, flags: []string{"--ref", "b"}, code: 2,
			stderr: `the archive has no image "b": it has a:1`},
		{name: "signatures beside it", make: func(a *archiver) {
			sig := named(a.image("linux/"+other), "x:sha256-"+strings.Repeat("a", 64)+".sig")
			saved := annotated(a.image("linux/riscv64"), "kind", "dev.cosignproject.cosign/sigs")
			index := a.blob(typeIndex, a.json(a.index(named(a.image("linux/s390x"), "sha256-"+strings.Repeat("a", 64)))))
			a.layout(a.image(""), sig, saved, named(index, "sha256-"+strings.Repeat("a", 64)))
		}, tree: here},
		// skopeo copy IMAGE dir:DIR, packed (containers-transports(5)).
		{name: "a dir:", make: func(a *archiver) { dirForm(a, a.image("")) }, tree: here},
		{name: "a dir: for several", make: func(a *archiver) {
			dirForm(a, a.blob(typeIndex, a.json(a.index(forPlatform(a.image("linux/"+other), "linux/"+other), forPlatform(a.image(""), host)))))
		}, tree: here},
		{name: "a dir: of version 1", make: func(a *archiver) { a.add("manifest.json", []byte(`{"schemaVersion":1,"fsLayers":[]}`)) }, code: 3,
			stderr: "nor an image manifest of version 2"},
		{name: "a signature beside it", make: func(a *archiver) {
			sig := a.image("")
			sig["artifactType"] = "application/vnd.dev.cosign"
			a.layout(a.image(""), sig, object{"mediaType": "text/plain", "digest": a.digest(nil), "size": 0})
		}, tree: here},
		{name: "nothing but a signature", make: func(a *archiver) {
			a.layout(object{"mediaType": "text/plain", "digest": a.digest(nil), "size": 0})
		}, code: 3, stderr: "index.json: it names no image"},
		{name: "an artifact", make: single(func(a *archiver, m object) {
			m["config"] = a.blob("application/vnd.cncf.helm.config.v1+json", []byte("{}"))
		}), code: 3,
			stderr: "not of an image"},

		// Digests and sizes.
		{name: "another manifest", make: func(a *archiver) {
			a.layout(a.image(""))
			for i, h := range a.members {
				if bytes.Contains(a.bodies[i], []byte(typeConfig)) && h.Name != "index.json" {
					a.bodies[i] = bytes.Replace(a.bodies[i], []byte(`"schemaVersion":2`), []byte(`"schemaVersion":3`), 1)
				}
			}
		}, code: 3, stderr: "the manifest sha256:[0-9a-f]*: verify the digest: it is sha256:"},
		{name: "another config", make: func(a *archiver) {
			a.layout(a.image(""))
			for i := range a.members {
				a.bodies[i] = bytes.Replace(a.bodies[i], []byte(`["/x"]`), []byte(`["/y"]`), 1)
			}
		}, code: 3, stderr: "the image's config sha256:[0-9a-f]*: verify the digest"},
		{name: "another layer", make: func(a *archiver) {
			a.layout(a.image(""))
			a.bodies[1][0x200] = 'X'
		}, code: 3, stderr: `layer 1 of 1 \(sha256:[0-9a-f]*\): verify the digest`},
		{name: "another layer, in gzip", make: func(a *archiver) {
			packed(gzipped)(a)
			i := slices.IndexFunc(a.bodies, func(b []byte) bool { return bytes.HasPrefix(b, []byte{0x1f, 0x8b}) })
			a.bodies[i][len(a.bodies[i])/2] ^= 1
		}, code: 3, stderr: `layer [12] of 2 \(sha256:[0-9a-f]*\): verify the digest`},
		{name: "another diff id", make: func(a *archiver) {
			l := a.layer(here)
			a.layout(a.manifest(a.config("", a.layer("file x = y")), gzipped(l)))
		}, code: 3, stderr: `layer 1 of 1 .*: verify the digest: it is sha256`},
		{name: "another diff id of an upper layer", make: func(a *archiver) {
			l := a.layer(here)
			a.layout(a.manifest(a.config("", l, a.layer("file x = y")), l, zstandard(l)))
		}, code: 3, stderr: `layer 2 of 2 .*: verify the digest: it is sha256`},
		{name: "another layer, docker", make: docker(func(a *archiver, d object) { a.bodies[1] = a.layer("file x = y") }), code: 3, stderr: `layer 1 of 1 .*: verify the digest`},
		{name: "another config, docker", make: docker(func(a *archiver, d object) { a.bodies[0] = bytes.Replace(a.bodies[0], []byte("/x"), []byte("/y"), 1) }), code: 3,
			stderr: `the image's config [0-9a-f]*.json: verify the digest`},
		{name: "another size", make: single(func(a *archiver, m object) { m["config"].(object)["size"] = 5 }), code: 3, stderr: "its descriptor says 5"},
		{name: "another size of a layer", make: single(func(a *archiver, m object) { m["layers"].([]object)[0]["size"] = 5 }), code: 3, stderr: "layer 1 .* its descriptor says 5"},
		{name: "no digest", make: single(func(a *archiver, m object) { delete(m["config"].(object), "digest") }), code: 3, stderr: "no digest"},
		{name: "a digest of another kind", make: single(func(a *archiver, m object) { m["config"].(object)["digest"] = "md5:d41d8cd98f00b204e9800998ecf8427e" }), code: 3,
			stderr: "a digest in it is malformed or of an unknown kind"},
		{name: "a digest that goes up", make: single(func(a *archiver, m object) { m["config"].(object)["digest"] = "sha256:../../../../etc/passwd" }), code: 3, stderr: "a digest in it is malformed"},
		{name: "a blob that is not there", make: single(func(a *archiver, m object) { m["layers"].([]object)[0]["digest"] = a.digest([]byte("nowhere")) }), code: 3,
			stderr: "layer 1 sha256:[0-9a-f]*: .*does not have it"},
		{name: "the stream's digest", make: func(a *archiver) { a.layout(a.image("")) }, flags: []string{"--digest", "sha256:" + strings.Repeat("0", 64)}, code: 3, stderr: "the stream is sha256:"},

		// Documents.
		{name: "more layers than ids", make: func(a *archiver) { l := a.layer(here); a.layout(a.manifest(a.config("", l), l, l)) }, code: 3, stderr: "has 2 layers, and the image's config has 1"},
		{name: "fewer layers than ids, docker", make: docker(func(a *archiver, d object) { d["Layers"] = []string{} }), code: 3, stderr: "names 0 layers, and the image's config has 1"},
		{name: "an index and a manifest in one", make: single(func(a *archiver, m object) { m["manifests"] = []object{} }), code: 3, stderr: "an index and a manifest in one"},
		{name: "a manifest that says to be an index", make: single(func(a *archiver, m object) { m["mediaType"] = typeIndex }), code: 3, stderr: "not a manifest"},
		{name: "an index that says to be a manifest", make: func(a *archiver) {
			i := a.index(a.image(""))
			i["mediaType"] = typeManifest
			a.add("index.json", a.json(i))
		}, code: 3, stderr: "not an index"},
		{name: "indexes without number", make: func(a *archiver) {
			var list []object
			for range 100 {
				list = append(list, a.blob(typeIndex, a.json(a.index())))
			}
			a.layout(a.blob(typeIndex, a.json(a.index(list...))))
		}, code: 4, stderr: "more than 64 indexes"},
		{name: "a manifest too large", make: single(func(a *archiver, m object) { m["annotations"] = object{"x": strings.Repeat("x", 5<<20)} }), code: 4, stderr: "more than the 4194304"},
		{name: "no JSON", make: func(a *archiver) { a.add("index.json", []byte("index")) }, code: 3, stderr: "index.json: it is not valid JSON"},
		{name: "more than JSON", make: func(a *archiver) { a.add("index.json", append(a.json(a.index(a.image(""))), "{}"...)) }, code: 3, stderr: "index.json: it is not valid JSON"},
		{name: "no list, docker", make: func(a *archiver) { a.add("manifest.json", []byte("{}")) }, code: 3, stderr: "manifest.json: it is neither"},
		{name: "a string for a list, docker", make: docker(func(a *archiver, d object) { d["RepoTags"] = "x:y" }), code: 3,
			stderr: `manifest.json: "RepoTags" is a string, expected an array`},
		{name: "no config, docker", make: docker(func(a *archiver, d object) { delete(d, "Config") }), code: 3, stderr: "manifest.json: it names no config"},
		{name: "values without number", make: single(func(a *archiver, m object) { m["x"] = json.RawMessage("[" + strings.Repeat("{},", 1<<20) + "{}]") }),
			code: 4, stderr: "it has more than 131072 values"},
		{name: "values without number, docker", make: func(a *archiver) {
			a.add("manifest.json", []byte("["+strings.Repeat("{},", 1<<20)+"{}]"))
		}, code: 4, stderr: "it has more than 131072 values"},
		{name: "no platform", make: configured(func(c object) { delete(c, "os"); delete(c, "architecture") }), tree: here},
		{name: "an empty platform", make: configured(func(c object) { c["os"], c["architecture"] = "", "" }), tree: here},
		{name: "an empty list, docker", make: func(a *archiver) { a.add("manifest.json", []byte("[]")) }, code: 3, stderr: "names no image"},
		{name: "not layers", make: configured(func(c object) { c["rootfs"].(object)["type"] = "squashfs" }), code: 3, stderr: "squashfs"},
		{name: "too many layers", make: func(a *archiver) {
			l := a.layer(here)
			all := slices.Repeat([][]byte{l}, 5000)
			a.layout(a.manifest(a.config("", all...), all...))
		}, code: 4, stderr: "5000 layers, more than 4096"},
		{name: "an encrypted layer", make: single(func(a *archiver, m object) { m["layers"].([]object)[0]["mediaType"] = typeLayer + "+encrypted" }), code: 4, stderr: "encrypted"},

		// The image's own config.
		{name: "a config of the wrong type", make: configured(func(c object) { c["config"] = object{"Env": "FOO=bar"} }), code: 3, stderr: "the image's config"},
		{name: "a container's config", make: configured(func(c object) {
			c["HostConfig"], c["Config"] = object{"Binds": []string{"/:/host"}}, object{}
			c["State"], c["Path"] = object{}, "/x"
		}), code: 3, stderr: "the image's config"},
		{name: "a directory of the host", make: configured(func(c object) { c["config"] = object{"WorkingDir": "/proc/self/fd/7"} }), code: 3, stderr: "/proc/self/fd/7"},
		{name: "a user that is not there", make: configured(func(c object) { c["config"] = object{"Cmd": []string{"/x"}, "User": "nobody"} }), code: 2, stderr: "nobody"},
		{name: "an edit that fails", make: func(a *archiver) { a.layout(a.image("")) }, flags: []string{"--test", "/process/cwd=/nowhere"}, code: 2, stderr: "--test /process/cwd=/nowhere"},
		{name: "an edit of what the image has", make: func(a *archiver) { a.layout(a.image("")) }, flags: []string{"--test", `/process/args=["/x"]`, "--replace", "/process/args/0=/y"}, tree: here},

		// The members of the archive.
		{name: "docker", make: docker(func(*archiver, object) {}), tree: here},
		{name: "a config of any name, docker", make: docker(func(a *archiver, d object) { a.members[0].Name = "config.json"; d["Config"] = "./config.json" }), tree: here},
		{name: "a layer as a symlink, docker", make: docker(func(a *archiver, d object) {
			a.link(tar.TypeSymlink, "a/b/layer.tar", "../../00/layer.tar")
			a.link(tar.TypeLink, "hard.tar", "./a/b/layer.tar")
			d["Layers"] = []string{"hard.tar"}
		}), tree: here},
		{name: "a layer in gzip, docker", make: docker(func(a *archiver, d object) { a.bodies[1] = gzipped(a.bodies[1]) }), tree: here},
		{name: "a symlink out", make: docker(func(a *archiver, d object) {
			a.link(tar.TypeSymlink, "l", "../../../../../etc/passwd")
			d["Layers"] = []string{"l"}
		}), code: 4, stderr: `"l": the link to "../../../../../etc/passwd" leads out`},
		{name: "an absolute symlink", make: docker(func(a *archiver, d object) { a.link(tar.TypeSymlink, "l", "/etc/passwd"); d["Config"] = "l" }), code: 4, stderr: "leads out"},
		{name: "a hard link out", make: docker(func(a *archiver, d object) { a.link(tar.TypeLink, "l", "../etc/passwd"); d["Config"] = "l" }), code: 4, stderr: "leads out"},
		{name: "a symlink to nowhere", make: docker(func(a *archiver, d object) { a.link(tar.TypeSymlink, "l", "nowhere"); d["Config"] = "l" }), code: 3, stderr: `a link to "nowhere"`},
		{name: "symlinks in a circle", make: docker(func(a *archiver, d object) {
			a.link(tar.TypeSymlink, "l", "m")
			a.link(tar.TypeSymlink, "m", "l")
			d["Config"] = "l"
		}), code: 3, stderr: "without an end"},
		{name: "index.json as a symlink out", make: func(a *archiver) { a.link(tar.TypeSymlink, "index.json", "/etc/passwd") }, code: 4, stderr: "leads out"},
		{name: "a blob as a symlink out", make: func(a *archiver) {
			a.layout(a.image(""))
			a.members[0] = tar.Header{Typeflag: tar.TypeSymlink, Name: a.members[0].Name, Linkname: "../../../../etc/passwd"}
			a.bodies[0] = nil
		}, code: 4, stderr: "leads out"},
		{name: "a layer's name that goes up", make: docker(func(a *archiver, d object) { d["Layers"] = []string{"../../etc/passwd"} }), code: 4, stderr: "goes up"},
		{name: "a config's name that goes up", make: docker(func(a *archiver, d object) { d["Config"] = "../../etc/passwd" }), code: 4, stderr: "goes up"},
		{name: "a member's name that goes up", make: func(a *archiver) { a.layout(a.image("")); a.add("../x", nil) }, code: 4, stderr: `"../x": .*goes up`},
		{name: "a layer that is not there", make: docker(func(a *archiver, d object) { d["Layers"] = []string{"/etc/passwd"} }), code: 3, stderr: `"etc/passwd": the image archive does not have it`},
		{name: "two members of a name", make: func(a *archiver) { a.layout(a.image("")); a.add("./index.json", []byte("{}")) }, code: 3, stderr: "two members of this name"},
		{name: "a device", make: func(a *archiver) { a.layout(a.image("")); a.link(tar.TypeChar, "dev", "") }, code: 3, stderr: "no part of an image archive"},
		{name: "members without number", make: func(a *archiver) {
			for i := range 70000 {
				a.add(fmt.Sprint(i), nil)
			}
		}, code: 4, stderr: "too many members"},
		{name: "names without measure", make: func(a *archiver) {
			for i := range 40 {
				a.add(fmt.Sprint(i)+strings.Repeat("/x", 400<<10), nil)
			}
		}, code: 4, stderr: "too many members"},

		// The stream.
		{name: "an export", raw: func(a *archiver) []byte { return a.layer("dir etc\nfile etc/passwd = x") }, code: 3,
			stderr: "neither index.json nor manifest.json\nocibundle: hint: --image .*\nocibundle: hint: without --image"},
		{name: "nothing", raw: func(a *archiver) []byte { return nil }, code: 3, stderr: "no entries"},
		{name: "cut", raw: func(a *archiver) []byte { a.layout(a.image("")); b := a.bytes(); return b[:len(b)-1024] }, code: 3, stderr: "end-of-archive"},
		{name: "cut in a layer", raw: func(a *archiver) []byte { a.layout(a.image("")); return a.bytes()[:1200] }, code: 3, stderr: "end-of-archive"},
		{name: "more behind it", raw: func(a *archiver) []byte { a.layout(a.image("")); return append(a.bytes(), "more"...) }, code: 3, stderr: "more data"},
		{name: "cut gzip", raw: func(a *archiver) []byte { a.layout(a.image("")); b := gzipped(a.bytes()); return b[:len(b)-6] }, code: 3, stderr: "gzip"},
		{name: "a layer cut in gzip", make: func(a *archiver) {
			l := a.layer(here)
			z := gzipped(l)
			a.layout(a.manifest(a.config("", l), z[:len(z)-9]))
		}, code: 3, stderr: "layer 1 of 1 .*gzip"},
		{name: "more behind a layer in gzip", make: func(a *archiver) {
			l := a.layer(here)
			a.layout(a.manifest(a.config("", l), append(gzipped(l), "more"...)))
		}, code: 3, stderr: "layer 1 of 1 .*gzip"},
		{name: "a layer with a window too large", make: func(a *archiver) {
			l := a.layer(here)
			a.layout(a.manifest(a.config("", l), []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 31 << 3, 1, 0, 0}))
		}, code: 4, stderr: `layer 1 of 1 .*the window is larger than 128 MiB\n$`},
		{name: "a window too large", raw: func(a *archiver) []byte { return []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 31 << 3, 1, 0, 0} }, code: 4,
			stderr: `decode zstd: the window is larger than 128 MiB\nocibundle: hint: .*zstd --long=31 -dc`},
		{name: "zeros behind a layer in gzip", make: func(a *archiver) {
			l := a.layer(here)
			a.layout(a.manifest(a.config("", l), append(gzipped(l), 0, 0, 0)))
		}, tree: here},
		{name: "a layer that is not tar", make: func(a *archiver) {
			l := bytes.Repeat([]byte("no tar "), 1000)
			a.layout(a.manifest(a.config("", l), l))
		}, code: 3, stderr: "layer 1 of 1 "},

		// Limits.
		{name: "too many bytes", make: func(a *archiver) { a.layout(a.image("")) }, flags: []string{"--max-bytes", "3k"}, code: 4, stderr: "more than 3072 bytes\nocibundle: hint: --max-bytes"},
		{name: "too many bytes in a layer", make: func(a *archiver) {
			l := a.layer("file x body=zeros:10000000")
			a.layout(a.manifest(a.config("", l), zstandard(l)))
		}, flags: []string{"--max-bytes", "1m"}, code: 4, stderr: "layer 1 of 1 .*more than 1048576 bytes\nocibundle: hint: --max-bytes"},
		{name: "too many bytes in all layers", make: func(a *archiver) {
			l := a.layer("file x body=zeros:600000")
			z := zstandard(l)
			a.layout(a.manifest(a.config("", l, l), z, z))
		}, flags: []string{"--max-bytes", "1m"}, code: 4, stderr: "layer 2 of 2 .*more than 1048576 bytes"},
		{name: "as many bytes as there may be", make: func(a *archiver) {
			l := a.layer("file x body=zeros:500000")
			z := zstandard(l)
			a.layout(a.manifest(a.config("", l, l), z, z))
		}, flags: []string{"--max-bytes", "1m"}, tree: "file x body=zeros:500000"},
		{name: "too many entries", make: hostile("file x = x\nfile y = y"), flags: []string{"--max-entries", "3"}, code: 4, stderr: "layer 2 of 2 .*more than 3 entries"},
		{name: "as many entries as there may be", make: hostile("file x = x\nfile y = y"), flags: []string{"--max-entries", "4"}, tree: "dir d\nfile d/f = f\nfile x = x\nfile y = y"},

		// Hostile layers: the rest of them runs with the other hostile streams.
		{name: "a layer that goes up", make: hostile("file ../../x = x"), code: 4, stderr: `layer 2 of 2 .*"../../x"`},
		{name: "a whiteout of the root", make: hostile("file .wh."), code: 3, stderr: `layer 2 of 2 .*".wh."`},
		{name: "a whiteout of what is above", make: hostile("file d/.wh..."), code: 3, stderr: `layer 2 of 2 .*"d/.wh..."`},
		{name: "a whiteout behind a symlink", make: func(a *archiver) {
			one, two := a.layer("dir etc\nfile etc/passwd = x\nsym l -> etc"), a.layer("file l/.wh.passwd\nfile l/.wh..wh..opq")
			a.layout(a.manifest(a.config("", one, two), one, two))
		}, tree: "dir etc\nsym l -> etc"},
	}
	// What -o - can write only once.
	for _, c := range []struct{ name, lower, upper, tree string }{
		{"a hidden name of two", "file a = x\nhard b => a", "file .wh.a", "file b = x"},
		{"a hidden name of three", "file a = x\nhard b => a\nhard c => b", "file .wh.a", "file b = x\nhard c => b"},
		{"a replaced name of three", "file a = x\nhard b => a\nhard c => b", "file a = y\nhard d => b", "file a = y\nfile b = x\nhard c => b\nhard d => b"},
		{"a moved file", "dir d\nfile d/a = x", "hard b => d/a\nfile d/.wh.c", "dir d\nfile d/a = x\nhard b => d/a"},
		{"a hidden directory with a name of two", "dir d\nfile d/a = x\nhard b => d/a", "file .wh.d", "file b = x"},
		{"a link in the place of its own target", "file a = x\nhard b => a", "hard b => a", "file a = x\nhard b => a"},
		{"a directory linked to itself", "dir e\nfile e/f = f", "hard e => e", "dir e\nfile e/f = f"},
		{"a symlink with two names", "sym a -> x\nhard b => a", "file .wh.a", "sym b -> x"},
		{"an entry below a file", "file d = x", "file d/e = y", "dir d\nfile d/e = y"},
		{"an entry below a symlink to nowhere", "sym d -> nowhere", "file d/e = y", "dir d\nfile d/e = y"},
		{"a file in the place of a directory", "dir d\ndir d/e\nfile d/e/f = f", "file d = x", "file d = x"},
		{"a directory in the place of a symlink", "dir e\nfile e/f = f\nsym d -> e", "dir d\nfile d/g = g", "dir d\nfile d/g = g\ndir e\nfile e/f = f\n"},
		{"a directory through a symlink", "dir e\nfile e/f = f\nsym d -> e", "file d/f = g\nfile d/h = h", "dir e\nfile e/f = g\nfile e/h = h\nsym d -> e"},
		{"an opaque directory", "dir d\nfile d/a = a\ndir d/e\nfile d/e/f = f", "dir d\nfile d/b = b\nfile d/.wh..wh..opq", "dir d\nfile d/b = b"},
		{"an opaque root", "dir d\nfile d/a = a", "file b = b\nfile .wh..wh..opq", "file b = b"},
		{"a whiteout behind what its layer makes", "dir d\nfile d/a = a", "dir d\nfile d/b = b\nfile .wh.d", "dir d\nfile d/b = b"},
	} {
		list = append(list, archiveCase{name: "layers: " + c.name, tree: c.tree, make: func(a *archiver) {
			one, two := a.layer(c.lower), a.layer(c.upper)
			a.layout(a.manifest(a.config("", one, two), one, two))
		}})
	}
	// What a layer itself has made is in the way, as in any stream.
	for _, c := range []struct{ name, lower, upper, stderr string }{
		{"an entry below a file", "", "file etc = x\nfile etc/passwd = y", `"etc/passwd": "etc".* is not a directory`},
		{"an entry below a symlink to nowhere", "file x = x", "sym a -> nowhere\nfile a/b/c = y", `"a" is a symlink that leads nowhere`},
		{"an entry below a file in a file's place", "file d = lower", "file d = upper\nfile d/e = y", `"d".* is not a directory`},
		{"a link in the place of what its target is in", "file x = x", "dir d\nfile d/f = f\nhard d => d/f", `target "d/f" does not exist`},
	} {
		for _, lowest := range []bool{true, false} {
			list = append(list, archiveCase{name: fmt.Sprintf("one layer: %s, %t", c.name, lowest), code: 3, stderr: c.stderr, make: func(a *archiver) {
				layers := [][]byte{a.layer(c.lower), a.layer(c.upper)}
				if lowest {
					layers = layers[1:]
				}
				a.layout(a.manifest(a.config("", layers...), layers...))
			}})
		}
	}
	for name, upper := range map[string]string{"added": "file d/g = g\nfile b.log = m", "replaced": "file d = file\ndir a.log",
		"hidden": "file .wh.d\nfile .wh.a.log", "opaque": "dir d\nfile d/.wh..wh..opq\nfile d/g = g"} {
		list = append(list, archiveCase{name: "--exclude, " + name, make: func(a *archiver) {
			one, two := a.layer("dir d\nfile d/f = f\nfile a.log = l\nfile x = x"), a.layer(upper+"\nfile y = y")
			a.layout(a.manifest(a.config("", one, two), one, two))
		}, flags: []string{"--exclude", "d", "--exclude", "*.log"}, tree: "file x = x\nfile y = y"})
	}
	for _, p := range []string{"linux", "linux/", "/amd64", "linux/arm/v7/x", "windows/amd64", ""} {
		list = append(list, archiveCase{name: fmt.Sprintf("--platform %q", p), make: func(a *archiver) { a.layout(a.image("")) },
			flags: []string{"--platform", p}, code: 2, stderr: "--platform"})
	}
	return list
}
