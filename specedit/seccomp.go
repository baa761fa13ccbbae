package specedit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"ocibundle/specedit/jsontree"
)

// pendingSeccomp is a profile with rules that depend on the capabilities of the container. Edits
// that come later may change those, so it is made again at the end, unless an edit has touched what
// was made.
type pendingSeccomp struct {
	by   string
	own  bool                                           // docker's default or the base's, not a user's file
	make func(*specs.Spec) (*specs.LinuxSeccomp, error) // nil for the base's, which stays as it is
	node *jsontree.Node                                 // what stands in the document
	copy *jsontree.Node                                 // the same as it was written
	caps []string                                       // that it was made for
}

// SeccompDefault sets the profile that docker has by default, for this kernel, this architecture,
// and the capabilities that the container ends up with.
func SeccompDefault(label string) Edit {
	return NewEdit(label, func(d *Doc) error {
		return d.setSeccomp(&pendingSeccomp{by: d.By, own: true, make: seccomp.GetDefaultProfile})
	})
}

// SeccompUnconfined takes the seccomp profile away.
func SeccompUnconfined(label string) Edit {
	return NewEdit(label, func(d *Doc) error {
		d.profile = nil
		d.Drop("linux", "seccomp")
		return nil
	})
}

// SeccompProfile sets a profile in docker's format, whose conditions on capabilities, architecture
// and kernel are resolved, in podman's, which has the names of error numbers besides, or in that of
// the runtime specification.
func SeccompProfile(label string, profile []byte) (Edit, error) {
	profile, err := errorNumbers(profile)
	if err != nil {
		return Edit{}, Blame(label, fmt.Errorf("read the seccomp profile: %w", err))
	}
	dec := json.NewDecoder(bytes.NewReader(profile))
	dec.DisallowUnknownFields()
	var p seccomp.Seccomp
	err = dec.Decode(&p)
	if err == nil {
		if _, more := dec.Token(); more != io.EOF {
			err = errors.New("more text after the JSON value")
		}
	}
	if err == nil && p.DefaultAction == "" {
		err = errors.New("it has no defaultAction")
	}
	if err != nil {
		return Edit{}, Blame(label, fmt.Errorf("read the seccomp profile: %w", err))
	}
	text := string(profile)
	load := func(spec *specs.Spec) (*specs.LinuxSeccomp, error) { return seccomp.LoadProfile(text, spec) }
	if _, err := load(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}}); err != nil {
		return Edit{}, Blame(label, fmt.Errorf("read the seccomp profile: %w", err))
	}
	return NewEdit(label, func(d *Doc) error {
		return d.setSeccomp(&pendingSeccomp{by: d.By, make: load})
	}), nil
}

// errorNumbers puts numbers in the place of the names that podman's profiles give
// (containers/common, pkg/seccomp: "defaultErrno" and "errno", which win).
func errorNumbers(profile []byte) ([]byte, error) {
	root, err := jsontree.Parse(profile, "")
	if err != nil {
		return nil, err
	}
	rules := append([]*jsontree.Node{root}, jsontree.Elements(root.Member("syscalls"))...)
	for i, rule := range rules {
		member, number := "errno", "errnoRet"
		if i == 0 {
			member, number = "defaultErrno", "defaultErrnoRet"
		}
		name, ok := rule.Member(member).Str()
		if !ok {
			continue
		}
		rule.RemoveMember(member, "")
		if name == "" {
			continue
		}
		errno, err := errorNumber(name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", member, err)
		}
		rule.SetMember(number, &jsontree.Node{Kind: jsontree.KindNumber, Text: strconv.Itoa(errno)})
	}
	return []byte(root.Compact()), nil
}

// errorNumber is the number of an error of errno(3), by name or as a number.
func errorNumber(name string) (int, error) {
	if n, err := strconv.ParseUint(name, 10, 12); err == nil {
		return int(n), nil
	}
	for n := 1; n < 4096; n++ { // the kernel's MAX_ERRNO
		if unix.ErrnoName(unix.Errno(n)) == name {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%q is not an error of errno(3)", name)
}

// bounding are the capabilities that the rules of a profile depend on.
func (d *Doc) bounding() []string {
	var caps []string
	for _, e := range jsontree.Elements(d.Get("process", "capabilities", "bounding")) {
		caps = append(caps, e.Text)
	}
	return caps
}

// fill makes the profile for caps, unless that is what last has: it is a long one, and every run
// wants it several times.
func (p *pendingSeccomp) fill(caps []string, last *pendingSeccomp) error {
	if p.own && last != nil && slices.Equal(caps, last.caps) {
		p.node, p.copy, p.caps = last.copy.Clone(p.by), last.copy, last.caps
		return nil
	}
	profile, err := p.make(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}})
	if err != nil {
		return fmt.Errorf("make the seccomp profile: %w", err)
	}
	if p.node, err = jsontree.FromGo(profile, p.by); err != nil {
		return err
	}
	p.copy, p.caps = p.node.Clone(""), caps
	return nil
}

func (d *Doc) setSeccomp(p *pendingSeccomp) error {
	if err := p.fill(d.bounding(), d.dockerProfile); err != nil {
		return err
	}
	if p.own {
		d.dockerProfile = p
	}
	linux, err := d.Object("linux")
	if err != nil {
		return err
	}
	linux.SetMember("seccomp", p.node)
	d.profile = p
	return nil
}

// untouchedSeccomp is the profile that is made here, as long as no edit has touched it.
func (d *Doc) untouchedSeccomp() *pendingSeccomp {
	if p := d.profile; p != nil && d.Get("linux", "seccomp") == p.node && p.node.Equal(p.copy) {
		return p
	}
	return nil
}

// ownSeccomp is the default profile in the document, or that of the base as it came, or nil. It
// asks for no version: the errnoRet (runtime-spec 1.1.0) of the default makes glibc do without
// clone3, and a runtime that does not know the member ignores it, as config.md, "Extensibility",
// has it. systemd-nspawn takes 1.0.0 only.
func (d *Doc) ownSeccomp() *jsontree.Node {
	if p := d.untouchedSeccomp(); p != nil && p.own {
		return p.node
	}
	return nil
}

// remakeSeccomp makes the profile again for the final capabilities.
func (d *Doc) remakeSeccomp() error {
	p := d.untouchedSeccomp()
	if p == nil || p.make == nil || slices.Equal(p.caps, d.bounding()) {
		return nil
	}
	return Blame(p.by, d.setSeccomp(p))
}
