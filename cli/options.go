package cli

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/sys/user"

	"ocibundle/pipeline"
	"ocibundle/pipeline/image"
	"ocibundle/pipeline/userns"
	"ocibundle/specedit"
	"ocibundle/tarx"
)

const (
	catBundle    = "Bundle"
	catInput     = "Input"
	catOwnership = "Ownership"
	catSpec      = "Base of the config"
	catOutput    = "Output"
)

var (
	templateFlag = &flagDef{names: []string{"template"}, value: "docker|runc|FILE", category: catSpec,
		usage: "the config to start from: a plain docker run's (the default), runc spec's, or a file"}

	imageConfigFlag = &flagDef{names: []string{"image-config"}, value: "FILE", category: catSpec,
		usage: "take command, environment, limits, mounts... from docker inspect or an image config"}

	// mainFlags are those of the main job besides the edits.
	mainFlags = []*flagDef{
		{names: []string{"output", "o"}, value: "DIR", category: catBundle, usage: "the bundle to create; - writes it to standard output as a tar stream"},
		{names: []string{"force", "f"}, category: catBundle, usage: "replace a bundle that is there, in one step"},
		{names: []string{"sync"}, category: catBundle, usage: "flush the bundle to disk before it appears"},
		{names: []string{"input", "i"}, value: "FILE", category: catInput, usage: "read FILE instead of standard input (-)"},
		{names: []string{"image"}, category: catInput, usage: "the stream is an image archive (docker save, podman save, an OCI archive)"},
		{names: []string{"platform"}, value: "OS/ARCH[/VARIANT]", category: catInput, usage: "the platform to pick from an image, or a stream, that has several"},
		{names: []string{"ref"}, value: "NAME", category: catInput, usage: "the image to pick from an archive of several: a name, a tag or a digest"},
		{names: []string{"exclude"}, value: "PATTERN", category: catInput, usage: "leave out what matches, as in tar --anchored --exclude; repeatable"},
		{names: []string{"digest"}, value: "sha256:HEX", category: catInput, usage: "refuse a stream with another digest"},
		{names: []string{"max-bytes"}, value: "SIZE", category: catInput, usage: "refuse a stream larger than this when decoded (512m, 10G)"},
		{names: []string{"max-entries"}, value: "N", category: catInput, usage: "refuse a stream with more entries"},
		{names: []string{"remap"}, value: "auto|none|self|subid", category: catOwnership, usage: "how the container's ids are stored on disk"},
		{names: []string{"uidmap"}, value: "C:H:N", category: catOwnership, usage: "map N user ids from C in the container to H on the host; repeatable"},
		{names: []string{"gidmap"}, value: "C:H:N", category: catOwnership, usage: "the same for group ids; one of the two serves for both"},
		{names: []string{"devices"}, value: "auto|create|skip|error", category: catOwnership, usage: "what becomes of device nodes"},
		{names: []string{"no-xattrs"}, category: catOwnership, usage: "leave extended attributes out"},
		templateFlag,
		imageConfigFlag,
		{names: []string{"resolv"}, value: "auto|host|none|FILE", category: catSpec, usage: "what names are resolved with: the host's hosts and resolv.conf, or FILE as resolv.conf"},
		{names: []string{"absolute-root"}, category: catSpec, usage: "write root.path absolute, as ctr run --config needs it"},
		{names: []string{"json"}, category: catOutput, usage: "print a JSON object about what was done"},
		{names: []string{"quiet", "q"}, category: catOutput, usage: "no warnings"},
		{names: []string{"verbose"}, category: catOutput, usage: "one line per decision worth knowing"},
		{names: []string{"progress"}, value: "auto|always|never", category: catOutput, usage: "a progress line on standard error"},
		{names: []string{"version"}, category: catOutput, usage: "print the version"},
		helpFlag,
	}
)

// options are those of the main job, read off the command line. No file has been opened for them.
type options struct {
	config   pipeline.Config
	ids      userns.Request
	input    string
	stream   bool // -o -
	template string
	json     bool
	quiet    bool
	verbose  bool
	progress string
}

func oneOf(rec *record, name string, choices ...string) (string, error) {
	v, ok := rec.last(name)
	if !ok {
		return choices[0], nil
	}
	for _, c := range choices {
		if v == c {
			return v, nil
		}
	}
	return "", usagef("--%s %q is not supported", name, v).hint("--%s is one of %s", name, strings.Join(choices, ", "))
}

