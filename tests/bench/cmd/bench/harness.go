package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

type harness struct {
	options
	ctx     context.Context
	scratch string
	bins    string
	ours    string // the program measured, empty if left out
	guest   *guest
	digests map[string]string // of streams, by path
	trash   []string          // directories on a real disk, deleted at the very end
}

func (h *harness) close() error {
	var errs []error
	if h.guest != nil {
		errs = append(errs, h.guest.remove())
	}
	for _, dir := range h.trash {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

// build makes the programs that are measured, with the caches of the go command.
func (h *harness) build() error {
	var err error
	if h.bins, err = scratchDir(h.scratch, "bin"); err != nil {
		return err
	}
	env := append(os.Environ(), "CGO_ENABLED=0")
	build := func(dir string, pkgs ...string) error {
		cmd := exec.CommandContext(h.ctx, "go", append([]string{"build", "-trimpath", "-o", h.bins + "/"}, pkgs...)...)
		cmd.Dir, cmd.Env = dir, env
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", strings.Join(pkgs, " "), err, out)
		}
		return nil
	}
	own := filepath.Join(h.root, "tests", "bench")
	if err := build(own, "./cmd/floor", "./cmd/empty", "./cmd/peer-go-archive", "./cmd/peer-containerd", "./cmd/peer-umoci"); err != nil {
		return err
	}
	switch h.bin {
	case "none":
	case "":
		if err := build(h.root, "."); err != nil {
			return err
		}
		h.ours = filepath.Join(h.bins, "ocibundle")
	default:
		// A copy, so that a user may run it wherever it lies.
		h.ours = filepath.Join(h.bins, "ocibundle")
		text, err := os.ReadFile(h.bin)
		if err != nil {
			return err
		}
		if err := os.WriteFile(h.ours, text, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// streamFile gives a stream as a file on the scratch tmpfs.
func (h *harness) streamFile(c kase) (string, error) {
	dir, err := scratchDir(h.scratch, "streams")
	if err != nil {
		return "", err
	}
	if c.stream != "redis" {
		file := filepath.Join(dir, c.stream+".tar")
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
		return file, writeStream(c.stream, file)
	}
	kept, err := redisStream(h.ctx, h.cache, h.scratch, h.suite)
	if err != nil {
		return "", err
	}
	return copyOnce(kept, filepath.Join(dir, "redis.tar"))
}

// packedFile gives the compressed form of a stream.
func (h *harness) packedFile(c kase) (string, error) {
	kept, err := redisStream(h.ctx, h.cache, h.scratch, h.suite)
	if err != nil {
		return "", err
	}
	suffix, args := ".gz", []string{"-6c"}
	if c.pack == "zstd" {
		suffix, args = ".zst", []string{"-3qc"}
	}
	if kept, err = compressed(kept, c.pack, suffix, args...); err != nil {
		return "", err
	}
	return copyOnce(kept, filepath.Join(h.scratch, "streams", "redis.tar"+suffix))
}

func copyOnce(from, to string) (string, error) {
	if _, err := os.Stat(to); err == nil {
		return to, nil
	}
	in, err := os.Open(from)
	if err != nil {
		return "", err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return "", err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return "", err
	}
	return to, out.Close()
}

// forget deletes the streams that no later case reads.
func (h *harness) forget(later []kase) error {
	files, err := filepath.Glob(filepath.Join(h.scratch, "streams", "*"))
	if err != nil {
		return err
	}
	for _, f := range files {
		name, _, _ := strings.Cut(filepath.Base(f), ".")
		if !slices.ContainsFunc(later, func(c kase) bool { return c.stream == name }) {
			if err := os.Remove(f); err != nil {
				return err
			}
		}
	}
	return nil
}

func (h *harness) digest(file string) (string, error) {
	if d := h.digests[file]; d != "" {
		return d, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	h.digests[file] = "sha256:" + hex.EncodeToString(sum.Sum(nil))
	return h.digests[file], nil
}

func (h *harness) place(c kase) (*place, error) {
	switch {
	case c.ext4 && h.disk != "":
		p, err := diskPlace(h.disk)
		if err == nil {
			h.trash = append(h.trash, p.dir)
		}
		return p, err
	case c.ext4:
		return ext4Place(h.scratch)
	default:
		return tmpfsPlace(h.scratch)
	}
}

// An input is what one case reads.
type input struct {
	plain  string // the tar stream, as a file
	packed string // its compressed form, or nothing
	model  *model // nil without -check
	count  int64  // of entries, where a model would take too much memory

	footprint int64 // bytes of memory that its tree takes, roughly
}

func (h *harness) input(c kase) (in input, err error) {
	if in.plain, err = h.streamFile(c); err != nil {
		return in, err
	}
	if c.pack != "" {
		if in.packed, err = h.packedFile(c); err != nil {
			return in, err
		}
	}
	// A small entry takes less as a tree, a page and an inode, than twice its header and a block. On ext4 the tree lies in
	// the cache and in the image.
	in.footprint = 64<<20 + int64(size(in.plain))
	if !strings.HasPrefix(c.stream, "big") {
		in.footprint += 2 * int64(size(in.plain))
	}
	switch {
	case !h.check:
	case in.footprint > 2<<30 && c.kind == linear:
		in.count, err = countEntries(c.stream)
	default:
		in.model, err = readModel(in.plain)
	}
	return in, err
}

func (in input) close() error {
	if in.model == nil {
		return nil
	}
	return in.model.close()
}

// pipeline makes the job that runs a tool on a case's stream, and says where the tree will be.
func (h *harness) pipeline(tool string, c kase, in input, dir string) (j job, root string, v view, err error) {
	j.Dir, j.Nice = dir, h.nice
	root = filepath.Join(dir, "rootfs")
	v = view{uid: same, gid: same}
	if tool == ours {
		root = filepath.Join(dir, "bundle", "rootfs")
	} else if err = os.Mkdir(root, 0o755); err != nil {
		return
	}
	if tool == floor {
		j.Stages = []stage{{Argv: []string{filepath.Join(h.bins, "floor"), in.plain, root}}}
		return
	}
	source := in.plain
	if in.packed != "" {
		source = in.packed
	}
	if c.file {
		j.Stdin = source
	} else {
		j.Stages = append(j.Stages, stage{Argv: []string{"cat", source}})
	}
	s := stage{}
	switch tool {
	case gnuTar:
		if c.pack != "" {
			j.Stages = append(j.Stages, stage{Argv: []string{c.pack, "-dc"}})
		}
		// Without --numeric-owner the host's own users would own what the container's users of the same name should.
		s.Argv = []string{"tar", "--numeric-owner", "-xpf", "-", "-C", root}
	case bsdtar:
		s.Argv = []string{"bsdtar", "--numeric-owner", "-xpf", "-", "-C", root}
	case goArchive, containerd, umoci:
		s.Argv = []string{filepath.Join(h.bins, "peer-"+tool), root}
	case ours:
		s.Argv = []string{h.ours, "-o", filepath.Join(dir, "bundle")}
		if c.digest {
			var d string
			if d, err = h.digest(source); err != nil {
				return
			}
			s.Argv = append(s.Argv, "--digest", d)
		}
		if c.user {
			if h.guest == nil {
				if h.guest, err = makeGuest(); err != nil {
					return
				}
			}
			g := h.guest
			s.Argv = append(s.Argv, "--remap", "subid")
			s.UID, s.GID = uint32(g.uid), uint32(g.gid)
			v = view{uid: mapped(g.uid, g.subuid), gid: mapped(g.gid, g.subgid), noDevices: true}
			if err = os.Chown(dir, g.uid, g.gid); err != nil {
				return
			}
		}
		s.Argv = append(s.Argv, h.flags...)
	default:
		err = fmt.Errorf("no tool %q", tool)
	}
	j.Stages = append(j.Stages, s)
	return
}

// mapped is the mapping that subordinate ids give: 0 is the user, the rest its range.
func mapped(self, first int) func(int) int {
	return func(id int) int {
		if id == 0 {
			return self
		}
		return first + id - 1
	}
}

// once runs a tool in a fresh place and, where a check is asked for, compares its tree.
func (h *harness) once(tool string, c kase, in input, check *model) (o outcome, d *differences, err error) {
	if err := h.ctx.Err(); err != nil {
		return o, nil, err
	}
	p, err := h.place(c)
	if err != nil {
		return o, nil, err
	}
	defer func() { err = errors.Join(err, p.leave()) }()
	j, root, v, err := h.pipeline(tool, c, in, p.dir)
	if err != nil {
		return o, nil, err
	}
	settle(h.settle)
	if err := warm(in.footprint); err != nil {
		return o, nil, fmt.Errorf("touch memory: %w", err)
	}
	if c.busy {
		stop, err := besides()
		if err != nil {
			return o, nil, err
		}
		defer stop()
	}
	if o, err = launch(j); err != nil {
		return o, nil, err
	}
	if c.busy {
		o.Foreign = max(0, o.Foreign-1/float64(runtime.NumCPU()))
	}
	if tool == floor {
		ns, err := strconv.ParseInt(strings.TrimSpace(string(o.Stdout)), 10, 64)
		if err != nil {
			return o, nil, fmt.Errorf("read the floor's time: %w", err)
		}
		o.Wall = time.Duration(ns)
	}
	if h.verbose {
		logf("  %-12s %8.1f ms wall %8.1f ms cpu %6.1f MiB  others %.0f %%", tool, ms(o.Wall), ms(o.CPU), mib(o.MaxRSS), o.Foreign*100)
	}
	if check != nil {
		d, err = check.compare(root, v)
	}
	if err == nil && in.count > 0 {
		made, err := inodes(p.dir)
		if err != nil {
			return o, nil, err
		}
		// Beside the entries: the mount's root and the rootfs; a bundle and its config.json.
		made -= 2
		if tool == ours {
			made -= 2
		}
		if made != in.count {
			return o, nil, fmt.Errorf("it made %d entries of %d", made, in.count)
		}
	}
	return o, d, err
}

// inodes counts what is on the file system at dir.
func inodes(dir string) (int64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, &os.PathError{Op: "stat the file system of", Path: dir, Err: err}
	}
	return int64(fs.Files - fs.Ffree), nil
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }

func mib(n int64) float64 { return float64(n) / (1 << 20) }

func (h *harness) wants(tool string) bool {
	return h.tools == nil || slices.Contains(h.tools, tool)
}

func (h *harness) runCase(c kase) (*result, error) {
	switch c.kind {
	case memory:
		return h.runMemory(c)
	case linear:
		return h.runLinear(c)
	case startup:
		return h.runStartup(c)
	case other:
		return h.runDuel(c)
	}
	return h.runRace(c)
}

// A round is one run of each tool.
type round struct {
	runs    map[string]outcome
	foreign float64 // the worse of the pair
}

func (h *harness) runRace(c kase) (*result, error) {
	in, err := h.input(c)
	if err != nil {
		return nil, err
	}
	defer in.close()
	r := newResult(c)
	pair := []string{gnuTar}
	if h.ours != "" {
		pair = append(pair, ours)
	}
	if c.pack != "" {
		r.note("compressed to %.2f of its size", size(in.packed)/size(in.plain))
	}
	return r, h.race(r, c, in, pair, h.rounds)
}

// race runs the pair, its order in turns, until there are enough quiet rounds, and the others beside it.
func (h *harness) race(r *result, c kase, in input, pair []string, rounds int) error {
	checked := map[string]bool{}
	broken := map[string]bool{}
	try := func(tool string) (outcome, error) {
		var check *model
		if !checked[tool] {
			check, checked[tool] = in.model, true
		}
		o, d, err := h.once(tool, c, in, check)
		switch {
		case err != nil && h.ctx.Err() != nil:
			return o, err
		case err != nil:
			broken[tool] = true
			r.fail(tool, "%s: %v", tool, err)
		case d != nil && d.total > 0:
			r.differs(tool, d)
		}
		return o, nil
	}
	quiet := 0
	for i := 0; quiet < rounds && i < rounds*h.patience; i++ {
		rd := round{runs: map[string]outcome{}}
		tools := slices.Clone(pair)
		if i%2 == 1 {
			slices.Reverse(tools)
		}
		for _, t := range c.others {
			if h.wants(t) && (t == floor && i < rounds || i < min(rounds, h.peerRounds)) {
				tools = append(tools, t)
			}
		}
		for _, t := range tools {
			if broken[t] {
				continue
			}
			o, err := try(t)
			if err != nil {
				return err
			}
			if broken[t] {
				continue
			}
			rd.runs[t] = o
			if slices.Contains(pair, t) {
				rd.foreign = max(rd.foreign, o.Foreign)
			}
			if t == ours {
				r.rss = max(r.rss, o.MaxRSS)
				r.launcher = max(r.launcher, o.Launcher)
			}
		}
		r.rounds = append(r.rounds, rd)
		if rd.foreign <= h.foreign {
			quiet++
		}
		if broken[gnuTar] {
			break
		}
	}
	r.choose(rounds, h.foreign)
	return nil
}

func size(file string) float64 {
	st, err := os.Stat(file)
	if err != nil {
		return 0
	}
	return float64(st.Size())
}
