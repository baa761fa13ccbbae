#!/bin/bash
# debian.sh ARCH SUITE PACKAGES FILE: a Debian as a tar file, packages and all, also for another
# processor than this machine's: then in a user namespace of its own, whose interpreter for
# programs of that processor is seen by nobody else (binfmt_misc, Linux 6.7). Root.
set -euo pipefail
arch=$1 suite=$2 packages=$3 file=$4

if [ "${5-}" = --foreign ]; then
    read -r _ # until the maps are written
    mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
    elf='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    printf '%s' ":qemu-aarch64:M::$elf:$mask:/usr/bin/qemu-aarch64-static:F" >/proc/sys/fs/binfmt_misc/register
    exec mmdebstrap --quiet --mode=root --skip=check/qemu --variant=minbase --architectures="$arch" --include="$packages" "$suite" "$file"
fi

if [ "$arch" = "$(dpkg --print-architecture)" ]; then
    exec mmdebstrap --quiet --variant=minbase --include="$packages" "$suite" "$file"
fi
[ "$arch" = arm64 ] || { echo "debian.sh: no interpreter for $arch" >&2; exit 1; }
fifo=$(mktemp -u)
mkfifo "$fifo"
: >"$file"
unshare --user --mount --pid --fork --kill-child --mount-proc "$0" "$@" --foreign <"$fifo" &
exec 3>"$fifo"
rm "$fifo"
for _ in {1..100}; do [ "$(readlink "/proc/$!/ns/user")" = "$(readlink /proc/self/ns/user)" ] || break; sleep 0.05; done
# The same ids inside as outside, so that root can write what the tar file needs.
for map in uid_map gid_map; do echo "0 0 65536" >"/proc/$!/$map"; done
echo >&3
exec 3>&-
wait $!
