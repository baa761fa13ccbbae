package specedit

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"ocibundle/specedit/jsontree"
)

// Plan is a config to be made: a base and the edits that change it.
type Plan struct {
	// Template names a built-in base, [TemplateDocker] (also the meaning of "") or [TemplateRunc].
	// It is not looked at where Base is set.
	Template string
	// Base is the text of a config to start from: a template file's, or the config.json of a bundle
	// that is edited.
	Base []byte
	// BaseLabel says in errors where Base comes from, `--template base.json`.
	BaseLabel string
	// Host is what the built-in templates depend on. A non-empty Mapping is put into a Base too: it
	// is the ownership that the rootfs has on disk.
	Host Host
	// RootPath, if not empty, becomes root.path before the edits.
	RootPath string
	// Edits are applied in order.
	Edits []Edit
	// Resolv is what the container resolves names with.
	Resolv Resolv

	notes []string // of the last Check or Build
	files []File   // of the last Build

	dockerProfile *pendingSeccomp // as it was made last
}

// Check makes the config as far as that can be done before the rootfs exists: all of it, with
// made-up ids for the user names it would look up. The error is an *EditError where an edit or the
// base is to blame.
func (p *Plan) Check() error {
	_, err := p.doc(standIn{})
	return err
}

// Build makes the config and returns its text. users resolves the names of --user; nil says that
// there is no rootfs to look in, which makes a name an error. The error is an *EditError where an
// edit or the base is to blame, and wraps [ErrUnmapped] where the process has an id that its
// mapping lacks.
func (p *Plan) Build(users UserLookup) ([]byte, error) {
	d, err := p.doc(users)
	if err != nil {
		return nil, err
	}
	return d.Root.Encode(), nil
}

// Warnings are sentences about what the base and the edits say that has no effect, as far as the
// last Check or Build met it.
func (p *Plan) Warnings() []string {
	var w []string
	for _, e := range p.Edits {
		w = append(w, e.Warnings...)
	}
	return append(w, p.notes...)
}

func (p *Plan) docker() bool { return p.Base == nil && p.Template != TemplateRunc }

// ResolvesNames reports whether the plan takes care that the container resolves names, as far as
// there are files for that.
func (p *Plan) ResolvesNames() bool {
	return p.Resolv != ResolvNone && (p.Resolv != ResolvAuto || p.docker())
}

// Files are what the config that was last built needs in its rootfs.
func (p *Plan) Files() []File { return p.files }

func (p *Plan) doc(users UserLookup) (*Doc, error) {
	if users == nil {
		users = noRootfs{}
	}
	d, err := p.start(users)
	if err != nil {
		return nil, err
	}
	d.notes = append(d.notes, d.modernize()...)
	defer func() { p.notes, p.files, p.dockerProfile = d.notes, d.files, d.dockerProfile }()
	if p.RootPath != "" {
		if err := d.Put(p.RootPath, "root", "path"); err != nil {
			return nil, err
		}
	}
	for _, e := range p.Edits {
		if err := d.apply(e); err != nil {
			return nil, err
		}
	}
	if err := d.checkUser(); err != nil {
		return nil, err
	}
	d.ownDevices()
	if err := d.resolv(p.Resolv, p.docker()); err != nil {
		return nil, Blame("", err)
	}
	if err := d.followNamespaces(); err != nil {
		return nil, err
	}
	if err := d.mapMounts(); err != nil {
		return nil, err
	}
	d.setVersion(p.Base == nil)
	if err := check(d.Root, d.base); err != nil {
		return nil, err
	}
	d.warnRootless()
	return d, nil
}

