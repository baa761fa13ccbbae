package hostile

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// mistakes are what real extractors got wrong. An extractor with none of the checks joins paths and hopes; each check here
// is one that was thought to be enough.
type mistakes struct {
	checkNames   bool   // refuse a name that goes up, as a string; a link's target likewise. Symlinks are not resolved
	stripDots    bool   // take the leading ../ off a name and go on
	lstatParents bool   // refuse a parent that is a symlink...
	cache        string // ...unless it was once seen to be a directory: "exact" by its name, "fold" by its name in lower case
	replace      bool   // unlink a name before it is made anew
	late         bool   // metadata of directories at the end, by name
	chmodLinks   bool   // metadata of symlinks and hard links like anybody's, by name
	cwdLinks     bool   // check a hard link's target within the root, then hand the raw string to link(2)
	recreate     bool   // make a hard link to a symlink by making that symlink once more
	copyLinks    bool   // copy what a hard link cannot reach
	wrapIDs      bool   // ids are 32 bits, whatever the stream says
}

var profiles = map[string]mistakes{
	"joins":        {},
	"replaces":     {replace: true},
	"strings":      {checkNames: true},
	"strips":       {stripDots: true},
	"caches":       {lstatParents: true, replace: true, cache: "exact"},
	"folds":        {lstatParents: true, replace: true, cache: "fold"},
	"late":         {lstatParents: true, replace: true, late: true},
	"chmods":       {lstatParents: true, replace: true, chmodLinks: true},
	"chmods-joins": {chmodLinks: true},
	"cwd":          {checkNames: true, cwdLinks: true},
	"recreates":    {checkNames: true, recreate: true},
	"copies":       {replace: true, copyLinks: true},
	"wraps":        {replace: true, wrapIDs: true},
}

// naiveExtract is the extractor that everybody writes first.
func naiveExtract(root string, stream io.Reader, m mistakes) error {
	type lateDir struct {
		path string
		h    *tar.Header
	}
	var lateDirs []lateDir
	seen := map[string]bool{}
	for r := tar.NewReader(stream); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		name := h.Name
		if m.stripDots {
			for strings.HasPrefix(name, "../") {
				name = name[3:]
			}
		}
		if m.checkNames && leaves(name) {
			return fmt.Errorf("%q goes up", name)
		}
		path := filepath.Join(root, name)
		if m.lstatParents {
			if err := checkParents(root, filepath.Dir(filepath.Clean("/" + name))[1:], seen, m.cache); err != nil {
				return err
			}
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		st, statErr := os.Lstat(path)
		isDir := statErr == nil && st.IsDir()
		if h.Typeflag != tar.TypeDir && (isDir || m.replace) {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
		if h.Typeflag == tar.TypeDir && statErr == nil && !isDir && m.replace {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
		if m.cache != "" && h.Typeflag == tar.TypeDir {
			seen[cacheKey(name, m.cache)] = true
		}
		target := h.Linkname
		switch h.Typeflag {
		case tar.TypeReg:
			f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|unix.O_NONBLOCK, 0o600)
			if err != nil {
				return err
			}
			if _, err := io.Copy(f, r); err != nil {
				return err
			}
			f.Close()
		case tar.TypeDir:
			err = os.MkdirAll(path, 0o755)
		case tar.TypeSymlink:
			if m.checkNames && (filepath.IsAbs(target) || leaves(filepath.Join(filepath.Dir(name), target))) {
				return fmt.Errorf("%q -> %q goes up", name, target)
			}
			os.Remove(path)
			err = os.Symlink(target, path)
		case tar.TypeLink:
			if m.checkNames && leaves(target) {
				return fmt.Errorf("%q => %q goes up", name, target)
			}
			err = naiveLink(root, target, path, m)
		case tar.TypeFifo:
			os.Remove(path)
			err = unix.Mkfifo(path, 0o600)
		case tar.TypeChar, tar.TypeBlock:
			mode := uint32(unix.S_IFCHR)
			if h.Typeflag == tar.TypeBlock {
				mode = unix.S_IFBLK
			}
			os.Remove(path)
			err = unix.Mknod(path, mode|0o600, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
		default:
			continue
		}
		if err != nil {
			return err
		}
		switch {
		case h.Typeflag == tar.TypeDir && m.late:
			lateDirs = append(lateDirs, lateDir{path, h})
		case h.Typeflag == tar.TypeSymlink, h.Typeflag == tar.TypeLink:
			if m.chmodLinks {
				err = naiveMetadata(path, h, m)
			}
		default:
			err = naiveMetadata(path, h, m)
		}
		if err != nil {
			return err
		}
	}
	for _, d := range lateDirs {
		if err := naiveMetadata(d.path, d.h, m); err != nil {
			return err
		}
	}
	return nil
}

// leaves is the check by strings: it does not know that a component may be a symlink.
func leaves(name string) bool {
	name = filepath.Clean(strings.TrimLeft(name, "/"))
	return name == ".." || strings.HasPrefix(name, "../")
}

func cacheKey(name, how string) string {
	name = filepath.Clean(name)
	if how == "fold" {
		name = strings.ToLower(name)
	}
	return name
}

func checkParents(root, dir string, seen map[string]bool, cache string) error {
	if dir == "" || cache != "" && seen[cacheKey(dir, cache)] {
		return nil
	}
	if up := filepath.Dir(dir); up != "." {
		if err := checkParents(root, up, seen, cache); err != nil {
			return err
		}
	}
	st, err := os.Lstat(filepath.Join(root, dir))
	if err == nil && !st.IsDir() {
		return fmt.Errorf("%q is not a directory", dir)
	}
	return nil
}

func naiveLink(root, target, path string, m mistakes) error {
	from := filepath.Join(root, target)
	if m.cwdLinks {
		from = target
	}
	if st, err := os.Lstat(path); err == nil && !st.IsDir() && from != path {
		os.Remove(path)
	}
	if m.recreate {
		if content, err := os.Readlink(from); err == nil {
			return os.Symlink(content, path)
		}
	}
	if m.copyLinks {
		content, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		return os.WriteFile(path, content, 0o644)
	}
	return os.Link(from, path)
}

func naiveMetadata(path string, h *tar.Header, m mistakes) error {
	if os.Geteuid() == 0 {
		uid, gid := h.Uid, h.Gid
		if m.wrapIDs {
			uid, gid = int(uint32(uid)), int(uint32(gid))
		}
		if err := os.Chown(path, uid, gid); err != nil {
			return err
		}
	}
	if err := unix.Chmod(path, uint32(h.Mode)&0o7777); err != nil {
		return err
	}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			if err := unix.Setxattr(path, name, []byte(value), 0); err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM) {
				return err
			}
		}
	}
	return os.Chtimes(path, time.Time{}, h.ModTime)
}
