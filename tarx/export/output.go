package export

import "io"

// output writes to w from a goroutine of its own, while the next part of the stream is made.
type output struct {
	part  []byte // that is being filled
	full  chan []byte
	empty chan []byte
	done  chan struct{}
	// failed is closed where writing has failed, with err.
	failed chan struct{}
	err    error
}

const (
	partSize = 128 << 10
	parts    = 3
)

func newOutput(w io.Writer) *output {
	o := &output{
		part: make([]byte, 0, partSize),
		full: make(chan []byte, parts), empty: make(chan []byte, parts),
		done: make(chan struct{}), failed: make(chan struct{}),
	}
	for range parts - 1 {
		o.empty <- make([]byte, 0, partSize)
	}
	go o.run(w)
	return o
}

func (o *output) run(w io.Writer) {
	defer close(o.done)
	for part := range o.full {
		if o.err == nil {
			if _, o.err = w.Write(part); o.err != nil {
				close(o.failed)
			}
		}
		o.empty <- part[:0]
	}
}

// next gives what is filled to be written, and returns the error of what was written so far.
func (o *output) next() error {
	o.full <- o.part
	o.part = <-o.empty
	select {
	case <-o.failed:
		return o.err
	default:
		return nil
	}
}

// room is where the next bytes of the stream go, at least one. take says how many have come.
func (o *output) room() ([]byte, error) {
	if len(o.part) == cap(o.part) {
		if err := o.next(); err != nil {
			return nil, err
		}
	}
	return o.part[len(o.part):cap(o.part)], nil
}

func (o *output) take(n int) { o.part = o.part[:len(o.part)+n] }

func (o *output) write(b []byte) error {
	for len(b) > 0 {
		room, err := o.room()
		if err != nil {
			return err
		}
		n := copy(room, b)
		o.take(n)
		b = b[n:]
	}
	return nil
}

// flush waits until everything is written.
func (o *output) flush() error {
	o.full <- o.part
	o.part = nil
	o.end()
	return o.err
}

// end waits for the goroutine to end. What was not given to it is lost.
func (o *output) end() {
	close(o.full)
	<-o.done
}
