package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// A duel is two commands that do the same in their own ways, where that is not to extract a stream.
type duel struct {
	against string
	// prepare makes what both need in an empty directory, before the clock starts.
	prepare    func(h *harness, c kase, dir string) error
	ours, base func(h *harness, c kase, dir string) ([]stage, error)
}

func stages(argv ...[]string) ([]stage, error) {
	var s []stage
	for _, a := range argv {
		s = append(s, stage{Argv: a})
	}
	return s, nil
}

// aBundle extracts the case's stream to DIR/bundle.
func aBundle(h *harness, c kase, dir string) error {
	file, err := h.streamFile(c)
	if err != nil {
		return err
	}
	return command(h.ours, "-q", "-i", file, "-o", filepath.Join(dir, "bundle"))
}

// drain is the other end of a pipe: GNU tar notices /dev/null and reads no file.
var drain = []string{"dd", "of=/dev/null", "bs=128k", "status=none"}

var rmDuel = &duel{
	against: "rm -rf",
	prepare: aBundle,
	ours: func(h *harness, _ kase, dir string) ([]stage, error) {
		return stages([]string{h.ours, "rm", filepath.Join(dir, "bundle")})
	},
	base: func(_ *harness, _ kase, dir string) ([]stage, error) {
		return stages([]string{"rm", "-rf", filepath.Join(dir, "bundle")})
	},
}

var exportDuel = &duel{
	against: "tar -c",
	prepare: aBundle,
	ours: func(h *harness, _ kase, dir string) ([]stage, error) {
		return stages([]string{h.ours, "export", filepath.Join(dir, "bundle")}, drain)
	},
	base: func(_ *harness, _ kase, dir string) ([]stage, error) {
		return stages([]string{"tar", "--numeric-owner", "-C", filepath.Join(dir, "bundle", "rootfs"), "-c", "."}, drain)
	},
}

var versionDuel = &duel{
	against: "an empty Go program",
	prepare: func(*harness, kase, string) error { return nil },
	ours: func(h *harness, _ kase, _ string) ([]stage, error) {
		return stages([]string{h.ours, "--version"})
	},
	base: func(h *harness, _ kase, _ string) ([]stage, error) {
		return stages([]string{filepath.Join(h.bins, "empty")})
	},
}

// imageDuel is an image of so many layers that the stream was cut into.
func imageDuel(layers int, pack bool) *duel {
	against, decode := "GNU tar on the layer", ""
	if layers > 1 {
		against = "GNU tar on one layer after the other"
	}
	if pack {
		decode = "z"
	}
	return &duel{
		against: against,
		prepare: func(h *harness, c kase, dir string) error {
			if _, _, err := h.image(c, layers, pack); err != nil {
				return err
			}
			return os.Mkdir(filepath.Join(dir, "rootfs"), 0o755)
		},
		ours: func(h *harness, c kase, dir string) ([]stage, error) {
			file, _, err := h.image(c, layers, pack)
			return []stage{{Argv: []string{h.ours, "--image", "-i", file, "-o", filepath.Join(dir, "bundle")}}}, err
		},
		base: func(h *harness, c kase, dir string) ([]stage, error) {
			_, list, err := h.image(c, layers, pack)
			script := `cd "$1"; shift; for l; do tar --numeric-owner -x` + decode + `pf "$l" || exit; done`
			return []stage{{Argv: append([]string{"sh", "-c", script, "sh", filepath.Join(dir, "rootfs")}, list...)}}, err
		},
	}
}

const packedSuffix = ".gz"

// image makes an archive as `docker save` writes it, and gives its layers as files, too.
func (h *harness) image(c kase, n int, pack bool) (archive string, layers []string, err error) {
	stream, err := h.streamFile(c)
	if err != nil {
		return "", nil, err
	}
	// Named so that forget knows them.
	base := strings.TrimSuffix(stream, ".tar")
	archive = fmt.Sprintf("%s.image-%d-%t", base, n, pack)
	for i := range n {
		layers = append(layers, fmt.Sprintf("%s.%d", archive, i))
	}
	plain := slices.Clone(layers)
	if pack {
		for i := range layers {
			layers[i] += packedSuffix
		}
	}
	if _, err := os.Stat(archive); err == nil {
		return archive, layers, nil
	}
	if err := cut(stream, plain); err != nil {
		return "", nil, err
	}
	var config struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
		RootFS       struct {
			Type    string   `json:"type"`
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	config.Architecture, config.OS, config.RootFS.Type = runtime.GOARCH, "linux", "layers"
	for _, l := range plain {
		d, err := h.digest(l)
		if err != nil {
			return "", nil, err
		}
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, d)
		if pack {
			if _, err := compressed(l, "gzip", packedSuffix, "-6c"); err != nil {
				return "", nil, err
			}
		}
	}
	return archive, layers, writeImage(archive, config, layers)
}

