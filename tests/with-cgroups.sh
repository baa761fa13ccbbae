#!/bin/bash
# with-cgroups.sh COMMAND...: runs it, and where no control groups are mounted, as on a
# machine without an init system, as root in a mount namespace that has them.
set -euo pipefail

if [ "${1-}" = --mounted ]; then
    shift
    # A controller with a hierarchy other than 0 belongs to version 1.
    if awk '!/^#/ && $2 != 0 { found = 1 } END { exit !found }' /proc/cgroups; then
        mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
        for controller in $(awk '!/^#/ && $4 == 1 { print $1 }' /proc/cgroups); do
            mkdir "/sys/fs/cgroup/$controller"
            mount -t cgroup -o "$controller" cgroup "/sys/fs/cgroup/$controller" 2>/dev/null ||
                rmdir "/sys/fs/cgroup/$controller"
        done
    else
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
    fi
elif [ "$(id -u)" -eq 0 ] && ! grep -q ' /sys/fs/cgroup' /proc/self/mountinfo; then
    exec unshare --mount --propagation private bash "$0" --mounted "$@"
fi
exec "$@"
