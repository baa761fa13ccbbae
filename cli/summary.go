package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/docker/go-units"

	"ocibundle/pipeline"
	"ocibundle/pipeline/image"
	"ocibundle/specedit/imageconfig"
	"ocibundle/tarx"
)

// summarize says what was done, as far as the flags ask for it. The bundle is there, so nothing
// that goes wrong here is an error.
func (p *program) summarize(o *options, res *pipeline.Result) {
	if !o.quiet {
		p.warn(res.Warnings...)
		for _, l := range res.Report.Losses {
			if l.Kind != tarx.LossDeviceInDev { // the runtime mounts its own /dev over them
				p.warn(lossText(l))
			}
		}
		p.hintNetwork()
	}
	if o.verbose {
		p.decisions(o, res)
	}
	if !o.json {
		return
	}
	s := summary(o, res)
	if p.imported != nil {
		s.ImageConfig = importSummary(*p.imported)
	}
	if err := p.stdout.printJSON(s); err != nil && !o.quiet {
		p.warn(fmt.Sprintf("the bundle is there, but the JSON object is not: %v", err))
	}
}

// decisions is what --verbose says.
func (p *program) decisions(o *options, res *pipeline.Result) {
	if p.imported != nil {
		for _, d := range p.imported.Decisions {
			p.complain("", "%s", d)
		}
	}
	for _, e := range o.config.Spec.Edits {
		for _, d := range e.Decisions {
			p.complain("", "%s", d)
		}
	}
	if res.Image != nil {
		p.complain("image", "%s", imageText(res.Image))
	}
	for _, d := range res.Decisions {
		p.complain("", "%s", d)
	}
	p.complain("ownership", "%s", o.config.IDs.Mode)
	r := res.Report
	p.complain("", "%d entries: %d files (%s), %d directories, %d symlinks, %d hard links, %d devices, %d FIFOs",
		r.Entries, r.Files, units.BytesSize(float64(r.Bytes)), r.Directories, r.Symlinks, r.Hardlinks, r.Devices, r.FIFOs)
	where := res.Output
	if o.stream {
		where = "the bundle to standard output"
	}
	p.complain("", "wrote %s", where)
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
		p.complain("hint", "--net host|PATH chooses the network")
	}
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
