package image

import (
	"bufio"
	"context"
	"errors"
	"io"
	"runtime/debug"

	"ocibundle/tarx"
	"ocibundle/tarx/flatten"
)

// Flatten makes one stream of an image's layers, which write gets. Limits are those of all
// layers; 0 stands for none. Every layer is verified before anything is written.
// It reports what is lost beside what write finds.
func (a *Archive) Flatten(ctx context.Context, img *Opened, maxEntries, maxBytes int64, write func(io.Reader) error) ([]tarx.Loss, error) {
	// The names are most of the heap, and have next to no pointers for the collector to follow.
	defer debug.SetGCPercent(debug.SetGCPercent(25))
	f := flatten.New(maxEntries)
	left := maxBytes
	for i, l := range img.LayerBlobs {
		names := func(r io.Reader) error { return f.Layer(ctx, r) }
		var err error
		if i == 0 {
			err = a.verifyLayer(l, maxBytes, &left, nil, names)
		} else {
			err = a.readTwice(l, maxBytes, &left, nil, func(r io.Reader) error { return f.Whiteouts(ctx, r) }, names)
		}
		if err != nil {
			return nil, img.layerError(i, err)
		}
	}
	f.Resolve()

	pr, pw := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := a.writeLayers(ctx, img, f, pw)
		pw.CloseWithError(err)
		done <- err
	}()
	err := write(pr)
	pr.CloseWithError(errNotWritten)
	if werr := <-done; werr != nil && !errors.Is(werr, errNotWritten) {
		return nil, werr
	}
	return f.Losses.List(), err
}

// errNotWritten ends the layers' stream where nobody reads it any more.
var errNotWritten = errors.New("the stream cannot be written")

func (a *Archive) writeLayers(ctx context.Context, img *Opened, f *flatten.Flattener, w io.Writer) error {
	out := bufio.NewWriterSize(w, 128<<10)
	if err := f.Begin(out); err != nil {
		return err
	}
	for i, l := range img.LayerBlobs {
		if err := a.rereadLayer(l, 0, nil, func(r io.Reader) error { return f.Write(ctx, r, out) }); err != nil {
			return img.layerError(i, err)
		}
	}
	if err := f.End(out); err != nil {
		return err
	}
	return out.Flush()
}
