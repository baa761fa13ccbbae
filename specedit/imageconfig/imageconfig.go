// Package imageconfig makes edits of what came with an image or a container: docker
// inspect, podman inspect, OCI and Docker image configs.
package imageconfig

import (
	"fmt"
	"strings"

	"ocibundle/specedit"
	"ocibundle/specedit/jsontree"
)

// RestartAnnotation holds a container's restart policy as docker run writes it: always,
// unless-stopped, on-failure[:N].
const RestartAnnotation = "ocibundle.restart"

// Result is what an image's or a container's own config comes to.
type Result struct {
	// Kind is what the document was taken for.
	Kind Kind
	// Edits give the spec what the document says. They belong before every edit of
	// the command line.
	Edits []specedit.Edit
	// Notices name each setting of the document that no edit carries over, because a
	// bundle has no equivalent, or this host lacks what it needs.
	Notices []Notice
	// Decisions are sentences about what was carried over in a way worth knowing.
	Decisions []string
}

// Notice is a setting that has no equivalent in a bundle.
type Notice struct {
	Member  string // where the document has it: "HostConfig.PortBindings"
	Setting string // what it is, in the words of the engines' manuals: "published ports"
	Value   string // what it is set to, short: "6379/tcp"; "" where there is nothing to say
	Reason  string // why it is not carried over; "" where there is simply no equivalent
}

// String is the notice on one line.
func (n Notice) String() string {
	s := n.Setting
	if n.Value != "" {
		s += " " + n.Value
	}
	if n.Reason != "" {
		s += " (" + n.Reason + ")"
	}
	return s
}

// Warning is a sentence that names every notice, "" where there is none.
func (i Result) Warning() string {
	if len(i.Notices) == 0 {
		return ""
	}
	settings := make([]string, 0, len(i.Notices))
	for _, n := range i.Notices {
		settings = append(settings, n.String())
	}
	return fmt.Sprintf("not taken over from %s: %s: %s", i.Kind, jsontree.Count(len(settings), "setting"), strings.Join(settings, "; "))
}

// Options are the choices of ImageConfig. The zero value is for a document
// that the user gives, and a bundle that root runs.
type Options struct {
	// FromImage says that the document came with an image, not from the user:
	// what describes a container is refused, for it can ask for the host.
	FromImage bool
	// Rootless says that the bundle is for an ordinary user's runtime, which has no
	// control groups to set limits in: they are named in notices instead.
	Rootless bool
	// Network says that an edit chooses the network, so that nothing is missing without the
	// engine's.
	Network bool
	// CDIDirs are where the files of CDI devices are, none for the usual ones.
	CDIDirs []string
}

// Edits turns the config that came with an image or a container into edits. It
// takes docker inspect and podman inspect of a container or an image (the object, or
// the array of one that the programs print), an OCI image config (image-spec,
// config.md) and a Docker image config (the config in a docker save archive). The
// label is the user's own words for where data is from; every edit's label starts
// with it.
//
// An image's config makes neither a mount nor a device, whatever it contains: its
// volumes stay directories of the rootfs and are named in a notice. A container's
// binds and devices were asked for on this host's engine, and are made.
//
// An error is an *EditError: a document that is none of these, has members of the
// wrong type, duplicate members or NUL in strings, is nested too deeply, is larger
// than MaxImageConfigSize, or asks for what nobody should get (a working directory
// in /proc/self/fd, an id beyond 32 bits).
func Edits(label string, data []byte, o Options) (Result, error) {
	d, err := readImageDocument(data)
	if err != nil {
		return Result{}, specedit.Blame(label, err)
	}
	if o.FromImage && d.isContainer() {
		return Result{}, specedit.Blame(label, fmt.Errorf("the image's config is %s, want an image config", d.kind))
	}
	im := importer{label: label, o: o, d: d}
	im.result.Kind = d.kind
	im.decide("the document is %s", d.kind)
	if err := im.run(); err != nil {
		return Result{}, specedit.Blame(label, err)
	}
	return im.result, nil
}

// An importer collects the edits for one document. Its methods go through the
// document in the order in which the engine itself builds a spec from it.
type importer struct {
	label  string
	o      Options
	d      *imageDocument
	result Result
	err    error // the first that an edit's constructor returned
}

func (im *importer) run() error {
	im.process()
	im.annotations()
	im.healthcheck()
	if im.d.isContainer() {
		im.namespaces()
		im.security()
		im.resources()
		im.devices()
		im.mounts()
		im.names()
		im.engineOnly()
	} else {
		im.imageVolumes()
	}
	for _, member := range im.d.unknown {
		im.notice(member, "the setting "+member, "", "not known here")
	}
	for _, where := range im.d.lossy {
		im.notice(where, "the bytes of "+where, "", "not UTF-8, so the engine's JSON lacks them")
	}
	return im.err
}

