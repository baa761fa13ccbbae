package bundle

import (
	"context"
	"fmt"
	"io"

	"ocibundle/pipeline/userns"
	"ocibundle/tarx"
	"ocibundle/tarx/export"
)

// ExportConfig is a bundle to be written as a tar stream.
type ExportConfig struct {
	// Dir is the bundle.
	Dir string
	// Out takes the stream.
	Out io.Writer
	// IDs is how this process sees the ids on disk: what userns.Enter says of ModeWidest.
	IDs userns.State
}

// Export writes the rootfs of a bundle as a tar stream with the container's own ids, which it
// recovers through the mapping in the bundle's config.json; see [export.Tree] for the rest. Where
// there is no bundle, or something is mounted in it, the error is an *Error and nothing was
// written. An id on disk that the mapping lacks is tarx.ErrRefused.
func Export(ctx context.Context, c ExportConfig) (*tarx.Report, error) {
	dir, err := Open(c.Dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	is, err := inspect(dir, c.Dir)
	if err != nil {
		return nil, err
	}
	defer is.Close()
	if err := notMounted(c.Dir, dir); err != nil {
		return nil, err
	}
	host, err := mapping(is.config)
	if err != nil {
		return nil, fmt.Errorf("read the mapping of %q: %w", c.Dir, err)
	}
	o := export.Options{InNamespace: c.IDs.InNamespace}
	if single(host.UIDMaps) && single(host.GIDMaps) {
		o.Owner = tarx.OwnerRootless
	}
	if o.Mapping, err = c.IDs.ToDisk(host); err != nil {
		return nil, err
	}
	return export.Tree(ctx, c.Out, is.rootfs, o)
}
