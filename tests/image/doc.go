// Package image tests --image: archives of images as real engines and tools write
// them, made into bundles, compared with what the engine itself and umoci make of
// them, and run.
package image
