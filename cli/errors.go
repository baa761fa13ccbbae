package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"ocibundle/pipeline"
	"ocibundle/pipeline/bundle"
	"ocibundle/pipeline/decode"
	"ocibundle/pipeline/host"
	"ocibundle/pipeline/image"
	"ocibundle/pipeline/userns"
	"ocibundle/specedit"
	"ocibundle/specedit/imageconfig"
	"ocibundle/tarx"
	"ocibundle/tarx/rewrite"
)

// The exit codes.
const (
	exitDone      = 0
	exitIO        = 1
	exitUsage     = 2
	exitMalformed = 3
	exitRefused   = 4
	exitDest      = 5
	exitSignal    = 128 // plus the signal's number
)

// usageError is a mistake on the command line.
type usageError struct {
	msg   string
	hints []string
	err   error
}

func (e *usageError) Error() string {
	if e.err != nil {
		return fmt.Sprintf("%s: %v", e.msg, e.err)
	}
	return e.msg
}

func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) *usageError {
	return &usageError{msg: fmt.Sprintf(format, args...)}
}

func (e *usageError) hint(format string, args ...any) *usageError {
	e.hints = append(e.hints, fmt.Sprintf(format, args...))
	return e
}

// hintedError is an error with a hint that only its command knows.
type hintedError struct {
	error
	hint string
}

func (e *hintedError) Unwrap() error { return e.error }

// signalError is the end by a signal.
type signalError struct{ sig syscall.Signal }

// Signal is for [userns.Enter].
func (e *signalError) Signal() syscall.Signal { return e.sig }

func (e *signalError) Error() string { return "ended by signal: " + e.sig.String() }

// quiet says that nothing is said of it: who reads no more has seen enough.
func (e *signalError) quiet() bool { return e.sig == syscall.SIGPIPE }

// status says with what status and which hints an error ends the program.
func status(err error) (code int, hints []string) {
	var (
		exited *userns.Exited
		usage  *usageError
		sig    *signalError
		edit   *specedit.EditError
		ns     *userns.Error
		dest   *bundle.DestinationError
		bundle *bundle.Error
		images *image.SeveralImagesError
		noRef  *image.NoSuchImageError
		check  *checkError
		hinted *hintedError
		out    *outputError

		accounts *pipeline.AccountsError
	)
	switch {
	case err == nil:
		return exitDone, nil
	case errors.As(err, &exited):
		return exited.Code, nil
	case errors.As(err, &sig):
		return exitSignal + int(sig.sig), nil
	case errors.As(err, &out):
		return exitIO, nil
	case host.IsFault(err):
		return exitIO, ioHints(err)
	case errors.As(err, &hinted):
		code, hints = status(hinted.error)
		return code, append(hints, hinted.hint)
	case errors.As(err, &usage):
		return exitUsage, usage.hints
	case errors.As(err, &check):
		return exitMalformed, check.hints
	case errors.As(err, &edit):
		if edit.Hint != "" {
			hints = append(hints, edit.Hint)
		}
		if errors.Is(err, specedit.ErrUnmapped) {
			return exitRefused, append(hints, "--user 0 runs it as the container's root; --remap subid, which takes newuidmap and a range in /etc/subuid, maps more users")
		}
		if errors.Is(err, specedit.ErrNoMapping) {
			hints = append(hints, "root gives a bundle a mapping: --uidmap 0:100000:65536")
		}
		if _, ok := errors.AsType[*pipeline.AccountsError](err); ok {
			hints = append(hints, accountsHint)
		}
		if errors.Is(err, imageconfig.ErrRuntimeConfig) {
			hints = append(hints, "--template FILE starts from a runtime config")
		}
		return exitUsage, hints
	case errors.As(err, &accounts):
		return exitUsage, []string{accountsHint}
	case errors.As(err, &ns):
		return exitUsage, append(hints, namespaceHints(ns)...)
	case errors.As(err, &dest):
		return destinationStatus(dest)
	case errors.As(err, &images):
		return exitUsage, []string{"--ref NAME picks one: a name, a tag, or the beginning of a digest"}
	case errors.As(err, &noRef):
		return exitUsage, nil
	case errors.As(err, &bundle):
		return bundleStatus(bundle)
	case errors.Is(err, tarx.ErrRefused):
		return exitRefused, refusedHints(err)
	case errors.Is(err, tarx.ErrMalformed):
		return exitMalformed, malformedHints(err)
	}
	return exitIO, ioHints(err)
}

// accountsHint is for account files that cannot be had from a stream.
const accountsHint = `ids need no look-up: --set '/process/user={"uid":UID,"gid":GID}', or -o DIR looks them up in the files`

func destinationStatus(e *bundle.DestinationError) (int, []string) {
	switch e.Kind {
	case bundle.DestHere:
		return exitUsage, []string{"name a directory that does not exist yet, as in -o redis"}
	case bundle.DestMount:
		return exitUsage, []string{"name a directory below it, as in -o " + strings.TrimRight(e.Dir, "/") + "/bundle"}
	case bundle.DestExists:
		return exitDest, []string{"-f (--force) replaces a bundle; move anything else away, or name another directory"}
	case bundle.DestStranger:
		return exitDest, []string{"--force replaces a directory that holds nothing but config.json and rootfs; move the rest away"}
	case bundle.DestNotBundle:
		return exitDest, []string{"--force replaces bundles only; remove it, or name another directory with -o"}
	case bundle.DestInUse:
		return exitDest, []string{"stop the container first, or name another directory with -o"}
	}
	return exitDest, nil
}

