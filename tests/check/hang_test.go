package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ocibundle/tests/testenv"
)

// A filesystem that does not answer, as a network's whose server is gone, stops nobody from ending the check.
func TestFilesystemThatHangs(t *testing.T) {
	h := asRoot(t)
	dir := h.bundle(t, stream(t))
	at := testenv.Dir(t) + "/silent"
	must(t, os.Mkdir(at, 0o755))
	fuse, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	must(t, err)
	must(t, unix.Mount("silent", at, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fuse)))
	defer func() {
		unix.Close(fuse) // whoever waits gets ENOTCONN
		must(t, unix.Unmount(at, unix.MNT_DETACH))
	}()
	change(t, dir, func(d document) { d.mount(bind(at+"/data", "/mnt")) })

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var stderr bytes.Buffer
	cmd := h.command(ctx, testenv.Binary(t), "check", dir)
	cmd.Stderr = &stderr
	must(t, cmd.Start())
	answerInit(t, fuse)
	// Its first question is not even read: the kernel lets nobody go whose question was.
	must(t, undisturbed(func() error {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fuse), Events: unix.POLLIN}}, -1)
		return err
	}))
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	err = cmd.Wait()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != 128+int(syscall.SIGTERM) {
		t.Errorf("ended with %v\n%s", err, &stderr)
	}
}

// answerInit answers FUSE_INIT, which comes first (include/uapi/linux/fuse.h).
func answerInit(t *testing.T, fuse int) {
	t.Helper()
	request := make([]byte, 1<<17)
	must(t, undisturbed(func() error {
		_, err := unix.Read(fuse, request)
		return err
	}))
	reply := make([]byte, 16+64)
	reply[0] = byte(len(reply))
	copy(reply[8:16], request[8:16])   // the request's number
	copy(reply[16:24], request[40:48]) // the kernel's version
	_, err := unix.Write(fuse, reply)
	must(t, err)
}

// undisturbed repeats a system call that a signal of Go's scheduler has interrupted.
func undisturbed(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
