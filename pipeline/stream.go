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
	"ocibundle/pipeline/userns"
	"ocibundle/specedit"
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

// Stream writes a bundle to w as a tar stream, rootfs first and then
// config.json, while the container's filesystem comes in: see [tarx.Rewriter].
// Output, Force, Sync, Image and AbsoluteRoot of the config have no meaning.
//
// Its ids are those that [Run] would have put onto the disk, in every mode: what
// a root who unpacks it gets is the bundle that Run makes, and config.json,
// which tells a runtime the mapping, is right about it. With userns.ModeSelf
// these are the caller's own, and not 0, for a bundle whose files belong to root
// while its root is the caller does not run. A user who unpacks it owns all
// there is, whatever the headers say, and keeps the real ids with tar --xattrs.
//
// After an error the stream has an end that its readers take for a cut. Errors
// are those of Run, and an *AccountsError in one of an edit.
func Stream(ctx context.Context, c Config, w io.Writer) (_ *Result, err error) {
	res := &Result{Output: "-", Warnings: c.IDs.Notes}
	o := c.extraction()
	o.StripPrefix = c.Choice.Platform.Directory()
	c.Spec.Host = host.Describe(c.IDs)
	if err := c.tryEdits(res); err != nil {
		return nil, err
	}
	// To open a FIFO waits for somebody who writes to it (fifo(7)).
	stream, err := decode.Await(ctx, c.Open, func(s io.ReadCloser) { s.Close() })
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	accounts := []string{"etc/passwd", "etc/group"}
	out := rewrite.New(w, "rootfs/", accounts, o)
	defer func() {
		if err != nil {
			out.Abort() // the error that counts is the one there was
		}
	}()
	if c.Progress == nil {
		c.Progress = new(decode.Progress)
	}
	in, err := decode.Open(ctx, stream, decode.Options{SHA256: c.SHA256, MaxBytes: c.MaxBytes, Progress: c.Progress})
	if err != nil {
		return nil, err
	}
	defer in.Close()
	if err := out.Rewrite(ctx, in.Out); err != nil {
		return nil, c.explain(in, err)
	}
	if err := in.Finish(c.SHA256); err != nil {
		return nil, err
	}
	if err := c.checkRootfs(out.Has); err != nil {
		return nil, err
	}
	res.BytesRead, res.SHA256 = c.Progress.Read(), c.SHA256

	config, err := c.Spec.Build(specedit.FileUsers{Read: func(name string) ([]byte, error) {
		b, err := out.ReadFile(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			err = &AccountsError{File: name, Err: err}
		}
		return b, err
	}})
	if err != nil {
		return nil, err
	}
	uid, gid := configOwner(c.IDs)
	if err := out.WriteFile("config.json", 0o644, uid, gid, time.Now().Unix(), config); err != nil {
		return nil, err
	}
	if res.Report, err = out.Close(); err != nil {
		return nil, err
	}
	return res, nil
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
