package image

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"ocibundle/tests/testenv"
)

func TestMain(m *testing.M) {
	status := m.Run()
	if err := testenv.Cleanup(); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		status = 1
	}
	os.Exit(status)
}

// dockerfile makes an image of many layers, each of which does something else to those
// below. Between the steps seconds pass, so that a time which is taken from the wrong
// layer shows.
const dockerfile = `FROM scratch
ADD base.tar /
COPY --chown=999:999 copied /srv/copied
# files and directories go
RUN rm -r /srv/gone-dir /srv/gone-file /srv/keep/gone && sleep 1
# an opaque directory, with a name of before
RUN rm -r /srv/opaque && mkdir -m 711 /srv/opaque && echo new >/srv/opaque/new && echo again >/srv/opaque/again
# a directory in the place of a link to one, whose own contents stay
RUN rm /srv/link && mkdir /srv/link && echo own >/srv/link/own
# the other way round, and types that change
RUN rm -r /srv/dir-to-link /srv/file-to-dir && ln -s etc /srv/dir-to-link && mkdir /srv/file-to-dir && echo x >/srv/file-to-dir/x
# links to files of lower layers; a file with several names is changed
RUN ln /srv/hard/a /srv/hard/d && echo changed >>/srv/hard2/a
# modes, owners and capabilities of directories and files that were there
RUN chmod 1770 /srv/modes && chown 5:7 /srv/modes && chmod 6711 /srv/modes/file && sleep 1
# nothing at all
RUN true
# what was taken away comes again
RUN mkdir /srv/gone-dir && echo back >/srv/gone-dir/back && echo back >/srv/gone-file
# taken away and back in one step, and taken away for good
RUN rm -r /srv/keep/twice && mkdir /srv/keep/twice && rm /srv/keep/deep/a/b/c/file && sleep 1
# names that look odd
RUN touch '/srv/odd/a b' '/srv/odd/wh.x' '/srv/odd/.whx' /srv/odd/$(printf 'a\\377') && rm '/srv/odd/old name'
WORKDIR /srv/work
ENV FOO=bar PATH=/bin
USER daemon:adm
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["id; pwd; echo $FOO"]
LABEL a.label=x
EXPOSE 6379
VOLUME /data
STOPSIGNAL SIGUSR1
`

// base makes the files of base.tar.
const base = `set -eu
umask 022
mkdir -p bin etc dev proc sys root tmp data srv/gone-dir/sub srv/keep/gone srv/keep/twice srv/keep/deep/a/b/c srv/opaque/sub srv/dir-to-link \
	srv/hard srv/hard2 srv/modes srv/odd srv/etc srv/untouched
busybox=$(command -v busybox)
cp "$busybox" bin/busybox
for name in sh rm mkdir ln chmod chown sleep true touch echo printf id pwd cat; do ln bin/busybox bin/$name; done
printf 'root:x:0:0::/root:/bin/sh\ndaemon:x:2:2::/:/bin/sh\n' >etc/passwd
printf 'root:x:0:\ndaemon:x:2:\nadm:x:4:daemon\n' >etc/group
echo x >etc/keep
chmod 1777 tmp
chmod 700 root
for f in srv/gone-dir/sub/x srv/gone-file srv/keep/gone/x srv/keep/stays srv/keep/twice/old srv/keep/deep/a/b/c/file srv/opaque/old srv/opaque/again \
	srv/opaque/sub/old srv/dir-to-link/x srv/file-to-dir srv/hard/a srv/hard2/a srv/modes/file 'srv/odd/old name' srv/etc/passwd srv/untouched/x; do
	echo "$f" >"$f"
done
ln -s etc srv/link
ln srv/hard/a srv/hard/b
ln srv/hard/a srv/untouched/c
ln srv/hard2/a srv/hard2/b
mkfifo srv/fifo
mknod srv/null c 1 3
truncate -s 4M srv/sparse
echo end >>srv/sparse
chown 1:2 srv/untouched/x srv/fifo
chmod 4755 srv/modes/file
setcap cap_net_raw+ep bin/cat
chmod 0500 srv/untouched
find . -exec touch -h -d @1000000001 {} +
`

var built struct {
	sync.Once
	name string
	err  error
}

// image is the name of an image of many layers on the engine.
func image(t *testing.T) (*testenv.Engine, string) {
	t.Helper()
	e := testenv.StartDocker(t)
	testenv.NeedTool(t, "busybox", "setcap")
	built.Do(func() { built.name, built.err = build(t, e) })
	if built.err != nil {
		t.Fatal(built.err)
	}
	return e, built.name
}

func build(t *testing.T, e *testenv.Engine) (string, error) {
	dir := testenv.Dir(t)
	root, context := filepath.Join(dir, "root"), filepath.Join(dir, "context")
	for _, d := range []string{root, filepath.Join(context, "copied", "sub")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return "", err
		}
	}
	script := exec.CommandContext(t.Context(), "bash", "-c", base)
	script.Dir = root
	testenv.Output(t, script)
	testenv.Output(t, exec.CommandContext(t.Context(), "tar", "-C", root, "--xattrs", "--xattrs-include=*", "-cf", filepath.Join(context, "base.tar"), "."))
	for name, text := range map[string]string{"Dockerfile": dockerfile, "copied/file": "copied\n", "copied/sub/x": "x\n"} {
		path := filepath.Join(context, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return "", err
		}
		if err := os.Chtimes(path, time.Unix(1100000000, 0), time.Unix(1100000000, 0)); err != nil {
			return "", err
		}
	}
	name := testenv.Name() + ":latest"
	cmd := e.Docker(t.Context(), "build", "-q", "-t", name, context)
	cmd.Env = append(cmd.Env, "DOCKER_BUILDKIT=0")
	testenv.Output(t, cmd)
	return name, nil
}

// save writes what a command prints into a file.
func save(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	path := filepath.Join(testenv.Dir(t), "archive")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = f, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%q: %v\n%s", cmd.Args, err, stderr.Bytes())
	}
	return path
}

// bundle makes a bundle of an archive and returns its directory.
func bundle(t *testing.T, archive string, flags ...string) string {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := filepath.Join(testenv.Dir(t), "bundle")
	cmd := exec.CommandContext(t.Context(), testenv.Binary(t), append([]string{"--image", "-q", "-o", dir}, flags...)...)
	cmd.Stdin = f
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%q: %v\n%s", cmd.Args, err, out)
	}
	return dir
}

// added explains what Docker adds to every container's filesystem when it is created.
func added() map[string]func(got, want *node) bool {
	onlyThere := func(got, want *node) bool { return got == nil && want != nil }
	timeOnly := func(got, want *node) bool {
		if got == nil || want == nil {
			return false
		}
		g := *got
		g.MTime = want.MTime
		return g == *want
	}
	return map[string]func(got, want *node) bool{
		".dockerenv": onlyThere, "dev/console": onlyThere, "dev/pts": onlyThere, "dev/shm": onlyThere,
		"etc/hostname": onlyThere, "etc/hosts": onlyThere, "etc/resolv.conf": onlyThere, "etc/mtab": onlyThere,
		// New entries in them change their times.
		"dev": timeOnly, "etc": timeOnly,
		// An export has no entry for the root.
		".": func(got, want *node) bool { return got != nil && want == nil },
	}
}
