# Sourced by run.sh and compare.sh, with the name that their user begins with in $user: a
# directory $work and the user $user with subordinate ids, $uid, $gid. Both are gone at the end, and
# the engine $engine (its unshare) with what podman leaves: a process that holds its namespace, mounts.
user=$user$$
work=$(mktemp -d "${TMPDIR:-/var/tmp}/matrix.XXXX")
chmod 755 "$work"
engine=
cleanup() {
    set +e
    [ -z "$engine" ] || { kill -KILL $(cat "/proc/$engine/task/$engine/children"); wait "$engine"; } 2>/dev/null
    kill -KILL $(pgrep -u "$user") 2>/dev/null
    for _ in {1..50}; do if userdel "$user" 2>/dev/null; then break; fi; sleep 0.1; done
    umount "$work"/*/storage/overlay "$work"/*/storage/vfs 2>/dev/null
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

useradd --home-dir "$work/user" --create-home --shell /bin/sh "$user"
grep -q "^$user:" /etc/subuid || usermod --add-subuids 700000-765535 --add-subgids 700000-765535 "$user"
uid=$(id -u "$user") gid=$(id -g "$user")
mkdir -m 755 "$work/root"
CGO_ENABLED=0 go build -trimpath -o "$work/ocibundle" .
