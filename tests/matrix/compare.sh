#!/bin/bash
# compare.sh: the same container by several ways into a running bundle, what of it arrives, and
# what a cut stream does; writes docs/comparison.md. Exit 1 where the page was another one
# before: something changed, and the page has it now. Root.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
tests/setup.sh busybox ctr docker dockerd getfattr jq newuidmap podman runc setcap setpriv skopeo umoci unshare useradd

page=docs/comparison.md
user=obcompare
. tests/matrix/common.sh
who=root
as() {
    if [ $who = root ]; then
        env -u DOCKER_CONFIG -u DOCKER_HOST HOME="$work/root" "$@"
    else
        setpriv --reuid "$uid" --regid "$gid" --clear-groups env -i PATH="$PATH" HOME="$work/user" XDG_RUNTIME_DIR="$work/user" "$@"
    fi
}

# The container: files of the user 999, a program with a capability, an environment, a user.
image=$work/image
mkdir -p "$image"/{bin,dev,etc,proc,sys,tmp,data,run,cap}
cp "$(type -P busybox)" "$image/bin/busybox"
for name in sh stat id grep echo; do ln -s busybox "$image/bin/$name"; done
cp "$image/bin/busybox" "$image/cap/grep"
echo secret >"$image/data/f"
chown -R 999:999 "$image/data"
setcap cap_net_bind_service+ep "$image/cap/grep"
cat >"$image/facts" <<'SH'
#!/bin/sh
echo owner=$(stat -c %u /data/f) env=$GREETING user=$(id -u) $(/cap/grep CapEff: /proc/self/status)
SH
chmod 755 "$image/facts"

mkdir "$work/engine"
unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
    bash tests/testenv/engine.sh "$work/engine" docker "$user" >"$work/engine/log" 2>&1 &