// labelFor is the label of the edit for a member of the document.
func (im *importer) labelFor(member string) string { return im.label + " (" + member + ")" }

// edit appends what a constructor made.
func (im *importer) edit(member string, make func(label string) (specedit.Edit, error)) {
	if im.err != nil {
		return
	}
	label := im.labelFor(member)
	e, err := make(label)
	if err != nil {
		im.err = specedit.Blame(label, err)
		return
	}
	im.result.Edits = append(im.result.Edits, e)
}

// apply appends an edit that no flag has a name for.
func (im *importer) apply(member string, change func(*specedit.Doc) error) {
	im.edit(member, func(label string) (specedit.Edit, error) { return specedit.NewEdit(label, change), nil })
}

// put appends an edit that sets one value.
func (im *importer) put(member string, value any, path ...string) {
	im.apply(member, func(d *specedit.Doc) error { return d.Put(value, path...) })
}

func (im *importer) notice(member, setting, value, reason string) {
	im.result.Notices = append(im.result.Notices, Notice{Member: member, Setting: setting, Value: value, Reason: reason})
}

func (im *importer) decide(format string, args ...any) {
	im.result.Decisions = append(im.result.Decisions, fmt.Sprintf(format, args...))
}

// refuse ends the import with an error about one member.
func (im *importer) refuse(member, format string, args ...any) {
	if im.err == nil {
		im.err = &specedit.EditError{Label: im.labelFor(member), Problem: fmt.Sprintf(format, args...)}
	}
}

// annotations follow image-spec, conversion.md: labels beat what is implied.
func (im *importer) annotations() {
	c := &im.d.config
	prefix := im.d.configName()
	set := func(member, key, value string) {
		if key == "" {
			im.notice(member, "a label without a name", value, "")
			return
		}
		im.put(member, value, "annotations", key)
	}
	implied := func(member, key, value string) {
		key = "org.opencontainers.image." + key
		if _, ok := c.Labels[key]; !ok && value != "" {
			set(member, key, value)
		}
	}
	if !im.d.isContainer() {
		i := &im.d.image
		implied("os", "os", i.OS)
		implied("architecture", "architecture", i.Architecture)
		implied("variant", "variant", i.Variant)
		implied("os.version", "os.version", i.OSVersion)
		implied("os.features", "os.features", strings.Join(i.OSFeatures, ","))
		implied("author", "author", i.Author)
		if !i.Created.IsZero() {
			implied("created", "created", i.Created.Format("2006-01-02T15:04:05.999999999Z07:00"))
		}
	}
	implied(prefix+".StopSignal", "stopSignal", string(c.StopSignal))
	implied(prefix+".ExposedPorts", "exposedPorts", strings.Join(specedit.SortedKeys(c.ExposedPorts), ","))
	for _, key := range specedit.SortedKeys(c.Labels) {
		set(prefix+".Labels", key, c.Labels[key])
	}
	for _, key := range specedit.SortedKeys(c.Annotations) {
		// podman notes there what other members say, and are read from.
		if strings.HasPrefix(key, "io.podman.annotations.") || key == "io.kubernetes.cri-o.TTY" || key == "io.container.manager" {
			continue
		}
		set(prefix+".Annotations", key, c.Annotations[key])
	}
	if r := im.d.host.RestartPolicy; r.Name != "" && r.Name != "no" {
		policy := r.Name
		if n := int64(r.MaximumRetryCount); n > 0 {
			policy += fmt.Sprintf(":%d", n)
		}
		set("HostConfig.RestartPolicy", RestartAnnotation, policy)
	}
	for _, key := range specedit.SortedKeys(im.d.host.Annotations) {
		set("HostConfig.Annotations", key, im.d.host.Annotations[key])
	}
}

func (im *importer) healthcheck() {
	if c := im.d.config.Healthcheck; c != nil && len(c.Test) > 0 && c.Test[0] != "NONE" {
		im.notice(im.d.configName()+".Healthcheck", "health check", "", "")
	}
}

// imageVolumes leaves an image's volumes where they are. The engine would give each
// of them a new directory of the host; an image's config alone must not.
func (im *importer) imageVolumes() {
	if volumes := specedit.SortedKeys(im.d.config.Volumes); len(volumes) > 0 {
		im.notice(im.d.configName()+".Volumes", "volumes", strings.Join(volumes, ", "), "they stay directories of the rootfs")
	}
}

// configName is the document's name for the part that is common to all kinds.
func (d *imageDocument) configName() string {
	if d.kind == OCIImageConfig || d.kind == DockerImageConfig {
		return "config"
	}
	return "Config"
}
