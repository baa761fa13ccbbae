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

	rootfs, err := st.Mkdir("rootfs")
	if err != nil {
		return err
	}
	defer rootfs.Close()
	const aside = "aside"
	c.Extract.Aside = func() (*os.File, error) { return st.Mkdir(aside) }
	if c.Image {
		err = c.extractImage(ctx, in, st, rootfs, res)
	} else {
		err = c.extractExport(ctx, in, rootfs, res)
	}
	if err == nil {
		err = st.RemoveDir(aside)
	}
	if err != nil {
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

// extractImage makes the tree of an image archive, which is read where it is, or spooled: see
// [Source.streamImage].
func (c *Config) extractImage(ctx context.Context, in *decode.Stream, st *bundle.Stage, rootfs *os.File, res *Result) error {
	a, err := image.Open(ctx, in, c.SHA256 == "", st.TempFile)
	if err != nil {
		return in.Explain(err)
	}
	defer a.Close()
	img, err := c.openImage(a, in, res)
	if err != nil {
		return err
	}
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
}

// extractExport makes the tree of a container's filesystem.
func (c *Config) extractExport(ctx context.Context, in *decode.Stream, rootfs *os.File, res *Result) (err error) {
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
}
