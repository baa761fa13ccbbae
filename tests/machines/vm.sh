#!/bin/bash
# vm.sh ARCH SUITE [PACKAGE...]: a Debian of that name with the kernel that it has for clouds, under
# qemu, and in it inside.sh, over a reboot. ARCH is amd64 or arm64. Where there is no /dev/kvm,
# or none for ARCH, the processor is emulated: minutes. Prints what inside.sh says of each thing
# tried, and fails if any of them does. Root. KEEP=DIR keeps the machine before its first boot
# there, for a next run to take; the program and inside.sh are the present ones in any case.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
arch=$1 suite=$2
shift 2

work=$(mktemp -d "${TMPDIR:-/var/tmp}/vm.XXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
chmod 755 "$work"

packages=systemd-sysv,dbus-user-session,libpam-systemd,procps,runc,crun,uidmap,redis-tools,linux-image-cloud-$arch,initramfs-tools
for package in "$@"; do packages+=,$package; done

GOARCH=$arch CGO_ENABLED=0 go build -trimpath -o "$work/ocibundle" .

# machine DIR: a kernel, an initrd and a disk, which boots into inside.sh.
machine() {
    local root=$1/root
    tests/machines/debian.sh "$arch" "$suite" "$packages" "$1/root.tar"
    mkdir "$root"
    tar -C "$root" -xf "$1/root.tar" --xattrs --xattrs-include='*'
    rm "$1/root.tar"
    install -m 644 tests/testenv/redis-rootfs.sh "$root/root/redis-rootfs.sh"
    cat >"$root/etc/systemd/system/try.service" <<'UNIT'
[Unit]
After=multi-user.target
[Service]
Type=exec
ExecStart=/root/inside.sh
UNIT
    ln -s /etc/systemd/system/try.service "$root/etc/systemd/system/multi-user.target.wants/try.service"
    echo '/dev/vda / ext4 defaults 0 1' >"$root/etc/fstab"
    echo "$suite" >"$root/etc/hostname"
    cp "$root"/boot/vmlinuz-* "$1/kernel"
    cp "$root"/boot/initrd.img-* "$1/initrd"
    truncate -s 6G "$1/disk"
    mkfs.ext4 -q -d "$root" "$1/disk"
    rm -rf --one-file-system "$root"
}
if [ ! -e "${KEEP:-/nonexistent}/disk" ]; then
    machine "$work"
    [ -z "${KEEP-}" ] || { mkdir -p "$KEEP" && cp --sparse=always "$work"/{kernel,initrd,disk} "$KEEP"; }
else
    cp --sparse=always "$KEEP"/{kernel,initrd,disk} "$work"
fi
for file in "$work/ocibundle:/usr/local/bin/ocibundle" tests/machines/inside.sh:/root/inside.sh; do
    printf '%s\n' "rm ${file#*:}" "write ${file%%:*} ${file#*:}" "sif ${file#*:} mode 0100755" "sif ${file#*:} uid 0" "sif ${file#*:} gid 0"
done | debugfs -w "$work/disk" >/dev/null 2>&1

case $arch in
amd64) qemu=(qemu-system-x86_64 -M q35 -cpu max) console=ttyS0 ;;
arm64) qemu=(qemu-system-aarch64 -M virt -cpu cortex-a72) console=ttyAMA0 ;;
esac
if [ -w /dev/kvm ] && [ "$arch" = "$(dpkg --print-architecture)" ]; then
    qemu+=(-enable-kvm)
else
    qemu+=(-accel tcg,thread=multi)
fi

# boot: once, until it reboots or powers off.
boot() {
    timeout 40m "${qemu[@]}" -smp 2 -m 2G -display none -monitor none -serial stdio -no-reboot -nic none \
        -kernel "$work/kernel" -initrd "$work/initrd" -append "root=/dev/vda rw console=$console panic=-1 quiet" \
        -drive "file=$work/disk,if=virtio,format=raw,cache=unsafe" </dev/null | sed -u 's,\r,,' | tee -a "$work/console" |
        { grep --line-buffered -E '^(FACT|RESULT)' || true; }
}
boot
boot
if ! grep -qx DONE "$work/console" || grep -q '^RESULT FAILED' "$work/console"; then
    cat "$work/console" >&2
    exit 1
fi
