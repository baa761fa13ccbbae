# redis-rootfs.sh DIR fills DIR with a small container filesystem in which the real
# redis-server runs: this machine's redis programs with the libraries they need, a
# user redis, and the usual files and directories of a Debian image. As root the
# owners are as in an image, otherwise everything is the caller's.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
umask 022
cd "$1"

mkdir -p -m 755 data dev etc run usr/bin usr/lib usr/lib64 usr/sbin var/lib
mkdir -m 555 proc sys
mkdir -m 700 root
mkdir -m 750 var/lib/redis
mkdir -m 1777 tmp
for name in bin lib lib64 sbin; do ln -s "usr/$name" "$name"; done
ln -s ../run var/run

cat >etc/passwd <<'TEXT'
root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
redis:x:999:999::/var/lib/redis:/usr/sbin/nologin
TEXT
cat >etc/group <<'TEXT'
root:x:0:
tty:x:5:
nogroup:x:65534:
redis:x:999:
TEXT
cat >etc/nsswitch.conf <<'TEXT'
passwd: files
group: files
hosts: files dns
TEXT
echo 'ID=debian' >etc/os-release
echo redis >etc/hostname
printf '127.0.0.1\tlocalhost\n' >etc/hosts

# redis-server is redis-check-rdb by another name. The package with the name
# redis-server would start a service on this machine.
server=$(readlink -f "$(command -v redis-server || command -v redis-check-rdb)")
cli=$(readlink -f "$(command -v redis-cli)")
cp "$server" usr/bin/redis-server
cp "$cli" usr/bin/redis-cli
libs=$(ldd "$server" "$cli")
for lib in $(grep -o '[[:blank:]]/[^ ]*' <<<"$libs" | sort -u); do
    # /lib is a link to usr/lib here, on the machine it may be a directory.
    to=usr/${lib#/usr/}
    mkdir -p "${to%/*}"
    cp -L "$lib" "$to"
done

# systemd-nspawn names this locale to what it starts, and redis wants it to be there.
if [ -d /usr/lib/locale/C.utf8 ]; then
    mkdir usr/lib/locale
    cp -r /usr/lib/locale/C.utf8 usr/lib/locale
fi

if [ "$(id -u)" -eq 0 ]; then chown 999:999 var/lib/redis; fi
