package testenv

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// FreePort returns a TCP port on the loopback address that nobody listened on a moment ago.
func FreePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// PingRedis asks the server at a port of the loopback address for a PONG until it answers or the
// context ends.
func PingRedis(ctx context.Context, port int) error {
	for {
		answer, err := Redis(ctx, port, "PING")
		if err == nil && answer != "+PONG" {
			err = fmt.Errorf("the answer is %q", answer)
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("ping redis at port %d: %w (%w)", port, err, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Redis sends one command to the server at a port of the loopback address and returns the first
// line of the answer, which is empty where the server hangs up instead. It speaks RESP, see
// https://redis.io/docs/latest/develop/reference/protocol-spec/.
func Redis(ctx context.Context, port int, args ...string) (string, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	command := fmt.Sprintf("*%d\r\n", len(args))
	for _, arg := range args {
		command += fmt.Sprintf("$%d\r\n%s\r\n", len(arg), arg)
	}
	if _, err := conn.Write([]byte(command)); err != nil {
		return "", err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", err
	}
	return strings.TrimSpace(answer), nil
}

// ServeRedis runs a container in the foreground, looks at it once its redis answers (look may be
// nil), and has redis end it. remove ends the container by force, where it comes to that.
func ServeRedis(t *testing.T, port int, run, remove *exec.Cmd, look func()) {
	t.Helper()
	var says bytes.Buffer
	run.Stdout, run.Stderr = &says, &says
	// A grandchild may keep the output open when run has ended.
	run.WaitDelay = 10 * time.Second
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() {
		err := run.Wait()
		cancel(fmt.Errorf("%s ended: %v", strings.Join(run.Args, " "), err))
		ended <- err
	}()
	// A generous limit, so that a hanging runtime ends this test and not all tests.
	ctx, stop := context.WithTimeout(ctx, 2*time.Minute)
	defer stop()
	if err := PingRedis(ctx, port); err != nil {
		if out, err := remove.CombinedOutput(); err != nil {
			t.Logf("%s: %v\n%s", strings.Join(remove.Args, " "), err, out)
		}
		_ = run.Process.Kill()
		<-ended
		t.Fatalf("%v\n%s", err, says.Bytes())
	}
	if look != nil {
		look()
	}
	// Without NOSAVE redis would want to write to its root, which may be read-only, and stay.
	if _, err := Redis(ctx, port, "SHUTDOWN", "NOSAVE"); err != nil {
		t.Errorf("stop redis: %v", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("%s: %v\n%s", strings.Join(run.Args, " "), err, says.Bytes())
	}
}
