package imageconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/docker/go-units"
	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/mount"

	"ocibundle/specedit/jsontree"
)

// MaxImageConfigSize is the largest document that ImageConfig takes, in bytes. A
// reader needs to read one byte more, not the whole of what it is given.
const MaxImageConfigSize = 16 << 20

// maxValues bounds the values of a document: every one may become an edit, and an edit
// goes through what is there. Engines write some hundred.
const maxValues = 1 << 14

// Kind says what ImageConfig took a document for.
type Kind string

const (
	DockerContainer   Kind = "docker inspect of a container"
	DockerImage       Kind = "docker inspect of an image"
	PodmanContainer   Kind = "podman inspect of a container"
	PodmanImage       Kind = "podman inspect of an image"
	OCIImageConfig    Kind = "an OCI image config"
	DockerImageConfig Kind = "a Docker image config"
)

// An imageDocument is what a document of any kind says. The engine's API has types for all of
// a container, too, but in a package that brings along what takes long to start, and every run
// would pay for that: so a test compares the members with it.
type imageDocument struct {
	kind Kind

	container containerMembers // the document's own members, if it is of a container
	config    containerConfig  // Config, or the image config's config
	host      hostConfig       // HostConfig, if it is of a container
	image     v1.ConfigFile    // what an image's document says of the image as a whole; its Config is unused

	unknown []string // members of Config and HostConfig that have a value and that nobody here knows: "HostConfig.New"
	lossy   []string // strings in which the engine has lost bytes: JSON can only carry UTF-8
}

func (d *imageDocument) isContainer() bool {
	return d.kind == DockerContainer || d.kind == PodmanContainer
}

// containerMembers are the members beside Config and HostConfig that matter here.
type containerMembers struct {
	Created         string
	Path            string
	Args            []string
	AppArmorProfile string
	ProcessLabel    string
	Mounts          []mountPoint

	// podman
	BoundingCaps  []string
	EffectiveCaps []string
}

type mountPoint struct {
	Type         mount.Type
	Name, Driver string // of a volume
	Source       string
	Destination  string
	Mode         string
	RW           bool
	Propagation  mount.Propagation
	Options      []string // podman
}

// imageMembers is the config of an image, as either specification and either engine's
// inspect write it. Members are raw that are only named.
type imageMembers struct {
	User, WorkingDir string
	Env              []string
	Labels           map[string]string
	Volumes          map[string]struct{}
	Entrypoint, Cmd  words
	StopSignal       scalar
	ExposedPorts     map[string]json.RawMessage
	Healthcheck      *healthcheck
}

// containerConfig is the config of a container.
type containerConfig struct {
	imageMembers
	Hostname, Domainname string
	Tty, NetworkDisabled bool
	StopTimeout          *int

	// podman
	Annotations   map[string]string
	Umask         string
	Secrets       json.RawMessage
	ChrootDirs    []string
	CreateCommand []string
	Timeout       uint
	SystemdMode   bool
}

// healthcheck has no more than tells whether there is a check.
type healthcheck struct {
	Test []string
}

