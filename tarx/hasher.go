package tarx

import "hash"

// hasher hashes chunks in a goroutine of its own. A nil one does nothing.
type hasher struct {
	queue chan *Chunk
	done  chan struct{} // closed when all has been hashed
}

func newHasher(h hash.Hash, chunks int) *hasher {
	s := &hasher{queue: make(chan *Chunk, chunks), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		for c := range s.queue {
			h.Write(c.buf[:c.N])
			c.Release()
		}
	}()
	return s
}

func (h *hasher) add(c *Chunk) {
	if h != nil {
		c.Refs.Add(1)
		h.queue <- c // never blocks: there is room for every chunk
	}
}

// close says that there is no more.
func (h *hasher) close() {
	if h != nil {
		close(h.queue)
	}
}

// Wait is for what was added.
func (h *hasher) Wait() {
	if h != nil {
		<-h.done
	}
}
