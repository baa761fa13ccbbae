package imageconfig

import (
	"slices"

	"ocibundle/specedit/jsontree"
)

// The members of Config and HostConfig, and what becomes of each. A member that is in
// neither table and has a value is named in a notice, so that no version of an engine
// is ahead of this page unseen; a test holds the tables against the API module.

type memberFate string

const (
	carried   memberFate = "becomes an edit or a notice"
	perRun    memberFate = "says how one run was attached, which is for who runs the bundle to say"
	buildTime memberFate = "concerns builds alone"
	bookwork  memberFate = "the engine's own records"
	otherOS   memberFate = "Windows alone"
)

var configMembers = map[string]memberFate{
	"Hostname": carried, "Domainname": carried, "User": carried, "Tty": carried, "Env": carried, "Cmd": carried,
	"Entrypoint": carried, "WorkingDir": carried, "Labels": carried, "StopSignal": carried, "ExposedPorts": carried,
	"Volumes": carried, "Healthcheck": carried, "StopTimeout": carried, "NetworkDisabled": carried,
	"AttachStdin": perRun, "AttachStdout": perRun, "AttachStderr": perRun, "OpenStdin": perRun, "StdinOnce": perRun,
	"OnBuild": buildTime, "Shell": buildTime,
	"Image": bookwork, "MacAddress": bookwork,
	"ArgsEscaped": otherOS,
	// podman
	"Annotations": carried, "Umask": carried, "Secrets": carried, "ChrootDirs": carried, "Timeout": carried, "SystemdMode": carried,
	"CreateCommand": carried, "HealthcheckOnFailureAction": bookwork, "HealthLogDestination": bookwork,
	"HealthMaxLogCount": bookwork, "HealthMaxLogSize": bookwork, "HealthcheckMaxLogCount": bookwork,
	"HealthcheckMaxLogSize": bookwork, "HealthcheckLogDestination": bookwork, "StartupHealthCheck": bookwork,
	"Passwd": bookwork, "sdNotifyMode": bookwork, "sdNotifySocket": bookwork,
}

var hostConfigMembers = map[string]memberFate{
	"Binds": carried, "LogConfig": carried, "NetworkMode": carried, "PortBindings": carried, "RestartPolicy": carried,
	"AutoRemove": carried, "VolumeDriver": carried, "ConsoleSize": carried, "Annotations": carried, "CapAdd": carried,
	"CapDrop": carried, "CgroupnsMode": carried, "Dns": carried, "DnsOptions": carried, "DnsSearch": carried,
	"ExtraHosts": carried, "GroupAdd": carried, "IpcMode": carried, "Cgroup": carried, "Links": carried,
	"OomScoreAdj": carried, "PidMode": carried, "Privileged": carried, "PublishAllPorts": carried, "ReadonlyRootfs": carried,
	"SecurityOpt": carried, "StorageOpt": carried, "Tmpfs": carried, "UTSMode": carried, "UsernsMode": carried,
	"ShmSize": carried, "Sysctls": carried, "Runtime": carried, "Umask": carried, "Mounts": carried, "MaskedPaths": carried,
	"ReadonlyPaths": carried, "Init": carried,
	"CpuShares": carried, "Memory": carried, "NanoCpus": carried, "CgroupParent": carried, "BlkioWeight": carried,
	"BlkioWeightDevice": carried, "BlkioDeviceReadBps": carried, "BlkioDeviceWriteBps": carried,
	"BlkioDeviceReadIOps": carried, "BlkioDeviceWriteIOps": carried, "CpuPeriod": carried, "CpuQuota": carried,
	"CpuRealtimePeriod": carried, "CpuRealtimeRuntime": carried, "CpusetCpus": carried, "CpusetMems": carried,
	"Devices": carried, "DeviceCgroupRules": carried, "DeviceRequests": carried, "MemoryReservation": carried,
	"MemorySwap": carried, "MemorySwappiness": carried, "OomKillDisable": carried, "PidsLimit": carried, "Ulimits": carried,
	"KernelMemory": carried, "KernelMemoryTCP": carried,
	// The engine has put their mounts into Mounts.
	"VolumesFrom":     bookwork,
	"ContainerIDFile": perRun,
	"Isolation":       otherOS, "CpuCount": otherOS, "CpuPercent": otherOS, "IOMaximumIOps": otherOS, "IOMaximumBandwidth": otherOS,
	// podman
	"CgroupMode": carried, "CgroupConf": carried, "IDMappings": carried, "DiskQuota": carried, "HostsFile": carried,
	"CgroupManager": bookwork, "Cgroups": bookwork, "AutoRemoveImage": bookwork,
}

// unknownMembers lists the members of an object that the table lacks and that say
// anything.
func unknownMembers(name string, n *jsontree.Node, known map[string]memberFate) []string {
	var unknown []string
	for _, key := range n.Keys {
		if _, ok := known[key]; !ok && !saysNothing(n.Obj[key]) {
			unknown = append(unknown, name+"."+key)
		}
	}
	slices.Sort(unknown)
	return unknown
}

// saysNothing tells the zero value of a type.
func saysNothing(n *jsontree.Node) bool {
	switch n.Kind {
	case jsontree.KindString:
		return n.Text == ""
	case jsontree.KindBool:
		return n.Text == "false"
	case jsontree.KindNumber:
		return jsontree.CanonicalNumber(n.Text) == "0"
	case jsontree.KindArray:
		return len(n.List) == 0
	case jsontree.KindObject:
		return len(n.Keys) == 0
	}
	return true
}
