package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"ocibundle/pipeline/decode"
	"ocibundle/pipeline/host"
	"ocibundle/pipeline/image"
	"ocibundle/pipeline/userns"
	"ocibundle/specedit"
	"ocibundle/tarx"
	"ocibundle/tarx/rewrite"
)

// AccountsError says that a name cannot be looked up in an account file that
// goes by in a stream.
type AccountsError struct {
	// File is "etc/passwd" or "etc/group".
	File string
	Err  error
}

func (e *AccountsError) Error() string {
	return fmt.Sprintf("read /%s as it goes by: %v", e.File, e.Err)
}

// Unwrap gives the cause.
func (e *AccountsError) Unwrap() error { return e.Err }

// Stream writes a bundle to w as a tar stream, rootfs first and then config.json, while the
// container's filesystem comes in: see [rewrite.Rewriter]. The layers of an image become one
// stream: see [ocibundle/tarx/flatten].
//
// Its ids are those that [Run] would have put onto the disk, in every mode: what a root who
// unpacks it gets is the bundle that Run makes, and config.json, which tells a runtime the
// mapping, is right about it. With userns.ModeSelf these are the caller's own, and not 0, for
// a bundle whose files belong to root while its root is the caller does not run. A user who
// unpacks it owns all there is, whatever the headers say, and keeps the real ids with tar
// --xattrs.
//
// After an error the stream has an end that its readers take for a cut. Errors are those of
// Run, and an *AccountsError in one of an edit.
func Stream(ctx context.Context, c Source, w io.Writer) (_ *Result, err error) {
	res := &Result{Output: "-", Warnings: c.IDs.Notes}
	o := c.extraction()
	if c.Spec.Host, err = host.Describe(c.IDs); err != nil {
		return nil, err
	}
	if c.Image {
		o.MaxEntries = 0 // it is for the entries of the layers, of which fewer are written
	} else {
		o.StripPrefix = c.Choice.Platform.Directory()
		if err := c.tryEdits(res); err != nil {
			return nil, err
		}
	}
	in, err := c.open(ctx, false)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	out := rewrite.New(w, "rootfs/", []string{"etc/passwd", "etc/group", "etc/hosts", "etc/resolv.conf"}, o)
	defer func() {
		if err != nil {
			out.Abort() // the error that counts is the one there was
		}
	}()
	var lost []tarx.Loss
	if c.Image {
		lost, err = c.streamImage(ctx, in, out, res)
	} else {
		err = c.streamExport(ctx, in, out)
	}
	if err != nil {
		return nil, err
	}
	res.BytesRead, res.SHA256 = c.Progress.Read(), c.SHA256
	config, err := c.Spec.Build(specedit.FileUsers{Read: func(name string) ([]byte, error) { return readAccounts(out, name) }})
	if err != nil {
		return nil, err
	}
	res.warnNew(c.Spec.Warnings())
	if err := c.streamFiles(ctx, out, res); err != nil {
		return nil, err
	}
	uid, gid := configOwner(c.IDs)
	if err := out.WriteFile("config.json", 0o644, uid, gid, time.Now().Unix(), config); err != nil {
		return nil, err
	}
	if res.Report, err = out.Close(); err != nil {
		return nil, err
	}
	res.Report.Losses = append(res.Report.Losses, lost...)
	return res, nil
}

// streamExport writes a container's filesystem.
func (c *Source) streamExport(ctx context.Context, in *decode.Stream, out *rewrite.Rewriter) error {
	if err := out.Rewrite(ctx, in.Out); err != nil {
		return c.explain(in, err)
	}
	if err := in.Finish(c.SHA256); err != nil {
		return err
	}
	return c.checkRootfs(out.Has)
}

// streamImage writes the filesystem of an image. The archive is read where it is if it lies in
// a file as it is; else it is spooled. With a digest, too, for the file may change meanwhile.
func (c *Source) streamImage(ctx context.Context, in *decode.Stream, out *rewrite.Rewriter, res *Result) ([]tarx.Loss, error) {
	a, err := image.Open(ctx, in, c.SHA256 == "", image.TempFile)
	if err != nil {
		return nil, in.Explain(err)
	}
	defer a.Close()
	img, err := c.openImage(a, in, res)
	if err != nil {
		return nil, err
	}
	return a.Flatten(ctx, img, c.Extract.MaxEntries, c.MaxBytes, func(r io.Reader) error { return out.Rewrite(ctx, r) })
}

// readAccounts reads a file of users or groups that has gone by.
func readAccounts(out *rewrite.Rewriter, name string) ([]byte, error) {
	b, err := out.ReadFile(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		err = &AccountsError{File: name, Err: err}
	}
	return b, err
}

// configOwner is whose config.json is: the caller's where the container's root
// is the caller. Elsewhere it is root's, for whoever owns it decides what a
// runtime does as root.
func configOwner(ids userns.State) (uid, gid uint32) {
	if ids.Mode == userns.ModeSelf || ids.Mode == userns.ModeSubid {
		return uint32(os.Geteuid()), uint32(os.Getegid())
	}
	return 0, 0
}
