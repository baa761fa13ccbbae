package bundle

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// Publish makes the stage appear as the destination, in one step. What was there under force is
// what left names, for the caller to remove. After an error the stage is still there.
func (s *Stage) Publish(ctx context.Context) (left *Stage, err error) {
	d := s.dest
	if err := s.is(s.Name); err != nil {
		return nil, err
	}
	if d.old != nil {
		return s.replace(ctx)
	}
	fd := int(d.Parent.Fd())
	// It takes the place of nothing, or of an empty directory.
	switch err := unix.Renameat(fd, s.Name, fd, d.base); err {
	case nil:
	case unix.ENOTEMPTY, unix.EEXIST, unix.ENOTDIR:
		if d.force { // it was not there before
			return nil, d.fail(DestBusy, "")
		}
		return nil, d.fail(DestExists, "")
	case unix.EBUSY:
		return nil, d.fail(DestMount, "")
	default:
		return nil, fmt.Errorf("rename the bundle to %q: %w", d.dir, err)
	}
	if err := s.is(d.base); err != nil {
		// Whatever it is has its name back; the stage will be removed.
		if rerr := unix.Renameat2(fd, d.base, fd, s.Name, unix.RENAME_NOREPLACE); rerr != nil {
			err = fmt.Errorf("%w; besides, it is called %q and cannot be renamed: %w", err, d.dir, rerr)
		}
		return nil, err
	}
	s.gone = true
	s.close()
	return nil, nil
}

// is says whether name is the stage.
func (s *Stage) is(name string) error {
	same, err := s.dest.named(s.dir, name)
	if err == nil && !same {
		err = fmt.Errorf("publish the bundle as %q: %w", s.dest.dir, errTaken)
	}
	return err
}

// replace exchanges the stage for the old bundle, which has to be the one that was there at the
// start: of several runs that replace one bundle at once, one does.
func (s *Stage) replace(ctx context.Context) (left *Stage, err error) {
	d := s.dest
	switch err := lock(ctx, d.old, func() (bool, error) { return d.named(d.old, d.base) }); err {
	case nil:
	case errLocked, errMoved:
		return nil, d.fail(DestBusy, "")
	default:
		return nil, err
	}
	if err := d.replaceable(ctx, d.old); err != nil {
		return nil, err
	}
	fd := int(d.Parent.Fd())
	exchange := func() error { return unix.Renameat2(fd, s.Name, fd, d.base, unix.RENAME_EXCHANGE) }
	switch err := exchange(); err {
	case nil:
	case unix.ENOENT:
		return nil, d.fail(DestBusy, "")
	case unix.EBUSY:
		return nil, d.fail(DestMount, "")
	default:
		return nil, fmt.Errorf("rename the bundle to %q: %w", d.dir, err)
	}
	err = s.is(d.base)
	if err == nil {
		var same bool
		if same, err = d.named(d.old, s.Name); err == nil && !same {
			err = d.fail(DestBusy, "")
		}
	}
	if err != nil {
		// Somebody who does not know of our locks has renamed something else in between: it gets
		// its name back.
		if rerr := exchange(); rerr != nil {
			err = fmt.Errorf("%w; besides, the exchange for %q could not be undone: %w", err, s.Name, rerr)
		}
		return nil, err
	}
	s.gone = true
	s.close()
	unix.Fchmod(int(d.old.Fd()), 0o700) // as a stage has it, for a sweep to know it by
	left = &Stage{dest: d, Name: s.Name, dir: d.old}
	d.old = nil
	return left, nil
}
