package imageconfig

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"ocibundle/specedit"
)

// imported builds the docker template with what a document says.
func imported(t *testing.T, document string, o Options) (Result, specs.Spec) {
	t.Helper()
	im, err := Edits("--image-config c.json", []byte(document), o)
	if err != nil {
		t.Fatal(err)
	}
	plan := specedit.Plan{Template: specedit.TemplateDocker, Host: specedit.Host{Hostname: "host"}, Edits: im.Edits}
	text, err := plan.Build(anyUser{})
	if err != nil {
		t.Fatal(err)
	}
	var spec specs.Spec
	if err := json.Unmarshal(text, &spec); err != nil {
		t.Fatal(err)
	}
	return im, spec
}

func noticed(im Result) []string {
	var all []string
	for _, n := range im.Notices {
		all = append(all, n.Member+": "+n.String())
	}
	return all
}

// ofContainer is docker inspect of a container, of which only what is given is set.
func ofContainer(config, host, more string) string {
	return `[{"Id": "1", "Path": "sleep", "Args": ["9"], "Config": {` + config + `}, "HostConfig": {` + host + `}` + more + `}]`
}

func TestImageConfigKinds(t *testing.T) {
	for _, test := range []struct {
		document string
		want     Kind
	}{
		{`[{"Id": "1", "Config": {}, "HostConfig": {}}]`, DockerContainer},
		{`{"Id": "1", "Config": {}, "HostConfig": {}}`, DockerContainer},
		{"\n\t[ {\"Config\": {}, \"HostConfig\": {}} ]\n", DockerContainer},
		{`[{"Config": {}, "HostConfig": {}, "OCIRuntime": "crun"}]`, PodmanContainer},
		{`[{"Config": {}, "RootFS": {}, "Os": "linux", "Architecture": "amd64"}]`, DockerImage},
		{`[{"Config": null, "RootFS": {}, "Os": "linux"}]`, DockerImage},
		{`[{"Config": {}, "RootFS": {}, "Os": "linux", "NamesHistory": null}]`, PodmanImage},
		{`{"config": {}, "rootfs": {}, "os": "linux", "architecture": "arm64"}`, OCIImageConfig},
		{`{"rootfs": {}, "os": "linux", "architecture": "arm64"}`, OCIImageConfig},
		{`{"config": {"Healthcheck": {}}, "rootfs": {}, "os": "linux"}`, DockerImageConfig},
		{`{"config": {}, "docker_version": "20", "rootfs": {}, "os": "linux"}`, DockerImageConfig},
		{`{"config": {"Env": []}, "os": "linux", "id": "0"}`, OCIImageConfig},
	} {
		im, err := Edits("l", []byte(test.document), Options{})
		if err != nil || im.Kind != test.want {
			t.Errorf("%s: %q, %v; want %q", test.document, im.Kind, err, test.want)
		}
	}
}

