#!/bin/bash
# bare.sh SUITE [COMMAND]: a Debian of that name with nothing but git, make and the
# certificates of authorities in it, a fresh clone of this repository's HEAD, and in it
# COMMAND, `make demo` by default: what the README says of a bare machine. Root, mmdebstrap.
set -euo pipefail

if [ "${1-}" = --enter ]; then
    # The root is a mount, and not merely changed to: else the kernel allows no user namespaces.
    root=$2
    mount --bind "$root" "$root"
    mount --rbind /dev "$root/dev"
    mount --rbind /sys "$root/sys"
    mount -t proc proc "$root/proc"
    mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
    cd "$root"
    pivot_root . mnt
    umount -l /mnt
    exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
        bash -c "cd /root && git clone -q /root/origin ocibundle && cd ocibundle && set -x && $3"
fi

suite=$1
repository=$(git -C "$(dirname "$(readlink -f "$0")")" rev-parse --show-toplevel)
root=$(mktemp -d "${TMPDIR:-/var/tmp}/bare.XXXX")
trap 'rm -rf --one-file-system "$root"' EXIT
mmdebstrap --quiet --variant=minbase --include=ca-certificates,git,make "$suite" "$root"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
# A network that looks into TLS has an authority of its own, which this machine trusts.
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
git clone -q --bare "$repository" "$root/root/origin"
unshare --mount --propagation private --pid --fork --kill-child \
    "$0" --enter "$root" "${2:-make demo}"
