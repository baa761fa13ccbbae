package specedit

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/semver"

	"ocibundle/specedit/jsontree"
)

// features is what the specification gained after 1.0.0, by the release that has it first. A
// pattern is a pointer in which "*" stands for any index or name; a pattern that ends in "=VALUE"
// is the use of that value.
//
// Source: the members of specs-go/config.go, and the values of its constants and of
// schema/defs-linux.json, in the released modules v1.0.0, v1.0.1, v1.0.2, v1.1.0, v1.2.0, v1.2.1
// and v1.3.0 of github.com/opencontainers/runtime-spec, and its ChangeLog for what is in prose only
// (the mount options of 1.2.0). 1.0.1 added nothing. What has been valid since 1.0.0 in prose,
// schema or practice though its Go constant came later (the namespace types,
// SECCOMP_FILTER_FLAG_TSYNC) is not listed.
var features = []struct {
	version  string
	patterns []string
}{
	{"1.0.2", []string{
		"/hooks/createContainer", "/hooks/createRuntime", "/hooks/startContainer",
		"/linux/intelRdt/closID", "/linux/intelRdt/memBwSchema",
		"/linux/personality",
		"/linux/resources/memory/useHierarchy",
		"/linux/resources/rdma",
		"/linux/seccomp/flags",
		"/linux/seccomp/defaultAction=SCMP_ACT_LOG", "/linux/seccomp/syscalls/*/action=SCMP_ACT_LOG",
		"/process/commandLine",
		"/process/user/umask",
		"/vm",
	}},
	{"1.1.0", []string{
		"/domainname",
		"/linux/intelRdt/enableCMT", "/linux/intelRdt/enableMBM",
		"/linux/resources/cpu/burst", "/linux/resources/cpu/idle",
		"/linux/resources/memory/checkBeforeUpdate",
		"/linux/resources/unified",
		"/linux/namespaces/*/type=time", "/linux/timeOffsets",
		"/linux/seccomp/defaultErrnoRet", "/linux/seccomp/syscalls/*/errnoRet",
		"/linux/seccomp/listenerMetadata", "/linux/seccomp/listenerPath",
		"/linux/seccomp/defaultAction=SCMP_ACT_KILL_PROCESS", "/linux/seccomp/syscalls/*/action=SCMP_ACT_KILL_PROCESS",
		"/linux/seccomp/defaultAction=SCMP_ACT_KILL_THREAD", "/linux/seccomp/syscalls/*/action=SCMP_ACT_KILL_THREAD",
		"/linux/seccomp/syscalls/*/action=SCMP_ACT_NOTIFY",
		"/linux/seccomp/flags/*=SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
		"/linux/seccomp/architectures/*=SCMP_ARCH_RISCV64",
		"/mounts/*/uidMappings", "/mounts/*/gidMappings",
		"/process/ioPriority", "/process/scheduler",
		"/zos",
	}},
	{"1.2.0", []string{
		"/mounts/*/options/*=idmap", "/mounts/*/options/*=ridmap",
	}},
	{"1.2.1", []string{
		"/process/execCPUAffinity",
		"/linux/seccomp/architectures/*=SCMP_ARCH_LOONGARCH64", "/linux/seccomp/architectures/*=SCMP_ARCH_M68K",
		"/linux/seccomp/architectures/*=SCMP_ARCH_SH", "/linux/seccomp/architectures/*=SCMP_ARCH_SHEB",
	}},
	{"1.3.0", []string{
		"/freebsd",
		"/linux/intelRdt/enableMonitoring", "/linux/intelRdt/schemata",
		"/linux/memoryPolicy",
		"/linux/netDevices",
		"/vm/hwconfig",
	}},
}

// baseVersion is the release that every config without a newer feature is marked with: crun 1.8
// refuses 1.2.0 and later, systemd-nspawn takes no other.
const baseVersion = "1.0.0"

// versionNeeded is the lowest release of the specification that has every feature the document
// uses. What is in skip does not count.
func versionNeeded(root *jsontree.Node, skip ...*jsontree.Node) string {
	for _, f := range slices.Backward(features) {
		for _, p := range f.patterns {
			path, value, valued := strings.Cut(p, "=")
			if uses(root, skip, strings.Split(path[1:], "/"), value, valued) {
				return f.version
			}
		}
	}
	return baseVersion
}

func uses(n *jsontree.Node, skip []*jsontree.Node, path []string, value string, valued bool) bool {
	if n == nil || slices.Contains(skip, n) {
		return false
	}
	if len(path) == 0 {
		return !valued || n.Kind == jsontree.KindString && n.Text == value
	}
	if path[0] != "*" {
		return uses(n.Member(path[0]), skip, path[1:], value, valued)
	}
	for _, e := range n.List {
		if uses(e, skip, path[1:], value, valued) {
			return true
		}
	}
	for _, e := range n.Obj {
		if uses(e, skip, path[1:], value, valued) {
			return true
		}
	}
	return false
}

// checkVersion demands a SemVer 2.0 version, as ociVersion has to be one.
func checkVersion(s string) error {
	v := "v" + s
	if semver.Canonical(v)+semver.Build(v) != v {
		return fmt.Errorf("%q is not a version: write it as 1.0.0", s)
	}
	return nil
}

// older reports whether version a comes before b. A pre-release comes before its release:
// 1.0.2-dev, which Debian's runc writes, is older than 1.0.2. What is not a version is older than none.
func older(a, b string) bool {
	return checkVersion(a) == nil && semver.Compare("v"+a, "v"+b) < 0
}

// preRelease reports whether have is a pre-release of the very release that is needed: 1.1.0-rc.2 or
// 1.0.2-dev is what a runtime wrote that was on its way there.
func preRelease(have, needed string) bool {
	v := semver.Canonical("v" + have)
	suffix := semver.Prerelease(v)
	return suffix != "" && v == "v"+needed+suffix
}
