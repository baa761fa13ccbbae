#!/bin/bash
# run.sh: starts a bundle with every runtime that can be had, as root and as a user, and writes
# docs/runtimes.md. Exit 1 where the page was another one before: something changed, and the page
# has it now. Root; minutes, for the newest runc is built.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
TOOLS=tests/matrix/tools.txt tests/setup.sh

runc_version=v1.5.3
page=docs/runtimes.md
user=obmatrix
. tests/matrix/common.sh

# as WHO COMMAND...
as() {
    local who=$1
    shift
    if [ "$who" = root ]; then
        env HOME="$work/root" "$@"
    else
        setpriv --reuid "$uid" --regid "$gid" --clear-groups env -i PATH="$PATH" HOME="$work/user" XDG_RUNTIME_DIR="$work/user" "$@"
    fi
}

(
    # -buildvcs: the module is not a checkout
    mkdir "$work/bin" "$work/build"
    cd "$work/build"
    GOBIN=$work/bin GOFLAGS=-buildvcs=false CGO_ENABLED=1 go install -tags seccomp "github.com/opencontainers/runc@$runc_version"
) >"$work/build.log" 2>&1 || { cat "$work/build.log" >&2; exit 1; }

# A container's filesystem: a shell, and files of another owner.
image=$work/image
mkdir -p "$image"/{bin,dev,etc,proc,sys,tmp,data,run,root,usr}
cp "$(command -v busybox)" "$image/bin/busybox"
for name in sh grep sleep id; do ln -s busybox "$image/bin/$name"; done
echo 'root:x:0:0::/root:/bin/sh' >"$image/etc/passwd"
chown 999:999 "$image/data"
tar -C "$image" -cf "$work/image.tar" .

mkdir "$work/engine"
unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
    bash tests/testenv/engine.sh "$work/engine" containerd "$user" >"$work/engine/log" 2>&1 &
engine=$!
inside() { nsenter --target "$(cut -d ' ' -f 1 "/proc/$engine/task/$engine/children")" --mount --pid --wd=/ -- "$@"; }
ctr() { inside ctr --address "$work/engine/containerd.sock" "$@"; }
for _ in {1..300}; do if ctr version >/dev/null 2>&1; then break; fi; sleep 0.2; done

# crun refuses a machine that has both versions of control groups mounted.
crun() {
    local who=$1 script='! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified || exit 1; exec "$@"'
    shift
    if [ "$who" = root ]; then set -- env HOME="$work/root" crun "$@"; else
        set -- setpriv --reuid "$uid" --regid "$gid" --clear-groups env -i PATH="$PATH" HOME="$work/user" XDG_RUNTIME_DIR="$work/user" crun "$@"
    fi
    unshare --mount --propagation private sh -c "$script" sh "$@"
}

# nspawn wants to be among systemd's: a /run in memory with what masked paths are covered with,
# and one version of control groups, in one of which it is.
nspawn() {
    unshare --mount --propagation private bash -c '
        group=/sys/fs/cgroup/$1
        shift
        mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/inaccessible/dir && : >/run/systemd/inaccessible/reg &&
            umount --recursive /sys/fs/cgroup && mount -t cgroup2 cgroup /sys/fs/cgroup && mkdir -p "$group" &&
            echo $$ >"$group/cgroup.procs" && "$@"
        status=$?
        echo $$ >/sys/fs/cgroup/cgroup.procs
        find "$group" -depth -type d -exec rmdir {} +
        umount /sys/fs/cgroup && mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup && { [ ! -e "$group" ] || find "$group" -depth -type d -exec rmdir {} +; }
        exit $status' bash "$user" systemd-nspawn --quiet --register=no --keep-unit "$@"
}

