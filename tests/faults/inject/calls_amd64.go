package inject

import "golang.org/x/sys/unix"

// What the runtime calls on this machine only.
func init() { quiet = append(quiet, unix.SYS_ARCH_PRCTL) }
