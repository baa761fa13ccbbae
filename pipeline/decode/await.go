package decode

import "context"

// Await has f make something, and does not wait for it longer than ctx: drop gets
// what comes after that.
func Await[T any](ctx context.Context, f func() (T, error), drop func(T)) (T, error) {
	type made struct {
		v   T
		err error
	}
	done := make(chan made, 1)
	go func() {
		v, err := f()
		done <- made{v, err}
	}()
	select {
	case m := <-done:
		return m.v, m.err
	case <-ctx.Done():
		go func() {
			if m := <-done; m.err == nil {
				drop(m.v)
			}
		}()
		var none T
		return none, context.Cause(ctx)
	}
}