engine=$!
export DOCKER_HOST=unix://$work/engine/docker.sock DOCKER_CONFIG=$work/engine/client
for _ in {1..300}; do if docker version >/dev/null 2>&1; then break; fi; sleep 0.2; done
inside() { nsenter --target "$(cut -d ' ' -f 1 "/proc/$engine/task/$engine/children")" --mount --pid --wd=/ -- "$@"; }
tar -C "$image" --xattrs --xattrs-include='*' -c . | docker import -c 'CMD ["/facts"]' -c 'ENV GREETING=hello' -c 'USER 999:999' - app >/dev/null
docker create --name app --network none app >/dev/null
docker export app >"$work/export.tar"
docker save app >"$work/save.tar"
docker inspect app >"$work/inspect.json"
# A cut between two entries: every second of them is gone.
half=$(tar -tRf "$work/export.tar" | sed -n 's/^block \([0-9]*\): .*/\1/p' | awk '{ at[NR] = $1 } END { print at[int(NR / 2)] }')
head -c $((half * 512)) "$work/export.tar" >"$work/export-cut.tar"
half=$(tar -tRf "$work/save.tar" | sed -n 's/^block \([0-9]*\): .*/\1/p' | awk '{ at[NR] = $1 } END { print at[int(NR / 2) + 1] }')
head -c $((half * 512)) "$work/save.tar" >"$work/save-cut.tar"
chmod 644 "$work"/*.tar "$work/inspect.json"

# make_TOOL SUFFIX DIR: as the words of the page say.
make_tar() {
    as mkdir -p "$2/rootfs" && as tar -C "$2/rootfs" -xf "$work/export$1.tar" && (cd "$2" && as runc spec $([ $who = root ] || echo --rootless)) &&
        as sh -c 'jq ".process.terminal = false | .process.args = [\"/facts\"]" "$1/config.json" >"$1/new" && mv "$1/new" "$1/config.json"' sh "$2"
}
make_umoci() {
    as skopeo copy --quiet --insecure-policy "docker-archive:$work/save$1.tar" "oci:$2.oci:latest" &&
        as umoci unpack $([ $who = root ] || echo --rootless) --image "$2.oci:latest" "$2" &&
        as sh -c 'jq ".process.terminal = false" "$1/config.json" >"$1/new" && mv "$1/new" "$1/config.json"' sh "$2"
}
make_ocibundle() { as "$work/ocibundle" -q -i "$work/export$1.tar" -o "$2" --image-config "$work/inspect.json"; }
make_podman() { podman import -c 'CMD ["/facts"]' "$work/export$1.tar" "localhost/app$1:latest"; }
make_ctr() { inside ctr --address "$work/engine/containerd.sock" images import "$work/save$1.tar"; }
podman() {
    as podman --root "$work/$who/storage" --runroot "$work/$who/run" --cgroup-manager=cgroupfs --events-backend=none \
        --storage-driver vfs --runtime "$(type -P runc)" "$@"
}

# start_TOOL DIR: the container's own command.
start_bundle() { as runc --root "$work/$who/state" run --bundle "$1" "compare$$"; }
start_tar() { start_bundle "$@"; }
start_umoci() { start_bundle "$@"; }
start_ocibundle() { start_bundle "$@"; }
start_podman() { podman run --rm --network host --ulimit nofile=1024:1024 localhost/app:latest; }
start_ctr() {
    local name
    name=$(inside ctr --address "$work/engine/containerd.sock" images ls -q | head -n 1)
    inside ctr --address "$work/engine/containerd.sock" run --rm --allow-new-privs "$name" "compare$$"
}

# fact WANTED TEXT: yes or no.
fact() { if grep -q "$1" <<<"$2"; then echo yes; else echo no; fi; }

row() { # TOOL TITLE
    local said capability status=0 dir=$work/$who/$1 cut left caps
    said=$("make_$1" "" "$dir" 2>&1 && "start_$1" "$dir" 2>&1) || status=$?
    if [ $status -ne 0 ] && ! grep -q owner= <<<"$said"; then
        echo "compare: $2, $who: $said" >&2
    fi
    # Where there is a tree, the attribute itself is looked for; else a process of that user has it or not.
    if [ "$1" = podman ]; then capability=$(podman run --rm --network host --user 999 --ulimit nofile=1024:1024 localhost/app:latest 2>&1) || true; else capability=$said; fi
    if [ -d "$dir/rootfs" ]; then
        caps=$(if getfattr --absolute-names -n security.capability "$dir/rootfs/cap/grep" >/dev/null 2>&1; then echo yes; else echo no; fi)
    else
        caps=$(fact 'CapEff: 0000000000000400' "$capability")
    fi
    cut=0
    "make_$1" -cut "$dir-cut" >/dev/null 2>&1 || cut=$?
    left=nothing
    if [ -e "$dir-cut" ] || [ -e "$dir-cut.oci" ]; then left="part of it"; fi
    printf '| %s | %s | %s | %s | %s | %s | %s | exit %s, %s |\n' "$2" $who "$(fact owner= "$said")" "$(fact owner=999 "$said")" \
        "$caps" "$(fact env=hello "$said")" "$(fact user=999 "$said")" "$cut" "$left"
}

version() { "$@" --version | grep -o '[0-9][0-9]*\.[0-9][0-9.]*' | head -n 1; }
{
    cat <<'TEXT'
# Compared with other ways

The same container, a small one, goes the ways that people go to a container without Docker. `make matrix` does that and writes this page.
The container has files of the user 999, a program with a file capability, an environment and a user. What is asked: does its command run;
do the files have their owner in the container; is the capability there; are environment and user those of the container; and what does a
stream do that was cut between two entries, as when `docker export` dies.

| way | by | runs | owners | capabilities | environment | user | a cut stream: status, what is left |
|---|---|---|---|---|---|---|---|
TEXT
    for who in root user; do
        row tar "tar $(version tar), \`runc spec\`"
        row umoci "umoci $(version umoci)"
        row podman "podman $(version /usr/bin/podman)"
        [ $who = user ] || row ctr "ctr $(version containerd)"
        row ocibundle ocibundle
    done
    cat <<'TEXT'

The commands, where `export.tar` is `docker export`, `save.tar` is `docker save` and `inspect.json` is `docker inspect`; the others have no use for
what they do not name:

| way | commands |
|---|---|
| tar | `mkdir -p app/rootfs`, `tar -C app/rootfs -xf export.tar`, `cd app; runc spec` (`--rootless`), an edit by hand of command and terminal, `runc run` |
| umoci | `skopeo copy docker-archive:save.tar oci:app.oci:latest`, `umoci unpack --image app.oci:latest app` (`--rootless`), an edit by hand of the terminal, `runc run` |
| podman | `podman import -c 'CMD [...]' export.tar app`, `podman run app`: its own storage, and no bundle that is left |
| ctr | `ctr images import save.tar`, `ctr run --allow-new-privs`: root's daemon and its storage, and no bundle that is left |
| ocibundle | `ocibundle -i export.tar -o app --image-config inspect.json`, `runc run` |

What the table does not show: tar takes `--xattrs --xattrs-include='*'` to keep capabilities, and then the names in the stream are
trusted as far as tar trusts them. umoci keeps layers apart and makes new images of changes, which `ocibundle` does not. podman and ctr fetch images,
connect networks and share storage between images. For root podman raises RLIMIT_NPROC: a root without CAP_SYS_RESOURCE, as in many
containers, may not, and then nothing runs.

enroot (NVIDIA's, for clusters) was not tried: Debian has no package of it.
TEXT
} >"$work/page"

if cmp -s "$work/page" "$page"; then exit 0; fi
diff "$page" "$work/page" || true
cat "$work/page" >"$page"
echo "compare: $page was another one, and is this one now" >&2
exit 1
