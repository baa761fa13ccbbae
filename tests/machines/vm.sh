#!/bin/bash
# vm.sh ARCH SUITE [PACKAGE...]: a Debian of that name with the kernel that it has for clouds, under
# qemu, and in it inside.sh, over a reboot. ARCH is amd64 or arm64. Where there is no /dev/kvm,
# or none for ARCH, the processor is emulated: minutes. Prints what inside.sh says of each thing
# tried, and fails if any of them does. Root.
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

cat >"$work/try.service" <<'UNIT'
[Unit]
After=multi-user.target
[Service]
Type=exec
ExecStart=/root/inside.sh
[Install]
WantedBy=graphical.target
UNIT

tests/machines/debian.sh "$arch" "$suite" "$packages" "$work/root.tar"
mkdir "$work/root"
tar -C "$work/root" -xf "$work/root.tar" --xattrs --xattrs-include='*'
rm "$work/root.tar"
install -m 755 "$work/ocibundle" "$work/root/usr/local/bin/ocibundle"
install -m 755 tests/machines/inside.sh "$work/root/root/inside.sh"
install -m 644 tests/testenv/redis-rootfs.sh "$work/root/root/redis-rootfs.sh"
install -m 644 "$work/try.service" "$work/root/etc/systemd/system/try.service"
ln -s /etc/systemd/system/try.service "$work/root/etc/systemd/system/multi-user.target.wants/try.service"
echo '/dev/vda / ext4 defaults 0 1' >"$work/root/etc/fstab"
echo "$suite" >"$work/root/etc/hostname"
cp "$work"/root/boot/vmlinuz-* "$work/kernel"
cp "$work"/root/boot/initrd.img-* "$work/initrd"
truncate -s 6G "$work/disk"
mkfs.ext4 -q -d "$work/root" "$work/disk"
rm -rf --one-file-system "$work/root"

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
