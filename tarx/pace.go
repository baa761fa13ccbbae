package tarx

import "time"

// pace is how fast a stream comes, over some chunks.
type pace struct {
	waited, worked time.Duration // for a chunk, and between two
	pieces         int           // that a chunk came in
	last           time.Time     // the end of the last read
}

// paceWeight is how many chunks an average is over, more or less. The members of a pace are
// averages times this.
const paceWeight = 8

// note takes in the reading of a chunk.
func (p *pace) note(begun, ended time.Time, pieces int) {
	if !p.last.IsZero() {
		p.worked += begun.Sub(p.last) - p.worked/paceWeight
	}
	p.waited += ended.Sub(begun) - p.waited/paceWeight
	p.pieces += pieces - p.pieces/paceWeight
	p.last = ended
}

// slow says that whoever makes the stream is what takes the time. One sign is not enough: a chunk
// comes in pieces also from a fast maker that shares a processor with its reader, and most of the
// time goes into reading where there is a large file with nothing to parse.
func (p *pace) slow() bool {
	return p.waited > 2*p.worked && p.pieces >= 4*paceWeight
}

// Slow says that there is time to spare while the stream is read in run, as what makes it takes
// most.
func (s *Source) Slow() bool { return s.pace.slow() }