func TestImageConfigRefuses(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000)
	lists := strings.Repeat("[", 100000)
	for _, test := range []struct{ name, document, want string }{
		{"empty", "", "no JSON"},
		{"blank", " \n", "no JSON"},
		{"cut", `[{"Config": {"Env": ["A=`, "unexpected E"},
		{"text", "Error: No such object: redis", "invalid character"},
		{"number", "12", "an object or a list of one"},
		{"null", "null", "an object or a list of one"},
		{"nothing found", "[]", "what does not exist"},
		{"two", `[{"Config":{},"HostConfig":{}},{"Config":{},"HostConfig":{}}]`, "a list of 2 objects"},
		{"list of numbers", "[1]", "an object or a list of one"},
		{"two documents", `{"Config":{},"HostConfig":{}} {}`, "more text"},
		{"not UTF-8", "{\"Config\":{},\"HostConfig\":{\"Runtime\":\"\xff\"}}", "not valid Unicode"},
		{"half a surrogate pair", `{"Config":{"User":"\ud800"},"HostConfig":{}}`, "not valid Unicode"},
		{"deep", deep, "deep"},
		{"deep and unclosed", lists, "deep"},
		{"huge", `{"a":"` + strings.Repeat("x", MaxImageConfigSize) + `"}`, "larger than 16 MiB"},
		{"duplicate", ofContainer(`"User":"1","User":"0"`, "", ""), `"User" appears twice`},
		{"duplicate document member", `{"Config":{},"HostConfig":{},"HostConfig":{"Privileged":true}}`, `"HostConfig" appears twice`},
		{"duplicate by case", ofContainer(`"User":"1","user":"0"`, "", ""), `"User" and "user" differ only in case`},
		{"duplicate by Unicode case", ofContainer("\"User\":\"1\",\"U\u017fer\":\"0\"", "", ""), "differ only in case"},
		{"duplicate in a list", ofContainer("", `"Ulimits":[{"Name":"core","Soft":1,"soft":2}]`, ""), "differ only in case"},
		{"NUL", ofContainer(`"Env":["A=b\u0000c"]`, "", ""), "NUL in Config.Env[0]"},
		{"NUL in a name", ofContainer(`"Labels":{"a\u0000":"b"}`, "", ""), "NUL in a member name of Config.Labels"},
		{"NUL in the command", `{"Config":{},"HostConfig":{},"Path":"a\u0000b"}`, "NUL in Path"},
		{"wrong type", ofContainer(`"Env":"A=1"`, "", ""), "Config.Env: want a list, found string"},
		{"wrong inner type", ofContainer(`"Env":["A=1",2]`, "", ""), "Config.Env: want a string, found number"},
		{"wrong object", `[{"Config": {}, "HostConfig": {"Ulimits": {"Name": "core"}}}]`, "HostConfig.Ulimits: want a list, found object"},
		{"too large a number", ofContainer("", `"Memory":9223372036854775808`, ""), "HostConfig.Memory: want a whole number of at most 64 bits"},
		{"no whole number", ofContainer("", `"Memory":1.5`, ""), "HostConfig.Memory: want a whole number"},
		{"negative", ofContainer("", `"BlkioWeight":-1`, ""), "HostConfig.BlkioWeight: want a whole number from 0"},
		{"negative memory", ofContainer("", `"Memory":-5`, ""), "-5 is no limit"},
		{"swappiness", ofContainer("", `"MemorySwappiness":101`, ""), "not between 0 and 100"},
		{"uid of 33 bits", ofContainer(`"User":"4294967296"`, "", ""), "4294967296"},
		{"uid that wraps to root", ofContainer(`"User":"18446744073709551616"`, "", ""), "18446744073709551616"},
		{"negative uid", ofContainer(`"User":"-1"`, "", ""), "-1"},
		{"gid of 33 bits", ofContainer(`"User":"0:4294967296"`, "", ""), "4294967296"},
		{"group of 33 bits", ofContainer("", `"GroupAdd":["4294967296"]`, ""), "4294967296"},
		{"cwd", ofContainer(`"WorkingDir":"/proc/self/fd/7"`, "", ""), "leads through a process"},
		{"cwd below", ofContainer(`"WorkingDir":"/proc/self/fd/7/../../etc"`, "", ""), ""},
		{"relative cwd", ofContainer(`"WorkingDir":"proc/self/fd/7/"`, "", ""), "leads through a process"},
		{"cwd in disguise", ofContainer(`"WorkingDir":"//proc/./1/../self//task/1/fd/9"`, "", ""), "leads through a process"},
		{"cwd of the runtime", ofContainer(`"WorkingDir":"/proc/1/cwd"`, "", ""), "leads through a process"},
		{"cwd by /dev", ofContainer(`"WorkingDir":"/dev/fd/8"`, "", ""), "leads through a process"},
		{"image's cwd", `{"config":{"WorkingDir":"/proc/self/fd/7"},"rootfs":{},"os":"linux"}`, "leads through a process"},
		{"variable without a name", ofContainer(`"Env":["=x"]`, "", ""), "no name before"},
		{"umask", ofContainer(`"Umask":"0999"`, "", ""), "no octal umask"},
		{"mount at the root", ofContainer("", `"Binds":["/a:/"]`, ""), "over the root"},
		{"relative mount", ofContainer("", `"Binds":["/a:b"]`, ""), "not an absolute path"},
		{"half a bind", ofContainer("", `"Binds":["/a"]`, ""), "SOURCE:DESTINATION"},
		{"relative source", ofContainer("", "", `,"Mounts":[{"Type":"bind","Source":"a","Destination":"/b"}]`), "not absolute"},
		{"propagation", ofContainer("", "", `,"Mounts":[{"Type":"bind","Source":"/a","Destination":"/b","Propagation":"up"}]`), "no mount propagation"},
		{"device rule", ofContainer("", `"DeviceCgroupRules":["c 1 rwm"]`, ""), "MAJOR:MINOR"},
		{"dns", ofContainer("", `"Dns":7`, ""), "want a list of strings"},
		{"capability", ofContainer("", `"CapAdd":["CAP_FLY"]`, ""), "CAP_FLY"},
		{"Windows image", `{"config":{},"rootfs":{},"os":"windows"}`, "for windows"},
		{"Windows container", `{"Config":{},"HostConfig":{},"Platform":"windows"}`, "for windows"},
		{"time", `{"config":{},"rootfs":{},"os":"linux","created":"yesterday"}`, "created: "},
		{"a runtime config", `{"ociVersion":"1.0.0"}`, "runtime config"},
		{"an image config that is a container's", `{"architecture":"amd64","os":"linux","config":{"Cmd":["/bin/sh"]},"rootfs":{"type":"layers"},
			"Config":{"Cmd":["/bin/sh"]},"HostConfig":{"Binds":["/:/host"],"PidMode":"host"}}`, "cannot be both"},
		{"half an image config that is a container's", `{"os":"linux","Config":{},"HostConfig":{"Binds":["/:/host"]}}`, "cannot be both"},
		{"an image and a container", `{"Config":{},"HostConfig":{"Binds":["/:/host"]},"RootFS":{},"Os":"linux"}`, "at once"},
		{"a manifest that is a container", `{"schemaVersion":2,"layers":[],"Config":{},"HostConfig":{"Binds":["/:/host"]}}`, "cannot be both"},
		{"an index", `{"schemaVersion":2,"manifests":[]}`, "image index"},
		{"a manifest", `{"schemaVersion":2,"config":{"digest":"sha256:0"},"layers":[]}`, "image manifest"},
		{"the manifest of docker save", `[{"Config":"0.json","RepoTags":[],"Layers":[]}]`, "docker save"},
		{"only Config", `{"Hostname":"a","Env":[],"Cmd":null}`, "only the Config"},
		{"only HostConfig", `{"Binds":null,"NetworkMode":"host"}`, "only the HostConfig"},
		{"a volume", `[{"Name":"v","Mountpoint":"/x","Driver":"local"}]`, "neither"},
	} {
		t.Run(test.name, func(t *testing.T) {
			im, err := Edits("--image-config c.json", []byte(test.document), Options{})
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil {
				t.Fatalf("accepted as %s, with %d edits", im.Kind, len(im.Edits))
			}
			if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "--image-config c.json") {
				t.Errorf("error %q, want %q in it and the label", err, test.want)
			}
			if _, ok := errors.AsType[*specedit.EditError](err); !ok {
				t.Errorf("a %T, want an *EditError", err)
			}
			if strings.ContainsAny(err.Error(), "\n\x00") || len(err.Error()) > 400 {
				t.Errorf("not one short line: %q", err)
			}
		})
	}
}

