package main

import (
	"archive/tar"
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"time"
)

// Streams that are made here are the same in every run: names, times and contents come from a fixed seed.

var streamTime = time.Unix(1700000000, 0)

type writer struct {
	*tar.Writer
	random *rand.ChaCha8
	block  []byte
	n      int64
	err    error
	dry    bool // only count
}

func newWriter(w io.Writer) *writer {
	return &writer{Writer: tar.NewWriter(w), random: rand.NewChaCha8([32]byte{7}), block: make([]byte, 1<<20)}
}

func (w *writer) header(h *tar.Header) {
	if w.err != nil {
		return
	}
	w.n++
	if w.dry {
		return
	}
	h.ModTime = streamTime.Add(time.Duration(w.n%100000) * time.Second)
	w.err = w.WriteHeader(h)
}

func (w *writer) dir(name string) {
	w.header(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755})
}

func (w *writer) symlink(name, target string) {
	w.header(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777})
}

// file has random content: zeros could become holes, and the pages would be missing from the comparison.
func (w *writer) file(name string, size int64) {
	w.header(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644})
	for size > 0 && w.err == nil && !w.dry {
		b := w.block[:min(size, int64(len(w.block)))]
		w.random.Read(b)
		_, w.err = w.Write(b)
		size -= int64(len(b))
	}
}

func (w *writer) close() error {
	if w.err != nil {
		return w.err
	}
	return w.Close()
}

// generate writes the stream of that name.
func generate(name string, out io.Writer) error {
	b := bufio.NewWriterSize(out, 1<<20)
	w := newWriter(b)
	if err := describe(w, name); err != nil {
		return err
	}
	if err := w.close(); err != nil {
		return err
	}
	return b.Flush()
}

func describe(w *writer, name string) error {
	switch name {
	case "small": // 100,000 files of 1 KiB in 2,000 directories
		for d := range 2000 {
			dir := fmt.Sprintf("data/%02d/%04d", d/100, d)
			if d == 0 {
				w.dir("data")
			}
			// Depth first, as tar writes: GNU tar sets a directory's mtime when it leaves it.
			if d%100 == 0 {
				w.dir(fmt.Sprintf("data/%02d", d/100))
			}
			w.dir(dir)
			for f := range 50 {
				w.file(fmt.Sprintf("%s/file-%03d", dir, f), 1<<10)
			}
		}
	case "container": // a small container: 60 directories, 400 files, 80 symlinks
		for d := range 60 {
			dir := fmt.Sprintf("d%02d", d)
			w.dir(dir)
			for f := range 7 {
				if n := 7*d + f; n < 400 {
					w.file(fmt.Sprintf("%s/f%d", dir, f), 1<<(n%4*2+10)) // 1 to 64 KiB
				}
			}
			for l := range 2 {
				if 2*d+l < 80 {
					w.symlink(fmt.Sprintf("%s/l%d", dir, l), "f0")
				}
			}
		}
	case "big": // 4 files of 512 MiB
		for f := range 4 {
			w.file(fmt.Sprintf("big-%d", f), 512<<20)
		}
	case "4g": // 8 files of 512 MiB
		for f := range 8 {
			w.file(fmt.Sprintf("big-%d", f), 512<<20)
		}
	case "dirs": // 100,000 directories and nothing else
		for d := range 100000 {
			if d%1000 == 0 {
				w.dir(fmt.Sprintf("d%03d", d/1000))
				continue
			}
			w.dir(fmt.Sprintf("d%03d/e%03d", d/1000, d%1000))
		}
	case "pit": // a chain of 1,000 directories with some files in each: paths of up to 2,000 bytes
		dir := "d"
		for d := range 1000 {
			w.dir(dir)
			for f := range 4 {
				w.file(fmt.Sprintf("%s/f%d", dir, f), 100)
			}
			dir += "/" + string(rune('a'+d%26))
		}
	default:
		var shape string
		var n int
		if _, err := fmt.Sscanf(name, "%d-%s", &n, &shape); err != nil {
			return fmt.Errorf("no stream %q", name)
		}
		return many(w, shape, n)
	}
	return nil
}

// many writes n entries: mostly files, half of them empty, some symlinks and directories. The shapes differ in where
// they lie.
func many(w *writer, shape string, n int) error {
	leaf := func(dir string, i int) {
		name := dir + "/" + strconv.Itoa(i)
		switch {
		case i%10 == 9:
			w.symlink(name, "../target-"+strconv.Itoa(i))
		case i%2 == 0:
			w.file(name, 0)
		default:
			w.file(name, 100)
		}
	}
	switch shape {
	case "spread": // 50 entries to a directory
		dir := ""
		for i := range n {
			if i%50 == 0 {
				if i%50000 == 0 {
					dir = fmt.Sprintf("s%02d", i/50000)
				} else {
					dir = fmt.Sprintf("s%02d/d%03d", i/50000, i/50%1000)
				}
				w.dir(dir)
				continue
			}
			leaf(dir, i)
		}
	case "wide": // all in one directory
		w.dir("w")
		for i := range n - 1 {
			leaf("w", i)
		}
	case "deep": // chains of 20 directories, each with one directory and four others
		dir := ""
		for i := range n {
			if i%100 == 0 {
				if i%50000 == 0 {
					w.dir(fmt.Sprintf("p%02d", i/50000))
					dir = fmt.Sprintf("p%02d", i/50000)
					continue
				}
				dir = fmt.Sprintf("p%02d/c%03d", i/50000, i/100%500)
				w.dir(dir)
				continue
			}
			if i%5 == 0 {
				dir += "/d"
				w.dir(dir)
				continue
			}
			leaf(dir, i)
		}
	default:
		return fmt.Errorf("no shape %q", shape)
	}
	return nil
}

func writeStream(name, file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if err := generate(name, f); err != nil {
		f.Close()
		return fmt.Errorf("generate stream %q: %w", name, err)
	}
	return f.Close()
}
