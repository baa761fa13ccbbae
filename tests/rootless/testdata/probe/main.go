// Probe is what the tests' containers run: it says who it is and tries what needs the right owner.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
)

func main() {
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

func run(what string, args []string) error {
	id := func(i int) int {
		n, err := strconv.Atoi(args[i])
		if err != nil {
			panic(err)
		}
		return n
	}
	switch what {
	case "ids":
		fmt.Println("uid", os.Getuid(), "euid", os.Geteuid(), "gid", os.Getgid(), "egid", os.Getegid())
	case "wait": // until stdin ends
		fmt.Println("waiting")
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	case "bind": // a port that takes cap_net_bind_service
		l, err := net.Listen("tcp4", "0.0.0.0:80")
		if err != nil {
			return err
		}
		fmt.Println("bound")
		return l.Close()
	case "owner":
		for _, name := range args {
			fi, err := os.Lstat(name)
			if err != nil {
				return err
			}
			st := fi.Sys().(*syscall.Stat_t)
			fmt.Printf("%s %d:%d %o\n", name, st.Uid, st.Gid, st.Mode&0o7777)
		}
	case "chown":
		if err := os.Lchown(args[0], id(1), id(2)); err != nil {
			return err
		}
		return run("owner", args[:1])
	case "write":
		if err := os.WriteFile(args[0], []byte("written\n"), 0o600); err != nil {
			return err
		}
		return run("owner", args[:1])
	case "drop": // UID GID WHAT ARG...: what a server does that is started as root
		if err := syscall.Setgroups([]int{id(1)}); err != nil {
			return fmt.Errorf("setgroups: %w", err)
		}
		if err := syscall.Setgid(id(1)); err != nil {
			return fmt.Errorf("setgid: %w", err)
		}
		if err := syscall.Setuid(id(0)); err != nil {
			return fmt.Errorf("setuid: %w", err)
		}
		return run(args[2], args[3:])
	default:
		return fmt.Errorf("do %q: unknown", what)
	}
	return nil
}
