package extract

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"ocibundle/tarx"
)

// Finish puts metadata onto the directories, children before parents, and
// reports.
func (x *Extractor) Finish(ctx context.Context) (*tarx.Report, error) {
	uid, gid, err := x.Owner.Disk(0, 0)
	if err != nil {
		return nil, fmt.Errorf("own the root directory: %w", err)
	}
	open := x.dirs.handles()
	for i := x.table.dirs.Len() - 1; i >= 0; i-- {
		if i&0xfff == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		r := x.table.at(i)
		if _, ok := open[i]; !ok && r.flags&dirDone != 0 {
			continue
		}
		meta := dirMeta{mode: r.mode, sec: r.sec, nsec: r.nsec}
		if r.flags&dirImplied != 0 {
			meta = dirMeta{mode: tarx.ImpliedMode, uid: uid, gid: gid, sec: x.NewestSec, nsec: x.NewestNsec}
		} else {
			meta.uid, meta.gid = x.table.owner(i)
		}
		if err := x.finishDir(i, r, meta, open); err != nil {
			return nil, x.notFinished(i, err)
		}
	}
	x.Report.Losses = x.Losses.List()
	return &x.Report, nil
}

func (x *Extractor) notFinished(i int, err error) error {
	x.pathBuf = x.table.path(x.pathBuf[:0], i)
	return fmt.Errorf("finish the directory %q: %w", tarx.Clip(x.pathBuf), err)
}

// reap closes the directories that have left the cache. Nothing changes in them
// unless they are opened again, so that most get their metadata here, with one
// call, and need not be looked for in the end. What could keep the extractor
// out, or the children from being made as they should, has to wait.
func (x *Extractor) reap() error {
	return x.dirs.reap(func(d *openDir) error {
		r := x.table.at(d.rec)
		if r.flags&(dirNamed|dirImplied|dirChmod|dirACL|dirAgain) != dirNamed || x.ownedByOther(d.rec) {
			return nil
		}
		if err := sysUtimes(d.fd, nil, r.sec, r.nsec); err != nil {
			return x.notFinished(d.rec, opError("set the times", err))
		}
		r.flags |= dirDone
		return nil
	})
}

func (x *Extractor) ownedByOther(i int) bool {
	uid, gid := x.table.owner(i)
	return x.Options.Owner == tarx.OwnerKeep && (uid != x.fsuid || gid != x.fsgid)
}

// finishDir puts m onto directory i, unless that is gone. Those in open need
// not be looked for.
func (x *Extractor) finishDir(i int, r *dirRecord, m dirMeta, open map[int]int) error {
	fd, isOpen := open[i]
	if !isOpen {
		x.pathBuf = x.table.path(x.pathBuf[:0], i)
		var err error
		fd, err = x.dirs.openReal(x.pathBuf)
		switch err {
		case nil:
		case unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EXDEV:
			return nil // a later entry replaced it
		default:
			return opError("open", err)
		}
		defer sysClose(fd)
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return opError("stat", err)
		}
		if st.Ino != r.ino {
			return nil
		}
		if rec, ok := x.table.find(r.ino); ok && rec != i {
			return nil // the number went to a directory made later
		}
	}
	if r.flags&dirChown != 0 && x.Options.Owner == tarx.OwnerKeep && (i == 0 || m.uid != x.fsuid || m.gid != x.fsgid) {
		if err := unix.Fchown(fd, int(m.uid), int(m.gid)); err != nil {
			return opError("change the owner", err)
		}
	}
	if r.flags&dirACL != 0 {
		for kind, n := range x.table.acls.At(i) {
			if n == 0 {
				continue
			}
			name := aclNames[kind]
			if err := unix.Fsetxattr(fd, name, []byte(x.table.values[n-1]), 0); err != nil {
				if !refused(fd, err) {
					return opError("set the attribute "+name, err)
				}
				// Behind those of the entries, which are known by their index.
				x.Losses.Add(tarx.LossACL, x.table.path(nil, i), 1<<62+int64(i), name+": "+err.Error())
			}
		}
	}
	if r.flags&dirChmod != 0 {
		if err := unix.Fchmod(fd, uint32(m.mode)); err != nil {
			return opError("change the mode", err)
		}
	}
	if err := sysUtimes(fd, nil, m.sec, m.nsec); err != nil {
		return opError("set the times", err)
	}
	return nil
}