# run RUNTIME WHO DIR ID: the bundle in the foreground.
run() {
    case $1 in
    runc) as "$2" runc --root "$work/$2/state" run --bundle "$3" "$4" ;;
    newrunc) as "$2" "$work/bin/runc" --root "$work/$2/state" run --bundle "$3" "$4" ;;
    runsc) as "$2" runsc --root "$work/$2/runsc" $([ "$2" = root ] || echo --rootless) --network=host run --bundle "$3" "$4" ;;
    crun) crun "$2" --root "$work/$2/crun" run --bundle "$3" "$4" ;;
    ctr) ctr run --rm --config "$3/config.json" "$4" ;;
    podman) as "$2" podman --root "$work/$2/storage" --runroot "$work/$2/run" --cgroup-manager=cgroupfs --events-backend=none --runtime "$(type -P runc)" \
        run --rm --name "$4" --network host --ulimit nofile=1024:1024 $podman_limits --rootfs "$3/rootfs" /bin/sh -c "$script" ;;
    nspawn) nspawn --machine "$4" --oci-bundle "$3" ;;
    bwrap) as "$2" bwrap $([ "$2" = root ] || echo --unshare-user --uid 0 --gid 0) --bind "$3/rootfs" / --proc /proc --dev /dev --unshare-pid /bin/sh -c "$script" ;;
    esac
}

# detached RUNTIME WHO DIR ID: started, seen running, killed and gone.
detached() {
    local cmd
    case $1 in
    runc) cmd=(as "$2" runc --root "$work/$2/state") ;;
    newrunc) cmd=(as "$2" "$work/bin/runc" --root "$work/$2/state") ;;
    runsc) cmd=(as "$2" runsc --root "$work/$2/runsc" $([ "$2" = root ] || echo --rootless) --network=host) ;;
    crun) cmd=(crun "$2" --root "$work/$2/crun") ;;
    ctr)
        ctr run --detach --config "$3/config.json" "$4" && ctr task ls | grep -q "$4 .*RUNNING" && ctr task kill -s KILL "$4" &&
            { ctr task delete "$4" || true; } && ctr container delete "$4"
        return
        ;;
    *) echo "not by itself" && return 1 ;;
    esac
    "${cmd[@]}" run --detach --bundle "$3" "$4" && "${cmd[@]}" state "$4" | grep -q '"running"' || return 1
    "${cmd[@]}" kill "$4" KILL
    for _ in {1..50}; do if "${cmd[@]}" delete "$4" 2>/dev/null; then return; fi; sleep 0.1; done
    "${cmd[@]}" delete --force "$4"
}

declare -A flags=([ctr]="--absolute-root" [nspawn]="--set /linux/resources={} --security-opt seccomp=unconfined --resolv none")
declare -A scripts=(
    [plain]='echo ran as $(id -u)'
    [limits]='i=0; while [ $i -lt 20 ]; do sleep 1 & i=$((i + 1)); done; echo no limit'
    [seccomp]='grep Seccomp: /proc/self/status'
    [detached]='sleep 60'
)
declare -A wanted=([plain]='ran as 0' [limits]='t fork' [seccomp]='Seccomp:[[:space:]]*2')

# cell RUNTIME WHO KIND: prints yes, or what the runtime says.
cell() {
    local dir=$work/$2/bundle id="ob$$-$1-$2-$3" more=() said status=0
    script=${scripts[$3]}
    podman_limits=
    [ "$3" != limits ] || more=(--pids-limit 10) podman_limits="--pids-limit 10"
    as "$2" "$work/ocibundle" -q -f -i "$work/image.tar" -o "$dir" --net host ${flags[$1]-} "${more[@]}" -- /bin/sh -c "$script" || { echo "no bundle"; return; }
    if [ "$3" = detached ]; then
        said=$(detached "$1" "$2" "$dir" "$id" </dev/null 2>&1) || status=$?
    else
        said=$(run "$1" "$2" "$dir" "$id" </dev/null 2>&1) || true
        grep -q "${wanted[$3]}" <<<"$said" || status=1
    fi
    if [ $status -eq 0 ]; then echo yes; else
        said=$(grep -v '^$' <<<"$said" | tail -n 1 | sed -e "s|$work|...|g; s|$id|ID|g; s/.* process: //; s/time=[^ ]* level=[^ ]* msg=//; s/|/\\\\|/g; s/\"//g; s/[0-9]\{4\}[-\/][0-9:T \/-]*//; s/$user/USER/g")
        if [ "$3" = seccomp ] && [[ $said = Seccomp* ]]; then said="no filter"; fi
        if [ "$3" = limits ] && [[ $said = "no limit" ]]; then said="not applied, in silence"; fi
        said=${said:-it does not start}
        echo "no: ${said:0:160}"
    fi
    as "$2" "$work/ocibundle" rm -f "$dir" || true
}

