// Package userns decides which user and group ids a bundle is written with, and brings the program into the user
// namespace that it needs to write them.
//
// Promise: Enter either leaves this process as it is, or starts the same program with the same arguments inside a new
// user namespace and returns that program's outcome. The namespace is always the widest the caller may have (id 0 is the
// caller, 1.. are its subordinate ids), whatever the bundle's own mapping is: a program in it can write, and remove,
// every file that any of the caller's bundles may hold.
//
// Not promised: that a runtime can create the same namespace later, or that the ranges in /etc/subuid stay as they are.
//
// A failure leaves nothing behind: a child that was started is dead before Enter returns.
//
// Sources: user_namespaces(7), subuid(5), subgid(5), newuidmap(1), newgidmap(1), capabilities(7).
package userns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/moby/sys/user"
)

// Mode says who owns the files of a bundle.
type Mode string

// The modes of a Request. A State never has ModeAuto.
const (
	ModeAuto     Mode = "auto"     // none for root, else subid where ranges and helpers exist, else self
	ModeNone     Mode = "none"     // ids as they are; needs root
	ModeSelf     Mode = "self"     // every file is the caller's
	ModeSubid    Mode = "subid"    // 0 is the caller, 1.. are its subordinate ids
	ModeExplicit Mode = "explicit" // the mapping in the Request
	ModeWidest   Mode = "widest"   // no bundle mapping, only the widest namespace the caller can have: to read or remove bundles
)

// Request is what the command line asked for. The zero Mode means ModeAuto.
type Request struct {
	Mode Mode
	// UIDMap and GIDMap belong to ModeExplicit: ID is the container's id, ParentID the caller's view of the host's, Count
	// a number of ids. Where only one of the two is given it serves for both.
	UIDMap, GIDMap []user.IDMap
}

// State is the outcome of Enter, for the process that does the work.
type State struct {
	Mode        Mode // what was chosen, never ModeAuto
	InNamespace bool // this process runs in a user namespace made by Enter
	Rootless    bool // the caller is not the host's root: an ordinary user, or root in a user namespace that lacks ids
	// Host maps container ids to ids as the caller sees them: what config.json carries. Empty: no user namespace.
	Host user.IdentityMapping
	// Disk maps container ids to ids as this process must write them, and lacks every id that it cannot write. Empty:
	// ids as they are, all of them.
	Disk user.IdentityMapping
	// Namespace maps the ids of the namespace made by Enter to ids as the caller sees them. Empty without InNamespace.
	Namespace user.IdentityMapping
	// CapRootID is the root id to store security.capability with, as version 3 (capabilities(7)). 0: version 2 is right.
	// The kernel turns a version 2 that a namespaced process writes into version 3 with the namespace's root by itself.
	CapRootID uint32
	// Notes are sentences for the user, such as: self without a namespace because they are forbidden.
	Notes []string
}

// ToDisk translates a bundle's mapping (container -> ids as the caller sees them, read from a config.json) into one from
// container ids to ids as this process sees them on disk. Ids the namespace lacks are an *Error of KindOutside.
func (s State) ToDisk(host user.IdentityMapping) (user.IdentityMapping, error) {
	if !s.InNamespace || host.Empty() {
		return host, nil
	}
	uids, err := compose("uid", host.UIDMaps, s.Namespace.UIDMaps)
	if err != nil {
		return user.IdentityMapping{}, err
	}
	gids, err := compose("gid", host.GIDMaps, s.Namespace.GIDMaps)
	if err != nil {
		return user.IdentityMapping{}, err
	}
	return user.IdentityMapping{UIDMaps: uids, GIDMaps: gids}, nil
}

// Exited is what Enter returns in the outer process once the inner one has ended: there is nothing more to do than to
// exit with Code.
type Exited struct {
	Code   int            // the inner process's status; 128 plus the signal's number where a signal ended it
	Signal syscall.Signal // 0: it exited by itself
}

func (e *Exited) Error() string {
	if e.Signal != 0 {
		return fmt.Sprintf("process in the user namespace ended by signal %d (%v)", int(e.Signal), e.Signal)
	}
	return fmt.Sprintf("process in the user namespace exited with status %d", e.Code)
}

// Kind is the reason why a mapping cannot be had.
type Kind int

