// Package export tests that a bundle's rootfs comes back out as the stream that went in, whatever
// the ownership mode, and that bundles can be removed.
package export