// start makes the document that the edits begin with.
func (p *Plan) start(users UserLookup) (*Doc, error) {
	if err := checkMapping(p.Host); err != nil {
		return nil, err
	}
	d := &Doc{Tree: jsontree.Tree{Schema: specSchema{}}, host: p.Host, users: users, dockerProfile: p.dockerProfile}
	if p.Base != nil {
		d.base = p.baseLabel()
		root, err := jsontree.Parse(p.Base, d.base)
		if err != nil {
			return nil, &EditError{Label: d.base, Err: fmt.Errorf("read the config: %w", err)}
		}
		d.Root = root
		if root.Kind != jsontree.KindObject {
			return nil, &EditError{Label: d.base, Problem: fmt.Sprintf("a config is a JSON object, this is %s", root.Kind)}
		}
		for _, bind := range hostBinds {
			if d.own(bind.namespace) {
				d.had = append(d.had, bind.namespace)
			}
		}
		if s := d.Get("linux", "seccomp"); s != nil {
			d.profile = &pendingSeccomp{by: d.base, own: true, node: s, copy: s.Clone("")}
		}
		if !p.Host.Mapping.Empty() {
			if err := Blame(d.base, d.remap()); err != nil {
				return nil, err
			}
		}
		return d, nil
	}
	if p.Host.Rootless && p.Host.Mapping.Empty() {
		return nil, fmt.Errorf("make a rootless config: no id mapping is given")
	}
	var spec *specs.Spec
	switch p.Template {
	case "", TemplateDocker:
		spec = dockerSpec(p.Host)
	case TemplateRunc:
		spec = runcSpec(p.Host)
	default:
		return nil, fmt.Errorf("make a config: there is no template %q", p.Template)
	}
	var err error
	if d.Root, err = jsontree.FromGo(spec, ""); err != nil {
		return nil, err
	}
	if p.Template == TemplateRunc {
		return d, nil
	}
	return d, d.dockerExtras()
}

func (p *Plan) baseLabel() string {
	if p.BaseLabel == "" {
		return "the config to start from"
	}
	return p.BaseLabel
}

// modernize turns what the drafts before 1.0.0 had and 1.0.0 has not into its present form, and
// says what it did. It looks at the base alone.
func (d *Doc) modernize() []string {
	var notes []string
	if caps := d.Get("process", "capabilities"); caps != nil && caps.Kind == jsontree.KindArray {
		n := jsontree.NewObject(d.base)
		for _, set := range []string{"bounding", "effective", "permitted", "ambient"} {
			n.SetMember(set, caps.Clone(""))
		}
		d.Get("process").SetMember("capabilities", n)
		notes = append(notes, fmt.Sprintf("%s: /process/capabilities is a list, as before runtime-spec 1.0.0: taken for the bounding, effective, permitted and ambient sets", d.base))
	}
	if v := d.Text("ociVersion"); older(v, baseVersion) {
		if p := d.Get("platform"); p != nil && p.Kind == jsontree.KindObject {
			if name, _ := p.Member("os").Str(); name == "linux" {
				d.Root.RemoveMember("platform", d.base)
				notes = append(notes, fmt.Sprintf("%s: /platform, which runtime-spec dropped in 1.0.0, is left out", d.base))
			}
		}
	}
	return notes
}

// remap puts the host's mapping into a document: its files are owned by it. So are those of mounts
// that had the document's own.
func (d *Doc) remap() error {
	oldUIDs, oldGIDs := d.Get("linux", "uidMappings"), d.Get("linux", "gidMappings")
	if err := d.Upsert("type", specs.LinuxNamespace{Type: specs.UserNamespace}, "linux", "namespaces"); err != nil {
		return err
	}
	if err := d.Put(specMapping(d.host.Mapping.UIDMaps), "linux", "uidMappings"); err != nil {
		return err
	}
	if err := d.Put(specMapping(d.host.Mapping.GIDMaps), "linux", "gidMappings"); err != nil {
		return err
	}
	for _, m := range d.Elements("mounts") {
		if m.Member("uidMappings").Same(oldUIDs) && m.Member("gidMappings").Same(oldGIDs) {
			m.SetMember("uidMappings", d.Get("linux", "uidMappings").Clone(""))
			m.SetMember("gidMappings", d.Get("linux", "gidMappings").Clone(""))
		}
	}
	return nil
}

// setVersion raises ociVersion to what the document needs, unless an edit said what it is to be.
// That of a base is kept where it suffices.
func (d *Doc) setVersion(builtIn bool) {
	v := d.Get("ociVersion")
	if v == nil || v.Kind != jsontree.KindString || v.By != d.base {
		return
	}
	needed := versionNeeded(d.Root, append(d.oldIDMaps(), d.ownSeccomp())...)
	if builtIn || older(v.Text, needed) && !preRelease(v.Text, needed) {
		v.Text = needed
	}
}