// cut makes n streams of one.
func cut(stream string, parts []string) error {
	in, err := os.Open(stream)
	if err != nil {
		return err
	}
	defer in.Close()
	r := tar.NewReader(in)
	st, err := in.Stat()
	if err != nil {
		return err
	}
	for i, p := range parts {
		out, err := os.Create(p)
		if err != nil {
			return err
		}
		defer out.Close()
		w := tar.NewWriter(out)
		for {
			at, err := in.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			if i < len(parts)-1 && at >= st.Size()*int64(i+1)/int64(len(parts)) {
				break
			}
			hdr, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			if err := w.WriteHeader(hdr); err != nil {
				return err
			}
			if _, err := io.Copy(w, r); err != nil {
				return err
			}
		}
		if err := w.Close(); err != nil {
			return err
		}
	}
	return nil
}

func writeImage(archive string, config any, layers []string) error {
	out, err := os.Create(archive)
	if err != nil {
		return err
	}
	defer out.Close()
	w := tar.NewWriter(out)
	put := func(name string, b []byte) error {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(b)), Mode: 0o644}); err != nil {
			return err
		}
		_, err := w.Write(b)
		return err
	}
	var names []string
	for i, l := range layers {
		b, err := os.ReadFile(l)
		if err != nil {
			return err
		}
		names = append(names, fmt.Sprintf("%d/layer.tar", i))
		if err := put(names[i], b); err != nil {
			return err
		}
	}
	text, err := json.Marshal(config)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	name := hex.EncodeToString(sum[:]) + ".json"
	manifest, err := json.Marshal([]any{map[string]any{"Config": name, "RepoTags": []string{"redis:bench"}, "Layers": names}})
	if err != nil {
		return err
	}
	return errors.Join(put(name, text), put("manifest.json", manifest), w.Close())
}

// runDuel runs both in turns until there are enough quiet rounds.
func (h *harness) runDuel(c kase) (*result, error) {
	r := newResult(c)
	r.base = c.duel.against
	if h.ours == "" {
		return r, nil
	}
	quiet := 0
	for i := 0; quiet < h.rounds && i < h.rounds*h.patience; i++ {
		rd := round{runs: map[string]outcome{}}
		pair := []string{r.base, ours}
		if i%2 == 1 {
			slices.Reverse(pair)
		}
		for _, t := range pair {
			o, err := h.onceDuel(c, t)
			if err != nil {
				if h.ctx.Err() == nil {
					r.fail(t, "%s: %v", t, err)
					return r, nil
				}
				return nil, err
			}
			if h.verbose {
				logf("  %-12s %8.1f ms wall %8.1f ms cpu %6.1f MiB  others %.0f %%", t, ms(o.Wall), ms(o.CPU), mib(o.MaxRSS), o.Foreign*100)
			}
			rd.runs[t] = o
			rd.foreign = max(rd.foreign, o.Foreign)
		}
		r.rounds = append(r.rounds, rd)
		if rd.foreign <= h.foreign {
			quiet++
		}
	}
	r.choose(h.rounds, h.foreign)
	return r, nil
}

func (h *harness) onceDuel(c kase, tool string) (o outcome, err error) {
	if err := h.ctx.Err(); err != nil {
		return o, err
	}
	p, err := h.place(c)
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, p.leave()) }()
	if err := c.duel.prepare(h, c, p.dir); err != nil {
		return o, err
	}
	argv := c.duel.base
	if tool == ours {
		argv = c.duel.ours
	}
	j := job{Dir: p.dir, Nice: h.nice}
	if j.Stages, err = argv(h, c, p.dir); err != nil {
		return o, err
	}
	settle(h.settle)
	if c.stream != "" {
		file, err := h.streamFile(c)
		if err != nil {
			return o, err
		}
		if err := warm(64<<20 + 2*int64(size(file))); err != nil {
			return o, fmt.Errorf("touch memory: %w", err)
		}
	}
	return launch(j)
}

// besides keeps one processor busy until it is called off.
func besides() (stop func(), err error) {
	cmd := exec.Command("yes")
	if err := cmd.Start(); err != nil { // what it writes goes to /dev/null
		return nil, err
	}
	return func() { cmd.Process.Kill(); cmd.Wait() }, nil
}
