#!/bin/bash
# inside.sh: what vm.sh has systemd start on a machine at each boot, as root. The first time it
# does the main job, with every runtime, as root and as a user, and leaves two services
# enabled; the second time it looks whether they came up again. One line for each thing tried,
# "RESULT ok WHAT" or "RESULT FAILED WHAT", on the console.
set -uo pipefail
exec >/dev/console 2>&1
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
cd / # where every user may be

# try WHAT COMMAND...: COMMAND has to succeed. The line may come behind a login prompt, which has no end.
try() {
    local what=$1 said
    shift
    if said=$("$@" 2>&1); then
        printf '\nRESULT ok %s\n' "$what"
    else
        printf '\nRESULT FAILED %s\n' "$what"
        printf '%s\n' "$said" | tail -n 50
    fi
}

as_user() {
    setpriv --reuid tester --regid tester --init-groups env HOME=/home/tester XDG_RUNTIME_DIR="/run/user/$uid" \
        DBUS_SESSION_BUS_ADDRESS="unix:path=/run/user/$uid/bus" "$@"
}
as_root() { "$@"; }

answers() { # PORT, within two minutes of a slow machine
    for _ in {1..240}; do
        [ "$(redis-cli -p "$1" ping 2>/dev/null)" != PONG ] || return 0
        sleep 0.5
    done
    echo "nobody answers at port $1"
    return 1
}

# limited PORT: the redis there is in a control group that has the limits.
limited() {
    local pid group
    pid=$(redis-cli -p "$1" info server | tr -d '\r' | sed -n 's/^process_id://p')
    # Its own number is that of its namespace.
    pid=$(pgrep -f "redis-server.*:$1" | tail -n 1) || return 1
    group=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$pid/cgroup")
    grep -H . "$group"/{memory.max,pids.max,cpu.max}
    [ "$(cat "$group/memory.max")" = 67108864 ] && [ "$(cat "$group/pids.max")" = 50 ] && [ "$(cat "$group/cpu.max")" = "50000 100000" ]
}

seccomp() { grep -q '^Seccomp:[[:space:]]*2' "/proc/$(pgrep -f "redis-server.*:$1" | tail -n 1)/status"; }

# job AS DIR PORT FLAG...: the main job.
job() {
    local as=$1 dir=$2 port=$3
    shift 3
    stream | "$as" ocibundle -f -o "$dir" "$@" --net host -- redis-server --bind 127.0.0.1 --port "$port" --save ''
}

# runs AS RUNTIME DIR PORT: the runtime starts the bundle, and stops it.
runs() {
    local as=$1 runtime=$2 dir=$3 port=$4
    $as $runtime run --detach --bundle "$dir" "c$port" </dev/null >/root/log 2>&1 || { cat /root/log; return 1; }
    answers "$port" || { cat /root/log; return 1; }
}
ends() {
    local as=$1 runtime=$2 port=$3
    $as $runtime kill "c$port" TERM || return 1
    for _ in {1..100}; do
        ! $as $runtime delete "c$port" 2>/root/log || return 0
        sleep 0.2
    done
    cat /root/log
    return 1
}

# Root with all of the filesystem and the tools that made it, as an engine would export it.
prepare() {
    mkdir -p /root/image
    bash /root/redis-rootfs.sh /root/image
    stream() { tar -C /root/image -c .; }
    command -v dockerd >/dev/null || return 0
    systemctl start docker
    try "Docker $(dockerd --version | grep -o '[0-9][0-9.]*' | head -n 1) exports" docker_container
    stream() { docker export tempredis; }
}
docker_container() {
    stream | docker import -c 'CMD ["redis-server"]' - redis && docker create --name tempredis --network none redis
}