// hostConfig is what a container has of its host. The decoder does not mind case: Dns becomes DNS.
type hostConfig struct {
	AutoRemove, Privileged, PublishAllPorts, ReadonlyRootfs bool
	Init, OomKillDisable                                    *bool

	Cgroup, CgroupnsMode, IpcMode, NetworkMode, PidMode, UTSMode, UsernsMode string
	CgroupParent, CpusetCpus, CpusetMems, Runtime, VolumeDriver              string

	CapAdd, CapDrop, GroupAdd, MaskedPaths, ReadonlyPaths, SecurityOpt []string
	Binds, DeviceCgroupRules, DNSOptions, DNSSearch, ExtraHosts, Links []string

	Annotations, StorageOpt, Sysctls, Tmpfs map[string]string

	CPUPeriod, CPUQuota, CPURealtimePeriod, CPURealtimeRuntime, CPUShares int64
	Memory, MemoryReservation, MemorySwap, NanoCPUs, ShmSize              int64
	MemorySwappiness, PidsLimit                                           *int64

	BlkioWeight uint16
	ConsoleSize [2]uint
	OomScoreAdj int
	Umask       *uint32

	BlkioWeightDevice                         []*blkiodev.WeightDevice
	BlkioDeviceReadBps, BlkioDeviceReadIOps   []*blkiodev.ThrottleDevice
	BlkioDeviceWriteBps, BlkioDeviceWriteIOps []*blkiodev.ThrottleDevice

	Devices        []struct{ PathOnHost, PathInContainer, CgroupPermissions string }
	DeviceRequests []struct {
		Driver    string
		DeviceIDs []string
	}
	DNS          json.RawMessage
	Mounts       []mount.Mount
	PortBindings map[string]json.RawMessage
	Ulimits      []*units.Ulimit
	LogConfig    struct {
		Type   string
		Config map[string]string
	}
	RestartPolicy struct {
		Name              string
		MaximumRetryCount int
	}

	// before API 1.42
	KernelMemory    int64
	KernelMemoryTCP int64

	// podman
	CgroupMode string
	CgroupConf map[string]string
	IDMappings json.RawMessage
	DiskQuota  uint64
	HostsFile  string
}

// words is a list of strings that older versions of podman write as one string.
type words []string

func (w *words) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		var one string
		if err := json.Unmarshal(data, &one); err != nil {
			return err
		}
		*w = strings.Fields(one)
		return nil
	}
	return json.Unmarshal(data, (*[]string)(w))
}

// scalar is a string that older versions of podman write as a number.
type scalar string

func (s *scalar) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && (data[0] >= '0' && data[0] <= '9' || data[0] == '-') {
		var n int64
		if err := json.Unmarshal(data, &n); err != nil {
			return err
		}
		*s = scalar(strconv.FormatInt(n, 10))
		if n == 0 {
			*s = ""
		}
		return nil
	}
	return json.Unmarshal(data, (*string)(s))
}

// readImageDocument checks a document, detects its kind and decodes what matters.
func readImageDocument(data []byte) (*imageDocument, error) {
	if len(data) > MaxImageConfigSize {
		return nil, fmt.Errorf("larger than %d MiB", MaxImageConfigSize>>20)
	}
	root, err := jsontree.Parse(data, "")
	if err != nil {
		return nil, err
	}
	if root.Size() > maxValues {
		return nil, fmt.Errorf("more than %d values", maxValues)
	}
	top, err := theOnlyObject(root)
	if err != nil {
		return nil, err
	}
	d := &imageDocument{}
	if d.kind, err = detectImageDocument(top); err != nil {
		return nil, err
	}
	// The other members, a health check's output for example, may hold anything.
	for _, name := range []string{"Path", "Args", "Mounts", "BoundingCaps", "EffectiveCaps", "Config", "HostConfig", "config"} {
		if n := top.Member(name); n != nil {
			if err := d.scrutinize(name, n); err != nil {
				return nil, err
			}
		}
	}
	if !d.isContainer() {
		if err := d.decodeImage(top); err != nil {
			return nil, err
		}
		return d, linuxOnly(d.image.OS)
	}
	if platform, ok := top.Member("Platform").Str(); ok {
		if err := linuxOnly(platform); err != nil {
			return nil, err
		}
	}
	// Only the members that are meant: the decoder would take "mounts" for "Mounts".
	own := jsontree.NewObject("")
	for _, name := range []string{"Created", "Path", "Args", "AppArmorProfile", "ProcessLabel", "Mounts", "BoundingCaps", "EffectiveCaps"} {
		if n := top.Member(name); n != nil {
			own.SetMember(name, n)
		}
	}
	config, host := top.Member("Config"), top.Member("HostConfig")
	if err := decodeObject("", own, &d.container); err != nil {
		return nil, err
	}
	if err := decodeObject("Config", config, &d.config); err != nil {
		return nil, err
	}
	if err := decodeObject("HostConfig", host, &d.host); err != nil {
		return nil, err
	}
	d.unknown = append(unknownMembers("Config", config, configMembers), unknownMembers("HostConfig", host, hostConfigMembers)...)
	return d, nil
}

