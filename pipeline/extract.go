package pipeline

import (
	"context"
	"os"

	"golang.org/x/sys/unix"

	"ocibundle/pipeline/bundle"
	"ocibundle/pipeline/decode"
	"ocibundle/pipeline/image"
	"ocibundle/specedit"
	"ocibundle/tarx"
	"ocibundle/tarx/extract"
)

// extract fills the stage: rootfs from the stream, and config.json, which may name the users in it.
func (c *Config) extract(ctx context.Context, st *bundle.Stage, res *Result) error {
	in, err := c.open(ctx, !c.Image)
	if err != nil {
		return err
	}
	defer in.Close()

	c.Extract.Aside = func() (*os.File, error) { return st.Mkdir(aside) }
	fill := c.extractExport
	if c.Image {
		fill = c.extractImage
	}
	rootfs, err := fill(ctx, in, st, res)
	if err != nil {
		return err
	}
	defer rootfs.Close()
	if err := st.RemoveDir(aside); err != nil {
		return err
	}
	res.BytesRead, res.SHA256 = c.Progress.Read(), c.SHA256

	config, err := c.Spec.Build(specedit.RootUsers{Root: rootfs})
	if err != nil {
		return err
	}
	res.warnNew(c.Spec.Warnings())
	if err := c.placeFiles(rootfs, res); err != nil {
		return err
	}
	if err := st.OpenToRoot(c.IDs); err != nil {
		return err
	}
	return st.WriteFile("config.json", config)
}

// What there is in a stage besides config.json.
const (
	rootfsName = "rootfs"
	aside      = "aside" // see tarx.Options
)

// extractImage makes the tree of an image archive, which is read where it is, or spooled: see
// [Source.streamImage].
func (c *Config) extractImage(ctx context.Context, in *decode.Stream, st *bundle.Stage, res *Result) (*os.File, error) {
	a, err := image.Open(ctx, in, c.SHA256 == "", st.TempFile)
	if err != nil {
		return nil, in.Explain(err)
	}
	defer a.Close()
	img, err := c.openImage(a, in, res)
	if err != nil {
		return nil, err
	}
	for {
		rootfs, err := c.extractLayers(ctx, a, img, st, res)
		if err == nil || !a.SaveRoom(img, err) {
			return rootfs, err
		}
		for _, dir := range []string{rootfsName, aside} {
			if err := st.RemoveDir(dir); err != nil {
				return nil, err
			}
		}
	}
}

func (c *Config) extractLayers(ctx context.Context, a *image.Archive, img *image.Opened, st *bundle.Stage, res *Result) (*os.File, error) {
	return makeRootfs(st, func(rootfs *os.File) error {
		o := c.Extract
		o.Feed = tarx.FeedReader // it decodes and digests
		x, err := extract.New(rootfs, o)
		if err != nil {
			return err
		}
		defer x.Close()
		if err := a.Extract(ctx, x, img, c.MaxBytes); err != nil {
			return err
		}
		res.Report, err = x.Finish(ctx)
		return err
	})
}

// makeRootfs makes the directory and has fill do the rest.
func makeRootfs(st *bundle.Stage, fill func(rootfs *os.File) error) (*os.File, error) {
	rootfs, err := st.Mkdir(rootfsName)
	if err != nil {
		return nil, err
	}
	if err := fill(rootfs); err != nil {
		rootfs.Close()
		return nil, err
	}
	return rootfs, nil
}

// extractExport makes the tree of a container's filesystem.
func (c *Config) extractExport(ctx context.Context, in *decode.Stream, st *bundle.Stage, res *Result) (*os.File, error) {
	return makeRootfs(st, func(rootfs *os.File) (err error) {
		o := c.Extract
		o.Feed, o.Hash = in.Feed, in.Hash
		o.StripPrefix = c.Choice.Platform.Directory()
		if res.Report, err = extract.Stream(ctx, in.Out, rootfs, o); err != nil {
			return c.explain(in, err)
		}
		if err := in.Finish(c.SHA256); err != nil {
			return err
		}
		return c.checkRootfs(func(name string) bool {
			var st unix.Stat_t
			return unix.Fstatat(int(rootfs.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
		})
	})
}
