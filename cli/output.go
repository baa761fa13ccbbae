package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/term"

	"ocibundle/pipeline"
	"ocibundle/pipeline/decode"
	"ocibundle/pipeline/image"
	"ocibundle/pipeline/userns"
	"ocibundle/specedit/imageconfig"
	"ocibundle/tarx"
)

// tell says what was done, as far as the flags ask for it.
func (p *program) tell(o *options, res *pipeline.Result) error {
	if !o.quiet {
		for _, w := range res.Warnings {
			fmt.Fprintf(p.stderr, "ocibundle: warning: %s\n", oneLine(w))
		}
		for _, l := range res.Report.Losses {
			if l.Kind == tarx.LossDeviceInDev {
				continue // the runtime mounts its own /dev over them
			}
			fmt.Fprintf(p.stderr, "ocibundle: warning: %s\n", oneLine(lossText(l)))
		}
		p.hintNetwork()
	}
	if o.verbose {
		if p.imported != nil {
			for _, d := range p.imported.Decisions {
				fmt.Fprintf(p.stderr, "ocibundle: %s\n", oneLine(d))
			}
		}
		r := res.Report
		if i := res.Image; i != nil {
			fmt.Fprintf(p.stderr, "ocibundle: image: %s\n", oneLine(imageText(i)))
		}
		for _, d := range res.Decisions {
			fmt.Fprintf(p.stderr, "ocibundle: %s\n", oneLine(d))
		}
		fmt.Fprintf(p.stderr, "ocibundle: ownership: %s\n", o.config.IDs.Mode)
		fmt.Fprintf(p.stderr, "ocibundle: %d entries: %d files (%s), %d directories, %d symlinks, %d hard links, %d devices, %d FIFOs\n",
			r.Entries, r.Files, units.BytesSize(float64(r.Bytes)), r.Directories, r.Symlinks, r.Hardlinks, r.Devices, r.FIFOs)
		where := oneLine(res.Output)
		if o.stream {
			where = "the bundle to standard output"
		}
		fmt.Fprintf(p.stderr, "ocibundle: wrote %s\n", where)
	}
	if !o.json {
		return nil
	}
	s := summary(o, res)
	if p.imported != nil {
		s.ImageConfig = importSummary(*p.imported)
	}
	return writeJSON(p.stdout, s)
}

// hintNetwork says what there is in place of a network of the engine's.
func (p *program) hintNetwork() {
	if p.imported == nil {
		return
	}
	if _, ok := p.rec.last("net"); ok {
		return
	}
	if slices.ContainsFunc(p.imported.Notices, func(n imageconfig.Notice) bool {
		return n.Member == "HostConfig.NetworkMode" || n.Member == "HostConfig.PortBindings"
	}) {
		fmt.Fprintln(p.stderr, "ocibundle: hint: --net host|PATH chooses the network")
	}
}

// jsonImport is what --json says of --image-config.
type jsonImport struct {
	Kind     string   `json:"kind"`
	NotTaken []string `json:"notTaken"`
}

func importSummary(im imageconfig.Result) *jsonImport {
	s := &jsonImport{Kind: string(im.Kind), NotTaken: []string{}}
	for _, n := range im.Notices {
		s.NotTaken = append(s.NotTaken, n.String())
	}
	return s
}

func imageText(i *image.Image) string {
	return fmt.Sprintf("%s %s for %s, %d layers", cmp.Or(strings.Join(i.Names, " = "), "without a name"), i.Digest, i.Platform, i.Layers)
}

func lossText(l tarx.Loss) string {
	s := fmt.Sprintf("not kept: %d %s, the first at %q", l.Count, l.Kind, l.First)
	if l.Detail != "" {
		s += " (" + l.Detail + ")"
	}
	return s
}

// jsonSummary is what --json prints.
type jsonSummary struct {
	Bundle    string     `json:"bundle"`
	Remap     string     `json:"remap"`
	SHA256    string     `json:"sha256,omitempty"`
	BytesRead int64      `json:"bytesRead"`
	Entries   jsonCounts `json:"entries"`
	Bytes     int64      `json:"bytes"`
	Lost      []jsonLoss `json:"lost"`
	Warnings  []string   `json:"warnings"`
	Image     *jsonImage `json:"image,omitempty"`

	ImageConfig *jsonImport `json:"imageConfig,omitempty"`
}

type jsonImage struct {
	Names     []string `json:"names"`
	Digest    string   `json:"digest,omitempty"`
	Platform  string   `json:"platform"`
	Layers    int      `json:"layers"`
	Whiteouts int64    `json:"whiteouts"`
}

type jsonCounts struct {
	Total       int64 `json:"total"`
	Files       int64 `json:"files"`
	Directories int64 `json:"directories"`
	Symlinks    int64 `json:"symlinks"`
	Hardlinks   int64 `json:"hardlinks"`
	FIFOs       int64 `json:"fifos"`
	Devices     int64 `json:"devices"`
}

type jsonLoss struct {
	Kind   string `json:"kind"`
	Count  int64  `json:"count"`
	First  string `json:"first"`
	Detail string `json:"detail,omitempty"`
}

func summary(o *options, res *pipeline.Result) jsonSummary {
	r := res.Report
	s := jsonSummary{
		Bundle: res.Output, Remap: string(o.config.IDs.Mode), SHA256: res.SHA256, BytesRead: res.BytesRead, Bytes: r.Bytes,
		Entries: jsonCounts{r.Entries, r.Files, r.Directories, r.Symlinks, r.Hardlinks, r.FIFOs, r.Devices},
		Lost:    []jsonLoss{}, Warnings: append([]string{}, res.Warnings...),
	}
	if i := res.Image; i != nil {
		s.Image = &jsonImage{Names: append([]string{}, i.Names...), Digest: i.Digest, Platform: i.Platform.String(),
			Layers: i.Layers, Whiteouts: r.Whiteouts}
	}
	for _, l := range r.Losses {
		s.Lost = append(s.Lost, jsonLoss{string(l.Kind), l.Count, l.First, l.Detail})
	}
	return s
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "\t")
	return enc.Encode(v)
}

// showProgress draws a line on w until the function that it returns is called.
func showProgress(w io.Writer, when string, p *decode.Progress) func() {
	f, isFile := w.(*os.File)
	if when == "never" || when == "auto" && !(isFile && term.IsTerminal(int(f.Fd()))) {
		return func() {}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	start := time.Now()
	go func() {
		defer close(stopped)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				n := float64(p.Read())
				fmt.Fprintf(w, "\r\x1b[K%s read, %s/s", units.BytesSize(n), units.BytesSize(n/time.Since(start).Seconds()))
			case <-stop:
				fmt.Fprint(w, "\r\x1b[K")
				return
			}
		}
	}()
	return func() { close(stop); <-stopped }
}

// explain says why there is no namespace in which what was forbidden would have
// been allowed.
func (p *program) explain(err error, ids userns.State) {
	if !errors.Is(err, fs.ErrPermission) {
		return
	}
	for _, n := range ids.Notes {
		fmt.Fprintf(p.stderr, "ocibundle: warning: %s\n", oneLine(n))
	}
}

func (p *program) warn(warnings []string) {
	for _, w := range warnings {
		fmt.Fprintf(p.stderr, "ocibundle: warning: %s\n", oneLine(w))
	}
}
