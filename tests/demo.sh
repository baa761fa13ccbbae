#!/bin/bash
# demo.sh OCIBUNDLE: a Docker container becomes a bundle, runc runs the bundle, redis
# answers PONG. Root sees it twice, the second time done by the user nobody. An
# ordinary user sees the second part. Nothing is left behind.
set -euo pipefail
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

tests=$(dirname "$(readlink -f "$0")")
die() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}
[ $# -eq 1 ] && [ -x "$1" ] || die "usage: demo.sh OCIBUNDLE"

uid=$(id -u)
if [ "$uid" -eq 0 ]; then
    "$tests/setup.sh" containerd docker dockerd ldd mount newgidmap newuidmap redis-check-rdb redis-cli runc setpriv unshare
else
    lacking=
    command -v runc >/dev/null || lacking+=" runc"
    command -v redis-cli >/dev/null && command -v redis-check-rdb >/dev/null || lacking+=" redis-tools"
    [ -z "$lacking" ] || die "some programs are missing: sudo apt-get install$lacking"
fi

name=ocibundle-demo-$$
engine= # the process that all of our own Docker engine hangs on
created=
stop=() # the command that ends the running container
work=$(mktemp -d)
chmod 755 "$work"
cleanup() {
    local status=$?
    trap - EXIT
    set +e
    [ ${#stop[@]} -eq 0 ] || "${stop[@]}" >/dev/null 2>&1
    if [ -n "$engine" ]; then
        # The first process of the engine's pid namespace ends as the last one in it.
        kill -KILL $(cat "/proc/$engine/task/$engine/children")
        wait "$engine" 2>/dev/null
    elif [ -n "$created" ]; then
        docker rm "$name" >/dev/null
        docker rmi "$name" >/dev/null
    fi
    # An ordinary user cannot remove the files of other ids otherwise.
    [ ! -d "$work/user" ] || "$work/ocibundle" rm -f "$work/user/redis"
    rm -rf "$work"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

as_caller() { "$@"; }
as_nobody() {
    setpriv --reuid=65534 --regid=65534 --clear-groups env -i PATH="$PATH" HOME="$work/user" "$@"
}

free_port() {
    local port
    for _ in {1..100}; do
        port=$((10000 + RANDOM % 20000))
        # Nobody answers there, so nobody has it.
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
    die "find a free port: 100 ports in use"
}

# serve AS DIR RUNC...: the main job and the bundle's run, in DIR, through the
# function AS, with runc called as RUNC... .
serve() {
    local as=$1 dir=$2 port answer run
    shift 2
    cd "$dir"
    port=$(free_port)

    echo "\$ $exporting | ocibundle -o redis --net host -- redis-server --bind 127.0.0.1 --port $port"
    export_container | "$as" "$work/ocibundle" -o redis --net host -- redis-server --bind 127.0.0.1 --port "$port"

    echo "\$ $* run --bundle redis redis &"
    stop=("$as" "$@" delete --force "$name")
    "$as" "$@" run --bundle redis "$name" </dev/null >"$work/log" 2>&1 &
    run=$!

    echo "\$ redis-cli -p $port ping"
    for _ in {1..200}; do
        answer=$(redis-cli -p "$port" ping 2>/dev/null) || answer=
        if [ "$answer" = PONG ] || ! kill -0 "$run" 2>/dev/null; then break; fi
        sleep 0.1
    done
    if [ "$answer" != PONG ]; then
        cat "$work/log" >&2
        die "redis does not answer"
    fi
    echo "$answer"

    redis-cli -p "$port" shutdown nosave
    wait "$run" || { cat "$work/log" >&2; die "the container ended with status $?"; }
    stop=()
    cd /
}

# Where nobody can execute it.
cp "$1" "$work/ocibundle"
chmod 755 "$work/ocibundle"
"$work/ocibundle" --version >/dev/null || die "programs do not run in $work: TMPDIR=DIR names another directory"

mkdir "$work/image"
bash "$tests/testenv/redis-rootfs.sh" "$work/image"

if [ "$uid" -eq 0 ]; then
    mkdir "$work/engine"
    unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
        bash "$tests/testenv/engine.sh" "$work/engine" docker "$name" >"$work/engine/log" 2>&1 &
    engine=$!
    export DOCKER_HOST=unix://$work/engine/docker.sock DOCKER_CONFIG=$work/engine/client
    for _ in {1..300}; do
        if docker version >/dev/null 2>&1 || ! kill -0 "$engine" 2>/dev/null; then break; fi
        sleep 0.1
    done
fi
if docker version >/dev/null 2>&1; then
    echo '$ tar -C image -c . | docker import - redis'
    tar -C "$work/image" -c . | docker import - "$name" >/dev/null
    created=1
    echo '$ docker create --name redis redis redis-server'
    docker create --name "$name" "$name" redis-server >/dev/null
    exporting="docker export redis"
    export_container() { docker export "$name"; }
elif [ "$uid" -eq 0 ]; then
    cat "$work"/engine/*log >&2
    die "the Docker engine does not start"
else
    echo "# no Docker engine answers this user, as one does root: tar packs the container's files instead"
    exporting="tar -C image -c ."
    export_container() { tar -C "$work/image" -c .; }
fi

mkdir "$work/root" "$work/user"
if [ "$uid" -eq 0 ]; then
    echo "# as root"
    serve as_caller "$work/root" runc
    echo "# as the user nobody"
    chown 65534:65534 "$work/user"
    serve as_nobody "$work/user" runc --root "$work/user/runc"
else
    echo "# as the user $(id -un)"
    serve as_caller "$work/user" runc --root "$work/user/runc"
fi
