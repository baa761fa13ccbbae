package imageconfig

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ocibundle/tests/testenv"
)

// A container's own name servers and hosts, from a real engine, are what programs in the
// bundle resolve names with.
func TestNames(t *testing.T) {
	testenv.NeedRoot(t)
	l := start(t)
	getent := testenv.NeedTool(t, "getent", "runc", "tar")
	dir := testenv.Dir(t)
	// The engine makes an empty /etc/hosts where the image has none.
	image, rootfs := testenv.Name(), filepath.Join(dir, "rootfs")
	if err := os.Mkdir(rootfs, 0o755); err != nil {
		t.Fatal(err)
	}
	testenv.RedisRootfs(t, rootfs)
	if err := os.Remove(filepath.Join(rootfs, "etc/hosts")); err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(dir, "base.tar")
	testenv.Output(t, exec.CommandContext(t.Context(), "tar", "-C", rootfs, "-cf", base, "."))
	l.docker(t, "import", base, image)

	name := testenv.Name()
	l.docker(t, "create", "--name", name, "--net", "none", "--dns", "192.0.2.53", "--dns-search", "a.example", "--dns-opt", "ndots:3",
		"--add-host", "db:192.0.2.7", "--add-host", "six:2001:db8::6", image, "/bin/true")
	l.removeLater(t, name)
	inspect, export := filepath.Join(dir, "c.json"), filepath.Join(dir, "c.tar")
	if err := os.WriteFile(inspect, []byte(l.docker(t, "inspect", name)), 0o644); err != nil {
		t.Fatal(err)
	}
	l.docker(t, "export", "-o", export, name)

	for _, where := range [][]string{nil, {"--uidmap", "0:300000:65536"}} {
		b := filepath.Join(dir, testenv.Name())
		made := exec.CommandContext(t.Context(), testenv.Binary(t), slices.Concat([]string{"-o", b, "-i", export, "--image-config", inspect,
			"-v", getent + ":/usr/bin/getent:ro", "--read-only"}, where, []string{"--", "getent", "hosts", "db", "six", "localhost"})...)
		if says, err := made.CombinedOutput(); err != nil || len(says) > 0 {
			t.Fatalf("%v\n%s", err, says)
		}
		id := testenv.Name()
		t.Cleanup(func() { exec.Command("runc", "delete", "--force", id).Run() })
		got := testenv.Output(t, exec.CommandContext(t.Context(), "runc", "run", "--bundle", b, id))
		for line := range strings.Lines(got) {
			t.Log(strings.TrimSpace(line))
		}
		if f := strings.Fields(got); len(f) < 5 || f[0] != "192.0.2.7" || f[1] != "db" || f[2] != "2001:db8::6" || f[3] != "six" {
			t.Errorf("getent hosts says %q", got)
		}
		conf, err := os.ReadFile(filepath.Join(b, "rootfs/etc/resolv.conf"))
		if want := "nameserver 192.0.2.53\nsearch a.example\noptions ndots:3\n"; err != nil || string(conf) != want {
			t.Errorf("resolv.conf is %q, want %q (%v)", conf, want, err)
		}
		if found, err := exec.Command(testenv.Binary(t), "check", b).CombinedOutput(); err != nil {
			t.Errorf("check: %v\n%s", err, found)
		}
	}
}

// ownNames is what inspect says of a container with settings of its own.
const ownNames = `[{"Id":"x","Created":"2024-02-03T04:05:06Z","Path":"/bin/sh","Args":[],"Config":{"Cmd":["/bin/sh"]},
	"HostConfig":{"NetworkMode":"none","Dns":["192.0.2.53"],"DnsSearch":[],"ExtraHosts":["db:192.0.2.7"]}}]`

