#!/bin/bash
# Measures ocibundle against its peers. Without arguments: everything, which takes
# half an hour, and docs/benchmarks.md is written. With arguments: what
# `tests/bench/run.sh -h` says. Root only: it mounts file systems and makes a user.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"

# need PROGRAM PACKAGE
missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
need tar tar
need bsdtar libarchive-tools
need gzip gzip
need zstd zstd
need mmdebstrap mmdebstrap
need dockerd docker.io
need docker docker.io
need runc runc
need newuidmap uidmap
need useradd passwd
need mkfs.ext4 e2fsprogs
need mount mount

if [ "$(id -u)" -ne 0 ]; then
    echo "bench: run it as root" >&2
    exit 1
fi
if [ ${#missing[@]} -gt 0 ]; then
    ../setup.sh
    echo "installing" "${missing[@]}"
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq -y --no-install-recommends install "${missing[@]}" >/dev/null </dev/null
fi
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -o "$bin/bench" ./cmd/bench
"$bin/bench" "$@"
