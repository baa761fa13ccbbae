package testenv

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// FreePort returns a TCP port on the loopback address that nobody listened on a
// moment ago.
func FreePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// PingRedis asks the server at a port of the loopback address for a PONG until it
// answers or the context ends. It speaks RESP, as
// https://redis.io/docs/latest/develop/reference/protocol-spec/ has it.
func PingRedis(ctx context.Context, port int) error {
	for {
		err := ping(ctx, port)
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

func ping(ctx context.Context, port int) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("*1\r\n$4\r\nPING\r\n")); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if answer := strings.TrimSpace(answer); answer != "+PONG" {
		return fmt.Errorf("the answer is %q", answer)
	}
	return nil
}
