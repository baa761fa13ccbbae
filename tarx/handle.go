package tarx

import "strconv"

// procFD is a path that the kernel takes for what fd is open on, for calls that have no form with a descriptor.
func procFD(fd int) string {
	return "/proc/self/fd/" + strconv.Itoa(fd)
}
