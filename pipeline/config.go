package pipeline

import (
	"errors"
	"io"

	"ocibundle/pipeline/decode"
	"ocibundle/pipeline/image"
	"ocibundle/pipeline/userns"
	"ocibundle/specedit"
	"ocibundle/tarx"
)

// Source is a stream and what is to be made of it.
type Source struct {
	// Open opens the stream. It is called once all else has been checked.
	Open func() (io.ReadCloser, error)
	// SHA256 is the digest that the stream must have, in lower-case hexadecimal; empty for
	// none.
	SHA256 string
	// MaxBytes is the most bytes that the stream, decoded, may have; 0 for no limit.
	MaxBytes int64
	// Image says that the stream is an image archive. The image's own config comes before
	// the edits of Spec.
	Image bool
	// Choice says which image of an archive is wanted. Its platform also picks from a
	// stream that has a directory for each.
	Choice image.Choice
	// Extract are the options of the extraction. Its mapping is set from IDs.
	Extract tarx.Options
	// IDs is how the container's ids are stored on disk.
	IDs userns.State
	// Spec is the config to be written. Its mapping is set from IDs.
	Spec specedit.Plan
	// Progress, if not nil, counts along.
	Progress *decode.Progress
}

// Config is a bundle to be made in a directory.
type Config struct {
	Source
	// Output is the bundle's directory.
	Output string
	// Force replaces a bundle that is there.
	Force bool
	// Sync flushes the bundle to disk before it is published.
	Sync bool
	// AbsoluteRoot writes root.path absolute.
	AbsoluteRoot bool
}

// Result is what was done.
type Result struct {
	// Output is the bundle's absolute path.
	Output string
	// Report is what extraction says.
	Report *tarx.Report
	// BytesRead is the number of bytes of the stream as they came in.
	BytesRead int64
	// SHA256 is the stream's digest, where it was asked for.
	SHA256 string
	// Image is the image that the stream held, nil where it was none.
	Image *image.Image
	// Decisions are sentences about what was decided on the way.
	Decisions []string
	// Warnings are sentences for the user.
	Warnings []string
}

// ErrImageArchive is in the chain where the stream is an image archive and not
// a filesystem.
var ErrImageArchive = errors.New("the stream is an image archive, not a container's filesystem")
