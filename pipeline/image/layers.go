package image

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/google/go-containerregistry/pkg/v1"

	"ocibundle/pipeline/decode"
	"ocibundle/tarx"
	"ocibundle/tarx/extract"
)

// extractLayer puts one layer onto the tree. The first reading verifies it, and
// takes away what it hides; the lowest layer hides nothing, and is made in the
// same reading.
func (a *Archive) extractLayer(ctx context.Context, x *extract.Extractor, l Layer, lowest bool, limit int64, left *int64) error {
	if lowest {
		return a.verifyWith(l, limit, left, nil, func(r io.Reader, h hash.Hash) error { return x.Layer(ctx, r, h) })
	}
	entries := func(r io.Reader) error { return x.Layer(ctx, r, nil) }
	var decoded *decodedLayer
	if !a.frugal {
		decoded = &decodedLayer{temp: a.temp}
		defer decoded.Close()
	}
	return a.readTwice(l, limit, left, decoded, func(r io.Reader) error { return x.Whiteouts(ctx, r) }, entries)
}

// readTwice has first read a layer and verifies it, and then has second read it. What it decodes to is kept in decoded
// meanwhile, if that is not nil.
func (a *Archive) readTwice(l Layer, limit int64, left *int64, decoded *decodedLayer, first, second func(io.Reader) error) error {
	again := *left // what the second reading may have, too
	if err := a.verifyLayer(l, limit, left, decoded, first); err != nil {
		return err
	}
	if decoded.whole() {
		return second(decoded.lastReader())
	}
	return a.rereadLayer(l, limit, &again, second)
}

// rereadLayer has f read a layer that has been verified. Where somebody may have changed it since, it is verified again:
// by the digest of what f reads, which the first reading has found to be that of the blob.
func (a *Archive) rereadLayer(l Layer, limit int64, left *int64, f func(io.Reader) error) error {
	if a.spooled == nil {
		l.digest = v1.Hash{}
		return a.verifyLayer(l, limit, left, nil, f)
	}
	in, err := decode.New(a.open(l.Member), decode.Options{})
	if err != nil {
		return err
	}
	defer in.Close()
	return in.Explain(f(in.Out))
}

// layerError says which layer an error is about, unless it is of the disk.
func (img *Opened) layerError(i int, err error) error {
	if errors.Is(err, tarx.ErrMalformed) || errors.Is(err, tarx.ErrRefused) {
		part := fmt.Sprintf("layer %d of %d (%s)", i+1, len(img.LayerBlobs), img.LayerBlobs[i].DiffID)
		return &Error{Part: part, Err: err}
	}
	return err
}

// verifyLayer has f read a layer and compares its digests with those announced. If it is compressed, decoded, if not nil,
// gets what it decodes to.
func (a *Archive) verifyLayer(l Layer, limit int64, left *int64, decoded *decodedLayer, f func(io.Reader) error) error {
	return a.verifyWith(l, limit, left, decoded, func(r io.Reader, h hash.Hash) error {
		d := decode.NewDigester(r, h)
		defer d.Close()
		return f(d)
	})
}

// verifyWith is verifyLayer with an f that hashes what it reads.
func (a *Archive) verifyWith(l Layer, limit int64, left *int64, decoded *decodedLayer, f func(io.Reader, hash.Hash) error) error {
	var raw *decode.Digester
	var src io.Reader = a.open(l.Member)
	if l.digest.Hex != "" && l.digest != l.DiffID {
		h, err := v1.Hasher(l.digest.Algorithm)
		if err != nil {
			return err
		}
		raw = decode.NewDigester(src, h)
		src = raw
	}
	in, err := decode.New(src, decode.Options{})
	if err != nil {
		return a.blameBlob(l, err)
	}
	defer in.Close()
	h, err := v1.Hasher(l.DiffID.Algorithm)
	if err != nil {
		return err
	}
	if decoded != nil && in.Compressed {
		decoded.Hash, h = h, decoded
	}
	out := in.Out
	var limited *decode.LimitReader
	if limit > 0 {
		limited = &decode.LimitReader{R: out, Limit: limit, Left: *left}
		out = limited
	}
	if err := f(out, h); err != nil {
		return a.blameBlob(l, in.Explain(err))
	}
	if limited != nil {
		*left = limited.Left
	}
	if err := in.Finish(""); err != nil {
		return a.blameBlob(l, err)
	}
	if raw != nil {
		if err := compare(l.digest, raw.Sum()); err != nil {
			return err
		}
	}
	if err := compare(l.DiffID, hex.EncodeToString(h.Sum(nil))); err != nil {
		return err
	}
	return decoded.failed()
}

// blameBlob tells a broken archive from a broken layer: err is what a layer
// with another digest looks like too.
func (a *Archive) blameBlob(l Layer, err error) error {
	if l.digest.Hex == "" || !errors.Is(err, tarx.ErrMalformed) {
		return err
	}
	if derr := a.verifyBlob(l.Member, l.digest); derr != nil {
		return derr
	}
	return err
}

func compare(want v1.Hash, got string) error {
	if want.Hex != got {
		return &BlobDigestError{Want: want.String(), Got: want.Algorithm + ":" + got}
	}
	return nil
}

func (a *Archive) verifyBlob(m tarx.Member, want v1.Hash) error {
	h, err := v1.Hasher(want.Algorithm)
	if err != nil {
		return err
	}
	if _, err := io.Copy(h, a.open(m)); err != nil {
		return fmt.Errorf("read the spooled image: %w", err)
	}
	return compare(want, hex.EncodeToString(h.Sum(nil)))
}
