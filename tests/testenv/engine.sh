# engine.sh DIR docker|containerd GROUP starts an engine with its sockets and logs in
# DIR and the control groups of its containers below GROUP, and stays as long as it.
#
# Runs in mount and pid namespaces of its own: whatever is mounted or started here is
# gone when the first process of the namespaces is killed.
set -eu
dir=$1 kind=$2 group=$3

# Nothing the engine keeps in fixed places is seen outside, nor the other way round.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock
if [ -d /etc/docker ]; then mount -t tmpfs -o mode=755 tmpfs /etc/docker; fi

mkdir "$dir/data"
mount -t tmpfs -o mode=711 tmpfs "$dir/data"
cat >"$dir/containerd.toml" <<TOML
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.restart"]
[plugins."io.containerd.internal.v1.opt"]
  path = "$dir/data/opt"
TOML
containerd --config "$dir/containerd.toml" --root "$dir/data/containerd" --state /run/containerd-state \
    --address "$dir/containerd.sock" >"$dir/containerd.log" 2>&1 &
if [ "$kind" = docker ]; then
    # A runtime for containers that cannot start here: it keeps what the engine made.
    mkdir "$dir/bundles"
    cat >"$dir/recorder" <<BASH
#!/bin/bash
for ((i = 1; i < \$#; i++)); do
    bundle=\${@:i+1:1}
    if [ "\${!i}" = --bundle ]; then cp "\$bundle/config.json" "$dir/bundles/\${bundle##*/}.json"; fi
done
exec runc "\$@"
BASH
    chmod 755 "$dir/recorder"
    dockerd --iptables=false --ip6tables=false --bridge=none --containerd "$dir/containerd.sock" \
        --data-root "$dir/data/docker" --exec-root /run/docker -p /run/docker.pid --cgroup-parent "/$group" \
        --add-runtime "recorder=$dir/recorder" \
        -H "unix://$dir/docker.sock" >"$dir/dockerd.log" 2>&1 &
fi
# Ends when either daemon does. Nobody else reaps what the containers leave.
wait -n
