#!/bin/bash
# machine.sh DIR PROGRAM REDIS-TAR boots a Debian with systemd in DIR/root, which it
# makes, has guest.sh try services there, and prints what that says. Root only; to be run
# in a mount namespace of its own: a machine wants control groups of version 2 alone.
set -euo pipefail
dir=$1 program=$2 redis=$3
root=$dir/root
here=$(dirname "$(readlink -f "$0")")
. /etc/os-release

mmdebstrap --quiet --variant=minbase --mode=root \
    --include=systemd-sysv,dbus-user-session,libpam-systemd,redis-tools,runc,crun,uidmap,procps \
    "${VERSION_CODENAME:-stable}" "$root"
cp "$program" "$root/usr/bin/ocibundle"
cp "$redis" "$root/srv/redis.tar"
cp "$here/guest.sh" "$root/srv/guest.sh"
printf '127.0.0.1\tlocalhost\n' >"$root/etc/hosts"
chroot "$root" useradd -m keeper
mkdir -p "$root/var/lib/systemd/linger"
touch "$root/var/lib/systemd/linger/keeper"
cat >"$root/etc/systemd/system/try.service" <<'TEXT'
[Unit]
After=multi-user.target

[Service]
Type=oneshot
ExecStart=/bin/bash /srv/guest.sh
TimeoutStartSec=infinity

[Install]
WantedBy=default.target
TEXT
systemctl --root="$root" --quiet enable try.service

# What systemd-nspawn expects of a machine that systemd runs.
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/systemd/inaccessible/dir
: >/run/systemd/inaccessible/reg
umount --recursive /sys/fs/cgroup
mount -t cgroup2 cgroup /sys/fs/cgroup
group=/sys/fs/cgroup/$(basename "$dir")
mkdir "$group"
leave() {
    local i
    echo $$ >/sys/fs/cgroup/cgroup.procs
    for i in $(seq 100); do
        ! find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || return 0
        sleep 0.1
    done
    return 1
}
trap leave EXIT
echo $$ >"$group/cgroup.procs"

# Runtimes use the keyring and, for devices, bpf(2). With --keep-unit a machine that
# reboots is status 133.
boot() {
    systemd-nspawn --quiet --register=no --keep-unit --machine "$(basename "$dir")" --directory "$root" --boot --private-network \
        --console=pipe --system-call-filter="@keyring bpf" --rlimit=RLIMIT_MEMLOCK=infinity </dev/null >>"$dir/console" 2>&1
}
status=0
boot || status=$?
if [ $status -ne 133 ]; then
    echo "WRONG: the machine ends with status $status, not 133 for a reboot"
    tail -n 50 "$dir/console"
else
    boot || { echo "WRONG: the machine ends with status $?"; tail -n 50 "$dir/console"; }
fi
cat "$root/result"
