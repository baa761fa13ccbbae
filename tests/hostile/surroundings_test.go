package hostile

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ulikunitz/xz"

	"ocibundle/tests/hostile/tarscript"
	"ocibundle/tests/testenv"
)

// Docker CVE-2014-9357: a decompressor that the attacker put into PATH runs as root.
func TestNoHelperProgramIsRun(t *testing.T) {
	testenv.NeedRoot(t)
	var stream bytes.Buffer
	w, err := xz.NewWriter(&stream)
	if err == nil {
		_, err = w.Write(mustBuild("file f = x"))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	s := newScene(t, asRoot)
	bin := filepath.Join(s.work, "outside", "dir")
	for _, name := range []string{"xz", "unxz", "xzcat"} {
		s.check(os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\necho owned > "+s.vars["OUT"]+"/new\n"), 0o755))
	}
	s.before = s.record()
	path := "PATH=" + bin + ":" + os.Getenv("PATH")

	r := s.run(bytes.NewReader(stream.Bytes()), []string{path}, testenv.Binary(t), "-q", "-o", filepath.Join(s.work, "b"))
	if changes := s.changes(); r.code != 0 || len(changes) != 0 {
		t.Errorf("exit code %d, %s, changes outside: %q", r.code, r.stderr, changes)
	}
	for _, wrong := range s.compare(&testCase{tree: "file f = x"}, filepath.Join(s.work, "b/rootfs")) {
		t.Error(wrong)
	}

	s.run(bytes.NewReader(stream.Bytes()), []string{path}, filepath.Join(bin, "xz"), "-dc")
	if _, err := os.Stat(filepath.Join(s.vars["OUT"], "new")); err != nil {
		t.Errorf("bites nobody: %v", err)
	}
}

// moby CVE-2021-41091, containerd CVE-2021-41103: others walk into the bundle and run its setuid programs.
func TestOthersStayOutOfTheBundle(t *testing.T) {
	testenv.NeedRoot(t)
	program, err := exec.LookPath("id")
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	archive := mustBuild("noend\ndir . mode=0777\n")
	entry := mustBuildEntry(t, "su", content)
	archive = append(append(archive, entry...), make([]byte, 1024)...)
	s := newScene(t, asRoot)
	s.check(os.Chmod(filepath.Join(s.work, "naive"), 0o755))
	bundle := filepath.Join(s.work, "b")
	if r := s.run(bytes.NewReader(archive), nil, testenv.Binary(t), "-q", "-o", bundle); r.code != 0 {
		t.Fatalf("exit code %d: %s", r.code, r.stderr)
	}
	if r := s.victim(archive, "joins"); r.code != 0 {
		t.Fatalf("exit code %d: %s", r.code, r.stderr)
	}
	s.check(os.Chmod(s.vars["OUT"], 0o755)) // the working directory
	s.who = asUser
	sh := func(path string) result {
		return s.run(nil, nil, "/bin/sh", "-c", `test "$("$0" -u)" = 0`, path)
	}
	if r := sh(filepath.Join(s.work, "naive/rootfs/su")); r.code != 0 {
		t.Errorf("bites nobody: a setuid program in a directory that others may enter ends with %d: %s", r.code, r.stderr)
	}
	if r := sh(filepath.Join(bundle, "rootfs/su")); r.code == 0 {
		t.Error("an ordinary user became root by a setuid program in the bundle")
	}
	if st, err := os.Stat(bundle); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the bundle's mode is %v, %v", st.Mode(), err)
	}
}

func mustBuildEntry(t *testing.T, name string, content []byte) []byte {
	t.Helper()
	e := tarscript.Entry{Verb: "file", Name: name, Body: content, Attrs: []tarscript.Attr{{Key: "mode", Value: "04755"}}}
	block, err := e.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	return block
}
