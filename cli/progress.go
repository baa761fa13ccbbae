package cli

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/term"

	"ocibundle/pipeline/decode"
)

// showProgress draws a line on w until the function that it returns is called.
func showProgress(w io.Writer, when string, p *decode.Progress) func() {
	f, isFile := w.(*os.File)
	if when == "never" || when == "auto" && !(isFile && term.IsTerminal(int(f.Fd()))) {
		return func() {}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	start := time.Now()
	go func() {
		defer close(stopped)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				n := float64(p.Read())
				fmt.Fprintf(w, "\r\x1b[K%s read, %s/s", units.BytesSize(n), units.BytesSize(n/time.Since(start).Seconds()))
			case <-stop:
				fmt.Fprint(w, "\r\x1b[K")
				return
			}
		}
	}()
	return func() { close(stop); <-stopped }
}
