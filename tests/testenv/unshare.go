package testenv

import (
	"errors"
	"os/exec"
)

// StartUnshare starts a command of unshare(1) with --pid, --fork and --kill-child. Calling stop
// kills all processes in the namespaces it made and waits until they are gone; it happens without
// being called, too, when the test process ends, and before the directories that were made earlier
// are removed. To wait for the command is the caller's.
func StartUnshare(cmd *exec.Cmd) (stop func() error, err error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	id, err := processID(cmd.Process.Pid)
	if err == nil {
		err = theJanitor.register("engine", id)
	}
	if err != nil {
		return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	return func() error { return killEngine(id) }, nil
}
