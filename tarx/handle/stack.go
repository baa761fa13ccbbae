package handle

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// stackOpen is how many directories of a Stack are held open at once.
const stackOpen = 32

// ErrMoved is the error where a directory that was closed for the time being is not found again.
var ErrMoved = errors.New("the directory was moved meanwhile")

// Stack is a walk down a tree that may be of any depth and somebody else's: the directories from
// the top to the current one, of which a bounded number is held open. Those further up are closed
// and found again through "..", where that still leads to the same directory. The zero value is an
// empty one.
type Stack[T any] struct {
	levels []Level[T]
	open   int // the first index of levels that is open; all after it are open too
}

// Level is a directory on the way down.
type Level[T any] struct {
	FD   int // -1 in a level that is closed for the time being
	Data T

	dev, ino uint64
	offset   int64 // where the reading of it stands
}

// Len is the number of directories.
func (s *Stack[T]) Len() int { return len(s.levels) }

// At is the directory i levels below the top.
func (s *Stack[T]) At(i int) *Level[T] { return &s.levels[i] }

// Current is the current directory. It is open.
func (s *Stack[T]) Current() *Level[T] { return &s.levels[len(s.levels)-1] }

// Enter makes the directory that fd is open on, a child of the current one, the current one. fd is
// the stack's to close.
func (s *Stack[T]) Enter(fd int, data T) {
	if len(s.levels)-s.open >= stackOpen {
		s.CloseFarthest()
	}
	s.levels = append(s.levels, Level[T]{FD: fd, Data: data})
}

// CloseFarthest closes the open directory that is farthest up, unless it is the current one, for the
// time being. Where that fails, the directory stays open: one descriptor more is better than not
// finding it again.
func (s *Stack[T]) CloseFarthest() (closed bool) {
	if s.open >= len(s.levels)-1 {
		return false
	}
	far := &s.levels[s.open]
	var st unix.Stat_t
	offset, err := unix.Seek(far.FD, 0, io.SeekCurrent)
	if err != nil || unix.Fstat(far.FD, &st) != nil {
		return false
	}
	unix.Close(far.FD)
	far.FD, far.dev, far.ino, far.offset = -1, st.Dev, st.Ino, offset
	s.open++
	return true
}

// Leave makes the directory above the current one the current one, and returns the one it leaves,
// still open, for the caller to close. After an error nothing has changed.
func (s *Stack[T]) Leave() (Level[T], error) {
	n := len(s.levels)
	last := s.levels[n-1]
	if n > 1 && s.open == n-1 {
		up := &s.levels[n-2]
		fd, err := reopenParent(last.FD, up.dev, up.ino, up.offset)
		if err != nil {
			return Level[T]{}, err
		}
		up.FD = fd
		s.open = n - 2
	}
	s.levels[n-1] = Level[T]{}
	s.levels = s.levels[:n-1]
	s.open = min(s.open, n-1)
	return last, nil
}

// Close closes what is open.
func (s *Stack[T]) Close() {
	for _, l := range s.levels[s.open:] {
		unix.Close(l.FD)
	}
	s.levels, s.open = nil, 0
}

func reopenParent(fd int, dev, ino uint64, offset int64) (int, error) {
	up, err := Openat(fd, "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(up, &st); err == nil {
		if st.Dev != dev || st.Ino != ino {
			err = ErrMoved
		} else {
			_, err = unix.Seek(up, offset, io.SeekStart)
		}
	}
	if err != nil {
		unix.Close(up)
		return -1, err
	}
	return up, nil
}