// linuxOnly refuses what is for another system; old documents do not say.
func linuxOnly(os string) error {
	if os != "" && os != "linux" {
		return fmt.Errorf("for %s, and a bundle is for linux", os)
	}
	return nil
}

// decodeImage decodes an image's document of any kind.
func (d *imageDocument) decodeImage(top *jsontree.Node) error {
	// The image specification's names, and those of the engines' inspect.
	config := "config"
	names := map[string]string{}
	for _, name := range []string{"os", "os.version", "os.features", "architecture", "variant", "author", "created"} {
		names[name] = name
	}
	if d.kind == DockerImage || d.kind == PodmanImage {
		config = "Config"
		names = map[string]string{"os": "Os", "os.version": "OsVersion", "architecture": "Architecture", "variant": "Variant",
			"author": "Author", "created": "Created"}
	}
	for _, ours := range slices.Sorted(maps.Keys(names)) {
		n := top.Member(names[ours])
		if text, ok := n.Str(); n == nil || ok && text == "" {
			continue // an empty time is no time
		}
		one := jsontree.NewObject("")
		one.SetMember(ours, n)
		if err := decodeObject("", one, &d.image); err != nil {
			return err
		}
	}
	n := top.Member(config)
	if n == nil || n.Kind == jsontree.KindNull {
		return nil
	}
	// Nothing of a host's concerns is even decoded, whatever the document has.
	if err := decodeObject(config, n, &d.config.imageMembers); err != nil {
		return err
	}
	d.unknown = unknownMembers(config, n, configMembers)
	return nil
}

// theOnlyObject returns the object, or the one in the array.
func theOnlyObject(root *jsontree.Node) (*jsontree.Node, error) {
	if root.Kind == jsontree.KindArray {
		switch len(root.List) {
		case 0:
			return nil, errors.New("an empty list, as inspect prints for what does not exist")
		case 1:
			root = root.List[0]
		default:
			return nil, fmt.Errorf("a list of %d objects, want one", len(root.List))
		}
	}
	if root.Kind != jsontree.KindObject {
		return nil, fmt.Errorf("%v, want an object or a list of one", root.Kind)
	}
	return root, nil
}

// ErrRuntimeConfig is in the chain where the document is a config.json.
var ErrRuntimeConfig = errors.New("it is a runtime config")

// detectImageDocument goes by the members that the kinds are sure to have, and knows
// the documents that are most easily mistaken for one.
//
// What fits two kinds is refused: an image's config can come from anybody, and one that
// is docker inspect of a container, too, would bind the host's root directory.
func detectImageDocument(top *jsontree.Node) (Kind, error) {
	object := func(name string) bool { n := top.Member(name); return n != nil && n.Kind == jsontree.KindObject }
	has := func(names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return top.Member(name) != nil })
	}
	container := object("Config") && has("HostConfig")
	image := has("RootFS") && has("Config") && has("Os", "Architecture", "RepoTags")
	if container || image {
		kind := DockerImage
		if container {
			kind = DockerContainer
		}
		if container && image {
			return "", fmt.Errorf("it is %s and %s at once", kind, DockerImage)
		}
		for _, name := range []string{"os", "architecture", "config", "rootfs", "history", "layers", "manifests", "ociVersion"} {
			if has(name) {
				return "", fmt.Errorf("it is %s, and has a member %q, which an image's own documents have: it cannot be both", kind, name)
			}
		}
	}
	switch {
	case container && object("HostConfig"):
		if has("OCIRuntime", "ConmonPidFile", "BoundingCaps", "ImageName", "IsInfra") {
			return PodmanContainer, nil
		}
		return DockerContainer, nil
	case image && object("RootFS"):
		if has("ManifestType", "NamesHistory") {
			return PodmanImage, nil
		}
		return DockerImage, nil
	case has("ociVersion"):
		return "", ErrRuntimeConfig
	case has("manifests"):
		return "", errors.New("an image index, want the config that one of its manifests names")
	case has("layers") && object("config"):
		return "", errors.New("an image manifest, want the config that it names")
	case has("Layers") && has("RepoTags") && has("Config"):
		return "", errors.New("the manifest of docker save, want the file that its Config names")
	case has("os", "architecture") && has("config", "rootfs"), top.Member("rootfs").Member("diff_ids") != nil:
		// What older engines add, and what a Docker image's config has beyond the OCI's.
		if has("container_config", "docker_version", "container") {
			return DockerImageConfig, nil
		}
		for _, name := range []string{"Healthcheck", "OnBuild", "Shell", "Hostname", "AttachStdin", "Image"} {
			if top.Member("config").Member(name) != nil {
				return DockerImageConfig, nil
			}
		}
		return OCIImageConfig, nil
	case has("Hostname") && has("Cmd", "Env"):
		return "", errors.New("only the Config of docker inspect, want its whole output")
	case has("NetworkMode") && has("Binds"):
		return "", errors.New("only the HostConfig of docker inspect, want its whole output")
	}
	return "", errors.New("neither docker inspect of a container or an image nor an image config")
}

