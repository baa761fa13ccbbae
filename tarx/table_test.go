package tarx

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// That there is no memory for a table is an error of who adds to it, and nothing else is.
func TestNoMemory(t *testing.T) {
	add := func(size int) (err error) {
		defer CatchNoMemory(&err)
		release(allocate[byte](size))
		return nil
	}
	if err := add(1); err != nil {
		t.Error(err)
	}
	if err := add(1 << 60); !errors.Is(err, unix.ENOMEM) {
		t.Errorf("%v, want ENOMEM", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("another panic is lost")
		}
	}()
	func() (err error) {
		defer CatchNoMemory(&err)
		panic("another")
	}()
}