// The files are written where the rootfs has nothing, on a disk as in a stream, and
// nothing outside the rootfs is.
func TestNameFiles(t *testing.T) {
	outside := testenv.Dir(t)
	bait := filepath.Join(outside, "hosts") // empty, as what is written into
	if err := os.WriteFile(bait, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	file := func(name, text string) tar.Header {
		return tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), PAXRecords: map[string]string{"TEST.text": text}, ModTime: time.Unix(1e9, 0)}
	}
	etc := tar.Header{Typeflag: tar.TypeDir, Name: "etc/", Mode: 0o755, ModTime: time.Unix(1e9, 0)}
	link := func(typ byte, name, to string) tar.Header {
		return tar.Header{Typeflag: typ, Name: name, Linkname: to, Mode: 0o644, ModTime: time.Unix(1e9, 0)}
	}
	const cannot = "are not in /etc/hosts: it is a link, or its directory is missing"
	for _, test := range []struct {
		name    string
		entries []tar.Header
		hosts   string // where it is in the rootfs; "" where the settings have no place
		warning string
	}{
		{"empty", []tar.Header{etc, file("etc/hosts", "")}, "etc/hosts", ""},
		{"missing", []tar.Header{etc}, "etc/hosts", ""},
		{"its own", []tar.Header{etc, file("etc/hosts", "own\n")}, "", "extra hosts 192.0.2.7 db (the rootfs has its own /etc/hosts)"},
		{"no etc", []tar.Header{file("x", "")}, "", cannot},
		{"a file for etc", []tar.Header{file("etc", "")}, "", "/etc/hosts"},
		{"a link for etc", []tar.Header{{Typeflag: tar.TypeDir, Name: "usr/etc/", Mode: 0o755, ModTime: time.Unix(1e9, 0)}, link(tar.TypeSymlink, "etc", "/usr/etc")}, "usr/etc/hosts", ""},
		{"etc leads out", []tar.Header{link(tar.TypeSymlink, "etc", outside)}, "", "/etc/hosts"},
		{"hosts leads out", []tar.Header{etc, link(tar.TypeSymlink, "etc/hosts", bait)}, "", "/etc/hosts"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := testenv.Dir(t)
			config := filepath.Join(dir, "c.json")
			if err := os.WriteFile(config, []byte(ownNames), 0o644); err != nil {
				t.Fatal(err)
			}
			run := func(args ...string) (stdout []byte) {
				cmd := exec.CommandContext(t.Context(), testenv.Binary(t), append(args, "--image-config", config)...)
				cmd.Stdin = bytes.NewReader(stream(t, test.entries))
				var out, says bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &says
				if err := cmd.Run(); err != nil {
					t.Fatalf("%v\n%s", err, says.Bytes())
				}
				if test.warning == "" && strings.Contains(says.String(), "hosts") || !strings.Contains(says.String(), test.warning) {
					t.Errorf("%v warns\n%swant %q", args, says.Bytes(), test.warning)
				}
				return out.Bytes()
			}
			b := filepath.Join(dir, "b")
			run("-o", b)
			unpacked := filepath.Join(dir, "unpacked")
			if err := os.Mkdir(unpacked, 0o755); err != nil {
				t.Fatal(err)
			}
			untar := exec.CommandContext(context.Background(), "tar", "-C", unpacked, "-x")
			untar.Stdin = bytes.NewReader(run("-o", "-"))
			testenv.Output(t, untar)
			for _, made := range []string{b, unpacked} {
				text, err := os.ReadFile(filepath.Join(made, "rootfs", cmp.Or(test.hosts, "none")))
				if (test.hosts != "") != strings.HasSuffix(string(text), "192.0.2.7\tdb\n") {
					t.Errorf("%s: hosts is %q (%v)", filepath.Base(made), text, err)
				}
				if test.hosts == "" {
					continue
				}
				for name, want := range map[string]time.Time{test.hosts: time.Date(2024, 2, 3, 4, 5, 6, 0, time.UTC), filepath.Dir(test.hosts): time.Unix(1e9, 0)} {
					fi, err := os.Stat(filepath.Join(made, "rootfs", name))
					if made == unpacked && fi.IsDir() {
						continue // tar does not set it again for the second file of a name
					}
					if err != nil || !fi.ModTime().Equal(want) {
						t.Errorf("%s: %s is of %v, want %v (%v)", filepath.Base(made), name, fi.ModTime(), want, err)
					}
				}
			}
			if list, err := os.ReadDir(outside); err != nil || len(list) != 1 {
				t.Fatalf("outside is %v (%v)", list, err)
			}
			if text, err := os.ReadFile(bait); err != nil || len(text) > 0 {
				t.Fatalf("outside is %q (%v)", text, err)
			}
		})
	}
}

// stream is a tar stream; the text of a file is in its record TEST.text.
func stream(t *testing.T, entries []tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		text := h.PAXRecords["TEST.text"]
		h.PAXRecords = nil
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
