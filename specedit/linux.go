package specedit

import (
	"fmt"
	"maps"
	"math/big"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"

	"ocibundle/specedit/jsontree"
)

// Namespace makes a namespace the container's own ("private"), leaves it the host's ("host"), or
// joins the one at a path. A relative path is taken against cwd. kind is the specification's name
// for the type.
//
// As `docker run` does, sharing the host's IPC namespace shares its /dev/shm, and sharing its UTS
// namespace leaves its host name alone.
func Namespace(label string, kind specs.LinuxNamespaceType, value, cwd string) (Edit, error) {
	name := string(kind)
	if err := text("the value", value); err != nil {
		return Edit{}, Blame(label, err)
	}
	switch value {
	case "host":
		return NewEdit(label, func(d *Doc) error {
			d.Get("linux", "namespaces").RemoveKeyed(func(e *jsontree.Node) bool { return e.Member("type") != nil && e.Member("type").Text == name })
			switch kind {
			case specs.UTSNamespace:
				d.Drop("hostname")
				d.Drop("domainname")
			case specs.IPCNamespace:
				return d.replaceOwnMount("/dev/shm", specs.Mount{Destination: "/dev/shm", Type: "bind", Source: "/dev/shm",
					Options: []string{"rbind", "rprivate"}})
			}
			return nil
		}), nil
	case "private":
		return NewEdit(label, func(d *Doc) error {
			if kind == specs.IPCNamespace {
				if err := d.restoreOwnMount("/dev/shm"); err != nil {
					return err
				}
			}
			return d.Upsert("type", specs.LinuxNamespace{Type: kind}, "linux", "namespaces")
		}), nil
	}
	if !strings.Contains(value, "/") {
		e := &EditError{Label: label, Problem: fmt.Sprintf("%q is neither private, host, nor the path of a namespace", value)}
		switch {
		case value == "none" && kind == specs.NetworkNamespace:
			e.Hint = "a private network namespace has nothing but its own loopback, as docker's none"
		case strings.HasPrefix(value, "container:"):
			e.Hint = "join the namespace of a running process by path: /proc/PID/ns/" + procName(kind)
		case kind == specs.NetworkNamespace:
			e.Hint = "there are no named networks here: private, host, or a path such as /run/netns/NAME"
		}
		return Edit{}, e
	}
	if !filepath.IsAbs(value) {
		value = filepath.Join(cwd, value)
	}
	return NewEdit(label, func(d *Doc) error {
		return d.Upsert("type", specs.LinuxNamespace{Type: kind, Path: value}, "linux", "namespaces")
	}), nil
}

// procName is what /proc/PID/ns calls a namespace.
func procName(kind specs.LinuxNamespaceType) string {
	switch kind {
	case specs.NetworkNamespace:
		return "net"
	case specs.MountNamespace:
		return "mnt"
	}
	return string(kind)
}

// replaceOwnMount exchanges a mount that the template made and no edit changed.
func (d *Doc) replaceOwnMount(destination string, m specs.Mount) error {
	for i, e := range jsontree.Elements(d.Get("mounts")) {
		if e.By == d.base && e.Member("destination") != nil && e.Member("destination").Text == destination {
			n, err := jsontree.FromGo(m, d.By)
			if err != nil {
				return err
			}
			n.Was = e
			d.Get("mounts").List[i] = n
		}
	}
	return nil
}

// restoreOwnMount undoes replaceOwnMount.
func (d *Doc) restoreOwnMount(destination string) error {
	for i, e := range jsontree.Elements(d.Get("mounts")) {
		if e.Was != nil && e.Was.Member("destination").Text == destination {
			d.Get("mounts").List[i] = e.Was
		}
	}
	return nil
}

// ParseSize reads a size as docker does: a number with an optional unit of b, k, m, g, t or p (also
// kb, kib), in steps of 1024. The result is in bytes.
func ParseSize(s string) (int64, error) {
	n, err := units.RAMInBytes(s)
	if err != nil || n < 0 { // beyond 64 bits, too
		return 0, fmt.Errorf("%q is not a size: expected a number with a unit, as 512m or 1.5g", s)
	}
	return n, nil
}

// Memory limits the memory, in bytes or with a unit. As `docker run` does, memory and swap together
// are limited to twice that where MemorySwap says nothing else.
func Memory(label, value string) (Edit, error) {
	n, err := ParseSize(value)
	if err == nil && n < 6<<20 {
		err = fmt.Errorf("%q is too little: a container needs at least 6m", value)
	}
	if err != nil {
		return Edit{}, Blame(label, err)
	}
	return NewEdit(label, func(d *Doc) error {
		if err := d.Put(n, "linux", "resources", "memory", "limit"); err != nil || d.swapSet || n > 1<<62-1 {
			return err
		}
		return d.Put(2*n, "linux", "resources", "memory", "swap")
	}), nil
}

