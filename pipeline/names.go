package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"

	"ocibundle/specedit"
	"ocibundle/tarx"
	"ocibundle/tarx/handle"
	"ocibundle/tarx/rewrite"
)

// errNoPlace says why a file is not written into a rootfs.
var errNoPlace = errors.New("it is a link, or its directory is missing")

// warnNew adds the warnings of a config that only its rootfs has shown.
func (res *Result) warnNew(warnings []string) {
	for _, w := range warnings {
		if !slices.Contains(res.Warnings, w) {
			res.Warnings = append(res.Warnings, w)
		}
	}
}

// placeFiles writes the files that the config needs into the rootfs.
func (c *Config) placeFiles(rootfs *os.File, res *Result) error {
	for _, f := range c.Spec.Files() {
		text, err := whole(f)
		if err != nil {
			return err
		}
		uid, gid := c.Extract.Mapping.RootPair()
		err = placeFile(rootfs, f, text, uid, gid)
		if err := res.placed(f, err); err != nil {
			return err
		}
	}
	return nil
}

// placed notes what became of a file. Where it has no place, the bundle is good without it.
func (res *Result) placed(f specedit.File, err error) error {
	switch {
	case err == nil:
		res.Decisions = append(res.Decisions, fmt.Sprintf("/%s has the container's own settings", f.Name))
	case errors.Is(err, errNoPlace):
		res.Warnings = append(res.Warnings, fmt.Sprintf("the container's own settings are not in /%s: %v", f.Name, err))
	default:
		return fmt.Errorf("write /%s of the rootfs: %w", f.Name, handle.Cause(err))
	}
	return nil
}

// whole is the text of a file.
func whole(f specedit.File) ([]byte, error) {
	if f.After == "" {
		return []byte(f.Text), nil
	}
	text, err := os.ReadFile(f.After)
	if err != nil {
		return nil, err
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	return append(text, f.Text...), nil
}

// placeFile writes a file into the rootfs, where there is none or an empty one. The
// directory is found by the kernel within the rootfs; nothing in it is followed.
func placeFile(rootfs *os.File, f specedit.File, text []byte, uid, gid int) error {
	parent, err := pathrs.OpenatInRoot(rootfs, path.Dir(f.Name))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return errNoPlace
	}
	if err != nil {
		return err
	}
	defer parent.Close()
	dir, base := int(parent.Fd()), path.Base(f.Name)
	var at, in unix.Stat_t
	if err := unix.Fstat(dir, &at); err != nil {
		return err
	}
	flags := unix.O_WRONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	switch err := unix.Fstatat(dir, base, &in, unix.AT_SYMLINK_NOFOLLOW); {
	case err == unix.ENOENT:
		flags |= unix.O_CREAT | unix.O_EXCL
	case err == unix.ENOTDIR:
		return errNoPlace
	case err != nil:
		return err
	case in.Mode&unix.S_IFMT != unix.S_IFREG || in.Nlink != 1:
		return errNoPlace
	}
	fd, err := unix.Openat(dir, base, flags, 0o644)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), f.Name)
	defer file.Close()
	if _, err := file.Write(text); err != nil {
		return err
	}
	if flags&unix.O_CREAT != 0 {
		if err := errors.Join(file.Chown(uid, gid), file.Chmod(0o644)); err != nil {
			return err
		}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, handle.Path(dir), []unix.Timespec{at.Atim, at.Mtim}, 0); err != nil {
			return err
		}
	}
	when := unix.NsecToTimespec(f.Time.UnixNano())
	return unix.UtimesNanoAt(unix.AT_FDCWD, handle.Path(fd), []unix.Timespec{when, when}, 0)
}

// streamFiles writes the files that the config needs behind the rootfs's own, of which a
// reader replaces the empty ones.
func (c *Source) streamFiles(ctx context.Context, out *rewrite.Rewriter, res *Result) error {
	for _, f := range c.Spec.Files() {
		text, err := whole(f)
		if err != nil {
			return err
		}
		err = errNoPlace
		if out.Has(path.Dir(f.Name)) {
			err = out.Rewrite(ctx, oneFile(f, text))
		}
		if errors.Is(err, tarx.ErrMalformed) || errors.Is(err, tarx.ErrRefused) { // what leads there is not a directory
			err = errNoPlace
		}
		if err := res.placed(f, err); err != nil {
			return err
		}
	}
	return nil
}

// oneFile is a tar stream of one file, of root's.
func oneFile(f specedit.File, text []byte) io.Reader {
	head, _, _ := tarx.AppendHeader(nil, &tarx.OutHeader{Type: tarx.TypeReg, Name: f.Name, Mode: 0o644, Size: int64(len(text)),
		Sec: f.Time.Unix(), Nsec: int32(f.Time.Nanosecond())}) // it fails only for what has much to say beside the body
	return bytes.NewReader(slices.Concat(head, tarx.PadBlock(text), make([]byte, 2*tarx.BlockSize)))
}
