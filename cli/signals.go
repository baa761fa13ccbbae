package cli

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"
)

// endings are the signals that ask a program to end.
var endings = []os.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGTERM, syscall.SIGXCPU,
}

// failures are the signals that say why a write is about to fail. Where they are caught, it fails
// with EPIPE or EFBIG, and what was begun can be cleaned up.
var failures = []os.Signal{syscall.SIGPIPE, syscall.SIGXFSZ}

// signals ends a run at the first signal that asks for it: at once, or where something has to be
// cleaned up, by a context.
type signals struct {
	ctx context.Context // ends with a *signalError
	// gentle says that what is under way ends by itself when ctx does.
	gentle atomic.Bool
}

// watchSignals starts to listen. end is called where a signal ends the run at once.
func watchSignals(end func(*signalError)) *signals {
	ctx, cancel := context.WithCancelCause(context.Background())
	s := &signals{ctx: ctx}
	signal.Notify(make(chan os.Signal, 1), failures...)
	// What nohup(1) has had ignored stays ignored.
	wanted := slices.DeleteFunc(slices.Clone(endings), signal.Ignored)
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, wanted...)
	go func() {
		for sig := range ch {
			err := &signalError{sig.(syscall.Signal)}
			cancel(err)
			if !s.gentle.Load() {
				end(err)
			}
		}
	}()
	return s
}

// gently returns the context for what cleans up when that ends. From here on no signal ends the run
// at once.
func (s *signals) gently() context.Context {
	s.gentle.Store(true)
	return s.ctx
}

// atOnce lets signals end the run where it is: it may wait for what cannot be called off, such as a
// write to a full pipe or a FIFO without a writer, and has nothing to clean up. The error is that
// of a signal that came before.
func (s *signals) atOnce() error {
	s.gentle.Store(false)
	return context.Cause(s.ctx)
}