// scrutinize refuses what the decoder lets pass in a value that it makes a struct or a
// list of: NUL, which cuts a string short where it reaches the kernel, and two members
// for the same field.
func (d *imageDocument) scrutinize(path string, n *jsontree.Node) error {
	// encoding/json fills a field by any spelling of its name.
	fields := map[string]string{}
	for _, name := range n.Keys {
		if other, ok := fields[foldName(name)]; ok {
			return fmt.Errorf("%s: members %q and %q differ only in case", path, other, name)
		}
		fields[foldName(name)] = name
	}
	return d.scrutinizeText(path, n)
}

// scrutinizeText does so for values whose members are data, not fields: labels.
func (d *imageDocument) scrutinizeText(path string, n *jsontree.Node) error {
	switch n.Kind {
	case jsontree.KindString:
		if strings.ContainsRune(n.Text, 0) {
			return fmt.Errorf("NUL in %s", path)
		}
		if strings.ContainsRune(n.Text, utf8.RuneError) {
			d.lossy = append(d.lossy, path)
		}
	case jsontree.KindArray:
		for i, e := range n.List {
			if err := d.scrutinize(fmt.Sprintf("%s[%d]", path, i), e); err != nil {
				return err
			}
		}
	case jsontree.KindObject:
		for _, name := range n.Keys {
			if strings.ContainsRune(name, 0) {
				return fmt.Errorf("NUL in a member name of %s", path)
			}
			if err := d.scrutinizeText(path+"."+name, n.Obj[name]); err != nil {
				return err
			}
		}
	}
	return nil
}

// foldName maps names that encoding/json takes for one another to the same string.
func foldName(s string) string {
	return strings.Map(func(r rune) rune {
		for {
			next := unicode.SimpleFold(r)
			if next <= r {
				return next
			}
			r = next
		}
	}, s)
}

// decodeObject decodes an object into a struct. An error names the member: name is the
// object's own, "" for the document.
func decodeObject(name string, n *jsontree.Node, to any) error {
	first := json.Unmarshal([]byte(n.Compact()), to)
	if first == nil {
		return nil
	}
	if n.Kind != jsontree.KindObject {
		return fmt.Errorf("%s: want an object, found %v", name, n.Kind)
	}
	// Only one member at a time says for sure which one it is.
	for _, key := range n.Keys {
		one := jsontree.NewObject("")
		one.SetMember(key, n.Obj[key])
		err := json.Unmarshal([]byte(one.Compact()), reflect.New(reflect.TypeOf(to).Elem()).Interface())
		if err == nil {
			continue
		}
		where := strings.TrimPrefix(name+"."+key, ".")
		if typeErr, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return fmt.Errorf("%s: want %s, found %s", where, wantedType(typeErr.Type), typeErr.Value)
		}
		return fmt.Errorf("%s: %w", where, err)
	}
	return first
}

func wantedType(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "an object"
	case reflect.Uint, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return fmt.Sprintf("a whole number from 0 of at most %d bits", t.Bits())
	}
	return fmt.Sprintf("a whole number of at most %d bits", t.Bits())
}