// A document that came with an image cannot pass for a container's, whose binds are
// the user's own.
func TestImageConfigFromImage(t *testing.T) {
	document := ofContainer("", `"Privileged":true,"Binds":["/:/host"]`, "")
	if _, err := Edits("l", []byte(document), Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := Edits("l", []byte(document), Options{FromImage: true}); err == nil {
		t.Error("an image got the host's root")
	}
}

// What an image's document claims beyond an image's config has no effect whatever.
func TestImageConfigMakesNoMount(t *testing.T) {
	more := `"HostConfig":{"Binds":["/:/host"],"Privileged":true,"Devices":[{"PathOnHost":"/dev/null","PathInContainer":"/dev/x"}]},
		"Mounts":[{"Type":"bind","Source":"/","Destination":"/host"}]`
	config := `{"Volumes":{"/data":{},"/etc":{}},"Tmpfs":{"/run":""},"Devices":[{"PathOnHost":"/dev/null","PathInContainer":"/dev/x"}],"Binds":["/:/host"],` + more + `}`
	_, plain := imported(t, `{"config":{},"rootfs":{},"os":""}`, Options{})
	for _, document := range []string{
		`{"rootfs":{},"os":"linux","config":` + config + `,` + more + `}`,
		`{"RootFS":{},"Os":"linux","Config":` + config + `,"Mounts":[{"Type":"bind","Source":"/","Destination":"/host"}],"Binds":["/:/host"]}`,
	} {
		im, spec := imported(t, document, Options{FromImage: true})
		if !reflect.DeepEqual(spec.Mounts, plain.Mounts) || !reflect.DeepEqual(spec.Linux, plain.Linux) {
			t.Errorf("%s:\n%v\n%v", document, spec.Mounts, spec.Linux)
		}
		all := strings.Join(noticed(im), "\n")
		for _, want := range []string{"volumes /data, /etc (they stay directories of the rootfs)", ".Binds", ".Tmpfs", ".Devices", ".HostConfig"} {
			if !strings.Contains(all, want) {
				t.Errorf("%s: no notice with %q:\n%s", document, want, all)
			}
		}
	}
}

// An image's config becomes what image-spec, conversion.md, says.
func TestImageConfigConversion(t *testing.T) {
	document := `{"architecture":"arm64","os":"linux","variant":"v8","os.version":"6","os.features":["a","b"],"author":"me","created":"2026-01-02T03:04:05.6Z",
		"config":{"User":"7:8","Env":["PATH=/bin","A=<&>","A=b=c"],"Entrypoint":["/e","x y"],"Cmd":["c",""],"WorkingDir":"/w","StopSignal":"SIGINT",
		"ExposedPorts":{"6379/tcp":{},"53/udp":{}},"Labels":{"org.opencontainers.image.author":"you","l/a~b":"1=2"},
		"Volumes":{"/v":{}}},"rootfs":{"type":"layers","diff_ids":[]},"history":[]}`
	im, spec := imported(t, document, Options{FromImage: true})
	want := map[string]string{
		"org.opencontainers.image.os": "linux", "org.opencontainers.image.architecture": "arm64", "org.opencontainers.image.variant": "v8",
		"org.opencontainers.image.os.version": "6", "org.opencontainers.image.os.features": "a,b",
		"org.opencontainers.image.author": "you", "org.opencontainers.image.created": "2026-01-02T03:04:05.6Z",
		"org.opencontainers.image.stopSignal": "SIGINT", "org.opencontainers.image.exposedPorts": "53/udp,6379/tcp",
		"l/a~b": "1=2",
	}
	if !reflect.DeepEqual(spec.Annotations, want) {
		t.Errorf("annotations %v, want %v", spec.Annotations, want)
	}
	if got := spec.Process.Args; !slices.Equal(got, []string{"/e", "x y", "c", ""}) {
		t.Errorf("args %q", got)
	}
	if !slices.Contains(spec.Process.Env, "PATH=/bin") || !slices.Contains(spec.Process.Env, "A=b=c") || slices.Contains(spec.Process.Env, "A=<&>") {
		t.Errorf("env %q", spec.Process.Env)
	}
	if spec.Process.Cwd != "/w" || spec.Process.User.UID != 7 || spec.Process.User.GID != 8 {
		t.Errorf("cwd %q, user %v", spec.Process.Cwd, spec.Process.User)
	}
	if got := noticed(im); !slices.Equal(got, []string{"config.Volumes: volumes /v (they stay directories of the rootfs)"}) {
		t.Errorf("notices %q", got)
	}
	if im.Edits[0].Label != "--image-config c.json (config.Cmd)" {
		t.Errorf("label %q", im.Edits[0].Label)
	}
}

// An edit that fails later blames the member it is from.
func TestImageConfigBlame(t *testing.T) {
	im, err := Edits("--image-config c.json", []byte(ofContainer(`"User":"nobody"`, "", "")), Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = (&specedit.Plan{Template: specedit.TemplateDocker, Edits: im.Edits}).Build(nil)
	if err == nil || !strings.Contains(err.Error(), "--image-config c.json (Config.User)") {
		t.Errorf("error %v, want it to name the document and the member", err)
	}
}

// What a bundle has no equivalent for is named, each thing once.
func TestImageConfigNotices(t *testing.T) {
	document := ofContainer(`"Healthcheck":{"Test":["CMD","x"]},"StopTimeout":3,"Volumes":{"/v":{}},"New":{"a":1},"Old":[],"OnBuild":["x"]`,
		`"NetworkMode":"mynet","PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}]},"PublishAllPorts":true,
		"RestartPolicy":{"Name":"always"},"LogConfig":{"Type":"syslog","Config":{"tag":"x"}},"Init":true,"AutoRemove":true,
		"Runtime":"kata","Dns":["1.1.1.1","none"],"DnsOptions":["x y"],"DnsSearch":["y"],"ExtraHosts":["a:1.2.3.4","gw:host-gateway"],"Links":["/a:/b"],
		"CgroupParent":"/x","Cgroup":"container:y","StorageOpt":{"size":"1g"},"KernelMemory":5,"KernelMemoryTCP":6,"UsernsMode":"remap","PidMode":"container:other",
		"VolumeDriver":"nfs","SecurityOpt":["label=type:x","strange=1"],"DeviceRequests":[{"Driver":"nvidia","Count":-1}],
		"Devices":[{"PathOnHost":"/dev/no-such-device","PathInContainer":"/dev/x","CgroupPermissions":"rwm"}],
		"BlkioDeviceReadBps":[{"Path":"/dev/no-such-disk","Rate":1}],"Binds":["named:/n"],
		"Mounts":[{"Type":"image","Source":"alpine","Target":"/i"}],"NewLimit":5`,
		`,"AppArmorProfile":"docker-default","ProcessLabel":"u:r:t:s0","Mounts":[
		{"Type":"volume","Name":"`+strings.Repeat("0f", 32)+`","Source":"/var/lib/docker/volumes/x/_data","Destination":"/v","Driver":"local"},
		{"Type":"volume","Name":"far","Source":"/x","Destination":"/f","Driver":"nfs"}]`)
	im, spec := imported(t, document, Options{})
	want := []string{
		"AppArmorProfile: AppArmor profile docker-default (the engine loads it into the kernel, and a bundle cannot count on it)",
		"Config.Healthcheck: health check",
		"Config.New: the setting Config.New (not known here)",
		"Config.StopTimeout: stop timeout 3 s",
		"HostConfig.AutoRemove: automatic removal",
		"HostConfig.Binds[0]: volume named at /n (the document does not say where it is)",
		"HostConfig.BlkioDeviceReadBps[0]: block I/O limit of /dev/no-such-disk (this host has none)",
		"HostConfig.Cgroup: cgroup container:y",
		"HostConfig.CgroupParent: cgroup parent /x",
		"HostConfig.DeviceRequests[0]: device request nvidia",
		"HostConfig.Devices[0]: device /dev/no-such-device (this host has none)",
		"HostConfig.Dns: DNS server none (it is not an address)",
		"HostConfig.DnsOptions: DNS option x y (it is not one word)",
		"HostConfig.ExtraHosts: extra host gw:host-gateway (only an engine has a gateway)",
		"HostConfig.Init: init process (the command is the first process itself)",
		"HostConfig.KernelMemory: kernel memory limit 5 (runtimes ignore it)",
		"HostConfig.KernelMemoryTCP: kernel memory TCP limit 6 (runtimes ignore it)",
		"HostConfig.Links: links /a:/b",
		"HostConfig.LogConfig: log driver syslog",
		"HostConfig.Mounts[0]: image mount /i",
		"HostConfig.NetworkMode: network mode mynet (nothing connects a bundle to it)",
		"HostConfig.NewLimit: the setting HostConfig.NewLimit (not known here)",
		"HostConfig.PidMode: pid mode container:other (the bundle gets one of its own)",
		"HostConfig.PortBindings: published ports 80/tcp",
		"HostConfig.PublishAllPorts: published ports all",
		"HostConfig.Runtime: runtime kata",
		"HostConfig.SecurityOpt[0]: SELinux label option type:x (the rootfs is not labelled)",
		"HostConfig.SecurityOpt[1]: security option strange=1",
		"HostConfig.StorageOpt: storage options size",
		"HostConfig.UsernsMode: user namespace mode remap (ownership is remapped by the bundle's own mapping)",
		"HostConfig.VolumeDriver: volume driver nfs",
		"Mounts: anonymous volumes /v (they stay directories of the rootfs)",
		"Mounts[1]: volume far at /f (only its driver nfs can mount it)",
		"ProcessLabel: SELinux label u:r:t:s0 (the rootfs is not labelled)",
	}
	got := noticed(im)
	settled, _ := imported(t, document, Options{Network: true})
	if list := noticed(settled); len(list) != len(want)-1 || slices.ContainsFunc(list, func(n string) bool { return strings.Contains(n, "NetworkMode") }) {
		t.Errorf("with a network of the user's own: %q", list)
	}
	if !strings.HasPrefix(im.Warning(), "not taken over from docker inspect of a container: 34 settings: ") {
		t.Errorf("warning %q", im.Warning())
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("notices\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, m := range spec.Mounts {
		if slices.Contains([]string{"/v", "/f", "/n", "/i"}, m.Destination) {
			t.Errorf("mount %v", m)
		}
	}
}

// The engine's limits need control groups, which an ordinary user has none of.
func TestImageConfigRootless(t *testing.T) {
	document := ofContainer("", `"Memory":67108864,"NanoCpus":500000000,"PidsLimit":50,"CpusetCpus":"0","BlkioWeight":300,"DeviceCgroupRules":["c 42:* rwm"],
		"GroupAdd":["7"],"OomScoreAdj":-5`, "")
	_, spec := imported(t, document, Options{})
	if r := spec.Linux.Resources; *r.Memory.Limit != 64<<20 || *r.CPU.Quota != 50000 || *r.Pids.Limit != 50 || r.CPU.Cpus != "0" || *r.BlockIO.Weight != 300 {
		t.Errorf("root's limits %v", r)
	}
	im, err := Edits("l", []byte(document), Options{Rootless: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"memory limit 67108864", "CPU limit 50000", "pids limit 50", "CPU set 0", "block I/O weight 300", "device rule c 42:* rwm"} {
		if !strings.Contains(strings.Join(noticed(im), "\n"), want+" (an ordinary user's runtime has no control group to set it in)") {
			t.Errorf("no notice of %q: %q", want, noticed(im))
		}
	}
	for _, want := range []string{"group 7 (an ordinary user's runtime cannot set groups)", "OOM score adjustment -5 (an ordinary user cannot lower it)"} {
		if !strings.Contains(im.Warning(), want) {
			t.Errorf("no %q in %q", want, im.Warning())
		}
	}
	for _, e := range im.Edits {
		if strings.Contains(e.Label, "Groups") || strings.Contains(e.Label, "Oom") || strings.Contains(e.Label, "Memory") || strings.Contains(e.Label, "Pids") || strings.Contains(e.Label, "Rules") {
			t.Errorf("edit %q", e.Label)
		}
	}
}

// A device that was asked for by its CDI name is looked up here.
func TestImageConfigCDI(t *testing.T) {
	dir := t.TempDir()
	file := `{"cdiVersion":"0.5.0","kind":"vendor.com/gpu","devices":[{"name":"0","containerEdits":{"env":["GPU=0"]}}]}`
	if err := os.WriteFile(filepath.Join(dir, "vendor.json"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	document := ofContainer("", `"DeviceRequests":[{"Driver":"cdi","Count":0,"DeviceIDs":["vendor.com/gpu=0","vendor.com/gpu=1"],"Capabilities":null,"Options":null}]`, "")
	im, spec := imported(t, document, Options{CDIDirs: []string{dir}})
	if !slices.Contains(spec.Process.Env, "GPU=0") {
		t.Errorf("env %q", spec.Process.Env)
	}
	if want := `HostConfig.DeviceRequests[0]: CDI device vendor.com/gpu=1 (there is no CDI device "vendor.com/gpu=1" in ` + dir + ")"; !slices.Contains(noticed(im), want) {
		t.Errorf("notices %q", noticed(im))
	}
}

func FuzzImageConfig(f *testing.F) {
	for _, seed := range []string{
		"", "[]", "null", "[[{}]]", `{"Config":null,"HostConfig":null}`, `{"Config":{},"HostConfig":{},"Mounts":null}`,
		ofContainer(`"Env":["A","B=1"],"Entrypoint":"a b","StopSignal":15,"User":"a:b","Tty":true,"Labels":{"":"x"}`,
			`"Ulimits":[null,{"Name":"core","Soft":-1,"Hard":-1}],"BlkioWeightDevice":[null],"CapAdd":["ALL"],"CapDrop":["MKNOD"],"ConsoleSize":[1,2]`, ""),
		ofContainer("", `"Privileged":true,"IpcMode":"none","NetworkMode":"ns:/x","Tmpfs":{"/t":"size=1m"},"Binds":["/a:/b:ro,rslave"]`,
			`,"Mounts":[{"Type":"bind","Source":"/a","Destination":"/dev","Propagation":"rshared","Options":["rbind","Z"]}]`),
		`{"config":{"Cmd":["a"],"ExposedPorts":{"1/tcp":null},"Volumes":{"/v":{}},"Healthcheck":{"Test":["NONE"]}},"rootfs":{},"os":"linux","created":"2026-01-02T03:04:05Z"}`,
		`[{"Config":{"Env":null},"RootFS":{"Layers":[]},"Os":"linux","Architecture":"amd64","Created":""}]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		im, err := Edits("l", data, Options{})
		if err != nil {
			if _, ok := errors.AsType[*specedit.EditError](err); !ok {
				t.Fatalf("a %T, want an *EditError: %v", err, err)
			}
			return
		}
		for _, e := range im.Edits {
			if e.Label == "" || e.Label == "l" {
				t.Fatalf("edit without a label of its own: %q", e.Label)
			}
		}
		text, err := (&specedit.Plan{Template: specedit.TemplateDocker, Edits: im.Edits}).Build(anyUser{})
		if err != nil {
			if _, ok := errors.AsType[*specedit.EditError](err); !ok {
				t.Fatalf("a %T, want an *EditError: %v", err, err)
			}
			return
		}
		if im.Kind == DockerContainer || im.Kind == PodmanContainer {
			return
		}
		var spec specs.Spec
		if err := json.Unmarshal(text, &spec); err != nil {
			t.Fatal(err)
		}
		for _, m := range spec.Mounts {
			if m.Type == "bind" || slices.Contains(m.Options, "rbind") {
				t.Fatalf("an image's config mounts %v", m)
			}
		}
		if len(spec.Linux.Devices) > 0 || spec.Process.Cwd != "/" && specedit.ThroughProcess(spec.Process.Cwd) {
			t.Fatalf("an image's config gives %s", text)
		}
	})
}

// anyUser has every name, as root, and every id.
type anyUser struct{}

func (anyUser) User(spec string) (user.ExecUser, error) {
	name, group, _ := strings.Cut(spec, ":")
	uid, _ := strconv.Atoi(name)
	gid, _ := strconv.Atoi(group)
	return user.ExecUser{Uid: uid, Gid: gid}, nil
}

func (anyUser) Group(name string) (int, error) {
	gid, _ := strconv.Atoi(name)
	return gid, nil
}

// The binds of a container are told, for who looks.
func TestImageConfigBindsAreTold(t *testing.T) {
	im, err := Edits("l", []byte(ofContainer("", `"Binds":["/srv:/data:ro"]`, "")), Options{})
	if err != nil || !slices.Contains(im.Decisions, "/srv of the host is bound to /data") {
		t.Errorf("%v %q", err, im.Decisions)
	}
}

// An empty string in Env is none, as engines have it (moby/moby#22201).
func TestImageConfigEmptyVariable(t *testing.T) {
	_, spec := imported(t, ofContainer(`"Env":["","A=1",""]`, "", ""), Options{})
	if slices.Contains(spec.Process.Env, "") || !slices.Contains(spec.Process.Env, "A=1") {
		t.Errorf("%q", spec.Process.Env)
	}
}

// One directory that cannot be read costs a privileged container what is in it, and not
// all devices; what is not looked at costs nothing.
func TestImageConfigUnreadableDevices(t *testing.T) {
	dir := t.TempDir()
	for _, top := range []string{"shm", "far"} {
		// A path that is too long: not even root reads what is there.
		fd, err := unix.Open(dir, unix.O_DIRECTORY, 0)
		for _, name := range append([]string{top}, slices.Repeat([]string{strings.Repeat("d", 250)}, 20)...) {
			if err == nil {
				err = unix.Mkdirat(fd, name, 0o755)
			}
			var next int
			if err == nil {
				next, err = unix.Openat(fd, name, unix.O_DIRECTORY, 0)
			}
			unix.Close(fd)
			fd = next
		}
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
	}
	root := os.Geteuid() == 0
	if root {
		if err := unix.Mknod(filepath.Join(dir, "x"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
			t.Fatal(err)
		}
	}
	old := deviceDir
	deviceDir = dir
	t.Cleanup(func() { deviceDir = old })
	im, spec := imported(t, ofContainer("", `"Privileged":true`, ""), Options{})
	notices := noticed(im)
	if len(notices) != 1 || !strings.Contains(notices[0], "file name too long") || strings.Contains(notices[0], "shm") {
		t.Errorf("notices %q", notices)
	}
	if root && (len(spec.Linux.Devices) != 1 || spec.Linux.Devices[0].Path != "/dev/x") {
		t.Errorf("devices %v", spec.Linux.Devices)
	}
}