func bundleStatus(e *bundle.Error) (int, []string) {
	switch e.Kind {
	case bundle.None:
		if errors.Is(e, fs.ErrNotExist) {
			return exitUsage, nil
		}
		if e.Bare {
			return exitUsage, []string{"ocibundle rm -f DIR removes what holds nothing but a rootfs, as a plain rm -rf or a power loss leaves it"}
		}
		return exitUsage, []string{"a bundle is a directory with rootfs and a config.json that has an ociVersion"}
	case bundle.Mounted:
		return exitDest, []string{fmt.Sprintf("unmount %q first", e.Detail)}
	case bundle.InUse:
		return exitDest, []string{"stop the container first"}
	}
	return exitDest, nil
}

func namespaceHints(e *userns.Error) []string {
	const self = "--remap self needs no ranges: every file is then the caller's, and the real ids are kept in an attribute"
	switch e.Kind {
	case userns.KindNeedsRoot:
		return []string{"--remap auto does what a user can do"}
	case userns.KindNoRange:
		return []string{"an administrator can add ranges: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER", self}
	case userns.KindNoHelper:
		return []string{"newuidmap and newgidmap are in the package uidmap (Debian, Ubuntu) or shadow-utils (Fedora)", self}
	case userns.KindForbidden:
		return []string{"user namespaces are forbidden here; see user.max_user_namespaces and kernel.apparmor_restrict_unprivileged_userns in sysctl(8)", "--remap self does without one"}
	case userns.KindRefused:
		return []string{"newuidmap and newgidmap must be setuid root, and /etc/subuid and /etc/subgid must list the ranges", self}
	case userns.KindOutside:
		return []string{"the ranges of this user are in /etc/subuid and /etc/subgid", "--remap subid takes all of them"}
	case userns.KindNoRoot:
		return []string{"map the container's root too: --uidmap 0:HOST:COUNT"}
	case userns.KindBadMap, userns.KindOverlap:
		return []string{"a mapping is CONTAINER:HOST:COUNT, as in --uidmap 0:100000:65536"}
	}
	return nil
}

func refusedHints(err error) []string {
	var id *tarx.UnmappedIDError
	if errors.As(err, &id) {
		var hints []string
		if n := id.Missing(); n > 0 {
			hints = append(hints, fmt.Sprintf("the mapping is %d ids short: --%smap or /etc/sub%s can give more", n, id.What, id.What))
		} else {
			hints = append(hints, fmt.Sprintf("the id falls into a gap between two ranges of --%smap or /etc/sub%s", id.What, id.What))
		}
		return append(hints, "--remap self takes every id and keeps it in an attribute")
	}
	var limit *tarx.LimitError
	if errors.As(err, &limit) {
		return []string{fmt.Sprintf("--max-%s sets the limit", limit.What)}
	}
	if errors.Is(err, rewrite.ErrReplaced) || errors.Is(err, rewrite.ErrLongPath) || errors.Is(err, rewrite.ErrExcluded) {
		return []string{"-o DIR makes it; tar -C DIR -c rootfs config.json packs the bundle then"}
	}
	var platform *image.PlatformError
	if errors.As(err, &platform) {
		for _, have := range platform.Have {
			if have.OS == "linux" {
				return []string{"--platform " + have.String() + " takes what is there"}
			}
		}
		if len(platform.Have) == 0 {
			return []string{"without --platform, a stream is one filesystem; --image reads an image archive"}
		}
		return nil
	}
	var window *decode.WindowError
	if errors.As(err, &window) {
		var layer *image.Error
		if errors.As(err, &layer) {
			return nil // nobody decodes that on the way
		}
		return []string{"decode it on the way: " + map[string]string{"zstd": "zstd --long=31 -dc", "xz": "xz -dc"}[window.Format] + " FILE | ocibundle -o DIR"}
	}
	return nil
}

func malformedHints(err error) []string {
	var platforms *image.SeveralPlatformsError
	var other *decode.NotTarError
	switch {
	case errors.As(err, &platforms):
		return []string{"--platform " + platforms.Have[0].String() + " picks one"}
	case errors.As(err, &other):
		return notTarHints(other)
	case errors.Is(err, pipeline.ErrImageArchive):
		return []string{"--image reads what docker save, podman save and their like write", "docker export CONTAINER writes a container's filesystem"}
	case errors.As(err, new(*image.BlobDigestError)):
		return []string{"the archive was damaged or changed on the way; save the image again"}
	case errors.Is(err, image.ErrNotImage):
		return []string{"--image reads what docker save, podman save and their like write", "without --image, what docker export writes is read"}
	case errors.Is(err, tarx.ErrEmpty):
		return []string{"the program that should have written the stream wrote nothing; see its messages"}
	case errors.Is(err, tarx.ErrTruncated), errors.Is(err, io.ErrUnexpectedEOF):
		return []string{"the program that wrote the stream, or the transfer, was cut off; try again"}
	}
	return nil
}

func notTarHints(e *decode.NotTarError) []string {
	switch {
	case e.Program != "":
		return []string{"decode it on the way: " + e.Program + " FILE | ocibundle -o DIR"}
	case e.What == decode.UTF16:
		return []string{"PowerShell's > turns a stream into that; docker export -o FILE CONTAINER writes it as it is"}
	case e.What == decode.JSON:
		return []string{"--image-config FILE takes what docker inspect prints; the stream is what docker export writes"}
	}
	return nil
}

func ioHints(err error) []string {
	switch {
	case errors.Is(err, unix.EISDIR):
		return []string{"tar -C DIR -c . makes a stream of a directory"}
	case errors.Is(err, unix.EMFILE):
		return []string{"the limit on open files is very low; see ulimit -n"}
	case errors.Is(err, unix.EAGAIN):
		return []string{"the limit on processes is very low; see ulimit -u, and pids.max of the control group"}
	case errors.Is(err, unix.ENOMEM):
		return []string{"the limit on memory is very low; see ulimit -v"}
	}
	return nil
}