// The kinds of an Error.
const (
	KindBadMap    Kind = iota + 1 // an explicit map is malformed: no ids in it, ids beyond 2^32-2, too many lines
	KindOverlap                   // two explicit maps share a container or a host id
	KindNoRoot                    // an explicit map lacks container id 0, which every runtime needs
	KindOutside                   // an explicit map names host ids that the caller may not map
	KindNeedsRoot                 // ModeNone as an ordinary user
	KindNoRange                   // Subject (/etc/subuid or /etc/subgid) has no range for the caller
	KindNoHelper                  // Subject (newuidmap or newgidmap) is not in PATH
	KindForbidden                 // the kernel lets this caller make no user namespace; Subject is the sysctl or policy at fault, if known
	KindRefused                   // Subject (newuidmap or newgidmap) refused the maps; Detail is what it said
)

// Error says why a mapping cannot be had.
type Error struct {
	Kind    Kind
	Subject string // see Kind
	Detail  string
	Err     error // the system's error, if there is one
}

func (e *Error) Unwrap() error { return e.Err }

func (e *Error) Error() string {
	switch e.Kind {
	case KindNeedsRoot:
		return "keeping the ids as they are needs root"
	case KindNoRange:
		return fmt.Sprintf("%s has no range for %s", e.Subject, e.Detail)
	case KindNoHelper:
		return fmt.Sprintf("find %s in PATH: not found", e.Subject)
	case KindForbidden:
		if errors.Is(e.Err, syscall.ENOSPC) { // "no space left on device" would send its reader to the disk
			return "create user namespace: " + e.Detail
		}
		msg := "create user namespace"
		if e.Err != nil {
			msg += ": " + e.Err.Error()
		}
		if e.Detail != "" {
			msg += " (" + e.Detail + ")"
		}
		return msg
	case KindRefused:
		msg := "write id maps: " + e.Subject
		if e.Err != nil {
			msg += ": " + e.Err.Error()
		}
		if e.Detail != "" {
			msg += ": " + e.Detail
		}
		return msg
	}
	return e.Detail
}

// Enter chooses the mapping that r asks for and, where writing it takes a user namespace, runs the program again
// (/proc/self/exe with the same arguments) inside one.
//
// In the outer process it then returns *Exited once the inner one has ended; only the caller exits. Meanwhile signals are
// forwarded, and a ctx that ends without one ends the inner process: with the signal that its cause's method Signal tells
// of, if it has one, or else with SIGTERM. If the outer process dies, the kernel kills the inner one. In the inner
// process, and where no namespace is needed, it returns the State.
//
// It must be called before stdin or any file that the user named is opened, with nothing else running: the inner process
// does everything again from the start. What needs the caller's own namespace comes before it too: a container of the
// caller's runs in a namespace beside the inner process's, which may not read its /proc/PID/root. Errors are an *Error
// where the caller can do something about it.
func Enter(ctx context.Context, r Request) (State, error) {
	if inner != nil {
		signal.Stop(quit)
		if len(quit) > 0 {
			syscall.Kill(os.Getpid(), syscall.SIGQUIT) // main's by now
		}
		return *inner, nil
	}
	c, err := gather()
	if err != nil {
		return State{}, err
	}
	attempts, err := decide(c, r)
	if err != nil {
		return State{}, err
	}
	var failed error
	for _, a := range attempts {
		s := a.state
		s.Rootless = c.uid != 0 || c.bounded
		if failed != nil {
			s.Notes = append(s.Notes, a.note(failed)...)
		}
		if !s.InNamespace {
			return s, nil
		}
		err := spawn(ctx, c, s)
		if _, refused := errors.AsType[*Error](err); !refused {
			return State{}, err
		}
		failed = err
	}
	return State{}, failed
}

// Headers is Enter for ids that go into the headers of a stream. Nothing is owned by it, and so it takes no privilege and
// no namespace: ModeNone and any explicit mapping are for every caller. What unpacks the stream has to have the right to
// the ids. ModeAuto and ModeSubid give what Enter gives. Errors are an *Error.
func Headers(r Request) (State, error) {
	c, err := gather()
	if err != nil {
		return State{}, err
	}
	s, err := headers(c, r)
	if err != nil {
		return State{}, err
	}
	s.Rootless = c.uid != 0 || c.bounded
	return s, nil
}