first_boot() {
    echo # a console may be in the middle of a line
    echo "FACT $(. /etc/os-release && echo "$PRETTY_NAME"), $(uname -m), Linux $(uname -r), systemd $(systemctl --version | sed -n '1s/systemd \([0-9.]*\).*/\1/p')"
    local programs
    programs="runc $(runc --version | sed -n '1s/runc version //p'), $(crun --version | sed -n '1s/crun version /crun /p')"
    ! command -v podman >/dev/null || programs+=", $(podman --version)"
    ! command -v containerd >/dev/null || programs+=", containerd $(containerd --version | grep -o '[0-9][0-9.]*[0-9]' | head -n 1)"
    echo "FACT $programs"
    try "process 1 is systemd" grep -qx systemd /proc/1/comm
    try "control groups of version 2 alone" test "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs
    prepare

    local as runtime port=7000 dir
    for as in as_root as_user; do
        for runtime in runc crun; do
            port=$((port + 1)) dir=/root/$runtime
            [ $as = as_root ] || dir=/home/tester/$runtime
            try "$runtime, $as: the bundle is made" job $as "$dir" $port --memory 64m --pids-limit 50 --cpus 0.5
            case $as$runtime in
            as_userrunc) runtime="runc --systemd-cgroup" ;;
            as_usercrun) runtime="crun --cgroup-manager=systemd" ;;
            esac
            try "$runtime, $as: it runs" runs $as "$runtime" "$dir" $port
            try "$runtime, $as: limits are applied" limited $port
            try "$runtime, $as: system calls are filtered" seccomp $port
            try "$runtime, $as: it ends at SIGTERM" ends $as "$runtime" $port
        done
    done
    engines

    try "unit, root: made" eval 'job as_root /root/service 7101 && ocibundle unit /root/service >/etc/systemd/system/redis.service'
    try "unit, root: started" eval 'systemctl daemon-reload && systemctl enable --now redis &&
        { answers 7101 || { journalctl --no-pager -n 40 -u redis; false; }; }'
    try "unit, user: made" eval 'job as_user /home/tester/service 7102 && as_user mkdir -p /home/tester/.config/systemd/user &&
        as_user ocibundle unit /home/tester/service | as_user tee /home/tester/.config/systemd/user/redis.service'
    try "unit, user: started" eval 'as_user systemctl --user daemon-reload && as_user systemctl --user enable --now redis &&
        { answers 7102 || { journalctl --no-pager -n 40 _UID="$uid"; false; }; }'
}

# The engines of the release, where the machine has them.
engines() {
    if command -v podman >/dev/null; then
        try "podman run --rootfs" eval 'job as_root /root/podman 7010 && podman run --rm --network none --rootfs /root/podman/rootfs redis-server --version'
    fi
    if command -v ctr >/dev/null; then
        systemctl start containerd
        try "ctr run --config" eval 'job as_root /root/ctr 7011 --absolute-root && ctr run --detach --config /root/ctr/config.json c7011 &&
            answers 7011 && ctr task kill -s KILL c7011'
    fi
    if command -v systemd-nspawn >/dev/null; then
        try "systemd-nspawn --oci-bundle" eval 'job as_root /root/nspawn 7012 --set /linux/resources={} --security-opt seccomp=unconfined --resolv none &&
            { systemd-nspawn --quiet --machine nspawn --oci-bundle /root/nspawn </dev/null >/root/log 2>&1 & } &&
            { answers 7012 || { cat /root/log; false; }; } && machinectl terminate nspawn'
    fi
}

second_boot() {
    try "unit, root: up again after the reboot" answers 7101
    try "unit, user: up again after the reboot" answers 7102
    try "unit, root: stopped" eval 'systemctl stop redis && [ "$(systemctl show -P Result redis)" = success ]'
    try "unit, user: stopped" eval 'as_user systemctl --user stop redis && [ "$(as_user systemctl --user show -P Result redis)" = success ]'
    try "nothing of runc's is left" eval '[ -z "$(runc list -q)$(as_user runc list -q)" ]'
    try "bundles are removed" eval 'ocibundle rm /root/service /root/runc && as_user ocibundle rm /home/tester/service /home/tester/runc'
}

if [ ! -e /root/booted ]; then
    touch /root/booted
    useradd --create-home --shell /bin/bash tester
    uid=$(id -u tester)
    loginctl enable-linger tester
    for _ in {1..240}; do [ ! -S "/run/user/$uid/bus" ] || break; sleep 0.5; done
    first_boot
    echo "REBOOT"
    systemctl reboot
else
    uid=$(id -u tester)
    second_boot
    echo "DONE"
    systemctl poweroff
fi