version() { "$@" --version 2>/dev/null | grep -o '[0-9][0-9]*\.[0-9][0-9.]*' | head -n 1; }
names=(runc newrunc crun ctr podman nspawn bwrap)
declare -A titles=([runc]="runc $(version runc)" [newrunc]="runc $(version "$work/bin/runc")" [crun]="crun $(version env crun)"
    [ctr]="ctr $(version containerd)" [podman]="podman $(version podman) \`--rootfs\`" [nspawn]="systemd-nspawn $(systemd-nspawn --version | sed -n '1s/systemd \([0-9]*\).*/\1/p')"
    [bwrap]="bwrap $(version bwrap)")
! command -v runsc >/dev/null || { names+=(runsc); titles[runsc]="runsc $(version runsc)"; }

{
    cat <<'TEXT'
# Runtimes

What starts a bundle, tried by `make matrix`, which writes this page. The bundle is what `ocibundle -o DIR --net host -- COMMAND` makes, with the
flags under "needs", by root and by an ordinary user who has subordinate ids. *plain* is a command that prints something; *limits* `--pids-limit`,
which has to bite; *seccomp* that system calls are filtered; *detached* that it is started, seen running, killed and removed.

TEXT
    . /etc/os-release
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then groups="of version 2"; else groups="of version 1, which nobody delegates to a user"; fi
    echo "Tried on $PRETTY_NAME with control groups $groups; [machines](machines.md) has version 2."
    echo
    echo "| runtime | by | plain | limits | seccomp | detached |"
    echo "|---|---|---|---|---|---|"
    for name in "${names[@]}"; do
        for who in root user; do
            case $name$who in ctruser | nspawnuser) continue ;; esac # theirs is the system's daemon, and root's program
            printf '| %s | %s |' "${titles[$name]}" "$who"
            for kind in plain limits seccomp detached; do printf ' %s |' "$(cell $name $who $kind)"; done
            echo
        done
    done
    command -v runsc >/dev/null || printf '\ngVisor'"'"'s runsc is tried where PATH has it; here it had not.\n'
    cat <<'TEXT'

| runtime | needs |
|---|---|
| runc, crun | nothing. For a user a directory for its state: `--root DIR`, or XDG_RUNTIME_DIR. Limits for a user take a control group of its own, which systemd gives: `runc --systemd-cgroup` under version 2. crun refuses a machine that has both versions mounted |
| ctr | `--absolute-root`: it looks for a relative path in its own directory |
| podman `--rootfs` | nothing of the bundle but `rootfs`: config.json is not read, so command, limits and mounts are podman's to say. For root it raises RLIMIT_NPROC, which a root without CAP_SYS_RESOURCE, as on the machine above, may not |
| systemd-nspawn | `--set /linux/resources={} --security-opt seccomp=unconfined --resolv none`: it takes no limits and no `errnoRet` of a profile, and brings files of its own to resolve names with |
| bwrap | nothing of the bundle but `rootfs`: `bwrap --bind DIR/rootfs / --proc /proc --dev /dev COMMAND` |
TEXT
} >"$work/page"

if cmp -s "$work/page" "$page"; then exit 0; fi
diff "$page" "$work/page" || true
cat "$work/page" >"$page"
echo "matrix: $page was another one, and is this one now" >&2
exit 1
