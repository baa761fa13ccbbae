#!/bin/bash
# guest.sh runs as a service of a machine that boots, twice, and tries the services that
# `ocibundle unit` writes: root's and a user's, with runc and with crun. What is wrong goes
# to /result; "done" is its last line where all has been tried.
cd /srv
exec >>/result 2>&1

# Redis says on standard error that there is none yet.
redis() { redis-cli -p "$port" "$@" 2>/dev/null; }

wrong() { echo "WRONG: $*"; }

# eventually COMMAND... runs a command until it succeeds; the limit is for what hangs.
eventually() {
    local i
    for i in $(seq 600); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.2
    done
    return 1
}

pong() { [ "$(redis PING)" = PONG ]; }
holds() { [ "$(redis GET "$1")" = "$2" ]; }
stopped() { [ "$(systemd show -P ActiveState "$name")" != active ] && ! pong; }

# as_user COMMAND... runs a command as a user with a session.
as_user() {
    runuser -u keeper -- env XDG_RUNTIME_DIR=/run/user/"$(id -u keeper)" HOME=/home/keeper "$@"
}
# owner COMMAND... runs a command as who owns the service; systemd is their manager.
owner() { if [ "$user" ]; then as_user "$@"; else "$@"; fi; }
systemd() { if [ "$user" ]; then as_user systemctl --user "$@"; else systemctl "$@"; fi; }

journal() { journalctl -n 20 --no-pager SYSLOG_IDENTIFIER="$name"; }

# services are all that are tried: a name, a port, a runtime, a user's remap or nothing.
services() {
    cat <<'TEXT'
root-runc 7001 runc
root-crun 7002 crun
user-runc 7003 runc subid
user-crun 7004 crun subid
self-runc 7005 runc self
self-crun 7006 crun self
TEXT
}

first_boot() {
    local dir=/srv unitdir=/etc/systemd/system file extra=()
    if [ "$user" ]; then
        dir=/home/keeper unitdir=/home/keeper/.config/systemd/user
        owner mkdir -p "$unitdir"
    fi
    # For the rules about devices crun raises a limit, which not every machine's root may.
    if [ "$name" = root-crun ] && ! (ulimit -l unlimited) 2>/dev/null; then extra=(--set '/linux/resources={}'); fi
    owner ocibundle -i /srv/redis.tar --exclude etc/hosts -o "$dir/$name" --net host ${user:+--remap "$user"} --annotation ocibundle.restart=always "${extra[@]}" \
        -- redis-server --bind 127.0.0.1 --port "$port" --dir / --save "3600 1" || wrong "$name: no bundle"
    file=$unitdir/$name.service
    owner ocibundle unit --runtime "$runtime" "$dir/$name" >"/srv/$name.service" || wrong "$name: no unit"
    cp "/srv/$name.service" "$file"
    systemd daemon-reload
    systemd --quiet enable --now "$name" || wrong "$name: does not start"
    if ! eventually pong; then
        wrong "$name: no PONG"
        journal
        return
    fi
    holds k "" || wrong "$name: k is there"
    [ "$(owner "$runtime" exec "$name" redis-cli -h localhost -p "$port" PING)" = PONG ] || wrong "$name: localhost is not a name in it"

    redis SET k v >/dev/null
    systemd stop "$name"
    stopped || wrong "$name: not stopped"
    [ "$(systemd show -P Result "$name")" = success ] || wrong "$name: stopped with $(systemd show -P Result "$name")"
    [ -e "$dir/$name/rootfs/dump.rdb" ] || wrong "$name: nothing saved"
    left

    systemd start "$name"
    eventually holds k v || wrong "$name: k is lost after stop and start"
    restarts "the server" "$(pgrep -f "redis-server.*:$port")"
    restarts "the runtime" "$(systemd show -P MainPID "$name")"
    redis SET k2 v2 >/dev/null
}

# restarts kills a process of the service and sees it come back.
restarts() {
    local before
    before=$(redis INFO server | grep ^run_id)
    kill -9 $2 || wrong "$name: $1 is not there ($2)"
    eventually another "$before" || wrong "$name: not restarted after $1 was killed"
}
another() {
    local now
    now=$(redis INFO server | grep ^run_id) && [ "$now" ] && [ "$now" != "$1" ]
}

# left says what a stopped service has left.
left() {
    [ -z "$(owner "$runtime" list -q | grep -x "$name")" ] || wrong "$name: the runtime still knows it"
    [ -z "$(pgrep -f "redis-server.*:$port")" ] || wrong "$name: processes are left"
}

second_boot() {
    eventually pong || { wrong "$name: not there after the machine was started again"; journal; return; }
    holds k2 v2 || wrong "$name: k2 is lost when the machine is stopped"
    systemd stop "$name"
    stopped || wrong "$name: not stopped"
    left
}

boot=first_boot
[ ! -e /booted ] || boot=second_boot
touch /booted
while read -r name port runtime user; do
    echo "$boot $name"
    $boot </dev/null
done < <(services)
if [ $boot = first_boot ]; then
    systemctl reboot
else
    echo done
    systemctl poweroff
fi