// MemorySwap limits memory and swap together. -1 is no limit; 0 says nothing about swap at all, for
// kernels that do not account for it.
func MemorySwap(label, value string) (Edit, error) {
	n := int64(-1)
	if value != "-1" {
		var err error
		if n, err = ParseSize(value); err != nil {
			return Edit{}, Blame(label, err)
		}
	}
	return NewEdit(label, func(d *Doc) error {
		d.swapSet = true
		if n == 0 {
			d.Drop("linux", "resources", "memory", "swap")
			return nil
		}
		return d.Put(n, "linux", "resources", "memory", "swap")
	}), nil
}

// cpuPeriod is the scheduling period of --cpus, in microseconds: docker's.
const cpuPeriod = 100000

// CPUs limits the CPU time to a number of CPUs, as 1.5.
func CPUs(label, value string) (Edit, error) {
	n, ok := new(big.Rat).SetString(value)
	if !ok || strings.Trim(value, "0123456789.") != "" || n.Sign() <= 0 {
		return reject(label, "%q is not a number of CPUs: expected 0.01 or more, as 1.5", value)
	}
	n.Mul(n, big.NewRat(cpuPeriod, 1))
	quota := new(big.Int).Quo(n.Num(), n.Denom())
	// The kernel takes no quota below a millisecond.
	if !quota.IsInt64() || quota.Int64() < 1000 {
		return reject(label, "%q is not a number of CPUs: expected 0.01 or more, as 1.5", value)
	}
	return NewEdit(label, func(d *Doc) error {
		if err := d.Put(quota.Int64(), "linux", "resources", "cpu", "quota"); err != nil {
			return err
		}
		return d.Put(cpuPeriod, "linux", "resources", "cpu", "period")
	}), nil
}

// CPUShares sets the relative weight, 1024 being one container's usual.
func CPUShares(label, value string) (Edit, error) {
	n, err := strconv.ParseUint(value, 10, 63)
	if err != nil || n == 1 {
		return reject(label, "%q is not a weight: expected a whole number from 2, or 0 for the default", value)
	}
	return NewEdit(label, func(d *Doc) error {
		if n == 0 {
			d.Drop("linux", "resources", "cpu", "shares")
			return nil
		}
		return d.Put(n, "linux", "resources", "cpu", "shares")
	}), nil
}

// CPUSetCPUs pins the container to CPUs, as 0-3,7.
func CPUSetCPUs(label, value string) (Edit, error) {
	for part := range strings.SplitSeq(value, ",") {
		first, last, ranged := strings.Cut(part, "-")
		a, err := strconv.ParseUint(first, 10, 16)
		b := a
		if err == nil && ranged {
			b, err = strconv.ParseUint(last, 10, 16)
		}
		if err != nil || b < a {
			return reject(label, "%q is not a list of CPUs: expected numbers and ranges, as 0-3,7", value)
		}
	}
	return NewEdit(label, func(d *Doc) error { return d.Put(value, "linux", "resources", "cpu", "cpus") }), nil
}

// PidsLimit limits the number of processes; -1 and 0 are no limit.
func PidsLimit(label, value string) (Edit, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < -1 {
		return reject(label, "%q is not a number of processes: expected a whole number, or -1 for no limit", value)
	}
	if n == 0 {
		n = -1
	}
	return NewEdit(label, func(d *Doc) error { return d.Put(n, "linux", "resources", "pids", "limit") }), nil
}

// namespaced are the kernel parameters outside of net.* that a container can have of its own
// (sysctl(8), namespaces(7)), with the namespace it takes.
var namespaced = map[string]specs.LinuxNamespaceType{
	"kernel.msgmax": specs.IPCNamespace, "kernel.msgmnb": specs.IPCNamespace, "kernel.msgmni": specs.IPCNamespace,
	"kernel.sem": specs.IPCNamespace, "kernel.shmall": specs.IPCNamespace, "kernel.shmmax": specs.IPCNamespace,
	"kernel.shmmni": specs.IPCNamespace, "kernel.shm_rmid_forced": specs.IPCNamespace,
	"kernel.domainname": specs.UTSNamespace,
}

// Sysctl sets a kernel parameter of the container's own namespaces, K=V.
func Sysctl(label, arg string) (Edit, error) {
	k, v, ok := strings.Cut(arg, "=")
	if !ok || k == "" || v == "" {
		return reject(label, "%q is not a kernel parameter: expected KEY=VALUE", arg)
	}
	if err := text("the parameter", arg); err != nil {
		return Edit{}, Blame(label, err)
	}
	// sysctl(8) takes net/ipv4/conf for net.ipv4.conf; runtimes want the dots.
	if i := strings.IndexAny(k, "./"); i >= 0 && k[i] == '/' {
		k = strings.NewReplacer("/", ".", ".", "/").Replace(k)
	}
	if namespaced[k] == "" && !strings.HasPrefix(k, "net.") && !strings.HasPrefix(k, "fs.mqueue.") {
		return reject(label, "%s has no value of its own in a container: only net.*, fs.mqueue.* and the kernel.* parameters of System V IPC have%s",
			k, suggest(k, SortedKeys(namespaced)))
	}
	return NewEdit(label, func(d *Doc) error { return d.Put(v, "linux", "sysctl", k) }), nil
}

// SortedKeys are the keys of a map, in order.
func SortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
