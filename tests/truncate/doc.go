// Package truncate cuts streams short, everywhere. The only stream that makes a bundle is the whole one.
package truncate