func readOptions(rec *record) (*options, error) {
	o := &options{
		input: "-",
		json:  rec.is("json"), quiet: rec.is("quiet"), verbose: rec.is("verbose"),
		template: rec.text("template"),
	}
	out, ok := rec.last("output")
	switch {
	case !ok || out == "":
		return nil, usagef("no output directory was given").hint("-o DIR names the bundle to create")
	case out == "-":
		if err := checkStream(rec); err != nil {
			return nil, err
		}
		o.stream = true
	}
	var err error
	o.config = pipeline.Config{Output: out, Force: rec.is("force"), Sync: rec.is("sync"), AbsoluteRoot: rec.is("absolute-root")}
	if v, ok := rec.last("input"); ok {
		o.input = v
	}
	if o.config.Spec.Resolv, err = readResolv(rec); err != nil {
		return nil, err
	}
	o.config.Image = rec.is("image")
	if v, ok := rec.last("platform"); ok {
		p, err := image.ParsePlatform(v)
		if err != nil {
			return nil, usagef("--platform %q: %v", v, err).hint("a platform is one such as linux/amd64 or linux/arm/v7")
		}
		o.config.Choice.Platform = p
	}
	if o.config.Choice.Ref = rec.text("ref"); o.config.Choice.Ref != "" && !o.config.Image {
		return nil, usagef("--ref picks from an image archive").hint("--image reads one")
	}
	if v, ok := rec.last("digest"); ok {
		hash, found := strings.CutPrefix(v, "sha256:")
		if b, err := hex.DecodeString(hash); !found || err != nil || len(b) != 32 {
			return nil, usagef("--digest %q is not a SHA-256 digest", v).hint("it is sha256: and 64 hexadecimal digits, as sha256sum prints them")
		}
		o.config.SHA256 = strings.ToLower(hash)
	}
	if v, ok := rec.last("max-bytes"); ok {
		n, err := units.RAMInBytes(v)
		if err != nil || n <= 0 {
			return nil, usagef("--max-bytes %q is not a size", v).hint("a size is a number and a unit, as in 512m or 10G")
		}
		o.config.MaxBytes = n
	}
	if v, ok := rec.last("max-entries"); ok {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n <= 0 {
			return nil, usagef("--max-entries %q is not a number above 0", v)
		}
		o.config.Extract.MaxEntries = n
	}
	devices, err := oneOf(rec, "devices", "auto", "create", "skip", "error")
	if err != nil {
		return nil, err
	}
	o.config.Extract.Devices = map[string]tarx.DevicePolicy{"auto": tarx.DevicesAuto, "create": tarx.DevicesCreate,
		"skip": tarx.DevicesSkip, "error": tarx.DevicesError}[devices]
	if patterns := rec.all("exclude"); len(patterns) > 0 {
		if o.config.Extract.Exclude, err = tarx.NewExclude(patterns); err != nil {
			return nil, usagef("--exclude %v", err).hint("a pattern is one of the whole name, as in --exclude 'var/cache/*'")
		}
	}
	o.config.Extract.NoXattrs = rec.is("no-xattrs")
	if o.progress, err = oneOf(rec, "progress", "auto", "always", "never"); err != nil {
		return nil, err
	}
	if o.ids, err = readIDs(rec); err != nil {
		return nil, err
	}
	return o, nil
}

// readResolv reads --resolv.
func readResolv(rec *record) (specedit.Resolv, error) {
	v, ok := rec.last("resolv")
	switch v {
	case "auto":
		return specedit.ResolvAuto, nil
	case "host", "none":
		return specedit.Resolv(v), nil
	case "":
		if ok {
			return "", usagef("--resolv needs a value").hint("--resolv is one of auto, host, none, or a file")
		}
		return specedit.ResolvAuto, nil
	}
	file, err := filepath.Abs(v)
	if err == nil {
		var info os.FileInfo
		if info, err = os.Stat(file); err == nil && !info.Mode().IsRegular() {
			err = errors.New("it is not a regular file")
		}
	}
	if err != nil {
		return "", &usageError{msg: fmt.Sprintf("--resolv %q", v), err: err, hints: []string{"--resolv is one of auto, host, none, or a file"}}
	}
	return specedit.Resolv(file), nil
}

// checkStream refuses flags that mean nothing where the bundle is a stream.
func checkStream(rec *record) error {
	for _, f := range []struct{ name, why, hint string }{
		{"force", "there is nothing to replace", "what unpacks the stream does that"},
		{"sync", "nothing is written to disk", "what unpacks the stream does that"},
		{"absolute-root", "where the bundle will be is not known", "--set /root/path=PATH names the place"},
		{"json", "standard output is the stream", "--verbose reports on standard error"},
	} {
		if rec.is(f.name) {
			return usagef("%s and -o - exclude each other: %s", dashed(f.name), f.why).hint("%s", f.hint)
		}
	}
	return nil
}

// readIDs reads --remap, --uidmap and --gidmap.
func readIDs(rec *record) (userns.Request, error) {
	mode, err := oneOf(rec, "remap", "auto", "none", "self", "subid")
	if err != nil {
		return userns.Request{}, err
	}
	r := userns.Request{Mode: userns.Mode(mode)}
	for _, f := range []struct {
		name string
		to   *[]user.IDMap
	}{{"uidmap", &r.UIDMap}, {"gidmap", &r.GIDMap}} {
		for _, v := range rec.all(f.name) {
			m, err := readIDMap(v)
			if err != nil {
				return r, usagef("--%s %q: %v", f.name, v, err).hint("a mapping is CONTAINER:HOST:COUNT, as in --%s 0:100000:65536", f.name)
			}
			*f.to = append(*f.to, m)
		}
	}
	if len(r.UIDMap)+len(r.GIDMap) == 0 {
		return r, nil
	}
	if _, ok := rec.last("remap"); ok {
		return r, usagef("--remap and --uidmap or --gidmap exclude each other")
	}
	r.Mode = userns.ModeExplicit
	return r, nil
}

func readIDMap(v string) (user.IDMap, error) {
	parts := strings.Split(v, ":")
	if len(parts) != 3 {
		return user.IDMap{}, fmt.Errorf("it has %d fields, not three", len(parts))
	}
	var n [3]int64
	for i, p := range parts {
		u, err := strconv.ParseUint(p, 10, 32)
		if err != nil {
			return user.IDMap{}, fmt.Errorf("%q is not an id", p)
		}
		n[i] = int64(u)
	}
	return user.IDMap{ID: n[0], ParentID: n[1], Count: n[2]}, nil
}
