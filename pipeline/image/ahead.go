package image

import (
	"context"
	"io"
	"slices"

	"ocibundle/tarx/extract"
)

// Extract makes the tree of an image's layers, one on top of the other. maxBytes is how
// much they may decode to, all together; 0 for no limit. Copies of what they decode to take
// room on disk meanwhile: see [Archive.SaveRoom].
func (a *Archive) Extract(ctx context.Context, x *extract.Extractor, img *Opened, maxBytes int64) error {
	left := maxBytes
	var next *aheadLayer
	defer func() { next.stop() }()
	for i, l := range img.LayerBlobs {
		this := next
		if err := this.wait(); err != nil {
			return img.layerError(i, err)
		}
		next = nil
		if i+1 < len(img.LayerBlobs) && maxBytes == 0 && !a.frugal { // what is left is known only behind this layer
			next = a.decodeAhead(ctx, img.LayerBlobs[i+1])
		}
		var err error
		if this != nil && this.decoded.whole() {
			err = this.extract(ctx, x)
		} else {
			err = a.extractLayer(ctx, x, l, i == 0, maxBytes, &left)
		}
		this.stop()
		if err != nil {
			return img.layerError(i, err)
		}
		if !slices.ContainsFunc(img.LayerBlobs[i+1:], func(n Layer) bool { return n.Member.Offset == l.Member.Offset }) {
			a.free(l.Member)
		}
	}
	return nil
}

// SaveRoom says that err is of a disk or a quota that is full, and that there may be room enough
// without the copies, and without those layers of a spooled archive that are extracted: from here on
// Extract does without them. It has to begin again then, with nothing of the tree left.
func (a *Archive) SaveRoom(img *Opened, err error) bool {
	if a.frugal || len(img.LayerBlobs) < 2 || !noRoom(err) {
		return false
	}
	a.frugal = true
	return true
}

// aheadLayer is a layer that is decoded and verified while the one below it is extracted. A nil one is none.
type aheadLayer struct {
	decoded decodedLayer
	cancel  context.CancelFunc
	done    chan struct{} // closed behind the last write to decoded and err
	err     error
}

// decodeAhead starts to decode a layer, if it is gzip: the windows of two decoders of another format are more memory
// than a run may take.
func (a *Archive) decodeAhead(ctx context.Context, l Layer) *aheadLayer {
	magic := make([]byte, 2)
	if _, err := a.open(l.Member).ReadAt(magic, 0); err != nil || string(magic) != "\x1f\x8b" {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	n := &aheadLayer{decoded: decodedLayer{temp: a.temp}, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(n.done)
		n.err = a.verifyLayer(l, 0, nil, &n.decoded, func(r io.Reader) error {
			_, err := io.Copy(io.Discard, &untilDone{ctx, r})
			return err
		})
	}()
	return n
}

// untilDone reads until its context ends.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u *untilDone) Read(p []byte) (int, error) {
	if err := context.Cause(u.ctx); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// wait waits until the layer is decoded, and says why it is not the one announced.
func (n *aheadLayer) wait() error {
	if n == nil {
		return nil
	}
	<-n.done
	return n.err
}

func (n *aheadLayer) extract(ctx context.Context, x *extract.Extractor) error {
	if err := x.Whiteouts(ctx, n.decoded.reader()); err != nil {
		return err
	}
	return x.Layer(ctx, n.decoded.lastReader(), nil)
}

// stop ends the decoding, and gives the room back.
func (n *aheadLayer) stop() {
	if n == nil {
		return
	}
	n.cancel()
	<-n.done
	n.decoded.Close()
}
